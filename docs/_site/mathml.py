"""Equations as MathML, made when the site is built: no script, no font and no network is needed to read them."""

import re
from html import escape

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator

TAG = re.compile(r"\\tag\{([^}]*)\}")


def mathml(latex: str, display: str) -> str:
    """Raises ExtensionError for what is no LaTeX that the converter knows: a command that it does not know stays as text."""
    made = convert(latex, display=display)
    unknown = re.search(r"<m[io][^>]*>(\\[A-Za-z]+)</m[io]>", made)
    if unknown:
        raise ExtensionError(f"{latex}: {unknown[1]} is no command that latex2mathml knows")
    return made


def inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    r"""The number comes from \tag, since equations have the paper's numbers."""
    latex = node.astext()
    tag = TAG.search(latex)
    number = f'<span class="eqno">({escape(tag[1])})</span>' if tag else ""
    anchor = f' id="equation-{escape(tag[1])}"' if tag else ""
    self.body.append(f'<div class="math"{anchor}>{mathml(TAG.sub("", latex).strip(), "block")}{number}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
