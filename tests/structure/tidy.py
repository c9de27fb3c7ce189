#!/usr/bin/env python3
"""Runs clang-tidy over the library's and the examples' sources, as many at a time as there are CPUs.

usage: tidy.py <clang-tidy> <build tree> [<part of a path> …]

The build tree's compile_commands.json says how each source is compiled. A source is looked at again
only when it, a header of the project or the configuration has changed since it last passed. Parts
of paths limit the run to the sources whose path contains one.
"""

import concurrent.futures
import hashlib
import json
import os
import subprocess
import sys

import source_tree

FOLDERS = ("src/", "examples/")
# Options of a build by GCC that clang-tidy's Clang refuses.
GCC_ONLY = ("-fno-tree-loop-distribute-patterns", "-Wno-maybe-uninitialized")


def fingerprint(root, paths):
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.encode() + b"\0")
        with open(os.path.join(root, path), "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def main(tidy, build, parts):
    root = source_tree.ROOT
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = json.load(file)
    compiled = {os.path.relpath(entry["file"], root) for entry in commands}
    sources = sorted(path for path in compiled if path.startswith(FOLDERS) and
                     (not parts or any(part in path for part in parts)))
    headers = [path for path in source_tree.source_files(root, ["include", "src", "examples"])
               if path.endswith(".hpp")]
    common = fingerprint(root, headers + [".clang-tidy"])
    passed_folder = os.path.join(build, "tidy")
    os.makedirs(passed_folder, exist_ok=True)
    for entry in commands:
        entry["command"] = " ".join(word for word in entry["command"].split(" ")
                                    if word not in GCC_ONLY)
    with open(os.path.join(passed_folder, "compile_commands.json"), "w", encoding="utf-8") as file:
        json.dump(commands, file)

    def run(path):
        """The output of clang-tidy; None when the file passes."""
        stamp = os.path.join(passed_folder, path.replace("/", "+"))
        key = common + fingerprint(root, [path])
        if os.path.exists(stamp):
            with open(stamp, encoding="utf-8") as file:
                if file.read() == key:
                    return None
        result = subprocess.run([tidy, "--quiet", "-p", passed_folder, os.path.join(root, path)],
                                capture_output=True, text=True)
        if result.returncode != 0:
            return result.stdout + result.stderr
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(key)
        return None

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, output in zip(sources, pool.map(run, sources)):
            if output is not None:
                failed += 1
                print(f"{path}:\n{output}")
    print(f"clang-tidy: {failed} of {len(sources)} sources fail")
    return 1 if failed or not sources else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
