"""What the machine code of each kernel must look like."""

import sass

# Parts of 16 bytes that a lane of a matrix-vector product has in flight.
GEMV_LOADS = 4


def gemv_loop(kernel):
    """The loop that most of a matrix-vector product's time is spent in."""
    return max(sass.innermost_loops(kernel.instructions),
               key=lambda loop: sass.count(loop, "LDG.E.CI.128") + _constant_loads(loop),
               default=[])


def _constant_loads(loop):
    """128-bit loads through the read-only path, as later architectures spell them."""
    return sum(i.opcode.startswith("LDG.E.128") and "CONSTANT" in i.opcode for i in loop)


def _check_gemv(kernel, architecture):
    loop = gemv_loop(kernel)
    loads = sass.count(loop, "LDG.E.CI.128") if architecture == "sm_53" else _constant_loads(loop)
    if loads != GEMV_LOADS:
        yield f"{loads} read-only 128-bit loads in its loop instead of {GEMV_LOADS}"
    if sum(i.opcode.startswith("HFMA2") for i in loop) == 0:
        yield "no HFMA2 in its loop"


_OF_KERNEL = {"gemv": _check_gemv}


def check(kernel, architecture):
    """What is wrong with a kernel, as texts."""
    wrong = []
    if kernel.stack or kernel.spills:
        wrong.append(f"{kernel.stack} bytes of stack, {kernel.spills} of spills")
    if not kernel.instructions:
        return wrong
    for opcode in ("LDL", "STL"):
        if sass.count(kernel.instructions, opcode):
            wrong.append(f"{opcode}: uses local memory")
    # F16 subnormals are weights.
    if any(i.opcode.startswith(("HFMA2", "HMUL2", "HADD2")) and ".FTZ" in i.opcode
           for i in kernel.instructions):
        wrong.append("flushes F16 subnormals (.FTZ)")
    rule = _OF_KERNEL.get(kernel.name.split("<", 1)[0])
    return wrong + (list(rule(kernel, architecture)) if rule else [])
