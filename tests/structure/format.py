#!/usr/bin/env python3
"""Fails on a C++ file that clang-format would change.

usage: format.py <clang-format>
"""

import subprocess
import sys

import source_tree

if __name__ == "__main__":
    files = source_tree.source_files(
        source_tree.ROOT, ["include", "src", "kernels", "examples", "bench", "tests"])
    sys.exit(subprocess.run([sys.argv[1], "--dry-run", "-Werror", *files],
                            cwd=source_tree.ROOT).returncode if files else 1)
