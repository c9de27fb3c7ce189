#!/usr/bin/env python3
"""Fails when a folder includes what is not to its left.

  core <- model <- cache <- codec <- wire <- transport <- handoff
  core <- model <- cache <- compute <- engine
  quality on codec and engine; node on all; testing, for users' tests, on transport

kernels/ includes itself, what CUDA and the standard library have, core/error.hpp, core/half.hpp and the
C++14 headers of codec/device and compute/device; the library's compiled sources may include kernels.

The library never includes examples, bench or tests; public headers include public headers only; the
examples, which users copy, include public headers and their own files only.
"""

import os
import sys

import source_tree

_TRANSPORT = ["core", "model", "cache", "codec", "wire", "transport"]
_ENGINE = ["core", "model", "cache", "compute", "engine"]
MAY_INCLUDE = {
    "core": ["core"],
    "model": ["core", "model"],
    "cache": ["core", "model", "cache"],
    "codec": ["core", "model", "cache", "codec"],
    "wire": ["core", "model", "cache", "codec", "wire"],
    "transport": _TRANSPORT,
    "handoff": _TRANSPORT + ["handoff"],
    "compute": ["core", "model", "cache", "compute"],
    "engine": _ENGINE,
    "quality": _ENGINE + ["codec", "quality"],
    "node": _TRANSPORT + _ENGINE + ["handoff", "quality", "node"],
    "testing": _TRANSPORT + ["testing"],
}
USERS = ["examples", "bench", "tests"]
# What device code shares with the host's: C++14.
DEVICE_HEADERS = ("kvferry/codec/device/", "kvferry/compute/device/", "kvferry/core/error.hpp",
                  "kvferry/core/half.hpp")
# What stands in for inline PTX where there is no nvcc; of the emulation under tests/simt.
EMULATION_HEADERS = ("simt/ptx.hpp",)


def layer_of(path):
    """The layer of a library file; None for examples, bench and tests."""
    parts = path.split(os.sep)
    if parts[:2] == ["include", "kvferry"] and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    return None


def check_library_include(root, path, kind, included):
    """What is wrong with an #include of a library file; None when nothing is."""
    layer = layer_of(path)
    if layer not in MAY_INCLUDE:
        return f"the folder {os.path.dirname(path)} is no known layer"
    if included.startswith("kvferry/"):
        parts = included.split("/")
        target = parts[1] if len(parts) > 2 else None
        if target not in MAY_INCLUDE[layer]:
            return f"{layer} may not include {included}"
        if not os.path.exists(os.path.join(root, "include", included)):
            return f"there is no include/{included}"
        return None
    if kind == "<":
        return None
    if path.startswith("include" + os.sep):
        return f"a public header includes {included}, which is not one"
    if included.startswith("kernels/"):
        return None if os.path.exists(os.path.join(root, included)) else f"there is no {included}"
    beside = os.path.normpath(os.path.join(os.path.dirname(path), included))
    if not os.path.exists(os.path.join(root, beside)):
        beside = os.path.join("src", os.path.normpath(included))
    if not os.path.exists(os.path.join(root, beside)):
        return f"{included} is neither kvferry/… nor a file of this layer"
    if layer_of(beside) != layer:
        return f"{included} is internal to another folder"
    return None


def check_kernel_include(root, path, kind, included):
    """What is wrong with an #include of a kernel; None when nothing is."""
    if included.startswith("kvferry/"):
        if not included.startswith(DEVICE_HEADERS):
            return f"a kernel includes {included}, which is not for device code"
        if not os.path.exists(os.path.join(root, "include", included)):
            return f"there is no include/{included}"
        return None
    if kind == "<" or included in EMULATION_HEADERS:
        return None
    if not included.startswith("kernels/"):
        return f"{included} is neither kernels/… nor kvferry/codec/device/…"
    return None if os.path.exists(os.path.join(root, included)) else f"there is no {included}"


def check_example_include(root, path, kind, included):
    """What is wrong with an #include of an example; None when nothing is."""
    if kind == "<" or included.startswith("kvferry/"):
        return None
    beside = os.path.normpath(os.path.join(os.path.dirname(path), included))
    if beside.startswith("examples" + os.sep) and os.path.exists(os.path.join(root, beside)):
        return None
    if os.path.exists(os.path.join(root, "examples", included)):
        return None
    return f"an example includes {included}; users could not copy it"


def check(root):
    """(violations, number of files looked at)"""
    violations = []
    files = source_tree.source_files(root, ["include", "src", "kernels", "examples"])
    judges = {"examples": check_example_include, "kernels": check_kernel_include}
    for path in files:
        judge = judges.get(path.split(os.sep)[0], check_library_include)
        for line, kind, included in source_tree.includes(source_tree.read(root, path)):
            wrong = judge(root, path, kind, included)
            if wrong:
                violations.append(f"{path}:{line}: {wrong}")
    return violations, len(files)


if __name__ == "__main__":
    sys.exit(source_tree.report(*check(source_tree.ROOT), "layers"))
