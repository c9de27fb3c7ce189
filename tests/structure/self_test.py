#!/usr/bin/env python3
"""Shows that each check of this folder can fail: plants violations in a small tree of its own.

usage: self_test.py <c++ compiler> <ar> <nm>
"""

import os
import subprocess
import sys
import tempfile
import unittest

import deny_list
import layers
import symbols

TOOLS = sys.argv[1:4]


def violations_in(check, files):
    """What a check says about a tree of these files: a dict of path to text."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        found, checked = check(root)
        assert checked == len(files), (checked, files)
        return found


class Layers(unittest.TestCase):
    CORE = {"include/kvferry/core/a.hpp": "#pragma once\n", "src/codec/own.hpp": "\n"}

    def assert_found(self, path, text, expected):
        found = violations_in(layers.check, {**self.CORE, path: text})
        self.assertEqual(len(found), 1, found)
        self.assertIn(expected, found[0])

    def test_what_is_allowed(self):
        self.assertEqual([], violations_in(layers.check, {
            **self.CORE,
            "include/kvferry/handoff/h.hpp": '#include <zstd.h>\n#include "kvferry/core/a.hpp"\n',
            "src/codec/c.cpp": '#include "own.hpp"\n// #include "kvferry/node/n.hpp"\n',
            "src/node/n.cpp": '#include "kvferry/handoff/h.hpp"\n',
            "examples/e.cpp": '#include "kvferry/core/a.hpp"\n'}))

    def test_a_folder_to_the_right(self):
        self.assert_found("include/kvferry/core/b.hpp", '#include "kvferry/model/m.hpp"\n',
                          "core may not include kvferry/model/m.hpp")
        self.assert_found("src/engine/e.cpp", "\n#  include <kvferry/wire/w.hpp>\n",
                          "src/engine/e.cpp:2: engine may not include")
        self.assert_found("include/kvferry/compute/c.hpp", '#include "kvferry/codec/c.hpp"\n',
                          "compute may not include")

    def test_what_no_library_file_may_include(self):
        self.assert_found("src/node/n.cpp", '#include "tests/support/model.hpp"\n', "neither")
        self.assert_found("src/node/n.cpp", '#include "../codec/own.hpp"\n', "another folder")
        self.assert_found("src/node/n.cpp", '#include "codec/own.hpp"\n', "another folder")
        self.assert_found("include/kvferry/codec/c.hpp", '#include "own.hpp"\n', "public header")
        self.assert_found("src/extra/x.cpp", "#include <vector>\n", "no known layer")

    def test_kernels(self):
        self.assertEqual([], violations_in(layers.check, {
            **self.CORE,
            "include/kvferry/core/half.hpp": "\n",
            "include/kvferry/codec/device/d.hpp": "\n",
            "kernels/k.cuh": '#include <cuda_fp16.h>\n#include "kvferry/codec/device/d.hpp"\n'
                             '#include "kvferry/core/half.hpp"\n#include "simt/ptx.hpp"\n',
            "kernels/l.cuh": '#include "kernels/k.cuh"\n',
            "src/compute/c.cpp": '#include "kernels/k.cuh"\n'}))
        self.assert_found("kernels/k.cuh", '#include "kvferry/core/a.hpp"\n', "not for device code")
        self.assert_found("kernels/k.cuh", '#include "kernels/none.cuh"\n', "there is no")
        self.assert_found("kernels/k.cuh", '#include "simt/launch.hpp"\n', "neither")
        self.assert_found("src/compute/c.cpp", '#include "kernels/none.cuh"\n', "there is no")
        self.assert_found("include/kvferry/core/b.hpp", '#include "kernels/k.cuh"\n',
                          "public header")

    def test_an_example_that_could_not_be_copied(self):
        self.assert_found("examples/e.cpp", '#include "src/codec/own.hpp"\n', "could not copy")


class DenyList(unittest.TestCase):
    def assert_found(self, text, expected, path="src/core/a.cpp"):
        found = violations_in(deny_list.check, {path: text})
        self.assertEqual(len(found), 1, (text, found))
        self.assertIn(expected, found[0])

    def assert_clean(self, text, path="src/core/a.cpp"):
        self.assertEqual([], violations_in(deny_list.check, {path: text}), text)

    def test_headers(self):
        self.assert_found("#include <filesystem>\n", "came with gcc 8")
        self.assert_found("# include <charconv>\n", "came with gcc 8")
        self.assert_found("#include <span>\n", "came with gcc 10")
        self.assert_clean('#include "kvferry/core/span.hpp"\n#include <optional>\n')

    def test_features(self):
        for text in ["std::filesystem::path p;", "std::pmr::vector<int> v;", "std::bit_cast<int>(x)",
                     "std::sort(std::execution::par, a, b);", "if (x) [[likely]] y();",
                     "using enum Colour;", "Point p{.x = 1};", "f({1, .y = 2});",
                     "std::reduce(a, b);", "auto f = []<typename T>(T t) {};",
                     "__builtin_shufflevector(a, b, 0)", '__builtin_cpu_supports("avx512vnni")',
                     "template <typename T> concept C = true;", "co_await x;", "a <=> b;"]:
            self.assert_found(text + "\n", "came with gcc")

    def test_intrinsics(self):
        for text in ["_mm512_dpbusd_epi32(a, b, c)", "_mm256_dpbusd_avx_epi32(a, b, c)",
                     "_mm512_dpbf16_ps(a, b, c)", "_mm512_add_ph(a, b)", "_mm256_set_m128i(a, b)",
                     "_mm512_storeu_epi8(p, a)", "vdotq_s32(a, b, c)", "vdotq_lane_s32(a, b, c, 0)",
                     "vld1q_s8_x2(p)", "vmmlaq_s32(a, b, c)"]:
            self.assert_found(text + ";\n", "__GNUC__")
        self.assert_clean("_mm512_maddubs_epi16(a, b); _mm512_storeu_si512(p, a);\n"
                          "_mm256_cvtps_ph(a, 0); vmlaq_s32(a, b, c); vld1q_s8(p);\n")

    def test_guards(self):
        body = "_mm512_dpbusd_epi32(a, b, c);\n"
        self.assert_clean("#if defined(__clang__) || __GNUC__ >= 8\n" + body + "#endif\n")
        self.assert_clean("#if __GNUC__ > 7\n#define HAS_VNNI 1\n#endif\n"
                          "#if defined(HAS_VNNI)\n" + body + "#endif\n")
        self.assert_clean("#ifdef __AVX512VNNI__\n" + body + "#endif\n")
        for guard in ["#if __GNUC__ >= 7\n", "#ifndef __AVX512VNNI__\n", "#if 1\n",
                      "#if __GNUC__ >= 8\n#else\n", "#if !defined(__AVX512VNNI__)\n",
                      "#if __GNUC__ >= 8\n#endif\n#if 1\n"]:
            self.assert_found(guard + body + "#endif\n", "came with gcc 8")

    def test_cuda(self):
        kernel = "kernels/k.cu"
        for text in ["cudaMallocAsync(&p, n, s)", "cuda::pipeline<x> p", "cg::reduce(g, v)",
                     "__nv_bfloat16 x", "__reduce_add_sync(m, x)", "CUBLAS_COMPUTE_32I"]:
            self.assert_found(text + ";\n", "came after CUDA 10.2", kernel)
        self.assert_found("#include <cuda_bf16.h>\n", "came after CUDA 10.2", kernel)
        self.assert_found("#include <optional>\n", "C++14", kernel)
        self.assert_clean("#if __CUDACC_VER_MAJOR__ >= 11\ncudaMallocAsync(&p, n, s);\n#endif\n",
                          kernel)
        self.assert_found("#include <cuda_runtime.h>\n", "public header", "include/kvferry/core/a.hpp")

    def test_what_only_nvcc_reads(self):
        for text, path in [('asm volatile("bar.sync 0;");', "kernels/ptx.cuh"),
                           ("extern __shared__ uint4 s[];", "kernels/shared_storage.cuh")]:
            self.assert_clean(text + "\n", path)
            self.assert_found(text + "\n", "kernels/", "kernels/k.cuh")
        self.assert_found("k<<<1, 2>>>(p);\n", "launch()", "kernels/ptx.cuh")

    def test_device_code_is_cxx14(self):
        for text in ["if constexpr (x) y();", "inline constexpr int kX = 1;",
                     "namespace kvferry::kernels {", "auto [a, b] = f();", "auto& [a] = f();",
                     "[[maybe_unused]] int x;", "std::is_same_v<A, B>", "std::clamp(a, b, c);",
                     "return (... + values);", "return (values && ...);"]:
            for path in ["kernels/k.cuh", "include/kvferry/codec/device/d.hpp"]:
                self.assert_found(text + "\n", "C++14", path)
            self.assert_clean(text + "\n")
        self.assert_clean("inline constexpr int f(int x) { return x; }\nconstexpr int kX = 1;\n"
                          "auto f = [a, b](int c) { return c; };\nvoid g(Ts... values) { h(values...); }\n"
                          "auto& x = a[i];\nnamespace kernels {}\n", "kernels/k.cuh")

    def test_what_a_library_must_not_do(self):
        for text in ["std::cout << 1;", "printf(x);", "std::abort();", "std::exit(1);", "::puts(x);",
                     "std::stoi(s);"]:
            self.assert_found(text + "\n", "in a library")
            self.assert_clean(text + "\n", "examples/e.cpp")
        self.assert_clean("std::snprintf(b, n, x); sink.abort(); // printf(x)\n")

    def test_comments_and_literals_do_not_count(self):
        self.assert_clean('// std::span\n/* [[likely]]\n std::pmr:: */\nf("std::span", R"(<=>)");\n')
        self.assert_found("f('\"'); std::span<int> s; // '\"'\n", "std::span")


class Symbols(unittest.TestCase):
    def violations(self, text):
        compiler, ar, nm = TOOLS
        with tempfile.TemporaryDirectory() as folder:
            source, member, archive = (os.path.join(folder, n) for n in ("a.cpp", "a.o", "a.a"))
            with open(source, "w", encoding="utf-8") as file:
                file.write(text)
            subprocess.run([compiler, "-c", source, "-o", member], check=True)
            subprocess.run([ar, "rc", archive, member], check=True)
            return symbols.check(nm, [archive])[0]

    def test_symbols(self):
        self.assertEqual([], self.violations("#include <cstdio>\nint f(char* b, int n) {"
                                             " return std::snprintf(b, 4, \"%d\", n); }\n"))
        self.assertEqual(["a.o: uses abort"], self.violations(
            "#include <cstdlib>\nvoid f() { std::abort(); }\n"))
        self.assertEqual(["a.o: uses std::cout"], self.violations(
            "#include <iostream>\nvoid f() { std::cout.flush(); }\n"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
