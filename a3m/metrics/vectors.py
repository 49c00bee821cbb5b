"""What the metrics take: numbers as arrays or tensors, checked by name, and vectors of length 1."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

ArrayOrTensor = npt.ArrayLike | torch.Tensor
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def as_numpy(values: ArrayOrTensor) -> npt.NDArray[Any]:
    """A numpy array of the same numbers; a tensor may lie on any device and need a gradient (numpy has no bfloat16)."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def embeddings(name: str, values: ArrayOrTensor) -> Floats:
    """(images, dimensions) as float64. Raises ValueError on another shape, no number, NaN or infinity."""
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


def query_and_gallery(query: ArrayOrTensor, gallery: ArrayOrTensor) -> tuple[Floats, Floats]:
    """Both as float64 (Q, D) and (G, D). Raises ValueError as `embeddings` does, and when D differs."""
    query_QD, gallery_GD = embeddings("query", query), embeddings("gallery", gallery)
    if query_QD.shape[1] != gallery_GD.shape[1]:
        raise ValueError(f"query has {query_QD.shape[1]} dimensions, gallery {gallery_GD.shape[1]}")
    return query_QD, gallery_GD


def integers(name: str, values: ArrayOrTensor, length: int) -> Integers:
    """(length,) as int64. Raises ValueError on another shape or other numbers."""
    array = as_numpy(values)
    if array.shape != (length,):
        raise ValueError(f"{name} has shape {array.shape}: expected ({length},), one an embedding")
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {array.dtype}: expected integers")
    return array.astype(np.int64)


def unit(vectors_ND: Floats) -> Floats:
    """Rows of length 1; rows of zeros stay. The largest number goes first, or squares of tiny and huge ones vanish."""
    largest_N1 = np.abs(vectors_ND).max(axis=1, keepdims=True)
    vectors_ND = vectors_ND / np.where(largest_N1 == 0, 1, largest_N1)
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND / np.where(lengths_N1 == 0, 1, lengths_N1)
