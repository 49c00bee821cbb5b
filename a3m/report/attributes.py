"""The tables of attributes: recognised and located by every method, and each attribute of Figure 8."""

import pandas as pd

from a3m.report import names as n
from a3m.report import results as r
from a3m.report.compare import Compared, pair
from a3m.report.describe import NAN, Draft, add_interval, dataset_name, plain, signed, span
from a3m.report.predictions import Predictions
from a3m.report.statistics import RESAMPLES, Interval, mean_interval, paired_difference
from a3m.report.studies import CLASSIFICATION, check_ablation, check_study
from a3m.report.table import DASH, Table

ACCURACY, MAJORITY, LABELLED = "test/attribute/", "test/attribute_majority/", "test/attribute_labelled/"
COLUMNS = {
    "test/attribute_mean": "attribute accuracy",
    "test/attribute_majority": "majority class",
    "test/localisation_mean": "localisation",
    "test/localisation_chance": "chance (area)",
    "test/localisation_prior": "fixed place",
}
MEAN = "unweighted mean"


def attributes(results: pd.DataFrame) -> Table:
    """Per method: accuracy of the attributes beside the majority class, localisation beside chance and a fixed place."""
    results = check_ablation(results)
    majority = [str(column) for column in results if str(column).startswith(MAJORITY)]
    draft = Draft(results.assign(**{"test/attribute_majority": results[majority].mean(axis=1) if majority else NAN}))
    for row in r.rows(draft.results):
        if row.method not in n.ATTRIBUTE_OUTPUTS:
            continue
        i = draft.add({"method": row.name}, {"method": row.name}, row, COLUMNS)
        if row.method == "a3m_unlabelled":
            draft.notes.mark(
                i, "Trained without attribute labels: its attribute outputs are not expected to mean anything."
            )
        if row.control == "shuffled":
            draft.notes.mark(i, "A control: trained with the attribute labels of other classes or identities.")
    draft.remarks += [
        "Attribute accuracy: unweighted mean over the attributes, labelled test images only; beside it, always answering the "
        "majority class of the training data. Methods without attribute outputs do not stand here.",
        "Localisation: share of test images and attributes whose highest raw score V^T a_k lies in the attribute's true region, "
        "which only twins know; beside it the region's share of the area, and one fixed place an attribute.",
    ]
    return draft.table(f"Attributes: recognised and located, {dataset_name(results)}")


def figure8(results: pd.DataFrame, predictions: Predictions | None = None) -> Table:
    """The numbers of Figure 8: accuracy of each attribute, Baseline-2 beside A3M and the majority class, and the mean over all.

    With predictions, beside each difference what resampling the test images leaves open.
    """
    draft = Draft(check_study(results, "cub200", CLASSIFICATION, {}))
    ours = draft.ours
    shown = [
        row
        for row in r.rows(draft.results)
        if row.method in ("baseline2", "a3m") and not row.recipe and not row.control
    ]
    names = [str(c).removeprefix(ACCURACY) for c in draft.results if str(c).startswith(ACCURACY)]
    baseline = next((row for row in shown if row.method == "baseline2"), None)
    draft.one_seed = any(len(row.finished) == 1 for row in shown)
    for name in [*sorted(names), MEAN]:
        chosen = sorted(names) if name == MEAN else [name]
        cells = {"attribute": name}
        numbers: dict[str, object] = {"attribute": name}
        majority = _mean_of(shown[0], MAJORITY, chosen) if shown else {}
        _put(cells, numbers, f"{ours} majority class", mean_interval([*majority.values()][:1]) if majority else None)
        for prefix, what in ((ACCURACY, ""), (LABELLED, ", labelled only")):
            if not any(str(column).startswith(prefix) for column in draft.results):
                continue
            for row in shown:
                values = _mean_of(row, prefix, chosen)
                interval = mean_interval(list(values.values())) if values else None
                _put(cells, numbers, f"{ours} {row.label}{what}", interval)
                draft.source_of(len(draft.shown), f"{ours} {row.label}{what}", row)
        for row in shown:
            if row.method == "a3m" and baseline:
                both = _mean_of(row, ACCURACY, chosen), _mean_of(baseline, ACCURACY, chosen)
                difference = paired_difference(*both)
                column = f"{ours} Δ {row.label}"
                cells[column] = signed(difference.interval) if difference else DASH
                add_interval(numbers, column, difference.interval if difference else None)
                sampling = None
                if predictions:
                    keys = (
                        row.keys(difference.seeds if difference else ()),
                        baseline.keys(difference.seeds if difference else ()),
                    )
                    sampling = predictions.attributes_difference(*keys, chosen)
                    cells[f"{column}, test images"] = span(sampling) if sampling else DASH
                    numbers[f"{column}, test images from"] = 100 * sampling.low if sampling else NAN
                    numbers[f"{column}, test images to"] = 100 * sampling.high if sampling else NAN
                if difference:
                    found = Compared(difference, sampling, ())
                    draft.pairs[len(draft.shown), column] = pair(row, baseline, name, found, both)
        draft.shown.append(cells)
        draft.numbers.append(numbers)
    draft.remarks += [
        "Accuracy of each attribute on the test images that are labelled in the trial's fold; where 'absent' is a class of the "
        "fold it counts as one, and columns headed 'labelled only' leave it out. Majority class: always answering the most "
        "frequent value of the training data. Δ is A3M minus Baseline-2 in points, paired by seed.",
        f"Columns headed 'test images': 95 % percentile interval of that difference in {RESAMPLES:,} paired resamples of the test "
        "images, the trained networks held fixed; it covers no training noise."
        if predictions
        else "Test images were not resampled: no predictions of these trials are stored beside the results.",
        "The paper's Figure 8 shows bars without numbers, A3M higher overall; no published column stands here.",
    ]
    draft.remarks += [
        f"{row.label}: {len(row.unfinished)} of {len(row.unfinished) + len(row.finished)} trials not counted."
        for row in shown
        if len(row.unfinished)
    ]
    return draft.table(f"Figure 8. Accuracy of each attribute, {dataset_name(draft.results)}")


def _mean_of(row: r.Row, prefix: str, names: list[str]) -> dict[int, float]:
    """Seed -> unweighted mean over the attributes, of the seeds that measured them all."""
    values = [row.values(prefix + name) for name in names]
    seeds = set.intersection(*(set(one) for one in values)) if values else set()
    return {seed: sum(one[seed] for one in values) / len(values) for seed in sorted(seeds)}


def _put(cells: dict[str, str], numbers: dict[str, object], head: str, interval: Interval | None) -> None:
    cells[head] = plain(interval) if interval else DASH
    add_interval(numbers, head, interval)
