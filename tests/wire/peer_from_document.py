#!/usr/bin/env python3
"""A second decoder of the wire format, written from docs/wire-format.md and sharing nothing with the
library: it must read every good golden frame as the manifest says, and refuse every bad one with the
code that the manifest names. Usage: peer_from_document.py FOLDER (tests/golden/wire)."""
import json
import math
import struct
import sys
from pathlib import Path

MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9,
                      0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
CODES = {3: "malformed", 4: "unsupported", 6: "checksum", 7: "incomplete", 8: "resource_exhausted"}


class Refused(Exception):
    def __init__(self, code, why):
        super().__init__(why)
        self.code = code


def require(holds, why, code=3):
    if not holds:
        raise Refused(code, why)


def xxh64(data, seed=0):
    def rot(v, by):
        return ((v << by) | (v >> (64 - by))) & MASK

    def round_(acc, lane):
        return rot((acc + lane * P2) & MASK, 31) * P1 & MASK

    at, n = 0, len(data)
    if n >= 32:
        acc = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        while at + 32 <= n:
            acc = [round_(a, lane) for a, lane in zip(acc, struct.unpack_from("<4Q", data, at))]
            at += 32
        h = sum(rot(a, by) for a, by in zip(acc, (1, 7, 12, 18))) & MASK
        for a in acc:
            h = ((h ^ round_(0, a)) * P1 + P4) & MASK
    else:
        h = (seed + P5) & MASK
    h = (h + n) & MASK
    while at + 8 <= n:
        h = (rot(h ^ round_(0, struct.unpack_from("<Q", data, at)[0]), 27) * P1 + P4) & MASK
        at += 8
    if at + 4 <= n:
        h = (rot(h ^ struct.unpack_from("<I", data, at)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        h = rot(h ^ byte * P5 & MASK, 11) * P1 & MASK
    h = (h ^ h >> 33) * P2 & MASK
    h = (h ^ h >> 29) * P3 & MASK
    return h ^ h >> 32


class Payload:
    """Section 1: the notations. Every field that is read lands in `fields`."""

    def __init__(self, data):
        self.data, self.at, self.fields = data, 0, {}

    def left(self):
        return len(self.data) - self.at

    def raw(self, n):
        require(n <= self.left(), "too short")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, form):
        return struct.unpack("<" + form, self.raw(struct.calcsize(form)))[0]

    def put(self, name, value):
        self.fields[name] = value
        return value

    def u8(self, name):
        return self.put(name, self.number("B"))

    def u16(self, name):
        return self.put(name, self.number("H"))

    def u32(self, name):
        return self.put(name, self.number("I"))

    def u64(self, name):
        return self.put(name, self.number("Q"))

    def i32(self, name):
        return self.put(name, self.number("i"))

    def real(self, name, form="f"):
        value = self.number(form)
        require(math.isfinite(value), name + " is not finite")
        return self.put(name, value)

    def bool(self, name):
        value = self.number("B")
        require(value <= 1, name)
        return self.put(name, value == 1)

    def enum(self, name, last):
        value = self.number("B")
        require(value <= last, name)
        return self.put(name, value)

    def id16(self, name):
        return self.put(name, self.raw(16).hex())

    def token(self, name):
        value = self.u32(name)
        require(value < 2**31, name)
        return value

    def text(self, name, cap, kind):
        n = self.number("I")
        require(n <= cap, name + " is too long")
        try:
            value = self.raw(n).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused(3, name + " is not UTF-8") from None
        if kind == "line":
            require(not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value), name)
        return self.put(name, value)

    def name(self, name, cap):
        value = self.text(name, cap, "bytes")
        require(value and all(0x21 <= ord(c) <= 0x7e for c in value), name)

    def list(self, name, cap, least, entry):
        n = self.number("I")
        require(n <= cap, name + " is too long")
        require(n * least <= self.left(), name + " is longer than the payload")
        outer, values = self.fields, []
        for _ in range(n):
            self.fields = {}
            entry()
            one = self.fields
            values.append(next(iter(one.values())) if len(one) == 1 else one)
        self.fields = outer
        return self.put(name, values)


# Section 4, message by message.

def hello(p):
    low, high = p.u16("min_version"), p.u16("max_version")
    require(1 <= low <= high, "versions")
    p.u64("optional_features")
    p.u64("required_features")
    p.enum("role", 3)
    require(p.u32("max_payload") >= 65536, "max_payload")
    p.u64("clock_ns")
    p.text("agent", 256, "line")


def ping(p):
    p.u64("nonce")
    p.u64("clock_ns")


def pong(p):
    p.u64("nonce")
    p.u64("ping_clock_ns")
    p.u64("clock_ns")


def error(p):
    require(p.u16("code") != 0, "code")
    p.text("text", 4096, "line")


def goodbye(_):
    pass


def rope(p, prefix):
    p.enum(prefix + "rope.layout", 1)
    name = prefix + "rope.inverse_frequency"
    p.list(name, 512, 4, lambda: p.real(name))
    p.real(prefix + "rope.attention_scale")
    return p.fields[name]


def sampler(p):
    require(0 <= p.real("sampler.temperature") <= 100, "temperature")
    p.u32("sampler.top_k")
    require(0 < p.real("sampler.top_p") <= 1, "top_p")
    require(0 <= p.real("sampler.min_p") < 1, "min_p")
    low = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    require(low <= p.real("sampler.repetition_penalty") <= 10, "repetition_penalty")
    require(p.u32("sampler.repetition_window") <= 4096, "repetition_window")
    p.u64("sampler.seed")


def stop(p):
    p.list("stop", 16, 4, lambda: require(p.text("stop", 256, "bytes") != "", "empty stop"))


def offer(p):
    p.id16("sequence")
    p.name("identity.architecture", 64)
    for name in ("layers", "heads", "kv_heads", "head_dim", "hidden", "ffn", "vocab"):
        p.u32("identity." + name)
    p.real("identity.norm_epsilon")
    rope(p, "identity.")
    p.u64("identity.tokenizer")
    p.u64("identity.norms")
    for name in ("name", "basename", "finetune", "version"):
        p.text("identity." + name, 256, "bytes")
    layers, heads, dim = p.u32("layers"), p.u32("kv_heads"), p.u32("head_dim")
    p.enum("type", 2)
    frequencies = rope(p, "")
    require(1 <= layers <= 4096, "layers")
    require(heads >= 1 and dim >= 2 and dim % 2 == 0 and heads * dim <= 65536, "row")
    require(2 * len(frequencies) <= dim, "rope pairs")
    require(all(abs(f) <= 65536 for f in frequencies), "rope")
    p.u8("profile")
    for name in ("codebook", "predictor"):
        there = p.u64(name) != 0
        require((p.u32(name + "_bytes") != 0) == there, name + "_bytes")
    require(p.fields["predictor"] == 0 or p.fields["codebook"] != 0, "predictor without codebook")
    p.text("provenance.path", 256, "line")
    p.text("provenance.weight_format", 256, "line")
    p.u32("provenance.codec_history")
    p.i32("provenance.position_offset")
    p.u64("base_generation")
    base, first = p.u32("base_length"), p.u32("replace_begin")
    tokens = len(p.list("tokens", 2**20, 4, lambda: p.token("tokens")))
    require(base <= 2**20 and first <= base and first < tokens, "replace_begin")

    def part():
        require(p.u16("coverage.source") >= 1, "source")
        low, high = p.u32("coverage.first_layer"), p.u32("coverage.end_layer")
        require(low < high <= layers, "part layers")
        begin, end = p.u32("coverage.begin"), p.u32("coverage.end")
        require(first <= begin < end <= tokens, "part tokens")

    rows = [0] * (layers * (tokens - first))
    for q in p.list("coverage", 64, 18, part):
        for layer in range(q["coverage.first_layer"], q["coverage.end_layer"]):
            for t in range(q["coverage.begin"], q["coverage.end"]):
                rows[layer * (tokens - first) + t - first] += 1
    require(all(r == 1 for r in rows), "coverage")
    if p.bool("decode"):
        p.id16("decode.ticket")
        sampler(p)
        p.u64("sampler_state.draws")
        p.u32("decode.max_tokens")
        p.bool("decode.ignore_eos")
        stop(p)


def accept(p):
    require(p.u32("held_prefix") <= 2**20, "held_prefix")
    p.u64("generation")
    require(p.u32("base_length") <= 2**20, "base_length")
    p.u64("profiles")
    p.u64("credit")
    p.enum("codebook", 2)
    require(p.enum("predictor", 2) == 0 or p.fields["codebook"] != 0, "predictor")

    def entry():
        require(p.u32("resume.layer") < 4096, "layer")
        p.enum("resume.plane", 1)
        require(p.u32("resume.begin") < p.u32("resume.end") <= 2**20, "range")

    ranges = p.list("resume", 65536, 13, entry)
    for a, b in zip(ranges, ranges[1:]):
        require((a["resume.layer"], a["resume.plane"], a["resume.end"]) <=
                (b["resume.layer"], b["resume.plane"], b["resume.begin"]), "order")


def first_token(p):
    p.token("token")
    p.u64("sampler_state.draws")
    p.real("log_sum_exp")
    top = p.list("top", 64, 8, lambda: (p.token("top.token"), p.real("top.logit")))
    for a, b in zip(top, top[1:]):
        require(a["top.logit"] >= b["top.logit"], "order")


def block(p):
    require(p.u32("layer") < 4096, "layer")
    p.enum("plane", 1)
    p.u8("profile")
    tokens = p.u16("tokens")
    require(1 <= tokens <= 256, "tokens")
    require(p.u32("begin") + tokens <= 2**20, "begin")
    require(p.left() >= 1, "coded")
    p.put("coded", p.raw(p.left()).hex())


def credit(p):
    p.u64("total")


def end(p):
    p.u64("blocks")
    p.u64("payload_bytes")
    p.u64("digest")


def committed(p):
    p.u64("generation")
    require(p.u32("length") <= 2**20, "length")
    p.u64("digest")


def model_data(p):
    p.enum("kind", 1)
    require(p.u64("id") != 0, "id")
    total, offset = p.u32("total"), p.u32("offset")
    require(1 <= p.left() and offset + p.left() <= total, "bytes")
    p.put("bytes", p.raw(p.left()).hex())


def generate(p):
    given = [p.text("text", 2**22, "bytes"),
             p.list("token_ids", 2**20, 4, lambda: p.token("token_ids"))]
    messages = p.list("messages", 1024, 8, lambda: (p.text("messages.role", 256, "bytes"),
                                                    p.text("messages.content", 2**22, "bytes")))
    require(sum(len(m["messages.content"].encode()) for m in messages) <= 2**22, "messages")
    require(sum(1 for g in given + [messages] if g) == 1, "one of three")
    sampler(p)
    p.u32("max_tokens")
    p.bool("ignore_eos")
    stop(p)


def ticket(p):
    require(p.text("decode_address", 256, "line") != "", "address")
    p.id16("ticket")
    p.u32("prompt_tokens")


def attach(p):
    p.id16("ticket")


def token(p):
    p.u32("index")
    p.token("token")
    p.text("text", 32768, "utf8")


def done(p):
    p.enum("reason", 3)
    p.text("text", 4096, "utf8")
    p.list("report", 64, 12, lambda: (
        require(p.text("report.name", 256, "line") != "", "name"), p.real("report.value", "d")))


TYPES = {1: ("HELLO", hello), 2: ("PING", ping), 3: ("PONG", pong), 4: ("ERROR", error),
         5: ("GOODBYE", goodbye), 16: ("OFFER", offer), 17: ("ACCEPT", accept),
         18: ("FIRST_TOKEN", first_token), 19: ("BLOCK", block), 20: ("CREDIT", credit),
         21: ("END", end), 22: ("COMMITTED", committed), 23: ("CANCEL", error),
         24: ("MODEL_DATA", model_data),
         32: ("GENERATE", generate), 33: ("TICKET", ticket), 34: ("ATTACH", attach),
         35: ("TOKEN", token), 36: ("DONE", done)}


def decode(data):
    """Section 2: one frame that is all of `data`."""
    require(len(data) < 4 or data[:4] == b"KVFY", "magic")
    require(len(data) >= 48, "header cut off", 7)
    version, kind, flags, handoff, epoch, source, length, size, reserved, payload_hash = \
        struct.unpack_from("<BBHQIHHIIQ", data, 4)
    require(version == 1, "version", 4)
    require(48 <= length <= 256 and length % 8 == 0, "header length")
    require(len(data) >= length, "header cut off", 7)
    require(xxh64(data[:length - 8]) == struct.unpack_from("<Q", data, length - 8)[0], "hash", 6)
    require(kind in TYPES, "type", 4)
    require(flags & 0xff00 == 0, "flags", 4)
    require(reserved == 0, "reserved")
    require(size <= 2**24, "payload length", 8)
    named = {handoff != 0, epoch != 0, source != 0}
    require(len(named) == 1, "address")
    name, parse = TYPES[kind]
    if kind not in (4, 23, 24):
        require(named == {16 <= kind < 23}, "address")
    payload = data[length:]
    require(len(payload) >= size, "payload cut off", 7)
    require(len(payload) == size, "bytes after the frame")
    require(xxh64(payload) == payload_hash, "payload hash", 6)
    p = Payload(payload)
    parse(p)
    require(p.left() == 0, "bytes after the last field")
    return {"type": name, "flags": flags, "handoff": handoff, "epoch": epoch, "source": source,
            "message": p.fields}


def main():
    folder = Path(sys.argv[1])
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    failures = 0
    for entry in manifest["good"]:
        expected = {k: v for k, v in entry.items() if k != "file"}
        try:
            got = decode((folder / entry["file"]).read_bytes())
        except Refused as refused:
            got = "refused: " + str(refused)
        if got != expected:
            failures += 1
            print(f"{entry['file']}:\n  read     {got}\n  expected {expected}")
    for entry in manifest["bad"]:
        try:
            decode((folder / entry["file"]).read_bytes())
            code = None
        except Refused as refused:
            code = refused.code
        if code != entry["code"]:
            failures += 1
            print(f"{entry['file']}: {CODES.get(code, 'accepted')}, expected {entry['error']}")
    listed = {e["file"] for group in manifest.values() for e in group}
    there = {str(f.relative_to(folder)) for f in folder.glob("*/*")}
    for name in sorted(listed ^ there):
        failures += 1
        print(f"{name}: {'not in the manifest' if name in there else 'missing'}")
    print(f"{len(manifest['good'])} good and {len(manifest['bad'])} bad frames, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
