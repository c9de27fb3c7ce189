"""What the checks of the source tree share: its C++ files, and their text without comments."""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXTENSIONS = (".hpp", ".cpp", ".h", ".cuh", ".cu")

_TOKEN = re.compile(
    r'//(?:[^\n\\]|\\.|\\\n)*'
    r'|/\*.*?\*/'
    r'|R"(?P<tag>[^\s()\\]{0,16})\(.*?\)(?P=tag)"'
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|(?<![0-9a-fA-F])'(?:[^'\\\n]|\\.)*'",
    re.DOTALL)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def source_files(root, folders):
    """Paths of the C++ files below these folders of `root`, relative to it, sorted."""
    found = []
    for folder in folders:
        for base, _, names in os.walk(os.path.join(root, folder)):
            found += [os.path.relpath(os.path.join(base, name), root)
                      for name in names if name.endswith(EXTENSIONS)]
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def without_comments(text):
    """The text with comments and the insides of literals blanked; line numbers stay."""
    def blank(match):
        token = match.group(0)
        if token.startswith('"'):
            line = text[text.rfind("\n", 0, match.start()) + 1:match.start()]
            if re.match(r"[ \t]*#[ \t]*include[ \t]*$", line):
                return token
        return re.sub(r"[^\n]", " ", token)
    return _TOKEN.sub(blank, text)


def includes(text):
    """(line number, '<' or '"', path) of every #include."""
    text = without_comments(text)
    return [(text.count("\n", 0, m.start(2)) + 1, m.group(1), m.group(2))
            for m in _INCLUDE.finditer(text)]


def report(violations, checked, what):
    """Prints the violations; returns the exit status. A check that saw no file has failed."""
    for violation in violations:
        print(violation)
    print(f"{what}: {len(violations)} violations in {checked} files")
    sys.stdout.flush()
    return 1 if violations or not checked else 0
