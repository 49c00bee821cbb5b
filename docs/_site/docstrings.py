"""Docstrings are plain English, not reStructuredText: what would be markup there is escaped, indented lines stay as they are."""

import re

from sphinx.application import Sphinx

CODE = re.compile(r"(`[^`\n]+`)")
SPECIAL = re.compile(r"([\\*|_<>])")


def plain(line: str) -> str:
    """A line with its code in double backticks and everything else as it is written."""
    parts = CODE.split(line)
    return "".join(
        f"`{part}`" if CODE.fullmatch(part) else SPECIAL.sub(r"\\\1", part).replace("`", r"\`") for part in parts
    )


def restructured(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText: paragraphs, lists of `* ` and `- `, and blocks that are indented."""
    made: list[str] = []
    kind, before = "", ""
    for line in lines:
        if not line.strip():
            made.append("")
            kind = ""
            continue
        indented = line[0] == " "
        listed = re.match(r"[*-] ", line)
        now = "item" if listed else "list" if indented and kind in ("item", "list") else "block" if indented else "text"
        if now != kind and {now, kind} & {"block", "item", "list"} and not {now, kind} <= {"item", "list"}:
            made += [""] if before else []
            if now == "block":
                made += ["::", ""]
        made.append(
            line
            if now == "block"
            else f"* {plain(line[2:])}"
            if listed
            else f"  {plain(line.strip())}"
            if now == "list"
            else plain(line)
        )
        kind, before = now, line
    return made


def process(app: Sphinx, what: str, name: str, object_: object, options: object, lines: list[str]) -> None:
    lines[:] = restructured(list(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
