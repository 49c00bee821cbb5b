"""What makes two trials the same: settings, data version and code, and the key that names the three.

The code digest is of the parsed syntax trees, without docstrings, of every module of a3m that `a3m.trial` reaches by
import: a comment or a change of format retrains nothing, and neither does a change of a module that no trial runs.
"""

import ast
import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

VERSION = 1
ENTRY = "a3m.trial"


@dataclass(frozen=True)
class Trial:
    """What identifies one training, and where its data and its state lie on this machine."""

    settings: dict[str, Any]  # a3m.relevance.trial_settings
    data: str  # digest of the pack
    code: str  # digest of the code
    pack: str  # absolute path
    state: str  # absolute path of the state folder
    weights: str = ""  # absolute path of the backbone's weights, where they come from a file; `settings` has its digest
    workers: int = 0
    checkpoint_every: int = 1
    validate_every: int = 0

    @cached_property
    def key(self) -> str:
        """The trial's name: 16 hexadecimal digits."""
        return key(self.settings, self.data, self.code)

    @cached_property
    def key_of_any_code(self) -> str:
        """The same for trials that differ in code alone."""
        return key(self.settings, self.data, None)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return Path(self.state) / "checkpoints" / self.key

    @property
    def outputs(self) -> Path:
        """Folder of what the finished trial leaves, until it is recorded elsewhere."""
        return Path(self.state) / "outputs" / self.key

    def clear(self) -> None:
        """Remove checkpoints and outputs: the trial is recorded."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        shutil.rmtree(self.outputs, ignore_errors=True)


def key(settings: dict[str, Any], data: str, code: str | None) -> str:
    """16 hexadecimal digits that name a trial; with code=None, the trial by whatever code (for reuse.code=any)."""
    content = {"version": VERSION, "settings": settings, "data": data, "code": code}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def code_digest(entry: str = ENTRY) -> str:
    """Digest of the code that `entry` reaches by import, 16 hexadecimal digits."""
    sha = hashlib.sha256()
    for name, path in sorted(code_modules(entry).items()):
        sha.update(f"{name}\n{_dump(_without_docstrings(ast.parse(path.read_text())))}\n".encode())
    return sha.hexdigest()[:16]


def code_modules(entry: str = ENTRY) -> dict[str, Path]:
    """The modules of a3m that `entry` reaches by import, itself and their packages included; name -> file."""
    found: dict[str, Path] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        path = None if name in found else _file(name)
        if path is None:
            continue
        found[name] = path
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        waiting += _imports(ast.parse(path.read_text()))
    return found


def _file(name: str) -> Path | None:
    """The source file of a module of a3m, or None: `from a3m.state import Lease` asks for a3m.state.Lease as well.

    Found by path, since importlib would import the packages above it, and with them torch.
    """
    path = Path(__file__).parent.joinpath(*name.split(".")[1:])
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _imports(tree: ast.AST) -> list[str]:
    """Names of a3m that a tree imports anywhere, except for the type checker."""
    names: list[str] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a3m imports by absolute names"
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names += _imports(node)
    return [name for name in names if name.partition(".")[0] == "a3m"]


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant(value=str())), *_] as body:
                del body[0]
    return tree


def _dump(node: Any) -> str:
    """ast.dump without empty fields, which differ between versions of Python."""
    if isinstance(node, ast.AST):
        parts = [f"{name}={_dump(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({', '.join(parts)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_dump, node))}]"
    return repr(node)


def file_digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
