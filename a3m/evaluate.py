"""One function a protocol: from a model's outputs to named metrics and to predictions, one row a test image or query.

`collect` runs the model; everything else is pure on arrays or tensors. Metrics carry the names under which they are
logged, without the split (`rank1`, not `test/rank1`); all shares are fractions in [0, 1]; one that is not defined, such
as the accuracy of an attribute that no test image has a label for, is left out.

Shape suffixes: N images in the order of the batches, C classes, E compared vector, D embedding, K attributes, L cells.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from a3m.metrics.classification import accuracy, as_labels, attribute_accuracy, majority, predicted
from a3m.metrics.localisation import cells_in_regions, chance, fixed_place, fixed_place_hits, localise
from a3m.metrics.ranking import ArrayOrTensor, Distance, Floats, as_numpy, score_reid

if TYPE_CHECKING:
    from a3m.data.loaders import Batch
    from a3m.model.network import Output

RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Collected:
    """What a model said of N images, as numpy arrays, and what the batches said they are. None: the model has no such."""

    index: npt.NDArray[np.int64]  # (N,) rows of the pack
    labels: npt.NDArray[np.int64]  # (N,)
    attributes: npt.NDArray[np.int64]  # (N, K) labels, -1 = unlabelled
    cameras: npt.NDArray[np.int64]  # (N,) -1 = none
    logits: npt.NDArray[np.float32] | None  # (N, C), None when they were not to be kept
    embedding: npt.NDArray[np.float32]  # (N, E) the compared vector
    category_embedding: npt.NDArray[np.float32]  # (N, D)
    attribute_embedding: npt.NDArray[np.float32] | None  # (N, D)
    attribute_predictions: npt.NDArray[np.int64] | None  # (N, K)
    attention: dict[str, float]  # attention/{region,attribute}_{mean,std} over all weights; empty without attention
    localisation_hits: Floats | None  # (N, K), NaN = region unknown; None without regions or without attention
    map_size: tuple[int, int] | None  # rows, columns of the attention map


class Moments:
    """Mean and standard deviation (of the population) of all numbers added, block by block, by Chan's update.

    The sum of squares less the square of the sum would lose its digits where it matters: weights saturated at 1.
    """

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, values: ArrayOrTensor) -> None:
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
        return float(np.sqrt(self._squares / self.count)) if self.count else float("nan")


def collect(
    model: torch.nn.Module,
    batches: Iterable["Batch"],
    device: torch.device | str,
    *,
    regions: ArrayOrTensor | None = None,
    keep_logits: bool = True,
) -> Collected:
    """Run `model` in evaluation mode over all batches; its mode is restored afterwards.

    regions (N, K, 4), the i-th for the i-th image that the batches yield (a3m.data.loaders.evaluation_regions): maps are
    held against them batch by batch, so that none is kept. Raises ValueError without images, on NaN or infinite attribute
    logits, and when regions are of another number of images or attributes.
    """
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
                if keep_logits:
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
        attention=_defined(
            {f"attention/{name}_mean": moments.mean for name, moments in weights.items() if moments.count}
            | {f"attention/{name}_std": moments.std for name, moments in weights.items()}
        ),
        localisation_hits=gathered.get("localisation_hits"),
        map_size=map_size,
    )


def classify(
    logits: ArrayOrTensor, labels: ArrayOrTensor, *, ids: Sequence[Any] | npt.NDArray[Any] | None = None
) -> tuple[dict[str, float], pd.DataFrame]:
    """Accuracy and mean cross-entropy of logits (N, C) for labels (N,), and a row an image: id, label, prediction, loss.

    ids: what to call the images, their paths for instance; counted from 0 if not given. Raises ValueError on shapes that
    do not fit, NaN or infinite logits, labels outside 0..C-1.
    """
    logits_NC = as_numpy(logits)
    predictions_N = predicted(logits_NC)
    labels_N = as_labels("labels", labels, dimensions=1)
    metrics = {"accuracy": accuracy(predictions_N, labels_N)}
    if labels_N.max() >= logits_NC.shape[1]:
        raise ValueError(f"labels hold {labels_N.max()}: there are logits of {logits_NC.shape[1]} classes only")
    shifted_NC = logits_NC.astype(np.float64)
    shifted_NC -= shifted_NC.max(axis=1, keepdims=True)
    losses_N = np.log(np.exp(shifted_NC).sum(axis=1)) - shifted_NC[np.arange(len(labels_N)), labels_N]
    metrics["loss"] = float(losses_N.mean())
    columns = {"id": _ids(ids, len(labels_N)), "label": labels_N, "prediction": predictions_N, "loss": losses_N}
    return metrics, pd.DataFrame(columns)


def re_identify(
    query: ArrayOrTensor,
    gallery: ArrayOrTensor,
    query_ids: ArrayOrTensor,
    gallery_ids: ArrayOrTensor,
    query_cameras: ArrayOrTensor,
    gallery_cameras: ArrayOrTensor,
    *,
    ids: Sequence[Any] | npt.NDArray[Any] | None = None,
    gallery_names: Sequence[Any] | npt.NDArray[Any] | None = None,
    distance: Distance = "cosine",
) -> tuple[dict[str, float], pd.DataFrame]:
    """rank1/5/10/20, mAP (rectangular), mAP_trapezoid, queries, skipped; protocol and errors are those of score_reid.

    The frame has a row a query: id, label (identity), camera, prediction (identity of the gallery image at rank 1; null
    if none remained), nearest (that image), average_precision, average_precision_trapezoid (NaN if skipped), first_match
    (its rank; 0 if skipped). ids and gallery_names: what to call query and gallery images; counted from 0 if not given.
    """
    scores = score_reid(
        query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras, ranks=RANKS, distance=distance
    )
    metrics = {f"rank{k}": share for k, share in scores.rank.items()}
    metrics |= {"mAP": scores.map_rectangular, "mAP_trapezoid": scores.map_trapezoid}
    metrics |= {"queries": float(scores.queries), "skipped": float(scores.skipped)}
    gallery_ids_G = as_numpy(gallery_ids).astype(np.int64)
    frame = pd.DataFrame(
        {
            "id": _ids(ids, len(scores.first_match)),
            "label": as_numpy(query_ids).astype(np.int64),
            "camera": as_numpy(query_cameras).astype(np.int64),
            "prediction": _at(gallery_ids_G, scores.nearest),
            "nearest": _at(_ids(gallery_names, len(gallery_ids_G)), scores.nearest),
            "average_precision": scores.average_precision_rectangular,
            "average_precision_trapezoid": scores.average_precision_trapezoid,
            "first_match": scores.first_match,
        }
    )
    return _defined(metrics), frame


def attributes(
    predictions: ArrayOrTensor, labels: ArrayOrTensor, names: Sequence[str], train_labels: ArrayOrTensor
) -> dict[str, float]:
    """Accuracy of each attribute: attribute/<name> over labelled images, and attribute_mean, each attribute counting once.

    Beside it attribute_majority/<name>: always guessing the training data's commonest value. predictions and labels
    (N, K), train_labels (M, K); -1 = unlabelled. Raises ValueError on shapes that do not fit.
    """
    shares_K = attribute_accuracy(predictions, labels)
    references_K = majority(train_labels, labels)
    metrics = {f"attribute/{name}": share for name, share in zip(names, shares_K, strict=True)}
    metrics |= {f"attribute_majority/{name}": share for name, share in zip(names, references_K, strict=True)}
    metrics["attribute_mean"] = _mean_of_defined(np.array(shares_K))
    return _defined(metrics)


def localise_attributes(
    hits: ArrayOrTensor,
    regions: ArrayOrTensor,
    train_regions: ArrayOrTensor,
    names: Sequence[str],
    map_size: tuple[int, int],
) -> dict[str, float]:
    """localisation/<name> and localisation_mean of hits (N, K); beside them localisation_chance and localisation_prior.

    regions (N, K, 4) of the same images and train_regions (M, K, 4) of training images, as the network sees them in
    testing. All three means are over the same attributes, those with a known test region, each counting once; an
    attribute without a training region has no fixed place, its prior is chance.
    """
    hits_NK = as_numpy(hits)
    inside_NKL = cells_in_regions(regions, map_size)
    known_NK = inside_NKL.any(axis=2)
    if hits_NK.shape != known_NK.shape:
        raise ValueError(f"hits have shape {hits_NK.shape}, regions cover {known_NK.shape}")
    if (np.isnan(hits_NK) == known_NK).any():
        raise ValueError("hits and regions are not of the same images: one is known where the other is not")
    cells_K = fixed_place(cells_in_regions(train_regions, map_size))
    hits_K, chance_K, prior_K = (
        np.array([_mean_of_defined(values_N) for values_N in values_NK.T])
        for values_NK in (hits_NK, chance(inside_NKL, known_NK), fixed_place_hits(cells_K, inside_NKL, known_NK))
    )
    metrics = {f"localisation/{name}": float(share) for name, share in zip(names, hits_K, strict=True)}
    metrics["localisation_mean"] = _mean_of_defined(hits_K)
    metrics["localisation_chance"] = _mean_of_defined(chance_K)
    metrics["localisation_prior"] = _mean_of_defined(np.where(cells_K >= 0, prior_K, chance_K))
    return _defined(metrics)


def attribute_columns(
    names: Sequence[str], predictions: ArrayOrTensor, labels: ArrayOrTensor, hits: ArrayOrTensor | None = None
) -> pd.DataFrame:
    """Columns for a frame of predictions: attribute.<name> (label), predicted.<name> and, with hits, localised.<name>."""
    tables = {"attribute": as_numpy(labels), "predicted": as_numpy(predictions)}
    if hits is not None:
        tables["localised"] = as_numpy(hits)
    return pd.DataFrame(
        {
            f"{kind}.{name}": values_N
            for kind, values_NK in tables.items()
            for name, values_N in zip(names, values_NK.T, strict=True)
        }
    )


def _ids(ids: Sequence[Any] | npt.NDArray[Any] | None, length: int) -> npt.NDArray[Any]:
    names = np.arange(length) if ids is None else np.asarray(ids)
    if names.shape != (length,):
        raise ValueError(f"ids have shape {names.shape}: expected ({length},), one an image")
    return names


def _at(values: npt.NDArray[Any], positions: npt.NDArray[np.int64]) -> Any:
    """values[positions] as a nullable column, null at position -1."""
    return pd.array(values.tolist()).take(positions, allow_fill=True)


def _mean_of_defined(values: npt.NDArray[Any]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _defined(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not np.isnan(value)}
