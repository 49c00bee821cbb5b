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
was seen to round (1e-15), and a hundred-thousandth of what a cosine in float32 can tell apart. Of distances that come
as a float32 matrix the last digits are rounding, and equal is what differs by no more than MATRIX_TOLERANCE.

Shape suffixes: Q query images, G gallery images, B queries of one block, D embedding, M matches of one query.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from a3m.metrics import vectors
from a3m.metrics.vectors import ArrayOrTensor, Floats, Integers, as_numpy, integers, query_and_gallery, unit

AveragePrecision = Literal["rectangular", "trapezoid"]
Distance = Literal["cosine", "euclidean"]
Bounds = Iterator[tuple[int, Floats, Floats]]  # blocks: first query, lower (B, G), upper (B, G)

TOLERANCE = 1e-13  # of a vector's squared length
MATRIX_TOLERANCE = 1e-6  # of the largest distance in a query's row of a float32 matrix: 16 of its last digits
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
    query_QD, gallery_GD = query_and_gallery(query, gallery)
    people = _people(query_ids, gallery_ids, query_cameras, gallery_cameras, len(query_QD), len(gallery_GD))
    if len(people.kept) < len(gallery_GD):
        gallery_GD = gallery_GD[people.kept]
    return _score(_distance_bounds(query_QD, gallery_GD, distance), people, average_precision, ranks)


def score_reid_distances(
    distances: ArrayOrTensor,
    query_ids: ArrayOrTensor,
    gallery_ids: ArrayOrTensor,
    query_cameras: ArrayOrTensor,
    gallery_cameras: ArrayOrTensor,
    *,
    average_precision: AveragePrecision = "rectangular",
    ranks: Sequence[int] = (1, 5, 10, 20),
) -> ReidScores:
    """The same scores from distances (Q, G), whatever they were computed by: those of re-ranking, for instance.

    Raises ValueError as score_reid does.
    """
    distances_QG = as_numpy(distances)
    if distances_QG.ndim != 2 or 0 in distances_QG.shape or distances_QG.dtype.kind not in "fiu":
        raise ValueError(
            f"distances are {distances_QG.dtype} of shape {distances_QG.shape}: expected real numbers (queries, gallery)"
        )
    people = _people(query_ids, gallery_ids, query_cameras, gallery_cameras, *distances_QG.shape)
    return _score(_matrix_bounds(distances_QG, people.kept), people, average_precision, ranks)


@dataclass(frozen=True)
class _People:
    """Who is on the images, junk left out of the gallery: `kept` (G,) are the places in the gallery as given."""

    query_ids: Integers
    query_cameras: Integers
    gallery_ids: Integers
    gallery_cameras: Integers
    kept: Integers


def _people(
    query_ids: ArrayOrTensor, gallery_ids: ArrayOrTensor, query_cameras: ArrayOrTensor, gallery_cameras: ArrayOrTensor,
    queries: int, gallery: int,
) -> _People:  # fmt: skip
    query_ids_Q = integers("query_ids", query_ids, queries)
    query_cameras_Q = integers("query_cameras", query_cameras, queries)
    gallery_ids_G = integers("gallery_ids", gallery_ids, gallery)
    gallery_cameras_G = integers("gallery_cameras", gallery_cameras, gallery)
    if query_ids_Q.min() < 1:
        raise ValueError(
            f"query_ids holds {query_ids_Q.min()}: a query is a person (1 or more), never 0 (distractor) or -1"
        )
    if gallery_ids_G.min() < -1:
        raise ValueError(f"gallery_ids holds {gallery_ids_G.min()}: expected an identity, 0 (distractor) or -1 (junk)")
    kept_G = np.flatnonzero(gallery_ids_G != -1)
    if len(kept_G) == 0:
        raise ValueError("gallery holds nothing but junk (identity -1)")
    return _People(query_ids_Q, query_cameras_Q, gallery_ids_G[kept_G], gallery_cameras_G[kept_G], kept_G)


def _score(bounds: Bounds, people: _People, average_precision: AveragePrecision, ranks: Sequence[int]) -> ReidScores:
    """The protocol, from whatever orders each query's gallery (junk left out)."""
    if average_precision not in ("rectangular", "trapezoid"):
        raise ValueError(f"average_precision is 'rectangular' or 'trapezoid', not {average_precision!r}")
    _check_positive("ranks", ranks)
    queries = len(people.query_ids)
    rectangular_Q, trapezoid_Q = np.full((2, queries), np.nan)
    first_match_Q = np.zeros(queries, np.int64)
    nearest_Q = np.full(queries, -1, np.int64)
    for start, lower_BG, upper_BG in bounds:
        for q, (lower_G, upper_G) in enumerate(zip(lower_BG, upper_BG, strict=True), start):
            same_G = people.gallery_ids == people.query_ids[q]
            wrong = np.flatnonzero(~same_G)
            matches = np.flatnonzero(same_G & (people.gallery_cameras != people.query_cameras[q]))
            ranks_M = _ranks_of_matches(upper_G[matches], lower_G[wrong])
            # The image at rank 1 is the closest match only when no wrong image is as close.
            candidates = matches if len(ranks_M) and ranks_M[0] == 1 else wrong
            if len(candidates):
                nearest_Q[q] = people.kept[candidates[_first_of_least(lower_G[candidates], upper_G[candidates])]]
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


class Retrieved(NamedTuple):
    """Of each of N images, searched among all others."""

    first_match: Integers  # (N,) rank of the first of its own class, 1-based; 0 if it is alone in its class
    nearest: Integers  # (N,) index of the image at rank 1


def retrieve(embeddings: ArrayOrTensor, labels: ArrayOrTensor) -> Retrieved:
    """Rank all others by cosine for each image: embeddings (N, D), labels (N,) integers.

    The image itself is left out, a copy of it is not. Raises ValueError on shapes that do not fit, NaN or infinity,
    fewer than two images.
    """
    embeddings_ND = vectors.embeddings("embeddings", embeddings)
    labels_N = integers("labels", labels, len(embeddings_ND))
    if len(labels_N) < 2:
        raise ValueError("recall@K compares each image with all others: one image has none")
    first_match_N, nearest_N = np.zeros((2, len(labels_N)), np.int64)
    for start, lower_BN, upper_BN in _distance_bounds(embeddings_ND, embeddings_ND, "cosine"):
        queries = np.arange(start, start + len(lower_BN))
        for bounds_BN in (lower_BN, upper_BN):
            bounds_BN[np.arange(len(queries)), queries] = np.inf  # the image itself
        same_BN = labels_N[queries, None] == labels_N
        closest_B1 = np.where(same_BN, upper_BN, np.inf).min(axis=1, keepdims=True)
        matched_B = np.isfinite(closest_B1[:, 0])
        wrong_before_B = (~same_BN & (lower_BN <= closest_B1)).sum(axis=1)
        first_match_N[queries] = np.where(matched_B, wrong_before_B + 1, 0)
        # As above: the closest of its own class is at rank 1 only when no wrong image is as close.
        own_B = matched_B & (wrong_before_B == 0)
        upper_BN[same_BN != own_B[:, None]] = np.inf
        nearest_N[queries] = ((lower_BN <= upper_BN.min(axis=1, keepdims=True)) & (same_BN == own_B[:, None])).argmax(
            axis=1
        )
    return Retrieved(first_match_N, nearest_N)


def recall_at_k(embeddings: ArrayOrTensor, labels: ArrayOrTensor, ks: Sequence[int] = (1, 2, 4, 8)) -> dict[int, float]:
    """Share of images with one of their own class among the k nearest by cosine, each image against all others.

    An image that is alone in its class counts as missed. Arguments and errors are those of `retrieve`.
    """
    return recall_of_ranks(retrieve(embeddings, labels).first_match, ks)


def recall_of_ranks(first_match: Integers, ks: Sequence[int] = (1, 2, 4, 8)) -> dict[int, float]:
    """The same from the ranks (N,) of the first match, 0 = none."""
    _check_positive("ks", ks)
    return {int(k): _mean((first_match >= 1) & (first_match <= k)) for k in ks}


def _distance_bounds(query_QD: Floats, gallery_GD: Floats, distance: Distance) -> Bounds:
    """Blocks (first query, lower (B, G), upper (B, G)); the order of a query's gallery is that of the distances.

    Two distances of one query count as equal when the lower bound of each is at most the upper bound of the other. What
    is bounded is half the squared distance less half the query's squared length, |g|^2 / 2 - q.g; for unit vectors that
    orders as the cosine does.
    """
    if distance == "cosine":
        query_QD, gallery_GD = unit(query_QD), unit(gallery_GD)
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


def _matrix_bounds(distances_QG: npt.NDArray[Any], kept_G: Integers) -> Bounds:
    """The same from a matrix of distances, junk left out."""
    size = max(1, BLOCK_BYTES // (8 * distances_QG.shape[1]))
    whole = len(kept_G) == distances_QG.shape[1]
    for start in range(0, len(distances_QG), size):
        block_BG = distances_QG[start : start + size].astype(np.float64)
        if not np.isfinite(block_BG).all():
            row = start + int(np.flatnonzero(~np.isfinite(block_BG).all(axis=1))[0])
            raise ValueError(f"distances hold NaN or infinity, first in row {row}")
        lower_BG = block_BG if whole else block_BG[:, kept_G]
        yield start, lower_BG, lower_BG + MATRIX_TOLERANCE * np.abs(lower_BG).max(axis=1, keepdims=True)


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


def _check_positive(name: str, values: Sequence[int]) -> None:
    if any(k < 1 for k in values):
        raise ValueError(f"{name} are counts of images, 1 or more, not {list(values)}")


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
