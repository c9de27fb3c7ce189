#!/usr/bin/env python3
"""Prints the peak memory of a decode node while it receives a 2,000-token cache, and checks it.

Bar: resident memory before + the growth of its pool + 16 MiB.

The model is SmolLM2: $KVFERRY_MODEL, else the file in the cache that tests/run fills.

usage: memory_test.py PROGRAM_DIR [PROFILE …]
"""
import atexit
import json
import os
import pathlib
import subprocess
import sys
import tempfile

TOKENS = 2000
BLOCK_TOKENS = 32
ALLOWED = 16 << 20


def start(command):
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    line = process.stdout.readline()
    assert line.startswith("listening on "), f"{command[0]} did not start: {line!r}"
    return process, line.split()[-1]


def memory(process, field):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def main():
    programs = pathlib.Path(sys.argv[1])
    profiles = sys.argv[2:] or ["raw", "lossless", "high"]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    model = os.environ.get("KVFERRY_MODEL") or f"{cache}/kvferry/SmolLM2-135M-Instruct.Q4_1.gguf"
    if not os.path.exists(model):
        print(f"skipped: there is no {model}; tests/run fetches it")
        sys.exit(77)
    described = json.loads(subprocess.run([programs / "kvferry", "inspect", "--json", model],
                                          check=True, capture_output=True, text=True).stdout)
    shape = described["config"]
    # F16, both planes of all layers, whole blocks.
    block = 2 * 2 * shape["layers"] * shape["kv_heads"] * shape["head_dim"] * BLOCK_TOKENS
    growth = -(-(TOKENS + 1) // BLOCK_TOKENS) * block
    ids = pathlib.Path(tempfile.mkdtemp()) / "ids.json"
    ids.write_text(json.dumps([100 + 7 * i % (shape["vocab"] - 200) for i in range(TOKENS)]))

    within = True
    for profile in profiles:
        decode, decode_address = start([programs / "kvferry-decode", "--model", model,
                                        "--listen", "tcp://127.0.0.1:0"])
        prefill, address = start([programs / "kvferry-prefill", "--model", model, "--decode",
                                  decode_address, "--profile", profile, "--listen",
                                  "tcp://127.0.0.1:0"])
        pathlib.Path(f"/proc/{decode.pid}/clear_refs").write_text("5")  # the peak counts from here
        before = memory(decode, "VmRSS")
        subprocess.run([programs / "kvferry-client", "--prefill", address, "--ids-file", ids,
                        "--max-tokens", "1", "--json"], check=True, stdout=subprocess.DEVNULL)
        over = memory(decode, "VmHWM") - before - growth
        within = within and over <= ALLOWED
        print(f"{profile}: resident before {before / 2**20:.1f} MiB, pool growth "
              f"{growth / 2**20:.1f} MiB, peak beyond both {over / 2**20:.1f} MiB "
              f"(at most {ALLOWED / 2**20:.0f})", flush=True)
        for process in (prefill, decode):
            process.terminate()
            process.wait(60)
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
