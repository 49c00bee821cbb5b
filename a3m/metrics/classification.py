"""Accuracy of classes and of attributes, and what always guessing the commonest value would score.

Shape suffixes: N images, C classes, K attributes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from a3m.metrics.ranking import ArrayOrTensor, Integers, as_numpy


def accuracy(logits_or_predictions: ArrayOrTensor, labels: ArrayOrTensor) -> float:
    """Share of images whose class is right: logits (N, C), or predicted classes (N,) as integers; labels (N,) from 0.

    Raises ValueError on shapes that do not fit, no image, NaN or infinite logits, an unlabelled image (-1).
    """
    labels_N = as_labels("labels", labels, dimensions=1)
    values = as_numpy(logits_or_predictions)
    predictions_N = predicted(values) if values.ndim == 2 else as_labels("predictions", values, dimensions=1)
    if predictions_N.shape != labels_N.shape:
        raise ValueError(f"{len(predictions_N)} predictions for {len(labels_N)} labels")
    if labels_N.min() < 0:
        raise ValueError(f"labels hold {labels_N.min()}: every image of a classification has a class, 0 or more")
    return float((predictions_N == labels_N).mean())


def predicted(logits: ArrayOrTensor) -> Integers:
    """The class (N,) with the greatest of the logits (N, C), the first of equals. NaN is a ValueError, not class 0."""
    logits_NC = as_numpy(logits)
    if logits_NC.ndim != 2 or 0 in logits_NC.shape:
        raise ValueError(f"logits have shape {logits_NC.shape}: expected (images, classes), at least one of each")
    bad = np.flatnonzero(~np.isfinite(logits_NC).all(axis=1))
    if len(bad):
        raise ValueError(f"logits hold NaN or infinity in {len(bad)} of {len(logits_NC)} rows, first in row {bad[0]}")
    return logits_NC.argmax(axis=1).astype(np.int64)


def attribute_accuracy(predictions: ArrayOrTensor, labels: ArrayOrTensor) -> list[float]:
    """Per attribute the share of labelled images that are right; NaN where no image is labelled.

    predictions and labels (N, K), integers; label -1 = unlabelled. Raises ValueError on shapes that do not fit.
    """
    labels_NK = as_labels("labels", labels, dimensions=2)
    predictions_NK = as_labels("predictions", predictions, dimensions=2)
    if predictions_NK.shape != labels_NK.shape:
        raise ValueError(f"predictions have shape {predictions_NK.shape}, labels {labels_NK.shape}")
    return [
        _share(prediction_N[label_N != -1] == label_N[label_N != -1])
        for prediction_N, label_N in zip(predictions_NK.T, labels_NK.T, strict=True)
    ]


def majority(train_labels: ArrayOrTensor, test_labels: ArrayOrTensor) -> list[float]:
    """Per attribute the accuracy on `test_labels` (M, K) of always guessing the commonest of `train_labels` (N, K).

    Of equally common values the lowest is guessed; -1 = unlabelled; NaN where either side has no label.
    """
    train_NK = as_labels("train_labels", train_labels, dimensions=2)
    test_MK = as_labels("test_labels", test_labels, dimensions=2)
    if train_NK.shape[1] != test_MK.shape[1]:
        raise ValueError(f"train_labels have {train_NK.shape[1]} attributes, test_labels {test_MK.shape[1]}")
    shares = []
    for train_N, test_M in zip(train_NK.T, test_MK.T, strict=True):
        train_N, test_M = train_N[train_N != -1], test_M[test_M != -1]
        shares.append(_share(test_M == np.bincount(train_N).argmax()) if len(train_N) else float("nan"))
    return shares


def as_labels(name: str, values: ArrayOrTensor, *, dimensions: int) -> Integers:
    """int64 labels of so many dimensions, -1 or more; ValueError otherwise."""
    array = as_numpy(values)
    if array.ndim != dimensions or len(array) == 0:
        raise ValueError(f"{name} have shape {array.shape}: expected {dimensions} dimension(s) and at least one image")
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} hold {array.dtype}: expected integers")
    if array.size and array.min() < -1:
        raise ValueError(f"{name} hold {array.min()}: expected 0 or more, or -1 for unlabelled")
    return array.astype(np.int64)


def _share(right: npt.NDArray[Any]) -> float:
    return float(right.mean()) if len(right) else float("nan")
