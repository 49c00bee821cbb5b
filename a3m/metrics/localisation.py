"""Does an attribute's map point at the attribute? Needs the attribute's true region, so it is for twins only.

The map is that of the raw scores V^T a_k (equation 5 before its sigmoid), so that saturation cannot hide where it
points. A hit: the greatest score lies in a cell that belongs to the region; of equally great ones, the share that does.
Beside it stand two references: chance, the region's area on the same grid, and a fixed place, the cell that lies in
most training regions of the attribute, whatever the image shows.

Shape suffixes: N images, K attributes, L cells of the map (row by row, h * w of them).
"""

import numpy as np
import numpy.typing as npt

from a3m.metrics.ranking import ArrayOrTensor, Floats, Integers, as_numpy

Booleans = npt.NDArray[np.bool_]


def cells_in_regions(regions: ArrayOrTensor, map_size: tuple[int, int]) -> Booleans:
    """Which cells (N, K, L) of a map of (rows, columns) belong to each region.

    regions (N, K, 4): x0, y0, x1, y1 as fractions of the network's input, which may reach beyond it; NaN = unknown. A
    cell belongs to the region that holds its centre; a region that holds none has the one cell in which its own centre
    lies. An unknown region, or one outside the input, has no cell, so that `.any(axis=2)` says which are known.
    """
    regions_NK4 = as_numpy(regions).astype(np.float64)
    if regions_NK4.ndim != 3 or regions_NK4.shape[2] != 4:
        raise ValueError(f"regions have shape {regions_NK4.shape}: expected (images, attributes, 4)")
    height, width = map_size
    x0, y0, x1, y1 = np.moveaxis(regions_NK4, 2, 0)
    bad = np.argwhere((x1 < x0) | (y1 < y0))
    if len(bad):
        raise ValueError(
            f"the region of image {bad[0][0]}, attribute {bad[0][1]} ends before it begins (x0, y0, x1, y1)"
        )
    visible_NK = (x0 < 1) & (y0 < 1) & (x1 > 0) & (y1 > 0)  # false for NaN
    columns_NKw = _in_span(x0, x1, width)
    rows_NKh = _in_span(y0, y1, height)
    inside_NKhw = rows_NKh[:, :, :, None] & columns_NKw[:, :, None, :]
    none_NK = visible_NK & ~inside_NKhw.any(axis=(2, 3))
    n, k = np.nonzero(none_NK)
    inside_NKhw[n, k, _centre_cell(y0[n, k], y1[n, k], height), _centre_cell(x0[n, k], x1[n, k], width)] = True
    return inside_NKhw.reshape(*none_NK.shape, height * width)


def localise(scores: ArrayOrTensor, inside: ArrayOrTensor, known: ArrayOrTensor) -> Floats:
    """Hits (N, K): the share of the greatest of `scores` (N, K, L) that lies `inside` (N, K, L); NaN where not `known`.

    Raises ValueError on shapes that do not fit and on NaN scores of a known region.
    """
    scores_NKL = as_numpy(scores)
    inside_NKL, known_NK = _checked(inside, known)
    if scores_NKL.shape != inside_NKL.shape:
        raise ValueError(f"scores have shape {scores_NKL.shape}, regions cover {inside_NKL.shape}")
    if np.isnan(scores_NKL[known_NK]).any():
        raise ValueError("scores hold NaN")
    greatest_NKL = scores_NKL == scores_NKL.max(axis=2, keepdims=True)
    hits_NK = (greatest_NKL & inside_NKL).sum(axis=2) / np.maximum(greatest_NKL.sum(axis=2), 1)
    return np.where(known_NK, hits_NK, np.nan)


def chance(inside: ArrayOrTensor, known: ArrayOrTensor) -> Floats:
    """Hits (N, K) that a cell drawn at random expects: the region's share of the cells; NaN where not known."""
    inside_NKL, known_NK = _checked(inside, known)
    return np.where(known_NK, inside_NKL.mean(axis=2), np.nan)


def fixed_place(train_inside: ArrayOrTensor) -> Integers:
    """Per attribute the cell (K,) that lies in most regions (N, K, L), the lowest of equals; -1 where there is none."""
    inside_NKL = as_numpy(train_inside)
    if inside_NKL.ndim != 3 or inside_NKL.dtype != np.bool_:
        raise ValueError(f"expected booleans (images, attributes, cells), not {inside_NKL.dtype} {inside_NKL.shape}")
    regions_KL = inside_NKL.sum(axis=0)
    return np.where(regions_KL.any(axis=1), regions_KL.argmax(axis=1), -1)


def fixed_place_hits(cells: ArrayOrTensor, inside: ArrayOrTensor, known: ArrayOrTensor) -> Floats:
    """Hits (N, K) of pointing at one cell (K,) an attribute; NaN where the region is not known, or the cell (-1)."""
    inside_NKL, known_NK = _checked(inside, known)
    cells_K = as_numpy(cells)
    if cells_K.shape != known_NK.shape[1:]:
        raise ValueError(f"cells have shape {cells_K.shape}: expected one for each of {known_NK.shape[1]} attributes")
    hits_NK = np.take_along_axis(inside_NKL, np.maximum(cells_K, 0)[None, :, None], axis=2)[:, :, 0]
    return np.where(known_NK & (cells_K >= 0), hits_NK, np.nan)


def _in_span(start_NK: Floats, end_NK: Floats, cells: int) -> Booleans:
    """Which of so many cells (N, K, cells) along one axis have their centre in [start, end)."""
    centres = (np.arange(cells) + 0.5) / cells
    return (start_NK[..., None] <= centres) & (centres < end_NK[..., None])


def _centre_cell(start: Floats, end: Floats, cells: int) -> Integers:
    """The cell that holds the centre of what lies in the input."""
    centre = (np.clip(start, 0, 1) + np.clip(end, 0, 1)) / 2
    return np.minimum((centre * cells).astype(np.int64), cells - 1)


def _checked(inside: ArrayOrTensor, known: ArrayOrTensor) -> tuple[Booleans, Booleans]:
    inside_NKL, known_NK = as_numpy(inside), as_numpy(known)
    if inside_NKL.dtype != np.bool_ or known_NK.dtype != np.bool_:
        raise ValueError(f"expected booleans, not inside {inside_NKL.dtype} and known {known_NK.dtype}")
    if inside_NKL.ndim != 3 or inside_NKL.shape[:2] != known_NK.shape:
        raise ValueError(f"inside has shape {inside_NKL.shape}, known {known_NK.shape}: expected (N, K, L) and (N, K)")
    return inside_NKL, known_NK
