#!/usr/bin/env python3
"""Fails on what gcc 7.5 or CUDA 10.2 does not have, and on what a library must not do.

A newer intrinsic may stand under an #if that asks for the compiler's version (or for a macro that
was defined under such an #if, or a feature macro that older compilers never define).
"""

import re
import sys

import source_tree

# (since which gcc, pattern): headers of the standard library.
HEADERS = [
    (8, "filesystem|charconv"),
    (9, "execution|memory_resource|version"),
    (10, "span|concepts|compare|coroutine|numbers|ranges|stop_token|bit"),
    (11, "barrier|latch|semaphore|source_location|syncstream"),
    (13, "expected|format|generator|mdspan|print|spanstream|stacktrace|stdfloat|flat_map|flat_set"),
]

# (since which gcc, pattern, what it is): language and library features, compiler built-ins.
FEATURES = [
    (8, r"std::(filesystem|from_chars|to_chars|chars_format)\b", "library feature"),
    (9, r"std::(pmr|execution)::", "library feature"),
    (9, r"std::(reduce|transform_reduce|(transform_)?(in|ex)clusive_scan)\b", "parallel algorithm"),
    (9, r"std::(bit_cast|is_constant_evaluated|assume_aligned|to_address)\b", "C++20"),
    (9, r"std::(rot[lr]|count[lr]_(zero|one)|popcount|bit_(ceil|floor|width)|has_single_bit)\b",
     "C++20"),
    (9, r"std::(endian|midpoint|lerp|remove_cvref(_t)?|type_identity(_t)?)\b", "C++20"),
    (10, r"std::(span|ranges|views|ssize|jthread|stop_token|atomic_ref|source_location)\b", "C++20"),
    (10, r"std::(same_as|convertible_to|derived_from|integral|floating_point|invocable)\b", "C++20"),
    (11, r"std::(latch|barrier|counting_semaphore|binary_semaphore|byteswap|erase_if)\b", "C++20"),
    (12, r"std::(make_(unique|shared)_for_overwrite|hardware_(con|de)structive_interference_size)\b",
     "library feature"),
    (13, r"std::(format|print|println|expected|unexpected)\b", "C++20 or later"),
    (9, r"\[\[\s*(likely|unlikely|no_unique_address|assume)\b", "C++20 attribute"),
    (10, r"\b(concept|requires|consteval|constinit|co_await|co_yield|co_return|char8_t)\b", "C++20"),
    (11, r"\busing\s+enum\b", "C++20"),
    (10, r"<=>", "C++20"),
    (9, r"[\[,]\s*=\s*,\s*this\b", "C++20 lambda capture"),
    (8, r"\]\s*<\s*(typename|class)\b", "C++20 template lambda"),
    (8, r"\b__VA_OPT__\b", "C++20"),
    (8, r"[{,]\s*\.[a-z_]\w*\s*(=(?!=)|\{)", "C++20 designated initialiser"),
    (9, r"\b__builtin_(convertvector|is_constant_evaluated)\b", "built-in"),
    (10, r"\b__has_builtin\b", "built-in"),
    (11, r"\b__builtin_bit_cast\b", "built-in"),
    (12, r"\b__builtin_shufflevector\b", "built-in"),
    (12, r"\b_Float16\b", "type"),
    (10, r"\b__bf16\b", "type"),
    (8, r'(target|__builtin_cpu_supports)\s*\(\s*"[^"]*(avx512(vnni|vbmi2|bitalg)|gfni)', "ISA name"),
    (10, r'(target|__builtin_cpu_supports)\s*\(\s*"[^"]*(avx512(bf16|vp2intersect))', "ISA name"),
    (11, r'(target|__builtin_cpu_supports)\s*\(\s*"[^"]*(avxvnni|amx|x86-64-v)', "ISA name"),
    (12, r'(target|__builtin_cpu_supports)\s*\(\s*"[^"]*avx512fp16', "ISA name"),
]

# (since which gcc, pattern): intrinsics.
INTRINSICS = [
    (8, r"_mm\d*_(mask_|maskz_)?dp(bus|wss)ds?_epi32"),
    (8, r"_mm\d*_(mask_|maskz_)?sh[lr]dv?i?_epi\d+"),
    (8, r"_mm\d*_(mask_|maskz_)?(expand|compress|expandloadu|compressstoreu)_epi(8|16)"),
    (8, r"_mm\d*_(mask_|maskz_)?(popcnt_epi(8|16)|bitshuffle_epi64_mask|gf2p8\w+)"),
    (8, r"_mm256_(set_m128|set_m128[di]|setr_m128|setr_m128[di]|cvtsi256_si32|cvts[sd]_f\d+)"),
    (8, r"_mm512_(cvts[sd]_f\d+|cvtsi512_si32)"),
    (9, r"_mm512_setr?_epi(8|16)"),
    (9, r"_mm_(loadu|storeu)_si64"),
    (11, r"_mm_(loadu|storeu)_si(16|32)"),
    (9, r"_mm\d*_(loadu|storeu)_epi(8|16|32|64)"),
    (10, r"_mm(256|512)_zext\w+"),
    (10, r"_mm256_(loadu2|storeu2)_\w+"),
    (10, r"_mm\d*_(mask_|maskz_)?(dpbf16_ps|cvtne2?ps_pbh|cvtpbh_ps|2intersect_epi\d+)"),
    (11, r"_mm\d*_dp(bus|wss)ds?_avx_epi32|_tile_\w+"),
    (12, r"_mm\d*_(?!(mask_|maskz_)?cvt_?(round)?(ps_ph|ph_ps)\b)\w+_(ph|sh|pch)"),
    (8, r"v(dot|usdot|sudot)q?_(lane_|laneq_)?[su]32"),
    (8, r"vfml[as]l(q?_low|q?_high|)_\w+"),
    (8, r"v(ld|st)1q?_[a-z]+\d+_x[23]"),
    (10, r"v(ld|st)1q?_[a-z]+\d+_x4"),
    (10, r"v(us|su)?mmlaq_[su]32|vbf\w+|v(us|su)dotq?_\w+"),
    (10, r"sv(bool|int8|float32|float16)_t|svptrue_\w+|svcnt[bhwd]"),
]

# Macros that a compiler older than this does not define, whatever its options.
FEATURE_MACROS = {
    "__AVX512VNNI__": 8, "__AVX512VBMI2__": 8, "__GFNI__": 8, "__AVX512BF16__": 10,
    "__AVXVNNI__": 11, "__AVX512FP16__": 12, "__ARM_FEATURE_DOTPROD": 8,
    "__ARM_FEATURE_MATMUL_INT8": 10, "__ARM_FEATURE_BF16": 10, "__ARM_FEATURE_SVE": 10,
}

# CUDA 11 and later, in any file; allowed under __CUDACC_VER_MAJOR__ or CUDART_VERSION.
CUDA = [
    r"cuda(Malloc|Free)(FromPool)?Async|cudaMemPool\w+|cudaDeviceGetDefaultMemPool",
    r"cudaGraph(Upload|InstantiateWithFlags|InstantiateWithParams|AddMem(Alloc|Free)Node)",
    r"cudaGraphNodeSetEnabled|cudaStreamUpdateCaptureDependencies|cudaGetDriverEntryPoint",
    r"cudaStream(Set|Get|Copy)Attribute\w*|cudaAccessPolicyWindow|cudaEventRecordWithFlags",
    r"cudaLaunchKernelEx\w*|cudaLaunchAttribute\w*|cudaOccupancyAvailableDynamicSMemPerBlock",
    r"cudaFuncAttributeNonPortableClusterSizeAllowed|cudaDevAttrMemoryPoolsSupported",
    r"cuda::(pipeline|barrier|memcpy_async|atomic_ref|std|ptx|annotated_ptr|access_property)",
    r"(cooperative_groups|cg)::(reduce|memcpy_async|wait|wait_prior|invoke_one|inclusive_scan"
    r"|exclusive_scan|labeled_partition|plus|less|greater)\b",
    r"__pipeline_\w+|__reduce_(add|min|max|and|or|xor)_sync|__grid_constant__|__cluster_dims__",
    r"(__)?nv_bfloat162?|__nv_fp8\w*|CUDA_R_16BF|CUBLAS_COMPUTE_\w+|cublasComputeType_t",
    r"__h(max|min)2?(_nan)?\b|__hfma2?_relu|__hcmadd|__hmul_rn|__hadd_rn",
]
CUDA_HEADERS = (r"cuda/.*|cuda_bf16\.h|cuda_fp8\.h|cuda_pipeline\w*\.h|cuda_awbarrier\w*\.h"
                r"|cooperative_groups/(reduce|memcpy_async|scan|async)\.h")
# Kernels and the headers that they include are C++14.
CXX17_HEADERS = r"any|filesystem|optional|shared_mutex|string_view|variant"
DEVICE_FOLDERS = ("kernels/", "include/kvferry/codec/device/", "src/codec/device/",
                  "include/kvferry/compute/device/")

# (pattern, the one file that may have it, what to do instead): what only nvcc reads, in kernels/.
KERNELS = [
    (r"\b(asm|__asm(__)?)\b", "kernels/ptx.cuh", "inline PTX belongs in kernels/ptx.cuh"),
    (r"\b__shared__\b", "kernels/shared_storage.cuh",
     "shared memory is shared_storage() of kernels/shared_storage.cuh"),
    (r"<<<", None, "kernels are started with launch() of kernels/launch.cuh"),
]
# Language of C++17 that can be told from a line.
CXX17 = [
    (r"\bif\s+constexpr\b", "if constexpr"),
    (r"\binline\s+(static\s+)?constexpr\b(?![^;=]*\()|\bstatic\s+inline\s+(const\s|\w+\s+\w+\s*=)",
     "an inline variable"),
    (r"\bnamespace\s+\w+\s*::", "a nested namespace definition"),
    (r"\bauto\s*(&{1,2}|\s)\s*\[\s*\w+\s*(,\s*\w+\s*)*\]\s*[=:{(]", "a structured binding"),
    (r"\[\[\s*(maybe_unused|nodiscard|fallthrough)\b", "a C++17 attribute"),
    (r"\bstd::(is_\w+|tuple_size)_v\b|\bstd::(byte|clamp|void_t|invoke|apply|optional|variant"
     r"|string_view|any)\b", "C++17's library"),
    (r"\(\s*\.\.\.\s*(&&|\|\||[-+*/|&,])|(&&|\|\||[-+*/|&,])\s*\.\.\.\s*\)(?!\s*\{)",
     "a fold expression"),
]

# What a library leaves to the program that links it.
LIBRARY = [
    (r"(?<![\w.>:])(std::|::)?(printf|fprintf|puts|fputs|putchar|perror|vprintf|vfprintf)\s*\(",
     "prints"),
    (r"std::(cout|cerr|clog)\b", "prints"),
    (r"std::(abort|exit|_Exit|quick_exit|terminate)\s*\(", "ends the process"),
    (r"(?<![\w.>:])(std::|::)?(sto[ifdl]\w*|atof|setlocale|strtok)\s*\(",
     "throws on bad input, depends on the locale or keeps state"),
]
PUBLIC_HEADERS = r"cuda\w*\.h|cublas\w*\.h|iostream"

_GCC = re.compile(r"__GNUC__\s*(>=|>)\s*(\d+)")
_CUDA_VERSION = re.compile(r"__CUDACC_VER_MAJOR__|CUDART_VERSION|CUDA_VERSION")
_DIRECTIVE = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif|else|endif|define)\b(.*)$")


class Guard:
    """What the #if around a line vouch for: a gcc version, and a CUDA version."""

    def __init__(self, gcc=0, cuda=False):
        self.gcc, self.cuda = gcc, cuda


def guard_of(directive, condition, macros):
    if directive == "ifndef":
        return Guard()
    versions = [int(number) + (operator == ">") for operator, number in _GCC.findall(condition)]
    versions += [version for macro, version in macros.items()
                 if re.search(rf"(?<!!)\b{macro}\b(?!\s*==\s*0)", condition)
                 and not re.search(rf"!\s*(defined\s*\(?\s*)?{macro}\b", condition)]
    return Guard(max(versions, default=0), bool(_CUDA_VERSION.search(condition)))


def guarded_lines(text, macros):
    """(line number, line, gcc version vouched for, CUDA version checked) of every line; adds the
    macros that the text defines under a version check to `macros`."""
    stack = []
    for number, line in enumerate(text.split("\n"), 1):
        match = _DIRECTIVE.match(line)
        directive, rest = match.groups() if match else (None, "")
        if directive in ("if", "ifdef", "ifndef"):
            stack.append(guard_of(directive, rest, macros))
        elif directive in ("elif", "else") and stack:
            stack[-1] = guard_of(directive, rest, macros) if directive == "elif" else Guard()
        elif directive == "endif" and stack:
            stack.pop()
        gcc = max((guard.gcc for guard in stack), default=0)
        if directive == "define" and gcc and rest.split():
            macros[rest.split()[0]] = gcc
        yield number, line, gcc, any(guard.cuda for guard in stack)


def check_line(path, line, literal, gcc, cuda, included):
    """What is wrong with one line: `line` has its literals blanked, `literal` has not."""
    wrong = []
    if included:
        for since, names in HEADERS:
            if gcc < since and re.fullmatch(names, included):
                wrong.append(f"<{included}> came with gcc {since}")
        if not cuda and re.fullmatch(CUDA_HEADERS, included):
            wrong.append(f"<{included}> came after CUDA 10.2")
        if path.startswith(DEVICE_FOLDERS) and re.fullmatch(CXX17_HEADERS, included):
            wrong.append(f"<{included}> is C++17, device code is C++14")
        if path.startswith("include/") and re.fullmatch(PUBLIC_HEADERS, included):
            wrong.append(f"a public header includes <{included}>")
        return wrong
    for since, pattern, what in FEATURES:
        match = re.search(pattern, literal if what == "ISA name" else line)
        if gcc < since and match:
            wrong.append(f"{match.group(0)}: {what} that came with gcc {since}")
    for since, pattern in INTRINSICS:
        match = re.search(rf"(?<!\w)({pattern})(?=\s*\()|(?<!\w)(sv\w+_t)\b", line)
        if gcc < since and match and re.fullmatch(pattern, match.group(0)):
            wrong.append(f"{match.group(0)} came with gcc {since}; ask for __GNUC__ >= {since}")
    for pattern in CUDA:
        match = re.search(rf"(?<!\w)({pattern})(?!\w)", line)
        if not cuda and match:
            wrong.append(f"{match.group(0)} came after CUDA 10.2")
    if path.startswith(DEVICE_FOLDERS):
        wrong += check_device_line(path, line)
    if path.startswith(("include/", "src/", "kernels/")):
        for pattern, what in LIBRARY:
            match = re.search(pattern, line)
            if match:
                wrong.append(f"{match.group(0).rstrip('( ')} in a library: {what}")
    return wrong


def check_device_line(path, line):
    """What is wrong with a line of device code."""
    wrong = [f"{match.group(0).strip()}: {instead}" for pattern, exempt, instead in KERNELS
             for match in [re.search(pattern, line)] if match and path != exempt]
    return wrong + [f"{match.group(0).strip()}: {what} is C++17, device code is C++14"
                    for pattern, what in CXX17
                    for match in [re.search(pattern, line)] if match]


def check(root):
    """(violations, number of files looked at)"""
    files = source_tree.source_files(
        root, ["include", "src", "kernels", "examples", "bench", "tests"])
    texts = {path: source_tree.read(root, path) for path in files}
    macros = dict(FEATURE_MACROS)
    # Headers define the macros that sources ask for, so that all are read twice.
    for text in texts.values():
        for _ in guarded_lines(source_tree.without_comments(text), macros):
            pass
    violations = []
    for path, text in texts.items():
        literals = text.split("\n")
        included = {line: name for line, _, name in source_tree.includes(text)}
        for number, line, gcc, cuda in guarded_lines(source_tree.without_comments(text), macros):
            wrong = check_line(path, line, literals[number - 1] if line.strip() else "", gcc, cuda,
                               included.get(number))
            violations += [f"{path}:{number}: {what}" for what in wrong]
    return violations, len(files)


if __name__ == "__main__":
    sys.exit(source_tree.report(*check(source_tree.ROOT), "deny list"))
