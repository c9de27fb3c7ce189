#!/usr/bin/env python3
"""kvferry calibrate and kvferry eval as a user runs them, on a small model.

usage: quality_test.py PROGRAM_DIR MODEL
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import xml.dom.minidom

PROFILES = ["high", "medium", "low", "lowest"]
BASELINES = ["q8_0", "q4_0", "q4_0h", "kvarn4", "kvarn3", "cachegen"]


def main():
    program = pathlib.Path(sys.argv[1]) / "kvferry"
    model = sys.argv[2]
    folder = pathlib.Path(tempfile.mkdtemp())

    def run(*arguments, status=0):
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == status, (arguments, done.returncode, done.stderr)
        return done

    # The same codebook each time.
    for name in ("a", "b"):
        run("calibrate", "--model", model, "--out", folder / name)
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    text = folder / "short.txt"
    text.write_text("Much too short.")
    refused = run("calibrate", "--model", model, "--text", text, "--out", folder / "c", status=1)
    assert refused.stderr.startswith("error: "), refused.stderr
    assert not (folder / "c").exists()

    # Nothing that is read is written over, and both files come or none.
    copy = folder / "copy.gguf"
    copy.write_bytes(pathlib.Path(model).read_bytes())
    for arguments in (["calibrate", "--out", copy], ["eval", "--plot", copy]):
        refused = run(*arguments, "--model", copy, status=1)
        assert "is an input of this command" in refused.stderr, refused.stderr
        assert copy.read_bytes() == pathlib.Path(model).read_bytes()
    refused = run("calibrate", "--model", model, "--predict", "--out", folder / "d.kvfp", status=1)
    assert "is the name that the predictor has" in refused.stderr, refused.stderr
    (folder / "e.kvfp").mkdir()
    run("calibrate", "--model", model, "--predict", "--out", folder / "e.kvfc", status=1)
    assert not (folder / "e.kvfc").exists()

    # Everything that is built in, as JSON and as a plot.
    done = run("eval", "--model", model, "--codebook", folder / "a", "--quick", "--flat", "--json",
               "--plot", folder / "plot.svg")
    out = json.loads(done.stdout)
    assert out["model"] == pathlib.Path(model).name, out["model"]
    assert out["codebook_bytes"] == (folder / "a").stat().st_size
    sets = out["sets"]
    names = [name + flat for name in PROFILES for flat in ("", "-flat")] + BASELINES
    for contexts, codecs in sets.items():
        assert [codec["codec"] for codec in codecs] == names, (contexts, codecs)
        by_name = {codec["codec"]: codec for codec in codecs}
        rates = [by_name[name]["bits_per_value"] for name in PROFILES]
        assert rates == sorted(rates, reverse=True), rates
        errors = [by_name[name]["mean_kl"] for name in PROFILES]
        assert errors == sorted(errors) and errors[0] > 0, errors
        for codec in codecs:
            assert codec["median_kl"] <= codec["p99_kl"] <= codec["p999_kl"] <= codec["max_kl"]
    assert len(sets) == 2, sets.keys()
    xml.dom.minidom.parse(str(folder / "plot.svg"))

    # Texts of one's own, and the tables.
    own = folder / "texts"
    own.mkdir()
    done = run("eval", "--model", model, "--contexts", own, status=1)
    assert "no .txt file" in done.stderr, done.stderr
    (own / "one.txt").write_text("A line about nothing in particular.\n" * 60)
    done = run("eval", "--model", model, "--contexts", own, "--quick", "--profiles", "q8,q4h",
               "--baselines", "q4_0")
    assert "without a codebook" in done.stdout and "q4h" in done.stdout, done.stdout
    # A pipe and a folder are no texts; what repeats is shown once.
    os.mkfifo(own / "pipe.txt")
    (own / "folder.txt").mkdir()
    done = run("eval", "--model", model, "--contexts", own, "--quick", "--profiles", "q8,q8",
               "--baselines", "none", "--json")
    sets = json.loads(done.stdout)["sets"].values()
    assert all([c["codec"] for c in codecs] == ["q8"] for codecs in sets), sets
    # What cannot be written is refused before the work.
    for command in (["eval", "--plot"], ["calibrate", "--out"]):
        done = run(*command, folder / "not there" / "x", "--model", model, status=1)
        assert "cannot write into the folder" in done.stderr, done.stderr
    run("eval", "--model", model, "--baselines", "none,q8_0", status=1)
    run("eval", "--model", model, "--profiles", "nothing", status=2)
    run("eval", "--model", model, "--block-tokens", "257", status=2)

    # Ctrl-C ends it at once and leaves nothing.
    process = subprocess.Popen([program, "eval", "--model", model, "--flat", "--plot",
                                folder / "cut.svg"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1 and "cancelled" in errors, (process.returncode, errors)
        assert not (folder / "cut.svg").exists()
    print("calibrate and eval: all as stated")


if __name__ == "__main__":
    main()
