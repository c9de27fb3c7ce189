#!/usr/bin/env python3
"""Compiles every kernel for the boards with CUDA 11.8 and for later GPUs with the machine's own nvcc,
and checks what came out: no warnings, no stack, no spills, the machine code that rules.py asks for,
registers and shared memory as in resources.txt. Exit status 77 when CUDA 11.8 cannot be had.

usage: gate.py [--update]    --update writes resources.txt
"""

import argparse
import concurrent.futures
import difflib
import glob
import os
import sys

import compiler
import rules
import toolkit

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "resources.txt")
HEADING = """# What ptxas of CUDA 11.8 gives each kernel. `gate.py --update` writes this file.
#
# blocks: of one multiprocessor, by registers and threads; part: of its threads that these are.
# Shared memory that a launch asks for is not known here.
"""

# What each path's kernels are compiled for with CUDA 11.8.
BOARDS = {"maxwell": ["sm_53", "sm_87"], "ampere": ["sm_87"]}
LATER = ["sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100"]


def sources():
    """(path, name of the compute path) of every device source."""
    found = sorted(glob.glob(os.path.join(compiler.ROOT, "src", "**", "*.cu"), recursive=True))
    return [(path, os.path.basename(os.path.dirname(path))) for path in found]


def later_architectures(own):
    """Those of LATER that the machine's own nvcc knows."""
    known = own.architectures() if own else []
    return [architecture for architecture in LATER if architecture in known]


def jobs(boards, own, later):
    for source, path in sources():
        for architecture in BOARDS[path]:
            yield boards, source, architecture
        for architecture in later:
            yield own, source, architecture


def table(kernels):
    """The text of resources.txt from (architecture, kernel) pairs."""
    rows = [("arch", "registers", "shared", "threads", "blocks", "part", "kernel")]
    for architecture, kernel in sorted(kernels, key=lambda pair: (pair[0], pair[1].name)):
        blocks = kernel.blocks(architecture)
        part = 100 * blocks * kernel.threads // compiler.THREADS[architecture]
        rows.append((architecture, str(kernel.registers), str(kernel.shared), str(kernel.threads),
                     str(blocks), f"{part} %", kernel.name))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return HEADING + "".join(
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths)), row[-1]]) + "\n"
        for row in rows)


def differences(text):
    with open(TABLE, encoding="utf-8") as file:
        committed = file.read()
    return [line.rstrip() for line in difflib.unified_diff(
        committed.splitlines(), text.splitlines(), "resources.txt", "compiled", lineterm="", n=0)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--update", action="store_true", help="write resources.txt")
    update = parser.parse_args().update
    try:
        boards = compiler.boards_compiler()
    except toolkit.Unavailable as reason:
        print(f"skipped: no CUDA 11.8: {reason}")
        return 77
    own = compiler.own_compiler()
    later = later_architectures(own)

    wrong, on_boards, count = [], [], 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        work = list(jobs(boards, own, later))
        for (by, source, architecture), (kernels, messages) in zip(
                work, pool.map(lambda job: job[0].compile(job[1], job[2]), work)):
            where = f"{by.name}, {architecture}, {os.path.relpath(source, compiler.ROOT)}"
            wrong += [f"{where}: {message}" for message in messages]
            count += len(kernels)
            if not kernels:
                wrong.append(f"{where}: no kernel")
            for kernel in kernels:
                wrong += [f"{where}: {kernel.name}: {text}"
                          for text in rules.check(kernel, architecture)]
                if by is boards:
                    on_boards.append((architecture, kernel))

    if update:
        with open(TABLE, "w", encoding="utf-8") as file:
            file.write(table(on_boards))
    else:
        wrong += differences(table(on_boards))
    for line in wrong:
        print(line)
    others = f"{own.name} for {' '.join(later)}" if later else "no later nvcc here"
    print(f"compile gate: {len(wrong)} violations in {count} kernels from {len(work)} compilations "
          f"(CUDA 11.8 for the boards; {others})")
    return 1 if wrong or not count else 0


if __name__ == "__main__":
    sys.exit(main())
