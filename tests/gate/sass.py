"""Reads cuobjdump's listing of machine code: instructions, loops, issue slots."""

import re
import subprocess

_FUNCTION = re.compile(r"Function : (\S+)")
# sm_53 issues the two instructions between braces together.
_INSTRUCTION = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(\{)?\s*(.*?)\s*(\})?\s*;?\s*(?:/\*|$)")
_BRANCH = re.compile(r"\bBRA\b.*?\b0x([0-9a-f]+)")


class Instruction:
    """One instruction: its address, its text without predicate, whether it shares the slot of the
    one before it."""

    def __init__(self, address, text, is_second):
        self.address = address
        self.text = re.sub(r"^@!?U?P\w+\s+", "", text).rstrip(" ;")
        self.is_second = is_second
        self.opcode = self.text.split(" ", 1)[0]

    @property
    def target(self):
        match = _BRANCH.search(self.text)
        return int(match.group(1), 16) if match else None


def parse(listing):
    """{mangled name: [Instruction]} of a listing of `cuobjdump -sass`."""
    functions, current = {}, None
    for line in listing.splitlines():
        match = _FUNCTION.search(line)
        if match:
            current = functions.setdefault(match.group(1), [])
            continue
        match = _INSTRUCTION.match(line)
        if match and current is not None:
            address, _, text, closing = match.groups()
            current.append(Instruction(int(address, 16), text.rstrip("}").rstrip(), bool(closing)
                                       or text.endswith("}")))
    return functions


def disassemble(cuobjdump, cubin):
    return parse(subprocess.run([cuobjdump, "-sass", cubin], stdout=subprocess.PIPE, check=True,
                                text=True).stdout)


def innermost_loops(instructions):
    """The loops that hold no other, as lists of instructions."""
    spans = [(i.target, i.address) for i in instructions
             if i.target is not None and i.target < i.address]
    inner = [span for span in spans
             if not any(other != span and span[0] <= other[0] and other[1] <= span[1]
                        for other in spans)]
    return [[i for i in instructions if first <= i.address <= last] for first, last in inner]


def slots(instructions):
    return sum(not i.is_second for i in instructions)


def count(instructions, opcode):
    """How many have this opcode, or one that goes on from it with a dot."""
    return sum(i.opcode == opcode or i.opcode.startswith(opcode + ".") for i in instructions)
