"""k-reciprocal re-ranking of a gallery (Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017).

d(p, g) is the squared Euclidean distance of L2-normalised features, divided by the largest of p's row. N(p, k) is the image p
itself and its k nearest among queries and gallery together. With equation numbers of the paper:
    R(p, k)  = {g in N(p, k): p in N(g, k)}                                                             (eq. 3)
    R*(p)    = R(p, k1) and every R(q, k1/2), q in R(p, k1), of which more than 2/3 lie in R(p, k1)     (eq. 4)
    V_p      = exp(-d(p, g)) for g in R*(p), else 0; divided by its sum                                 (eq. 7)
    V_p     <- mean of V_g over the k2 nearest of p, itself among them                                  (eq. 11)
    d_J(p, g) = 1 - sum min(V_p, V_g) / sum max(V_p, V_g)                                               (eq. 10)
    d*(p, g)  = (1 - lambda) d_J(p, g) + lambda d(p, g)                                                 (eq. 12)
k1/2 is rounded to the even number, and V divided by its sum, as in the authors' code. All of it is sparse (some ten to
hundred neighbours an image) but d and d*, which are computed a block of rows at a time.

Ties: an image is its own nearest; of equally distant ones the first counts as the nearer. A product in float32 rounds equal
rows differently, so what lies closer together than it rounds is computed again, in float64 and by a sum whose order does
not depend on the row's place.

Shape suffixes: Q queries, G gallery images, N = Q + G, D embedding, B rows of one block, K neighbours.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from a3m.metrics.vectors import ArrayOrTensor, Floats, Integers, query_and_gallery, unit

Singles = npt.NDArray[np.float32]

BLOCK_BYTES = 64 * 2**20  # of one block of distances
SPARE = 12  # neighbours looked at beyond those asked for, among which ties at the last place are told apart
ROUNDING = 2e-6  # what a product of float32 vectors of length 1 may be wrong by, of their squared spread
EQUAL = 1e-12  # distances in float64 that differ by no more are equal, of the squared spread


def k_reciprocal(
    query: ArrayOrTensor, gallery: ArrayOrTensor, *, k1: int = 20, k2: int = 6, lambda_: float = 0.3
) -> Singles:
    """Re-ranked distances (Q, G) of `query` (Q, D) to `gallery` (G, D), in [0, 1]; embeddings need not be normalised.

    A vector of zeros is as far from every other as two that are orthogonal. Sets of fewer than k1 images are taken
    whole. Raises ValueError on shapes that do not fit, NaN or infinity, k1 or k2 below 1, lambda_ outside [0, 1].
    """
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 are counts of images, 1 or more, not {k1} and {k2}")
    if not 0 <= lambda_ <= 1:
        raise ValueError(f"lambda_ is a share in [0, 1], not {lambda_}")
    query_QD, gallery_GD = query_and_gallery(query, gallery)
    queries = len(query_QD)
    vectors_ND = _centred(np.concatenate([query_QD, gallery_GD]))
    near_NK, largest_N = _neighbours(vectors_ND, max(k1 + 1, k2))
    encoding = _encode(vectors_ND, near_NK, largest_N, k1, k2)

    result_QG = np.empty((queries, len(gallery_GD)), np.float32)
    for block, distances_BN in _distances(vectors_ND, queries):
        result_QG[block] = distances_BN[:, queries:] / largest_N[block, None]
    result_QG *= lambda_
    if lambda_ < 1:
        _add_jaccard(result_QG, encoding, 1 - lambda_)
    return result_QG


def _centred(vectors_ND: Floats) -> Floats:
    """Unit vectors, moved to their common centre and scaled to a largest length of 1: distances keep their order.

    Without it, those of a nearly collapsed network would be differences of numbers near 1, and lost to rounding.
    """
    vectors_ND = unit(vectors_ND)
    zero_N = ~vectors_ND.any(axis=1)
    if zero_N.any():
        vectors_ND = np.column_stack([vectors_ND, zero_N])
    vectors_ND -= vectors_ND.mean(axis=0)
    spread = np.sqrt(np.einsum("nd,nd->n", vectors_ND, vectors_ND).max())
    return vectors_ND / spread if spread > 1e-7 else np.zeros_like(vectors_ND)  # below it float32 input tells nothing


def _distances(vectors_ND: Floats, rows: int) -> Iterator[tuple[slice, Singles]]:
    """Blocks of squared distances (B, N) of the first `rows` vectors to all, 0 to themselves."""
    singles_ND = torch.from_numpy(vectors_ND.astype(np.float32))
    squares_N = torch.from_numpy(np.einsum("nd,nd->n", vectors_ND, vectors_ND).astype(np.float32))
    size = max(1, BLOCK_BYTES // (4 * len(vectors_ND)))
    for start in range(0, rows, size):
        block = slice(start, min(start + size, rows))
        distances_BN = torch.addmm(squares_N, singles_ND[block], singles_ND.T, alpha=-2)
        distances_BN.add_(squares_N[block, None]).clamp_(min=0)
        distances_BN.diagonal(offset=start).zero_()
        yield block, distances_BN.numpy()


def _neighbours(vectors_ND: Floats, count: int) -> tuple[Integers, Singles]:
    """Each image and its nearest, (N, min(count, N)) nearest first, and the largest distance (N,), 1 where all are 0."""
    count = min(count, len(vectors_ND))
    taken = min(count + SPARE, len(vectors_ND))
    near_NK = np.empty((len(vectors_ND), taken), np.int64)
    found_NK = np.empty((len(vectors_ND), taken), np.float32)
    largest_N = np.empty(len(vectors_ND), np.float32)
    for block, distances_BN in _distances(vectors_ND, len(vectors_ND)):
        largest_N[block] = distances_BN.max(axis=1)
        distances_BN[np.arange(len(distances_BN)), np.arange(block.start, block.stop)] = -1  # itself first
        values_BK, index_BK = (t.numpy() for t in torch.topk(torch.from_numpy(distances_BN), taken, largest=False))
        # Where more tie at the last place than are taken, take the first of them.
        for row in np.flatnonzero(values_BK[:, -1] - values_BK[:, count - 1] <= ROUNDING):
            last = values_BK[row, count - 1]
            nearer = np.flatnonzero(distances_BN[row] < last - ROUNDING)
            tied = np.flatnonzero(np.abs(distances_BN[row] - last) <= ROUNDING)
            index_BK[row] = np.concatenate([nearer, tied])[:taken]
            values_BK[row] = distances_BN[row, index_BK[row]]
        near_NK[block], found_NK[block] = index_BK, values_BK
    order_NK = np.argsort(found_NK, axis=1, kind="stable")
    near_NK = _told_apart(
        vectors_ND, np.take_along_axis(near_NK, order_NK, axis=1), np.take_along_axis(found_NK, order_NK, axis=1)
    )
    return near_NK[:, :count], np.where(largest_N > 0, largest_N, 1).astype(np.float32)


def _told_apart(vectors_ND: Floats, near_NK: Integers, found_NK: Singles) -> Integers:
    """The same neighbours, those that lie within rounding of another ordered by exact distance, then by index."""
    close_NK = np.diff(found_NK, axis=1) <= ROUNDING
    close_NK[:, 0] = False  # the image itself, at -1
    row, column = np.nonzero(np.pad(close_NK, ((0, 0), (0, 1))) | np.pad(close_NK, ((0, 0), (1, 0))))
    exact_NK = found_NK.astype(np.float64)
    exact_NK[row, column] = np.round(_pair_distances(vectors_ND, row, near_NK[row, column]) / EQUAL) * EQUAL
    return np.take_along_axis(near_NK, np.lexsort((near_NK, exact_NK), axis=1), axis=1)


def _pair_distances(vectors_ND: npt.NDArray[np.floating], first: Integers, second: Integers) -> Floats:
    """Squared distances of pairs of vectors, by the same sum wherever they lie."""
    distances = np.empty(len(first))
    size = max(1, BLOCK_BYTES // (16 * vectors_ND.shape[1]))
    for start in range(0, len(first), size):
        part = slice(start, start + size)
        difference = vectors_ND[first[part]] - vectors_ND[second[part]]
        distances[part] = np.square(difference, out=difference).sum(axis=1)
    return distances


def _encode(vectors_ND: Floats, near_NK: Integers, largest_N: Singles, k1: int, k2: int) -> sparse.csr_array:
    """V after local query expansion (eq. 11), (N, N)."""
    reciprocal = _reciprocal(near_NK[:, : k1 + 1])
    half = _reciprocal(near_NK[:, : round(k1 / 2) + 1])
    # How many of R(q, k1/2) lie in R(p, k1), for each q of R(p, k1); each holds at least the image itself.
    shared = (reciprocal @ half.T).multiply(reciprocal).tocoo()
    sizes_N = np.diff(half.indptr)
    kept = 3 * shared.data > 2 * sizes_N[shared.col]
    admitted = sparse.csr_array((shared.data[kept], (shared.row[kept], shared.col[kept])), shape=shared.shape)
    expanded = (reciprocal + admitted @ half).tocoo()
    distances = _pair_distances(vectors_ND.astype(np.float32), expanded.row, expanded.col) / largest_N[expanded.row]
    weights = np.exp(-distances)
    weights /= np.bincount(expanded.row, weights)[expanded.row]
    encoding = sparse.csr_array((weights, (expanded.row, expanded.col)), shape=expanded.shape)
    expansion = _incidence(near_NK[:, :k2], 1 / min(k2, near_NK.shape[1]))
    return (expansion @ encoding).tocsr()


def _reciprocal(near_NK: Integers) -> sparse.csr_array:
    """R: 1 where two images are among each other's neighbours, (N, N)."""
    forward = _incidence(near_NK, 1)
    return forward.multiply(forward.T).tocsr()


def _incidence(near_NK: Integers, value: float) -> sparse.csr_array:
    """`value` at each image's neighbours, (N, N)."""
    count, width = near_NK.shape
    rows = np.arange(0, count * width + 1, width)
    return sparse.csr_array((np.full(count * width, value), near_NK.ravel(), rows), shape=(count, count))


def _add_jaccard(result_QG: Singles, encoding: sparse.csr_array, factor: float) -> None:
    """Add `factor` d_J (eq. 10): rows sum to 1, so that sum max = 2 - sum min, and sum min runs over common columns."""
    queries, gallery = result_QG.shape
    columns = encoding[queries:].tocsc()
    columns.sort_indices()
    for q in range(queries):
        own = slice(encoding.indptr[q], encoding.indptr[q + 1])
        starts, ends = columns.indptr[encoding.indices[own]], columns.indptr[encoding.indices[own] + 1]
        lengths = ends - starts
        places = np.arange(lengths.sum()) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
        smaller = np.minimum(columns.data[places], np.repeat(encoding.data[own], lengths))
        common_G = np.bincount(columns.indices[places], smaller, minlength=gallery)
        result_QG[q] += factor * (1 - common_G / (2 - common_G))
