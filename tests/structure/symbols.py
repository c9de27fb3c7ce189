#!/usr/bin/env python3
"""Fails when a library archive refers to a function that prints or ends the process.

usage: symbols.py <nm> <archive> …
"""

import subprocess
import sys

FORBIDDEN = {
    "abort", "exit", "_exit", "quick_exit", "printf", "__printf_chk", "fprintf", "__fprintf_chk",
    "vprintf", "vfprintf", "puts", "fputs", "putchar", "fputc", "perror",
    "std::cout", "std::cerr", "std::clog",
}


def undefined_symbols(nm, archive):
    """(member, symbol) of what each member of the archive takes from elsewhere."""
    output = subprocess.run([nm, "-C", "-u", archive], check=True, capture_output=True, text=True)
    member = archive
    for line in output.stdout.splitlines():
        if line.endswith(":"):
            member = line[:-1]
        elif line.strip().startswith("U "):
            yield member, line.strip()[2:]


def check(nm, archives):
    """(violations, number of symbols looked at)"""
    symbols = [pair for archive in archives for pair in undefined_symbols(nm, archive)]
    return [f"{member}: uses {symbol}" for member, symbol in symbols
            if symbol in FORBIDDEN], len(symbols)


if __name__ == "__main__":
    found, looked_at = check(sys.argv[1], sys.argv[2:])
    print("\n".join(found + [f"symbols: {len(found)} violations in {looked_at} references"]))
    sys.exit(1 if found or not looked_at else 0)
