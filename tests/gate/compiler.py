"""Compiles device sources and says what ptxas made of every kernel."""

import os
import re
import shutil
import subprocess
import tempfile

import sass
import toolkit

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# As the build compiles them. Sums are contracted only where the source says fma.
FLAGS = ["-std=c++14", "-fmad=false", "-Werror", "all-warnings", "-Xcompiler",
         "-Wall,-Wextra,-Wno-unused-parameter", "-I", ROOT, "-I", os.path.join(ROOT, "include")]

# Registers and threads of one multiprocessor.
REGISTERS = 65536
THREADS = {"sm_53": 2048, "sm_87": 1536}

_ENTRY = re.compile(r"Compiling entry function '(\S+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


class Kernel:
    """What ptxas says of one kernel."""

    def __init__(self, name):
        self.mangled = name
        self.name = name
        self.registers = self.shared = self.stack = self.spills = self.threads = 0
        self.instructions = []

    def blocks(self, architecture):
        """Blocks of one multiprocessor for which there are registers and threads."""
        # Registers are given to warps in units of 256.
        warps = self.threads // 32
        of_registers = REGISTERS // (-(-self.registers * 32 // 256) * 256 * warps)
        return min(of_registers, THREADS[architecture] // self.threads)


class Compiler:
    """A toolkit: its nvcc, and its cuobjdump where it has one."""

    def __init__(self, name, nvcc, cuobjdump, host_compiler):
        self.name = name
        self.nvcc = nvcc
        self.cuobjdump = cuobjdump
        self.host_compiler = host_compiler

    def architectures(self):
        """Those that it makes code for: sm_53, …"""
        return subprocess.run([self.nvcc, "--list-gpu-code"], stdout=subprocess.PIPE, check=True,
                              text=True).stdout.split()

    def compile(self, source, architecture):
        """(kernels, what the compiler printed and would better not have)."""
        with tempfile.TemporaryDirectory() as work:
            cubin = os.path.join(work, "out.cubin")
            host = ["-ccbin", self.host_compiler] if self.host_compiler else []
            result = subprocess.run(
                [self.nvcc, *host, *FLAGS, f"-arch={architecture}", "-Xptxas", "-v", "-cubin",
                 "-o", cubin, source], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                check=False)
            if result.returncode != 0:
                return [], result.stdout.strip().splitlines()[:20]
            kernels = read_ptxas(result.stdout)
            if self.cuobjdump:
                _read_cubin(self.cuobjdump, cubin, kernels)
        _demangle(kernels)
        return kernels, [line for line in result.stdout.splitlines() if "warning" in line]


def read_ptxas(output):
    """The kernels that ptxas -v tells of."""
    kernels = []
    for line in output.splitlines():
        match = _ENTRY.search(line)
        if match:
            kernels.append(Kernel(match.group(1)))
        match = _STACK.search(line)
        if match and kernels:
            kernels[-1].stack = int(match.group(1))
            kernels[-1].spills = int(match.group(2)) + int(match.group(3))
        match = _USED.search(line)
        if match and kernels:
            kernels[-1].registers = int(match.group(1))
            kernels[-1].shared = int(match.group(2) or 0)
    return kernels


def _read_cubin(cuobjdump, cubin, kernels):
    functions = sass.disassemble(cuobjdump, cubin)
    elf = subprocess.run([cuobjdump, "-elf", cubin], stdout=subprocess.PIPE, check=True,
                         text=True).stdout
    for kernel in kernels:
        kernel.instructions = functions[kernel.mangled]
        section = elf.split(f"\n.nv.info.{kernel.mangled}\n", 1)[1]
        threads = re.search(r"EIATTR_MAX_THREADS.*?Value:\s*0x(\w+) 0x(\w+) 0x(\w+)", section,
                            re.DOTALL)
        x, y, z = (int(number, 16) for number in threads.groups())
        kernel.threads = x * y * z


def _demangle(kernels):
    """`gemv<W8, 1, NormInput, SwiGlu>`: without namespaces, result and parameters."""
    names = subprocess.run(["c++filt"], input="\n".join(kernel.mangled for kernel in kernels),
                           stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    for kernel, name in zip(kernels, names):
        name = re.sub(r"\b\w+::", "", re.sub(r"^void ", "", name))
        kernel.name = re.sub(r"\((?:\w+)\)", "", name.split(">(", 1)[0] + ">" if ">(" in name
                             else name.split("(", 1)[0])


def boards_compiler():
    """CUDA 11.8, which knows sm_53; toolkit.Unavailable says why there is none."""
    folder = os.path.join(toolkit.find(), "usr")
    return Compiler("CUDA 11.8", os.path.join(toolkit.find(), toolkit.BIN, "nvcc"),
                    os.path.join(folder, "bin/cuobjdump"), toolkit.HOST_COMPILER)


def own_compiler():
    """The machine's own nvcc; None when it has none."""
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not os.path.exists(nvcc):
        return None
    version = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, check=True,
                             text=True).stdout
    return Compiler(f"CUDA {re.search(r'release ([0-9.]+)', version).group(1)}", nvcc, None, None)
