#!/usr/bin/env python3
"""Writes chat.json: every template of this folder, rendered by the jinja2 package as Transformers
sets it up, for every conversation below and with and without a generation prompt. What jinja2
refuses is recorded as null."""

import json
import pathlib

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

CONVERSATIONS = [
    [("user", "Hi")],
    [("system", "Be brief."), ("user", "Name a fruit.\n")],
    [("user", "1+1?"), ("assistant", " 2 "), ("user", "  And 2+2? \u3000")],
    [("system", "S"), ("user", "a"), ("assistant", "<think>\nhmm\n</think>\n\nb"), ("user", "c"),
     ("assistant", "done")],
    [("user", "a"), ("user", "b")],
    [("assistant", "x")],
    [("user", "")],
    [("system", "only")],
    [("user", "naïve 你好 <|im_end|>"), ("assistant", "ok, so: \\n 'quoted' \"twice\"")],
]


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def raise_exception(message):
    raise jinja2.TemplateError(message)


def main():
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation])
    environment.globals["raise_exception"] = raise_exception
    folder = pathlib.Path(__file__).parent
    out = {"jinja2": jinja2.__version__,
           "conversations": [[{"role": r, "content": c} for r, c in conversation]
                             for conversation in CONVERSATIONS],
           "templates": {}}
    for path in sorted(folder.glob("*.jinja")):
        template = environment.from_string(path.read_text())
        rendered = []
        for messages in out["conversations"]:
            for prompt in (True, False):
                try:
                    rendered.append(template.render(
                        messages=messages, tools=None, documents=None, bos_token="<s>",
                        eos_token="</s>", unk_token="<unk>", add_generation_prompt=prompt))
                except jinja2.TemplateError:
                    rendered.append(None)
        out["templates"][path.name] = {"source": path.read_text(), "rendered": rendered}
    (folder / "chat.json").write_text(json.dumps(out, ensure_ascii=True, indent=1) + "\n")


if __name__ == "__main__":
    main()
