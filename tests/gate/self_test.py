#!/usr/bin/env python3
"""Shows that the compile gate's checks can fail, on listings made for it; needs no compiler."""

import unittest

import compiler
import gate
import rules
import sass

PTXAS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4gemvv' for 'sm_53'
ptxas info    : Function properties for _Z4gemvv
    {stack} bytes stack frame, {stores} bytes spill stores, 0 bytes spill loads
ptxas info    : Used 64 registers, 384 bytes cmem[0]
"""

LOOP = ["LDG.E.CI.128 R4, [R2]", "LDG.E.CI.128 R8, [R2+0x200]", "LDG.E.CI.128 R12, [R2+0x400]",
        "{ LDG.E.CI.128 R16, [R2+0x600]", "IADD32I R2, R2, 0x800 }", "HFMA2 R20, R4, R8, R20"]


def listing(loop, around=()):
    """What cuobjdump would print of a function with this loop."""
    lines = ["\t\tFunction : _Z4gemvv", '\t.headerflags    @"EF_CUDA_SM53"']
    code = ["MOV R1, c[0x0][0x20]", *around, *loop, "@!P0 BRA 0x%x" % (8 * (2 + len(around))),
            "EXIT"]
    for i, text in enumerate(code):
        closing = text.endswith("}")
        body = (text[:-1].rstrip() + "         }") if closing else text + " ;"
        body = body.replace(" ;", "") if text.startswith("{") else body
        lines.append(f"        /*{8 * (i + 1):04x}*/              {body:50}/* 0x5c98078000870001 */")
        lines.append("                                                /* 0x001c4400fe0007f6 */")
    return "\n".join(lines)


def kernel(loop, around=(), stack=0, stores=0):
    """What the gate knows of such a function."""
    kernels = compiler.read_ptxas(PTXAS.format(stack=stack, stores=stores))
    assert len(kernels) == 1
    kernels[0].name = "gemv<W4, 1>"
    kernels[0].threads = 256
    kernels[0].instructions = sass.parse(listing(loop, around))["_Z4gemvv"]
    return kernels[0]


class Gate(unittest.TestCase):
    def assert_wrong(self, expected, *arguments, **options):
        wrong = rules.check(kernel(*arguments, **options), "sm_53")
        self.assertEqual(len(wrong), 1, wrong)
        self.assertIn(expected, wrong[0])

    def test_good_code(self):
        self.assertEqual([], rules.check(kernel(LOOP), "sm_53"))

    def test_loop_and_slots(self):
        loop = rules.gemv_loop(kernel(LOOP))
        self.assertEqual([i.opcode for i in loop][-2:], ["HFMA2", "BRA"])
        self.assertEqual(len(loop), 7)
        self.assertEqual(sass.slots(loop), 6)

    def test_stack_and_spills(self):
        self.assert_wrong("8 bytes of stack", LOOP, stack=8)
        self.assert_wrong("4 of spills", LOOP, stores=4)

    def test_local_memory(self):
        self.assert_wrong("LDL", LOOP, ["LDL R3, [R1]"])
        self.assert_wrong("STL", LOOP, ["@P1 STL.64 [R1], R3"])

    def test_flushed_subnormals(self):
        self.assert_wrong(".FTZ", LOOP, ["HFMA2.FTZ R3, R4, R5, R6"])
        self.assert_wrong(".FTZ", LOOP, ["HMUL2.FTZ R3, R4, R5"])

    def test_loads(self):
        self.assert_wrong("3 read-only 128-bit loads", LOOP[1:])
        self.assert_wrong("3 read-only 128-bit loads", ["LDG.E.128 R4, [R2]", *LOOP[1:]])
        self.assert_wrong("no HFMA2", LOOP[:-1])

    def test_occupancy(self):
        one = kernel(LOOP)
        self.assertEqual(one.blocks("sm_53"), 4)
        one.registers = 65
        self.assertEqual(one.blocks("sm_53"), 3)
        one.registers = 16
        self.assertEqual((one.blocks("sm_53"), one.blocks("sm_87")), (8, 6))

    def test_table(self):
        one = kernel(LOOP)
        text = gate.table([("sm_53", one)])
        self.assertIn("sm_53         64       0      256       4  50 %  gemv<W4, 1>\n", text)
        self.assertTrue(gate.differences(text))

    def test_every_source_has_architectures(self):
        self.assertTrue(gate.sources())
        for source, path in gate.sources():
            self.assertIn(path, gate.BOARDS, source)


if __name__ == "__main__":
    unittest.main()
