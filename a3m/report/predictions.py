"""How every trial of a study did on every test image: results/<study>.predictions.npz, and what a bootstrap makes of it.

The test data are resampled by identity (re-identification), by class (retrieval) or by image (classification), the trained
networks held fixed. A row of a table is the mean over its trials in each resample.

Shape suffixes: R trials, N test images or queries, B resamples.
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from a3m.errors import DataError
from a3m.report.statistics import Range, Reals, bootstrap_means, mcnemar_p, middle

RERANKED = "reranked."
FRACTIONS = {  # metric -> the array that its mean over the test images is of
    "test/mAP": "average_precision",
    "test/mAP_trapezoid": "average_precision_trapezoid",
    "test/accuracy": "correct",
}
ATTRIBUTE = "test/attribute/"  # followed by its name; images without a label for it do not count
RANKS = {"test/rank": (1, 5, 10, 20), "test/recall": (1, 2, 4, 8)}
TOLERANCE = 1e-5  # float32 holds an average precision to seven digits


class Predictions:
    """The checked content of a file. Means in resamples are computed once a metric, for all trials together."""

    def __init__(
        self, unit: str, keys: Sequence[str], labels_N: npt.NDArray[np.integer], arrays: dict[str, npt.NDArray]
    ):
        self.unit = unit  # identities | classes | images
        self.place = {key: place for place, key in enumerate(keys)}
        self.groups_N = np.arange(len(labels_N)) if unit == "images" else labels_N
        self.arrays = arrays  # name -> (R, N)
        self._means: dict[tuple[str, bool], Reals | None] = {}

    @property
    def groups(self) -> int:
        """How many identities, classes or images are resampled."""
        return len(np.unique(self.groups_N))

    def values(self, metric: str, *, reranked: bool = False) -> Reals | None:
        """(R, N) what the metric is the mean of, NaN where it is not defined or was not measured; None for one that is no mean."""
        prefix = RERANKED if reranked else ""
        if metric in FRACTIONS:
            found = self.arrays.get(prefix + FRACTIONS[metric])
            return None if found is None else np.where(found < 0, np.nan, found)
        if metric.startswith(ATTRIBUTE):
            found = None if reranked else self.arrays.get(f"attribute.{metric.removeprefix(ATTRIBUTE)}")
            return None if found is None else np.where(found < 0, np.nan, found)
        stem = metric.rstrip("0123456789")
        first_RN = self.arrays.get(f"{prefix}first_match")
        if stem not in RANKS or first_RN is None or metric == stem:
            return None
        hit_RN = np.where(first_RN < 0, np.nan, (first_RN >= 1) & (first_RN <= int(metric.removeprefix(stem))))
        if stem == "test/rank":
            hit_RN[first_RN == 0] = np.nan  # a query without a match is skipped
        return hit_RN

    def means(self, metric: str, *, reranked: bool = False) -> Reals | None:
        """(B, R) in each resample; NaN for trials that have not measured it."""
        if (metric, reranked) not in self._means:
            self._means[metric, reranked] = self._resampled(metric, reranked)
        return self._means[metric, reranked]

    def _resampled(self, metric: str, reranked: bool) -> Reals | None:
        values_RN = self.values(metric, reranked=reranked)
        if values_RN is None:
            return None
        measured_R = np.isfinite(values_RN).any(axis=1)
        defined_N = np.isfinite(values_RN[measured_R]).all(axis=0)
        if not defined_N.any():
            return None
        means = bootstrap_means(values_RN[measured_R][:, defined_N].T, self.groups_N[defined_N])
        every = np.full((len(means), len(values_RN)), np.nan)
        every[:, measured_R] = means
        return every

    def _of(self, keys: Sequence[str], metric: str, reranked: bool) -> Reals | None:
        """(B,) the mean over these trials; None unless all of them are here."""
        means_BR = self.means(metric, reranked=reranked)
        if means_BR is None or not keys or not set(keys) <= set(self.place):
            return None
        mean_B = means_BR[:, [self.place[key] for key in keys]].mean(axis=1)
        return None if np.isnan(mean_B).any() else mean_B

    def attributes_difference(
        self, ours: Sequence[str], reference: Sequence[str], names: Sequence[str]
    ) -> Range | None:
        """Of the difference of two unweighted means over these attributes, all of them in the same resamples of all images.

        The labelled images of a resample are as many as it happens to hold. None where one of the trials is not here or has
        not said an attribute, and where a resample has no image that is labelled with one.
        """
        keys = [*ours, *reference]
        if not ours or not reference or not names or not set(keys) <= set(self.place):
            return None
        places = [self.place[key] for key in keys]
        weight_R = np.array([1 / len(ours)] * len(ours) + [-1 / len(reference)] * len(reference))
        columns = []
        for name in names:
            values_RN = self.values(ATTRIBUTE + name)
            if values_RN is None:
                return None
            chosen_RN = values_RN[places]
            labelled_N = np.isfinite(chosen_RN).all(axis=0)
            columns += [weight_R @ np.where(labelled_N, chosen_RN, 0), labelled_N.astype(float)]
        # The share of labelled images in a resample is drawn with it: sums over both, then their ratio.
        means_BC = bootstrap_means(np.stack(columns, axis=1), self.groups_N)
        differences_BK, shares_BK = means_BC[:, ::2], means_BC[:, 1::2]
        return middle((differences_BK / shares_BK).mean(axis=1)) if (shares_BK > 0).all() else None

    def interval(self, keys: Sequence[str], metric: str, *, reranked: bool = False) -> Range | None:
        """Of the mean over these trials; None for a metric that is no mean over images, and where predictions are not here."""
        mean_B = self._of(keys, metric, reranked)
        return None if mean_B is None else middle(mean_B)

    def difference(
        self, ours: Sequence[str], reference: Sequence[str], metric: str, *, reranked: bool = False
    ) -> Range | None:
        """Of the difference of two such means, both in the same resamples."""
        means = self._of(ours, metric, reranked), self._of(reference, metric, reranked)
        return None if means[0] is None or means[1] is None else middle(means[0] - means[1])

    def mcnemar(self, ours: Sequence[str], reference: Sequence[str]) -> list[float]:
        """p of each pair of trials, over the test images; empty unless this is classification and all trials are here."""
        if self.unit != "images" or "correct" not in self.arrays or not {*ours, *reference} <= set(self.place):
            return []
        correct_RN = self.arrays["correct"] == 1
        found = []
        for one, other in zip(ours, reference, strict=True):
            a_N, b_N = correct_RN[self.place[one]], correct_RN[self.place[other]]
            found.append(mcnemar_p(int((a_N & ~b_N).sum()), int((b_N & ~a_N).sum())))
        return found


def read(path: Path, results: pd.DataFrame) -> Predictions | None:
    """Reads the file beside checked results; None where there is none, or where it holds no trial.

    Raises:
        DataError: it is no such file, or a trial's predictions do not give the metrics that stand in the results.
    """
    if not path.is_file():
        return None
    again = f"python sweeps/{path.name.partition('.')[0]}.py writes it anew"
    try:
        with np.load(path, allow_pickle=False) as file:
            named = {name: file[name] for name in file.files}
        about, keys, labels = json.loads(str(named.pop("about"))), named.pop("keys"), named.pop("labels")
        if not len(keys):
            return None
        unit = str(about["unit"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as predictions ({error}); {again}") from None
    if any(array.shape != (len(keys), len(labels)) for array in named.values()):
        raise DataError(f"{path}: its arrays are not of {len(keys)} trials and {len(labels)} images; {again}")
    found = Predictions(unit, [str(key) for key in keys], labels, named)
    _check(found, results, path, again)
    return found


def _check(found: Predictions, results: pd.DataFrame, path: Path, again: str) -> None:
    finished = results[results["status"] == "finished"].set_index("key")
    keys = [key for key in found.place if key in finished.index]
    metrics = [*FRACTIONS, *(f"{stem}{k}" for stem, ks in RANKS.items() for k in ks)]
    metrics += [str(column) for column in finished if str(column).startswith(ATTRIBUTE)]
    for metric in metrics:
        values_RN = found.values(metric) if metric in finished and keys else None
        if values_RN is None:
            continue
        chosen = values_RN[[found.place[key] for key in keys]]
        defined = np.isfinite(chosen)
        means = np.where(defined, chosen, 0).sum(axis=1) / np.maximum(defined.sum(axis=1), 1)
        # NaN: not measured, not compared; no answer at all: the run has its predictions no longer.
        off = defined.any(axis=1) & (np.abs(means - finished.loc[keys, metric].to_numpy(float)) > TOLERANCE)
        if off.any():
            key = keys[int(np.argmax(off))]
            raise DataError(f"{path}: trial {key} has another {metric} there than in the results; {again}")
