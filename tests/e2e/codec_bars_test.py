#!/usr/bin/env python3
"""Holds the codec to its figures: profiles on SmolLM2 with the example codebook, a few contexts.

The model is SmolLM2: $KVFERRY_MODEL, else the file in the cache that tests/run fills.

usage: codec_bars_test.py PROGRAM_DIR CODEBOOK
"""
import json
import os
import pathlib
import subprocess
import sys

# Most bits a value, mean KL and p99 KL; mean KL on retrieval.
BARS = {
    "high": (5.3, 6e-5, 6e-4, None),
    "medium": (3.3, 0.0010, 0.008, 0.006),
    "low": (2.1, 0.0065, 0.06, 0.035),
    "lowest": (1.4, 0.024, 0.19, None),
}


def main():
    program, codebook = pathlib.Path(sys.argv[1]) / "kvferry", sys.argv[2]
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    model = os.environ.get("KVFERRY_MODEL") or cache / "kvferry/SmolLM2-135M-Instruct.Q4_1.gguf"
    if not pathlib.Path(model).exists():
        print(f"skipped: there is no model file {model}; tests/run fetches it")
        return 77
    done = subprocess.run([program, "eval", "--model", model, "--codebook", codebook, "--quick",
                           "--profiles", ",".join(BARS), "--baselines", "none", "--json"],
                          stdout=subprocess.PIPE, check=True)
    sets = json.loads(done.stdout)["sets"]
    retrieval = next(name for name in sets if name.startswith("retrieval "))
    looked_up = {c["codec"]: c["mean_kl"] for c in sets[retrieval]}
    missed = []
    for codec in sets[retrieval[len("retrieval "):]]:
        name = codec["codec"]
        figures = (codec["bits_per_value"], codec["mean_kl"], codec["p99_kl"], looked_up[name])
        print(name, *(f"{x:.3g}" for x in figures))
        missed += [f"{name}: {x:.3g} is above {bar}" for x, bar in zip(figures, BARS[name])
                   if bar is not None and not x <= bar]
    assert not missed, missed
    return 0


if __name__ == "__main__":
    sys.exit(main())
