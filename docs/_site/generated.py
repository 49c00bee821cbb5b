"""What pages show of the code: made from it when the site is built, so that it cannot drift.

A line `<!-- made: settings -->` of a page is replaced by what the function of that name in MADE returns.
"""

import ast
import contextlib
import inspect
import io
import re
import tokenize
from pathlib import Path

import yaml
from sphinx.application import Sphinx

from a3m import __main__ as console
from a3m import commands
from a3m.config import help_text
from a3m.explore import verbs
from a3m.loss.arguments import DEFAULTS
from a3m.points import CHOICES
from a3m.report.names import METHODS

ROOT = Path(__file__).parents[2]
CONF = ROOT / "a3m" / "conf"
MARK = re.compile(r"^<!-- made: (\w+) -->$", re.MULTILINE)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; cells may hold Markdown."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- settings -----------------------------------------------------------------------------------------------------------


def settings() -> str:
    """A section of settings each: path, meaning, default, type, from the dataclasses of a3m/settings.py and their comments."""
    source = (ROOT / "a3m" / "settings.py").read_text()
    comments = comments_of(source)
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    parts: list[str] = []
    described: dict[str, list[str]] = {}
    for field in fields_of(classes["Params"]):
        if ast.unparse(field.annotation) in classes:
            described.setdefault(ast.unparse(field.annotation), []).append(name_of(field))
    top = [field for field in fields_of(classes["Params"]) if ast.unparse(field.annotation) not in classes]
    parts += ["## At the top", table(HEAD, [row("", field, comments) for field in top])]
    for name, paths in described.items():
        section = classes[name]
        parts.append(f"## {', '.join(f'`{path}`' for path in paths)}")
        parts.append(docstring(section))
        # Sections of one kind, such as those of the studies, are described once.
        prefix = paths[0] if len(paths) == 1 else "<study>"
        rows = [row(f"{prefix}.", field, comments) for field in fields_of(section)]
        if not any(line[1] for line in rows):
            parts.append(table([HEAD[0], *HEAD[2:]], [[line[0], *line[2:]] for line in rows]))
        else:
            parts.append(table(HEAD, rows))
    return "\n\n".join(part for part in parts if part)


HEAD = ["setting", "meaning", "default", "type"]


def fields_of(section: ast.ClassDef) -> list[ast.AnnAssign]:
    return [node for node in section.body if isinstance(node, ast.AnnAssign)]


def name_of(field: ast.AnnAssign) -> str:
    assert isinstance(field.target, ast.Name)
    return field.target.id


def docstring(node: ast.ClassDef) -> str:
    return " ".join((ast.get_docstring(node) or "").split())


def row(prefix: str, field: ast.AnnAssign, comments: dict[int, str]) -> list[str]:
    """path, the comment beside the field or on the lines above it, default, type."""
    path = prefix + name_of(field)
    said = [comments[line] for line in range(field.lineno, (field.end_lineno or field.lineno) + 1) if line in comments]
    above: list[str] = []
    line = field.lineno - 1
    while line in comments and comments[line].startswith("\0"):
        above.insert(0, comments[line].removeprefix("\0"))
        line -= 1
    meaning = " ".join([*above, *(text.removeprefix("\0") for text in said)])
    allowed = CHOICES.get(path)
    if allowed and not all(value in meaning for value in allowed):
        meaning = "; ".join(filter(None, [meaning, "one of " + ", ".join(value or '""' for value in allowed)]))
    return [f"`{path}`", markdown(meaning), f"`{default(field)}`", f"`{ast.unparse(field.annotation)}`"]


def default(field: ast.AnnAssign) -> str:
    """As it is written in params.yaml, where it is short; of a nested one, its beginning."""
    value = field.value
    assert value is not None
    if isinstance(value, ast.Call):
        factory = next(keyword.value for keyword in value.keywords if keyword.arg == "default_factory")
        if isinstance(factory, ast.Name):
            return {"list": "[]", "dict": "{}"}[factory.id]
        assert isinstance(factory, ast.Lambda)
        value = factory.body
    text = ast.unparse(value)
    with contextlib.suppress(ValueError):  # of an expression such as 8 / 7
        text = (
            yaml.safe_dump(ast.literal_eval(value), default_flow_style=True, width=1000).removesuffix("...\n").strip()
        )
    return text if text != "''" else '""'


def comments_of(source: str) -> dict[int, str]:
    """Line -> its comment; one that has a line of its own begins with a NUL character."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("# fmt"):
            alone = token.line.strip().startswith("#")
            found[token.start[0]] = ("\0" if alone else "") + token.string.removeprefix("#").strip()
    return found


def markdown(text: str) -> str:
    """Prose that holds characters of Markdown."""
    return re.sub(r"([*_<>\[\]])", r"\\\1", text)


# --- methods, losses ----------------------------------------------------------------------------------------------------


def methods() -> str:
    """A row a method of a3m/conf/method, in the order of print."""
    rows = []
    for name in METHODS:
        said = yaml.safe_load((CONF / "method" / f"{name}.yaml").read_text())
        attention = {"a3m": f"m {said['region']}, s {said['attribute']}"}.get(said["network"], "")
        labels = "yes" if said["attribute_labels"] else "no"
        rows.append(
            [
                f"`{name}`",
                METHODS[name],
                f"`{said['network']}`",
                f"`{said.get('loss', 'equation11')}`",
                labels,
                attention,
            ]
        )
    return table(["`method=`", "in tables", "network", "loss", "attribute labels", "attention"], rows)


def losses() -> str:
    """A row a loss with its arguments and their defaults."""
    rows = [
        [f"`{name}`", ", ".join(f"`{key}={value:g}`" for key, value in given.items()) or "none"]
        for name, given in DEFAULTS.items()
    ]
    return table(["`method.loss`", "`method.loss_arguments` and their defaults"], rows)


# --- commands -----------------------------------------------------------------------------------------------------------


def verbs_help() -> str:
    """What `a3m --help` and the verbs' own --help print."""
    texts = {
        "a3m": console.HELP,
        "a3m train": of_function(commands.train),
        "a3m check": commands.CHECK,
        "a3m plan": of_function(commands.plan),
        "a3m table": commands.TABLE,
        "a3m explain": verbs.EXPLAIN,
        "a3m compare": verbs.COMPARE,
        "a3m export": verbs.EXPORT,
        "a3m clean": of_function(commands.clean),
    }
    return "\n\n".join(f"### `{name}`\n\n```text\n{text.strip()}\n```" for name, text in texts.items())


def of_function(function: object) -> str:
    return inspect.cleandoc(getattr(function, "__doc__", "") or "")


def groups_help() -> str:
    """The end of every sweep's --help: the groups that a setting of one word chooses from."""
    text = help_text("", Path("<project>")).strip().replace(str(ROOT), "<project>")
    return f"```text\n{text}\n```"


def make_help() -> str:
    """What `make help` prints."""
    rule = (ROOT / "Makefile").read_text().partition("\nhelp:\n")[2].partition("\n\n")[0]
    lines = re.findall(r'^\t@echo "(.*)"$', rule, re.MULTILINE)
    return "```text\n" + "\n".join(lines) + "\n```"


def studies() -> str:
    """The head of every file in sweeps/."""
    parts = []
    for path in sorted((ROOT / "sweeps").glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        parts.append(f"### `sweeps/{path.name}`\n\n```text\n{text}\n```")
    return "\n\n".join(parts)


def security() -> str:
    """SECURITY.md, which lies at the project's root, below its own heading."""
    text = (ROOT / "SECURITY.md").read_text()
    return text.replace("[CITATION.cff](CITATION.cff)", "`CITATION.cff`").replace("](docs/", "](").partition("\n")[2]


def searching() -> str:
    """docs/search.md below its own heading, under a name that Sphinx does not keep for itself."""
    return (ROOT / "docs" / "search.md").read_text().partition("\n")[2]


MADE = {
    made.__name__: made
    for made in (settings, methods, losses, verbs_help, groups_help, make_help, studies, security, searching)
}


def fill(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace the marks of a page; links to files at the project's root lead to the page that shows them."""
    text = MARK.sub(lambda mark: MADE[mark[1]](), source[0])
    source[0] = text.replace("](../SECURITY.md)", "](security.md)").replace("](search.md", "](searching.md")


def always_read(app: Sphinx, env: object, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Pages with marks: what they show may have changed without them."""
    return [name for name in app.env.found_docs if MARK.search(Path(app.env.doc2path(name)).read_text())]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", fill)
    app.connect("env-get-outdated", always_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
