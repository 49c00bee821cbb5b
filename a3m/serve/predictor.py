"""A trained network and all it needs to answer for an image: how the image is cut, how it is normalised, what classes are called.

Reads two files, weights.safetensors and description.json, which `a3m.serve.package` writes. Nothing of it is unpickled.

Shape suffixes: B images, D embedding, K attributes, C classes, C_k values of attribute k, L regions (h*w).
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from a3m.data.pack import decode
from a3m.errors import DataError
from a3m.model import Output, build
from a3m.model.bn_inception import BNInception
from a3m.model.weights import pretrained_cfg

WEIGHTS, DESCRIPTION = "weights.safetensors", "description.json"
VERSION = 1
BATCH = 32
WHOLE = np.full(4, np.nan)  # no box: the whole image

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """What the network says of B images. None or empty: it has no such part."""

    embedding: Floats  # (B, D) the compared vector, of length 1
    classes: Floats | None  # (B, C) probabilities
    attributes: list[Floats]  # K of (B, C_k) probabilities
    scores: Floats | None  # (B, K, h, w) raw V^T a_k
    maps: Floats | None  # (B, K, h, w) weights m_k in [0, 1], where the method has one map an attribute
    merged: Floats | None  # (B, h, w) the weights m that pool the regions; ones where they are equal
    attribute_weights: Floats | None  # (B, K) the weights s


class Predictor:
    """The network of one run, ready to answer. Raises DataError when the two files are not those of a model of this version."""

    def __init__(self, weights: Path, description: Path, device: str = "cpu"):
        try:
            self.description: dict[str, Any] = json.loads(description.read_text())
            state = load_file(weights)
        except (OSError, ValueError, SafetensorError) as error:
            raise DataError(f"{description.parent}: not a model ({error})") from error
        if self.description.get("version") != VERSION:
            raise DataError(
                f"{description}: version {self.description.get('version')}, this code reads {VERSION}: "
                "load it with the code that wrote it"
            )
        self.device = device
        self.input_size: tuple[int, int] = tuple(self.description["input_size"])
        self.packed_size: tuple[int, int] = tuple(self.description["packed_size"])
        self.classes: list[str] = self.description["classes"]
        self.attributes: dict[str, list[str]] = self.description["attributes"]
        # Without labels in its loss the classifiers of the attributes are as they were drawn: what they say is nothing.
        self.labelled = bool(self.description["network"]["method"]["attribute_labels"])
        self.network, mean, std = _network(self.description)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            raise DataError(f"{weights}: do not fit the network: {str(error).splitlines()[-1].strip()}") from error
        self.network.to(device).eval()
        # The arithmetic of a3m.data.augmentation.normalise, which torchvision's transforms come with.
        self.scale = torch.tensor([1 / (255 * value) for value in std]).view(1, 3, 1, 1)
        self.shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)]).view(1, 3, 1, 1)

    def read(self, source: Path | bytes, name: str = "image", box: Sequence[float] | None = None) -> np.ndarray:
        """An encoded image as the network sees it, (H, W, 3) uint8: cut to `box` (x y w h; None = whole), resized, centre cropped,
        just as the test images of its data set. Raises DataError when it is no image.
        """
        return self.crop(self.packed(source, name, box))

    def packed(self, source: Path | bytes, name: str = "image", box: Sequence[float] | None = None) -> np.ndarray:
        """The same before its margin is cropped away."""
        given = io.BytesIO(source) if isinstance(source, bytes) else source
        return decode(given, name, WHOLE if box is None else np.asarray(box, np.float64), self.packed_size)[0]

    def crop(self, packed: np.ndarray) -> np.ndarray:
        """The centre of a packed image."""
        (top, left), (height, width) = self.corner, self.input_size
        return packed[top : top + height, left : left + width]

    @property
    def corner(self) -> tuple[int, int]:
        """Where the crop begins in a packed image: top, left."""
        top, left = (round((p - size) / 2) for p, size in zip(self.packed_size, self.input_size, strict=True))
        return top, left

    def normalise(self, images: np.ndarray) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 as the network wants it."""
        return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() * self.scale - self.shift

    def __call__(self, images: np.ndarray) -> Answers:
        """Answers for images as `read` gives them, (B, H, W, 3) uint8. Raises DataError on another size."""
        if images.ndim != 4 or images.shape[1:] != (*self.input_size, 3) or images.dtype != np.uint8 or not len(images):
            raise DataError(
                f"images of shape {images.shape} and type {images.dtype}: expected (B, {self.input_size}, 3) uint8"
            )
        parts = [self._batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        joined = {name: _join([getattr(part, name) for part in parts]) for name in Answers.__dataclass_fields__}
        return Answers(**joined)

    @torch.inference_mode()
    def _batch(self, images: np.ndarray) -> Answers:
        heard: list[Tensor] = []
        # What the network merges are the maps after their own norm: only the merge itself sees these.
        merge: Any = getattr(getattr(self.network, "region_attention", None), "merge", None)
        norm = getattr(merge, "norm", None)
        hook = (
            norm.register_forward_hook(lambda module, given, result: heard.append(result)) if norm is not None else None
        )
        try:
            output: Output = self.network(self.normalise(images).to(self.device))
        finally:
            if hook is not None:
                hook.remove()
        attention = output.attention
        size = (len(images), -1, *attention.map_size) if attention is not None else ()
        scores = attention.scores if attention is not None else None
        maps = heard[0].sigmoid() if heard and heard[0].ndim == 3 else None
        if maps is None and scores is not None:
            maps = scores.sigmoid()  # equation 5 as written, where the network itself merges otherwise or not at all
        return Answers(
            embedding=_array(nn.functional.normalize(output.embedding.float(), dim=1)),
            classes=None if output.logits is None else _array(output.logits.float().softmax(dim=1)),
            attributes=[_array(logits.float().softmax(dim=1)) for logits in output.attributes] if self.labelled else [],
            scores=None if scores is None else _array(scores.float().reshape(size)),
            maps=None if maps is None else _array(maps.float().reshape(size)),
            merged=None if attention is None else _array(attention.region.float().reshape(size))[:, 0],
            attribute_weights=None if attention is None else _array(attention.attribute.float()),
        )


def _array(tensor: Tensor) -> Floats:
    return tensor.cpu().numpy()


def _join(parts: list[Any]) -> Any:
    if parts[0] is None:
        return None
    if isinstance(parts[0], list):
        return [np.concatenate(several) for several in zip(*parts, strict=True)]
    return np.concatenate(parts)


def _network(description: dict[str, Any]) -> tuple[nn.Module, list[float], list[float]]:
    """The network without its weights, and what images are normalised with: mean and std, of RGB pixels in [0, 1]."""
    settings = description["network"]
    backbone = settings["backbone"] | {"weights": "none"}  # all weights come with the model
    sections: Any = SimpleNamespace(
        backbone=SimpleNamespace(**backbone),
        head=SimpleNamespace(**settings["head"]),
        method=SimpleNamespace(**settings["method"]),
        baseline1=SimpleNamespace(**settings["baseline1"]) if settings.get("baseline1") else None,
        seed=settings["seed"],
        input_size=tuple(description["input_size"]),
    )
    sizes = [len(values) for values in description["attributes"].values()]
    network: Any = build(sections, len(description["classes"]), sizes)
    mean, std = network.backbone.mean, network.backbone.std
    if settings["backbone"]["weights"] != "none":  # as a3m.model.backbone does with weights that were trained elsewhere
        inner = network.backbone.model
        trained_with = pretrained_cfg(inner)
        mean, std = trained_with.get("mean", mean), trained_with.get("std", std)
        if isinstance(inner, BNInception):
            inner.bgr = True
    return network, [float(value) for value in mean], [float(value) for value in std]
