"""A model's outputs of many images, gathered batch by batch: what the protocols of `a3m.evaluate` are computed from.

Shape suffixes: N images in the order of the batches, B of one batch, n chosen ones, C classes, E compared vector,
D embedding, K attributes, L cells.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from a3m.metrics.classification import predicted
from a3m.metrics.localisation import cells_in_regions, localise
from a3m.metrics.ranking import ArrayOrTensor, Floats, as_numpy

if TYPE_CHECKING:
    from a3m.data.loaders import Batch
    from a3m.model.network import Output


@dataclass(frozen=True)
class Collected:
    """What a model said of N images, as numpy arrays, and what the batches said they are. None: the model has no such."""

    index: npt.NDArray[np.int64]  # (N,) rows of the pack
    labels: npt.NDArray[np.int64]  # (N,)
    attributes: npt.NDArray[np.int64]  # (N, K) labels, -1 = unlabelled
    cameras: npt.NDArray[np.int64]  # (N,) -1 = none
    logits: npt.NDArray[np.float32] | None  # (N, C), None as well when they were not to be kept
    embedding: npt.NDArray[np.float32]  # (N, E) the compared vector
    category_embedding: npt.NDArray[np.float32]  # (N, D)
    attribute_embedding: npt.NDArray[np.float32] | None  # (N, D)
    attribute_predictions: npt.NDArray[np.int64] | None  # (N, K)
    attention: dict[str, float]  # attention/{region,attribute}_{mean,std} over all weights; empty without attention
    localisation_hits: Floats | None  # (N, K), NaN = region unknown; None without regions or without attention
    map_size: tuple[int, int] | None  # rows, columns of the attention map
    maps_positions: npt.NDArray[np.int64] | None = None  # (n,) which of the N images the maps are of, ascending
    maps_scores: npt.NDArray[np.float32] | None = None  # (n, K, L) raw V^T a_k; None where the weights are equal
    maps_weights: npt.NDArray[np.float32] | None = None  # (n, L) merged m


class Moments:
    """Mean and standard deviation (of the population) of all numbers added, block by block, by Chan's update.

    The sum of squares less the square of the sum would lose its digits where it matters: weights saturated at 1.
    """

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, values: ArrayOrTensor) -> None:
        """Take in a block of numbers of any shape; an empty one changes nothing."""
        block = as_numpy(values).astype(np.float64)
        if block.size == 0:
            return
        total, mean = self.count + block.size, float(block.mean())
        shift = mean - self.mean
        self._squares += float(((block - mean) ** 2).sum()) + shift**2 * self.count * block.size / total
        self.mean += shift * block.size / total
        self.count = total

    @property
    def std(self) -> float:
        """The standard deviation of all numbers so far, divided by their number; NaN before the first."""
        return float(np.sqrt(self._squares / self.count)) if self.count else float("nan")


def collect(
    model: torch.nn.Module,
    batches: Iterable["Batch"],
    device: torch.device | str,
    *,
    regions: ArrayOrTensor | None = None,
    keep_logits: bool = True,
    keep_maps: AbstractSet[int] | ArrayOrTensor | None = None,
) -> Collected:
    """Run `model` in evaluation mode over all batches; its mode is restored afterwards.

    regions (N, K, 4), the i-th for the i-th image that the batches yield (a3m.data.loaders.evaluation_regions): maps are
    held against them batch by batch, so that none is kept but those of the images in keep_maps, which are places in the
    order of the batches, counted from 0. Raises ValueError without images, on NaN or infinite attribute logits, when
    regions are of another number of images or attributes, and when keep_maps holds what is no place.
    """
    kept = None if keep_maps is None else _places(keep_maps)
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    region_weights, attribute_weights = Moments(), Moments()
    regions_NK4 = None if regions is None else as_numpy(regions)
    map_size, seen = None, 0
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                output: Output = model(batch.images.to(device, non_blocking=True))
                found = {
                    "index": batch.index, "labels": batch.labels, "attributes": batch.attributes,
                    "cameras": batch.cameras, "embedding": output.embedding.float(),
                    "category_embedding": output.category_embedding.float(),
                }  # fmt: skip
                if keep_logits and output.logits is not None:
                    found["logits"] = output.logits.float()
                if output.attribute_embedding is not None:
                    found["attribute_embedding"] = output.attribute_embedding.float()
                for name, values in found.items():
                    parts.setdefault(name, []).append(as_numpy(values))
                if output.attributes:
                    predictions_BK = np.stack([predicted(logits_BC) for logits_BC in output.attributes], axis=1)
                    parts.setdefault("attribute_predictions", []).append(predictions_BK)
                if output.attention is not None:
                    map_size = output.attention.map_size
                    region_weights.add(output.attention.region)
                    attribute_weights.add(output.attention.attribute)
                    if kept is not None:
                        here = torch.from_numpy(kept[(kept >= seen) & (kept < seen + len(batch.index))] - seen)
                        parts.setdefault("maps_weights", []).append(as_numpy(output.attention.region[here].float()))
                        if output.attention.scores is not None:
                            parts.setdefault("maps_scores", []).append(as_numpy(output.attention.scores[here].float()))
                    if regions_NK4 is not None and output.attention.scores is not None:
                        if len(regions_NK4) < seen + len(batch.index):
                            raise ValueError(
                                f"regions of {len(regions_NK4)} images for {seen + len(batch.index)} or more"
                            )
                        inside_BKL = cells_in_regions(regions_NK4[seen : seen + len(batch.index)], map_size)
                        hits_BK = localise(output.attention.scores, inside_BKL, inside_BKL.any(axis=2))
                        parts.setdefault("localisation_hits", []).append(hits_BK)
                seen += len(batch.index)
    finally:
        model.train(was_training)
    if seen == 0:
        raise ValueError("no images to evaluate")
    if regions_NK4 is not None and len(regions_NK4) != seen:
        raise ValueError(f"regions of {len(regions_NK4)} images for {seen} images")
    if kept is not None and len(kept) and kept[-1] >= seen:
        raise ValueError(f"keep_maps holds {kept[-1]}: there are {seen} images")
    gathered = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    weights = {"region": region_weights, "attribute": attribute_weights}
    return Collected(
        index=gathered["index"],
        labels=gathered["labels"],
        attributes=gathered["attributes"],
        cameras=gathered["cameras"],
        logits=gathered.get("logits"),
        embedding=gathered["embedding"],
        category_embedding=gathered["category_embedding"],
        attribute_embedding=gathered.get("attribute_embedding"),
        attribute_predictions=gathered.get("attribute_predictions"),
        attention={
            f"attention/{name}_{kind}": value
            for name, moments in weights.items()
            if moments.count
            for kind, value in (("mean", moments.mean), ("std", moments.std))
            if not np.isnan(value)
        },
        localisation_hits=gathered.get("localisation_hits"),
        map_size=map_size,
        maps_positions=kept if map_size is not None else None,
        maps_scores=gathered.get("maps_scores"),
        maps_weights=gathered.get("maps_weights"),
    )


def _places(keep_maps: AbstractSet[int] | ArrayOrTensor) -> npt.NDArray[np.int64]:
    """(n,) ascending, each once."""
    places = np.asarray(sorted(keep_maps)) if isinstance(keep_maps, AbstractSet) else as_numpy(keep_maps)
    if places.size == 0:
        return np.empty(0, np.int64)
    if places.ndim != 1 or places.dtype.kind not in "iu" or places.min() < 0:
        raise ValueError(f"keep_maps are places of images, integers from 0, not {places}")
    return np.unique(places).astype(np.int64)
