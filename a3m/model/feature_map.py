"""Where a timm model's feature map is found, its shape, and the maps of earlier layers: by running it without numbers.

A forward on the meta device computes shapes and nothing else: no data, no time, no trace in the model.
"""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from a3m.errors import SettingsError
from a3m.model.weights import one_line

CONV_NETS = "a convolutional network such as resnet50, convnext_tiny or tf_efficientnet_lite0"
REFUSALS = (
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
    NotImplementedError,
)  # what a model raises for what it cannot do
METHODS = ("forward", "forward_features")


class Map(NamedTuple):
    """Which method of a model gives its map, and the map's shape."""

    method: str  # one of METHODS
    channels: int
    size: tuple[int, int]  # height, width
    tap_channels: tuple[int, ...]
    unread: tuple[str, ...]  # direct modules with weights that forward_features does not use


def find_map(model: nn.Module, name: str, input_size: tuple[int, int], taps: Sequence[str] = ()) -> Map:
    """The map of the model's forward, or of its forward_features where that is finer.

    By forward_features alone many models would lose the last layer that works place by place, such as MobileNet-V3's. But timm's
    VGG goes on from its map to vectors of 4096, and what cannot be built without pooling pools. Raises SettingsError when
    neither is a map of two regions or more, or when a tap is not a module that yields one map.
    """
    _check_names(model, name, taps)
    runs = [_run(model, method, input_size) for method in METHODS if hasattr(model, method)]
    best = max(runs, key=_regions)  # the first of equals
    channels, size = _shape(best, model, name, input_size)
    unread = () if best.method == "forward" else _unread(model, best)
    return Map(best.method, channels, size, tuple(_tap_channels(best, name, tap) for tap in taps), unread)


@contextmanager
def listening(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
    """What the modules of these names yield while the block runs: name -> outputs, one a call.

    The hooks go when the block ends, so that a model is copied, saved and averaged as if it had never been listened to.
    """
    heard: dict[str, list[Any]] = {name: [] for name in names}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda _, __, output, kept=kept: kept.append(output))
        for name, kept in heard.items()
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


# --- running it ---------------------------------------------------------------------------------------------------------


class _Run(NamedTuple):
    method: str
    output: Any  # what the method gave, or the exception that it raised
    heard: dict[str, list[Any]]  # outputs of every module


class _Calling(nn.Module):
    """One method of a model as a module: what functional_call takes."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, images: Tensor) -> Any:
        return getattr(self.model, self.method)(images)


def _run(model: nn.Module, method: str, input_size: tuple[int, int]) -> _Run:
    calling = _Calling(model, method)
    tensors = {key: tensor.to("meta") for key, tensor in (*calling.named_parameters(), *calling.named_buffers())}
    training = model.training
    model.eval()
    try:
        with listening(model, [path for path, _ in model.named_modules() if path]) as heard:
            images = torch.empty(1, 3, *input_size, device="meta")
            output = torch.func.functional_call(calling, tensors, (images,))
    except REFUSALS as error:
        output = error
    finally:
        model.train(training)
    return _Run(method, output, heard)


def _regions(run: _Run) -> int:
    """h * w of the map; 0 where there is none."""
    return run.output.shape[2] * run.output.shape[3] if _is_map(run.output) else 0


def _is_map(output: Any) -> bool:
    return isinstance(output, Tensor) and output.dim() == 4


def _shape(run: _Run, model: nn.Module, name: str, input_size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    refused = f"backbone.name={name} yields no feature map at {input_size[0]} x {input_size[1]} pixels"
    output = run.output
    if isinstance(output, Exception):
        raise SettingsError(f"{refused} ({one_line(output)}); take {CONV_NETS}") from output
    if not _is_map(output):
        got = f"its output is {tuple(output.shape)[1:]}" if isinstance(output, Tensor) else type(output).__name__
        raise SettingsError(f"{refused} (tokens or a vector: {got}); take {CONV_NETS}")
    # Models such as Swin keep channels last in the output itself: (B, h, w, C).
    widths = {getattr(model, "num_features", None), getattr(model, "head_hidden_size", None)} - {None}
    if widths and output.shape[1] not in widths and output.shape[3] in widths:
        raise SettingsError(f"{refused} (channels stand last: {tuple(output.shape)[1:]}); take {CONV_NETS}")
    channels, height, width = output.shape[1:]
    if height * width < 2:
        raise SettingsError(
            f"{refused} (a single region, nothing to attend over): raise data.height and data.width, or lower "
            "backbone.output_stride"
        )
    return channels, (height, width)


def _unread(model: nn.Module, run: _Run) -> tuple[str, ...]:
    used = {path.partition(".")[0] for path, outputs in run.heard.items() if outputs}
    return tuple(
        name
        for name, child in model.named_children()
        if name not in used and next(child.parameters(), None) is not None
    )


# --- taps ---------------------------------------------------------------------------------------------------------------


def _check_names(model: nn.Module, name: str, taps: Sequence[str]) -> None:
    modules = [path for path, _ in model.named_modules() if path]
    for tap in taps:
        if tap not in modules:
            near = difflib.get_close_matches(tap, modules, n=4) or [child for child, _ in model.named_children()]
            raise SettingsError(f"taps: {name} has no module {tap!r}; it has {', '.join(near)}")


def _tap_channels(run: _Run, name: str, tap: str) -> int:
    outputs = run.heard[tap]
    if len(outputs) != 1 or not _is_map(outputs[0]):
        got = f"is called {len(outputs)} times" if len(outputs) != 1 else "yields no map"
        raise SettingsError(f"taps: {tap} of {name} {got}; name a module that yields one map (B, C, h, w)")
    return outputs[0].shape[1]
