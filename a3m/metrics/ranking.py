"""Rankings: CMC rank-k and mean average precision of re-identification, recall@K of retrieval.

Protocol of Market-1501 (Zheng et al., ICCV 2015, and its evaluation code). For each query
- gallery images of the same identity *and* the same camera are left out,
- junk (identity -1) is left out wherever it still stands in the gallery: it is neither right nor wrong,
- distractors (identity 0) stay, as wrong answers,
- a query without a match is skipped and counted: all shares are over the queries that are scored.

Two average precisions are in use and give different numbers for one ranking. With the j-th of M matches at rank r_j:
    rectangular   mean over j of j / r_j                                                          (torchreid, fast-reid)
    trapezoid     mean over j of (j / r_j + (j - 1) / (r_j - 1)) / 2, the second term 1 at rank 1    (the original code)

Ties count against the model: a wrong image at the same distance as a match ranks before it. A matrix product rounds
equal rows differently, by where in a block they lie, so an exact comparison would break ties by chance: a collapsed
network, whose vectors are all equal, would score chance instead of the worst. Distances are therefore computed in
float64, and two of them are equal when they differ by no more than TOLERANCE allows: a hundred times what the product
was seen to round (1e-15), and a hundred-thousandth of what a cosine in float32 can tell apart.

Shape suffixes: Q query images, G gallery images, B queries of one block, D embedding, M matches of one query.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

AveragePrecision = Literal["rectangular", "trapezoid"]
Distance = Literal["cosine", "euclidean"]
ArrayOrTensor = npt.ArrayLike | torch.Tensor
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

TOLERANCE = 1e-13  # of a vector's squared length
BLOCK_BYTES = 16 * 2**20  # of one block of distances; three of them are held at a time


@dataclass(frozen=True)
class ReidScores:
    """Scores of one query set against one gallery: fractions in [0, 1], NaN when every query was skipped.

    Arrays have one entry a query, in the order given. `map` and `average_precision` are of the convention asked for.
    """

    rank: dict[int, float]  # k -> share of the scored queries with a match among the first k
    map: float
    map_rectangular: float
    map_trapezoid: float
    queries: int  # scored
    skipped: int
    average_precision: Floats  # NaN if skipped
    average_precision_rectangular: Floats
    average_precision_trapezoid: Floats
    first_match: Integers  # rank of the first match, 1-based; 0 if skipped
    nearest: Integers  # index into the gallery of the image at rank 1; -1 if no image remained


def score_reid(
    query: ArrayOrTensor,
    gallery: ArrayOrTensor,
    query_ids: ArrayOrTensor,
    gallery_ids: ArrayOrTensor,
    query_cameras: ArrayOrTensor,
    gallery_cameras: ArrayOrTensor,
    *,
    average_precision: AveragePrecision = "rectangular",
    ranks: Sequence[int] = (1, 5, 10, 20),
    distance: Distance = "cosine",
) -> ReidScores:
    """CMC and mAP of `query` (Q, D) against `gallery` (G, D); identities and cameras are integers, (Q,) and (G,).

    Embeddings need not be normalised; under cosine a vector of zeros has distance 1 to everything.
    Raises ValueError on shapes that do not fit, NaN or infinity, no query, no gallery image besides junk, a query that
    is a distractor or junk, an unknown convention or distance, a rank below 1.
    """
    if average_precision not in ("rectangular", "trapezoid"):
        raise ValueError(f"average_precision is 'rectangular' or 'trapezoid', not {average_precision!r}")
    _check_positive("ranks", ranks)
    query_QD, gallery_GD = _embeddings("query", query), _embeddings("gallery", gallery)
    if query_QD.shape[1] != gallery_GD.shape[1]:
        raise ValueError(f"query has {query_QD.shape[1]} dimensions, gallery {gallery_GD.shape[1]}")
    query_ids_Q = _integers("query_ids", query_ids, len(query_QD))
    query_cameras_Q = _integers("query_cameras", query_cameras, len(query_QD))
    gallery_ids_G = _integers("gallery_ids", gallery_ids, len(gallery_GD))
    gallery_cameras_G = _integers("gallery_cameras", gallery_cameras, len(gallery_GD))
    if query_ids_Q.min() < 1:
        raise ValueError(
            f"query_ids holds {query_ids_Q.min()}: a query is a person (1 or more), never 0 (distractor) or -1"
        )
    if gallery_ids_G.min() < -1:
        raise ValueError(f"gallery_ids holds {gallery_ids_G.min()}: expected an identity, 0 (distractor) or -1 (junk)")
    kept_G = np.flatnonzero(gallery_ids_G != -1)
    if len(kept_G) == 0:
        raise ValueError("gallery holds nothing but junk (identity -1)")
    if len(kept_G) < len(gallery_GD):
        gallery_GD = gallery_GD[kept_G]
        gallery_ids_G, gallery_cameras_G = gallery_ids_G[kept_G], gallery_cameras_G[kept_G]

    rectangular_Q, trapezoid_Q = np.full((2, len(query_QD)), np.nan)
    first_match_Q = np.zeros(len(query_QD), np.int64)
    nearest_Q = np.full(len(query_QD), -1, np.int64)
    for start, lower_BG, upper_BG in _distance_bounds(query_QD, gallery_GD, distance):
        for q, (lower_G, upper_G) in enumerate(zip(lower_BG, upper_BG, strict=True), start):
            same_G = gallery_ids_G == query_ids_Q[q]
            wrong = np.flatnonzero(~same_G)
            matches = np.flatnonzero(same_G & (gallery_cameras_G != query_cameras_Q[q]))
            ranks_M = _ranks_of_matches(upper_G[matches], lower_G[wrong])
            # The image at rank 1 is the closest match only when no wrong image is as close.
            candidates = matches if len(ranks_M) and ranks_M[0] == 1 else wrong
            if len(candidates):
                nearest_Q[q] = kept_G[candidates[_first_of_least(lower_G[candidates], upper_G[candidates])]]
            if len(ranks_M):
                first_match_Q[q] = ranks_M[0]
                rectangular_Q[q], trapezoid_Q[q] = _average_precisions(ranks_M)

    scored_Q = first_match_Q > 0
    means = {"rectangular": _mean(rectangular_Q[scored_Q]), "trapezoid": _mean(trapezoid_Q[scored_Q])}
    return ReidScores(
        rank={int(k): _mean(first_match_Q[scored_Q] <= k) for k in ranks},
        map=means[average_precision],
        map_rectangular=means["rectangular"],
        map_trapezoid=means["trapezoid"],
        queries=int(scored_Q.sum()),
        skipped=int((~scored_Q).sum()),
        average_precision=rectangular_Q if average_precision == "rectangular" else trapezoid_Q,
        average_precision_rectangular=rectangular_Q,
        average_precision_trapezoid=trapezoid_Q,
        first_match=first_match_Q,
        nearest=nearest_Q,
    )


def recall_at_k(embeddings: ArrayOrTensor, labels: ArrayOrTensor, ks: Sequence[int] = (1, 2, 4, 8)) -> dict[int, float]:
    """Share of images with one of their own class among the k nearest by cosine, each image against all others.

    embeddings (N, D), labels (N,) integers. The image itself is left out, a copy of it is not. An image that is alone
    in its class counts as missed. Raises ValueError on shapes that do not fit, NaN or infinity, fewer than two images.
    """
    _check_positive("ks", ks)
    embeddings_ND = _embeddings("embeddings", embeddings)
    labels_N = _integers("labels", labels, len(embeddings_ND))
    if len(labels_N) < 2:
        raise ValueError("recall@K compares each image with all others: one image has none")
    first_match_N = np.empty(len(labels_N), np.float64)  # infinite where the class has no other image
    for start, lower_BN, upper_BN in _distance_bounds(embeddings_ND, embeddings_ND, "cosine"):
        queries = np.arange(start, start + len(lower_BN))
        same_BN = labels_N[queries, None] == labels_N
        upper_BN[~same_BN] = np.inf
        upper_BN[np.arange(len(queries)), queries] = np.inf  # the image itself
        closest_B1 = upper_BN.min(axis=1, keepdims=True)
        wrong_before_B = (~same_BN & (lower_BN <= closest_B1)).sum(axis=1)
        first_match_N[queries] = np.where(np.isfinite(closest_B1[:, 0]), wrong_before_B + 1, np.inf)
    return {int(k): _mean(first_match_N <= k) for k in ks}


def as_numpy(values: ArrayOrTensor) -> npt.NDArray[Any]:
    """A numpy array of the same numbers; a tensor may lie on any device and need a gradient (numpy has no bfloat16)."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def _distance_bounds(query_QD: Floats, gallery_GD: Floats, distance: Distance) -> Iterator[tuple[int, Floats, Floats]]:
    """Blocks (first query, lower (B, G), upper (B, G)); the order of a query's gallery is that of the distances.

    Two distances of one query count as equal when the lower bound of each is at most the upper bound of the other. What
    is bounded is half the squared distance less half the query's squared length, |g|^2 / 2 - q.g; for unit vectors that
    orders as the cosine does.
    """
    if distance == "cosine":
        query_QD, gallery_GD = _unit(query_QD), _unit(gallery_GD)
        half_Q, half_G = np.full(len(query_QD), 0.5), np.full(len(gallery_GD), 0.5)  # of a vector of zeros as well
    elif distance == "euclidean":
        # Distances stay the same when all is shifted; without it a common offset would swallow the digits.
        scale = 2.0 ** -np.frexp(max(np.abs(query_QD).max(), np.abs(gallery_GD).max()))[1]
        query_QD, gallery_GD = query_QD * scale, gallery_GD * scale
        centre_D = gallery_GD.mean(axis=0)
        query_QD, gallery_GD = query_QD - centre_D, gallery_GD - centre_D
        half_Q, half_G = (np.einsum("nd,nd->n", a, a) / 2 for a in (query_QD, gallery_GD))
    else:
        raise ValueError(f"distance is 'cosine' or 'euclidean', not {distance!r}")
    lower_G, upper_G = half_G * (1 - TOLERANCE), half_G * (1 + TOLERANCE)
    size = max(1, BLOCK_BYTES // (8 * len(gallery_GD)))
    for start in range(0, len(query_QD), size):
        block = slice(start, start + size)
        product_BG = query_QD[block] @ gallery_GD.T
        yield start, lower_G - product_BG, upper_G + 2 * TOLERANCE * half_Q[block, None] - product_BG


def _ranks_of_matches(match_upper_M: Floats, wrong_lower: Floats) -> Integers:
    """1-based ranks (M,) of the matches, ascending: a wrong image that may be as close comes before."""
    match_upper_M = np.sort(match_upper_M)
    if len(match_upper_M) == 0:
        return np.empty(0, np.int64)
    wrong_lower = np.sort(wrong_lower[wrong_lower <= match_upper_M[-1]])
    return np.searchsorted(wrong_lower, match_upper_M, side="right") + np.arange(1, len(match_upper_M) + 1)


def _first_of_least(lower: Floats, upper: Floats) -> int:
    """The lowest index among the equally least."""
    return int(np.argmax(lower <= upper.min()))


def _average_precisions(ranks_M: Integers) -> tuple[float, float]:
    found_M = np.arange(1, len(ranks_M) + 1)
    precision_M = found_M / ranks_M
    previous_M = np.where(ranks_M == 1, 1.0, (found_M - 1) / np.maximum(ranks_M - 1, 1))  # one rank before the match
    return float(precision_M.mean()), float((precision_M + previous_M).mean() / 2)


def _unit(vectors_ND: Floats) -> Floats:
    """Rows of length 1; rows of zeros stay. The largest number goes first, or squares of tiny and huge ones vanish."""
    largest_N1 = np.abs(vectors_ND).max(axis=1, keepdims=True)
    vectors_ND = vectors_ND / np.where(largest_N1 == 0, 1, largest_N1)
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND / np.where(lengths_N1 == 0, 1, lengths_N1)


def _embeddings(name: str, values: ArrayOrTensor) -> Floats:
    array = as_numpy(values)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}: expected (images, dimensions), at least one of each")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} holds {array.dtype}: expected real numbers")
    array = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ValueError(f"{name} holds NaN or infinity in {len(bad)} of {len(array)} rows, first in row {bad[0]}")
    return array


def _integers(name: str, values: ArrayOrTensor, length: int) -> Integers:
    array = as_numpy(values)
    if array.shape != (length,):
        raise ValueError(f"{name} has shape {array.shape}: expected ({length},), one an embedding")
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {array.dtype}: expected integers")
    return array.astype(np.int64)


def _check_positive(name: str, values: Sequence[int]) -> None:
    if any(k < 1 for k in values):
        raise ValueError(f"{name} are counts of images, 1 or more, not {list(values)}")


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
