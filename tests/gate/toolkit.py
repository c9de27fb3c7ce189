"""The compiler of CUDA 11.8, the last Debian release that knows both sm_53 and C++14 of 10.2's kind:
unpacked from Debian's own packages into the cache, nothing installed.

usage: toolkit.py    unpacks it if it is not there, prints its folder
"""

import os
import shutil
import subprocess
import sys
import tempfile

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kvferry")
ROOT = os.path.join(CACHE, "cuda-11.8")
PACKAGES = ["nvidia-cuda-toolkit", "nvidia-cuda-dev"]
BIN = "usr/lib/nvidia-cuda-toolkit/bin"
PROFILE = """NVVMIR_LIBRARY_DIR = $(_HERE_)/../libdevice
PATH += $(_HERE_):$(_HERE_)/../../../bin:
INCLUDES += -isystem $(_HERE_)/../../../include
"""
HOST_COMPILER = "g++-11"  # the last that 11.8 takes
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Unavailable(Exception):
    """The toolkit cannot be had here; says why."""


def run(arguments, what, **options):
    result = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            check=False, **options)
    if result.returncode != 0:
        lines = result.stdout.strip().splitlines()
        raise Unavailable(f"{what}: {lines[-1] if lines else result.returncode}")
    return result.stdout


def non_free_sources():
    """Lines of a sources list: the non-free component beside every main one of Debian that this
    machine has."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable("this is not Debian: no apt-get")
    targets = run(["apt-get", "indextargets", "--format",
                   "$(CREATED_BY)|$(ORIGIN)|$(COMPONENT)|$(REPO_URI)|$(CODENAME)"], "apt sources")
    option = f"[arch=amd64 signed-by={KEYRING}] " if os.path.exists(KEYRING) else "[arch=amd64] "
    lines = set()
    for target in targets.splitlines():
        created_by, origin, component, uri, codename = target.split("|")
        if (created_by, origin, component) == ("Packages", "Debian", "main"):
            lines.add(f"deb {option}{uri} {codename} non-free\n")
    if not lines:
        raise Unavailable("apt has no source of Debian's packages here")
    return sorted(lines)


def download(work):
    """The packages, in `work`, by an apt whose lists are its own."""
    for folder in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(work, folder))
    sources = os.path.join(work, "sources.list")
    with open(sources, "w", encoding="utf-8") as file:
        file.writelines(non_free_sources())
    settings = {"Dir::Etc::SourceList": sources, "Dir::Etc::SourceParts": "/dev/null",
                "Dir::State::Lists": os.path.join(work, "lists"),
                "Dir::Cache": os.path.join(work, "cache"), "APT::Sandbox::User": "root",
                "Acquire::Languages": "none", "APT::Update::Error-Mode": "any"}
    options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    run(["apt-get", *options, "update", "-q"], "apt-get update")
    run(["apt-get", *options, "download", "-q", *PACKAGES], "apt-get download", cwd=work)
    return [os.path.join(work, name) for name in os.listdir(work) if name.endswith(".deb")]


def unpack(packages, folder):
    """Everything but libraries, which compiling does not need and which are most of it."""
    os.makedirs(folder)
    for package in packages:
        archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        run(["tar", "-x", "-C", folder, "--exclude=*.a", "--exclude=*.so*"], package,
            stdin=archive.stdout)
        archive.stdout.close()
        if archive.wait() != 0:
            raise Unavailable(f"{package} cannot be unpacked")
    # Its own names the places where Debian installs the packages.
    profile = os.path.join(folder, BIN, "nvcc.profile")
    os.remove(profile)
    with open(profile, "w", encoding="utf-8") as file:
        file.write(PROFILE)


def is_there():
    """Whether it has been unpacked; the folder gets its name only when all of it is there."""
    return os.path.isdir(ROOT)


def find():
    """The folder of the toolkit, fetched if need be; Unavailable says why there is none."""
    if shutil.which(HOST_COMPILER) is None:
        raise Unavailable(f"{HOST_COMPILER} is not installed")
    if not is_there():
        if os.uname().machine != "x86_64":
            raise Unavailable("CUDA 11.8 is fetched for x86-64 only")
        os.makedirs(CACHE, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="cuda.") as work:
            unpack(download(work), os.path.join(work, "root"))
            try:
                os.rename(os.path.join(work, "root"), ROOT)
            except OSError:
                if not is_there():  # another process was faster
                    raise
    return ROOT


if __name__ == "__main__":
    try:
        print(find())
    except Unavailable as reason:
        sys.exit(f"error: {reason}")
