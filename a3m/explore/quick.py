"""Loading a run's network in half the time: without torch's compiler, which takes as long to import as torch and is not used here.

Three things ask for it. torchvision (0.29) has one question when it is imported, for its region pooling; timm (1.0.31) marks
functions of a few vision transformers as not to be compiled; finding a backbone's map runs it on the meta device. While
`light_imports` lasts a stand-in answers the first two, and is taken away afterwards: whoever needs the compiler then imports the
real one. The third the model's description has already. For commands that answer for an image; never where anything is trained.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from a3m.serve.predictor import Predictor

COMPILER = ("torch._dynamo", "torch._dynamo.utils")


@contextlib.contextmanager
def light_imports() -> Iterator[None]:
    """Stands in for the compiler, unless it has been imported already."""
    import torch  # noqa: F401  first: it must not find the stand-in

    if COMPILER[0] in sys.modules:
        yield
        return
    stands = [ModuleType(name) for name in COMPILER]
    stands[0].disable = lambda fn=None, recursive=True, reason=None: fn  # type: ignore[attr-defined]
    stands[1].is_compile_supported = lambda device_type: False  # type: ignore[attr-defined]
    sys.modules.update(zip(COMPILER, stands, strict=True))
    try:
        yield
    finally:
        for name, stand in zip(COMPILER, stands, strict=True):
            if sys.modules.get(name) is stand:
                del sys.modules[name]


def import_predictor() -> None:
    """Import all that answering for an image needs."""
    try:
        with light_imports():
            import a3m.serve.predictor
    except (
        ImportError,
        AttributeError,
        TypeError,
    ):  # another torchvision or timm that asks for more: the real one then
        again = ("torchvision", "timm", "a3m.model", "a3m.serve")
        for name in [
            name for name in sys.modules if name in again or name.startswith(tuple(f"{one}." for one in again))
        ]:
            del sys.modules[name]
        import a3m.serve.predictor  # noqa: F401


def load(weights: Path, description: Path) -> "Predictor":
    """The predictor, its backbone's map taken from the description."""
    import_predictor()
    from a3m.model import backbone
    from a3m.model.feature_map import Map
    from a3m.serve.predictor import Predictor

    try:
        known = json.loads(description.read_text())["map"]
        found = Map(
            known["method"],
            known["channels"],
            tuple(known["size"]),
            tuple(known["tap_channels"]),
            tuple(known["unread"]),
        )
    except (OSError, ValueError, KeyError):
        return Predictor(weights, description)
    finding = backbone.find_map
    backbone.find_map = lambda *_: found
    try:
        return Predictor(weights, description)
    finally:
        backbone.find_map = finding
