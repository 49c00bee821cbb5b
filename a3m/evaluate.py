"""One function a protocol: from a model's outputs to named metrics and to predictions, one row a test image or query.

`collect` (a3m.collect) runs the model; all here is pure on arrays or tensors. Metrics carry the names under which they are
logged, without the split (`rank1`, not `test/rank1`); all shares are fractions in [0, 1]; one that is not defined, such
as the accuracy of an attribute that no test image has a label for, is left out.

Shape suffixes: N images in the order of the batches, C classes, E compared vector, D embedding, K attributes, L cells.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from a3m.collect import Collected, Moments, collect
from a3m.metrics.classification import accuracy, as_labels, attribute_accuracy, majority, predicted
from a3m.metrics.clustering import nmi
from a3m.metrics.localisation import cells_in_regions, chance, fixed_place, fixed_place_hits
from a3m.metrics.ranking import (
    ArrayOrTensor,
    Distance,
    ReidScores,
    as_numpy,
    recall_of_ranks,
    score_reid,
    score_reid_distances,
)
from a3m.metrics.ranking import retrieve as search

__all__ = (
    "Collected", "Moments", "attribute_columns", "attributes", "classify", "collect", "localise_attributes", "re_identify",
    "rerank_identify", "retrieve",
)  # fmt: skip

RANKS = (1, 5, 10, 20)


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
    metrics = _shares(scores) | {"queries": float(scores.queries), "skipped": float(scores.skipped)}
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


def rerank_identify(
    distances: ArrayOrTensor,
    query_ids: ArrayOrTensor,
    gallery_ids: ArrayOrTensor,
    query_cameras: ArrayOrTensor,
    gallery_cameras: ArrayOrTensor,
    *,
    gallery_names: Sequence[Any] | npt.NDArray[Any] | None = None,
) -> tuple[dict[str, float], pd.DataFrame]:
    """reranked/rank1/5/10/20, reranked/mAP, reranked/mAP_trapezoid of re-ranked distances (Q, G), by the same protocol.

    distances: of a3m.metrics.rerank.k_reciprocal, junk (-1) left out of the gallery before. The frame's columns go beside
    those of re_identify, which counts the same queries: reranked.nearest, reranked.average_precision,
    reranked.average_precision_trapezoid, reranked.first_match.
    """
    scores = score_reid_distances(distances, query_ids, gallery_ids, query_cameras, gallery_cameras, ranks=RANKS)
    frame = pd.DataFrame(
        {
            "reranked.nearest": _at(_ids(gallery_names, len(as_numpy(gallery_ids))), scores.nearest),
            "reranked.average_precision": scores.average_precision_rectangular,
            "reranked.average_precision_trapezoid": scores.average_precision_trapezoid,
            "reranked.first_match": scores.first_match,
        }
    )
    return _defined({f"reranked/{name}": share for name, share in _shares(scores).items()}), frame


def retrieve(
    embeddings: ArrayOrTensor,
    labels: ArrayOrTensor,
    *,
    ids: Sequence[Any] | npt.NDArray[Any] | None = None,
    seed: int,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> tuple[dict[str, float], pd.DataFrame]:
    """recall1/2/4/8 and nmi of embeddings (N, D), labels (N,), each image searched among all others by cosine.

    The frame has a row an image: id, label, nearest (the image at rank 1), prediction (its label), first_match (rank of
    the first image of its own class; 0 if it is alone in it), hit1/2/4/8 (whether that is among the first k). ids: what
    to call the images; counted from 0 if not given. seed: of k-means. Errors are those of a3m.metrics.ranking.retrieve
    and a3m.metrics.clustering.nmi.
    """
    found = search(embeddings, labels)
    metrics = {f"recall{k}": share for k, share in recall_of_ranks(found.first_match, ks).items()}
    metrics["nmi"] = nmi(embeddings, labels, seed=seed)
    labels_N = as_numpy(labels).astype(np.int64)
    frame = pd.DataFrame(
        {
            "id": _ids(ids, len(labels_N)),
            "label": labels_N,
            "nearest": _at(_ids(ids, len(labels_N)), found.nearest),
            "prediction": labels_N[found.nearest],
            "first_match": found.first_match,
            **{f"hit{k}": (found.first_match >= 1) & (found.first_match <= k) for k in ks},
        }
    )
    return metrics, frame


def attributes(
    predictions: ArrayOrTensor,
    labels: ArrayOrTensor,
    names: Sequence[str],
    train_labels: ArrayOrTensor,
    absent: Sequence[int | None] | None = None,
) -> dict[str, float]:
    """Accuracy of each attribute: attribute/<name> over labelled images, and attribute_mean, each attribute counting once.

    Beside it attribute_majority/<name>: always guessing the training data's commonest value; and, where `absent` names the
    value that means "none of these" (an entry an attribute, None where there is no such), attribute_labelled/<name>:
    accuracy over the images that have another. predictions and labels (N, K), train_labels (M, K); -1 = unlabelled.
    Raises ValueError on shapes that do not fit.
    """
    shares_K = attribute_accuracy(predictions, labels)
    references_K = majority(train_labels, labels)
    metrics = {f"attribute/{name}": share for name, share in zip(names, shares_K, strict=True)}
    metrics |= {f"attribute_majority/{name}": share for name, share in zip(names, references_K, strict=True)}
    if absent is not None:
        if len(absent) != len(names):
            raise ValueError(f"absent has {len(absent)} entries for {len(names)} attributes")
        absent_K = np.array([-1 if value is None else value for value in absent], np.int64)
        present_NK = np.where(as_numpy(labels) == absent_K, -1, as_numpy(labels))
        for name, value, share in zip(names, absent, attribute_accuracy(predictions, present_NK), strict=True):
            if value is not None:
                metrics[f"attribute_labelled/{name}"] = share
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


def _shares(scores: ReidScores) -> dict[str, float]:
    metrics = {f"rank{k}": share for k, share in scores.rank.items()}
    return metrics | {"mAP": scores.map_rectangular, "mAP_trapezoid": scores.map_trapezoid}


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
