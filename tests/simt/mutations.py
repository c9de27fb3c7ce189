#!/usr/bin/env python3
"""Shows that the emulation finds planted bugs: applies one at a time to a copy of the sources,
compiles the test named beside it, and requires that the test fails as expected.

usage: mutations.py <table> <build folder> <library> … -- <compiler> <option> …

The table (mutations.json) is a list of objects:
  what      the bug in a few words
  file      the source to change, from the repository's root
  find      the text to replace, which must be there exactly once
  replace   what to put in its place
  test      the test's source
  build     "plain" or "race"
  expect    a part of what the failing test prints
The libraries are the emulator's, those of the race build among them named *race*. Exit status 1
when a mutation is not found, or no longer applies; every test must also pass unchanged.
"""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What a test's include paths reach: the copy comes before the tree itself.
FOLDERS = ("kernels", "tests/simt", "include/kvferry/codec/device")


class Builder:
    def __init__(self, folder, libraries, compile_command):
        self.folder = folder
        self.plain = [path for path in libraries if "race" not in os.path.basename(path)]
        self.race = [path for path in libraries if "race" in os.path.basename(path)]
        self.command = compile_command

    def run(self, name, test, build, change=None):
        """(exit status, output) of the test built from a copy of the sources with one change; an
        exit status of None when it does not compile."""
        folder = os.path.join(self.folder, name)
        shutil.rmtree(folder, ignore_errors=True)
        for source in FOLDERS:
            if os.path.isdir(os.path.join(ROOT, source)):
                shutil.copytree(os.path.join(ROOT, source), os.path.join(folder, source))
        if change:
            path, text = change
            with open(os.path.join(folder, path), "w", encoding="utf-8") as file:
                file.write(text)
        race = build == "race"
        program = os.path.join(folder, "test")
        # Race first, so that its entry points are those that are linked.
        command = (self.command + (["-fsanitize=thread"] if race else []) +
                   [f"-I{folder}", f"-I{folder}/tests/simt", f"-I{folder}/tests/simt/cuda",
                    f"-I{folder}/include", f"-I{ROOT}/include", "-c",
                    os.path.join(folder, test), "-o", program + ".o"])
        link = ([self.command[0], "-rdynamic", program + ".o", "-o", program] +
                (self.race if race else []) + self.plain + ["-lpthread", "-ldl"])
        for step in (command, link):
            built = subprocess.run(step, capture_output=True, text=True)
            if built.returncode != 0:
                return None, built.stdout + built.stderr
        result = subprocess.run([program], capture_output=True, text=True, errors="replace",
                                timeout=300)
        shutil.rmtree(folder, ignore_errors=True)
        return result.returncode, result.stdout + result.stderr


def changed(mutation):
    """The text of the mutation's file with the bug in it; None when it no longer applies."""
    with open(os.path.join(ROOT, mutation["file"]), encoding="utf-8") as file:
        text = file.read()
    if text.count(mutation["find"]) != 1:
        return None
    return text.replace(mutation["find"], mutation["replace"])


def judge(builder, number, mutation):
    """What is wrong with one mutation; None when it was found as expected."""
    text = changed(mutation)
    if text is None:
        return f"no longer applies: the text is not exactly once in {mutation['file']}"
    try:
        status, output = builder.run(f"mutation_{number}", mutation["test"], mutation["build"],
                                     (mutation["file"], text))
    except subprocess.TimeoutExpired:
        return "the test did not end"
    if status is None:
        return "does not compile:\n" + output
    if status == 0:
        return "NOT FOUND: the test passes"
    # Catch2 breaks long lines.
    if mutation["expect"] not in " ".join(output.split()):
        return f"found, but not as expected ({mutation['expect']}):\n" + output[-3000:]
    return None


def main(arguments):
    split = arguments.index("--")
    table, folder, *libraries = arguments[:split]
    with open(table, encoding="utf-8") as file:
        mutations = json.load(file)
    builder = Builder(folder, libraries, arguments[split + 1:])
    tests = sorted({(mutation["test"], mutation["build"]) for mutation in mutations})
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        unchanged = pool.map(lambda entry: builder.run(f"unchanged_{entry[0]}", *entry[1]),
                             enumerate(tests))
        for (test, build), (status, output) in zip(tests, unchanged):
            if status != 0:
                failures += 1
                print(f"{test} ({build}) does not pass unchanged:\n{output[-3000:]}")
        found = 0
        verdicts = pool.map(lambda entry: judge(builder, *entry), enumerate(mutations))
        for mutation, wrong in zip(mutations, verdicts):
            found += wrong is None
            print(f"{'found' if wrong is None else 'FAILED'}: {mutation['what']} "
                  f"({mutation['build']}){'' if wrong is None else ': ' + wrong}")
    print(f"{found} of {len(mutations)} found")
    return 0 if found == len(mutations) and mutations and not failures else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
