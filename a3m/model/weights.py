"""Initial weights of a backbone from a file: reading it, and fitting it into the model or saying why it does not fit."""

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from a3m.errors import DataError, SettingsError
from a3m.weights_source import EXPECTED

# EfficientNet-Lite files with the names of the package efficientnet-pytorch hold the same tensors as timm's model, in the same
# order. Its first tensor tells such a file, its classifier is the last.
LITE_FIRST, LITE_CLASSIFIER = "_conv_stem.weight", "_fc"


def load_weights(model: nn.Module, path: Path, *, unread: Collection[str] = ()) -> None:
    """Load a state dict with the model's own names into `model`. The file may hold a classifier, of any size, or none.

    `unread`: modules of the model as published that were taken out of this one; their tensors are left aside. A leading
    dimension of 1 too many is dropped. Raises SettingsError when there is no such file, DataError when it cannot be read or
    when a tensor is missing, unexpected or of another shape; the message lists them.
    """
    given, wanted = read_state(path), model.state_dict()
    if LITE_FIRST in given:
        model.load_state_dict(_in_order(given, wanted, path), strict=False)
        return
    aside = {*_classifiers(model), *getattr(model, "left_out", ()), *unread}
    given = squeeze_leading({key: tensor for key, tensor in given.items() if not _within(key, aside)}, wanted)
    problems = {
        # Files older than torch 0.4.1 hold no batch counters; batch norm uses them with momentum=None only.
        "missing": [
            key
            for key in wanted
            if key not in given and not key.endswith(".num_batches_tracked") and not _within(key, aside)
        ],
        "unexpected": [key for key in given if key not in wanted],
        "misshapen": [
            f"{key} {tuple(given[key].shape)} for {tuple(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in given and given[key].shape != tensor.shape
        ],
    }
    found = [f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise DataError(f"backbone.weights={path}: does not fit the backbone: {'; '.join(found)}")
    model.load_state_dict(given, strict=False)


def squeeze_leading(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`given` without a leading dimension of 1 where the tensor wanted has none: (1, 64) for (64,)."""
    return {
        key: tensor[0] if key in wanted and tensor.shape == (1, *wanted[key].shape) else tensor
        for key, tensor in given.items()
    }


def _in_order(given: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Tensors of other names under the wanted ones, first for first; each must agree in kind (weight, bias, ...) and shape."""
    given = {key: tensor for key, tensor in given.items() if not _within(key, (LITE_CLASSIFIER,))}
    wanted = {key: tensor for key, tensor in wanted.items() if not _within(key, ("classifier",))}
    told = f"backbone.weights={path}: holds EfficientNet-Lite under the names of efficientnet-pytorch"
    if len(given) != len(wanted):
        raise DataError(f"{told}: {len(given)} tensors for the backbone's {len(wanted)}; take tf_efficientnet_lite0")
    wrong = [
        f"{key} {tuple(tensor.shape)} for {own} {tuple(present.shape)}"
        for (key, tensor), (own, present) in zip(given.items(), wanted.items(), strict=True)
        if key.rpartition(".")[2] != own.rpartition(".")[2] or tensor.shape != present.shape
    ]
    if wrong:
        raise DataError(f"{told}, but not this backbone: {len(wrong)} do not fit: {_some(wrong)}")
    return dict(zip(wanted, given.values(), strict=True))


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch file, without a wrapping `state_dict` or `model` and without `module.`.

    Nothing of the file is run. Raises SettingsError when there is no such file, DataError when it holds no state dict.
    """
    if not path.is_file():
        raise SettingsError(f"backbone.weights={path}: no such file; {EXPECTED}")
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        safetensors.SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        OSError,
    ) as error:
        # Torch's own message advises to load what could run code.
        why = "it holds more than tensors" if isinstance(error, pickle.UnpicklingError) else one_line(error)
        raise DataError(
            f"backbone.weights={path}: cannot be read as weights ({why}); save a plain state dict with torch.save or safetensors"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise DataError(f"backbone.weights={path}: holds no state dict; save model.state_dict()")
    return {str(key).removeprefix("module."): tensor for key, tensor in content.items()}


def pretrained_cfg(model: nn.Module) -> dict[str, Any]:
    """What timm knows of the model's published weights."""
    found = getattr(model, "pretrained_cfg", None)
    return found if isinstance(found, dict) else {}


def one_line(error: BaseException) -> str:
    """An exception as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    names = pretrained_cfg(model).get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _within(key: str, modules: Collection[str]) -> bool:
    return any(key.startswith(f"{name}.") for name in modules)


def _some(keys: list[str], most: int = 8) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")
