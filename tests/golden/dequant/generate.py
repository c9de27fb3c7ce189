#!/usr/bin/env python3
"""Writes <type>.blocks (raw blocks) and <type>.f32 (their values) with the `gguf` package as judge.

    python3 -m venv venv && venv/bin/pip install gguf==0.19.0 && venv/bin/python generate.py

Blocks are random bytes; their F16 scales (and minima) cycle through ordinary, negative, subnormal,
negative subnormal, zero, negative zero and the largest finite values.
"""
import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants

# Type -> byte offsets of the F16 fields of a block.
HALF_FIELDS = {
    T.F16: [0], T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.F32: [], T.BF16: [],
}
SPECIAL = [0x0001, 0x8001, 0x03FF, 0x83FF, 0x0000, 0x8000, 0x7BFF, 0xFBFF, 0x0400, 0x8400]


def halves(rng, count):
    ordinary = (rng.standard_normal(count) * 10.0 ** rng.uniform(-4, 2, count)).astype(np.float16)
    bits = ordinary.view(np.uint16).copy()
    for i in range(1, count, 2):
        bits[i] = SPECIAL[rng.integers(len(SPECIAL))]
    return bits


def blocks_of(rng, qtype):
    values, size = GGML_QUANT_SIZES[qtype]
    count = {1: 512, 32: 48, 256: 12}[values]
    raw = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in HALF_FIELDS[qtype]:
        raw[:, offset:offset + 2] = halves(rng, count).astype("<u2").view(np.uint8).reshape(count, 2)
    if qtype in (T.F32, T.BF16):  # finite values only: which NaN comes out is not specified
        exponent = (raw[:, -1] & 0x7F).astype(int) << 1 | raw[:, -2] >> 7
        raw[exponent == 255, -2] &= 0x7F
    return raw


def main():
    folder = pathlib.Path(__file__).parent
    rng = np.random.default_rng(20240607)
    for qtype in HALF_FIELDS:
        raw = blocks_of(rng, qtype)
        values = quants.dequantize(raw.reshape(1, -1), qtype).astype("<f4")
        assert np.isfinite(values).all()
        (folder / f"{qtype.name.lower()}.blocks").write_bytes(raw.tobytes())
        (folder / f"{qtype.name.lower()}.f32").write_bytes(values.tobytes())


if __name__ == "__main__":
    main()
