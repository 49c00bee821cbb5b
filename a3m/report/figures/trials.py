"""Which trials of a study the bars of Figures 5 and 8 are made of."""

from collections.abc import Mapping, Sequence

import pandas as pd

from a3m.errors import DataError
from a3m.report import results as r
from a3m.report.describe import signed
from a3m.report.statistics import PAIRS_TO_RANK, paired_difference


def paper_trials(results: pd.DataFrame, methods: Sequence[str], metrics: list[str]) -> tuple[pd.DataFrame, list[r.Row]]:
    """The trials of these methods by the paper's recipe, without controls and sensitivity rows; as a checked frame and as rows.

    Raises:
        DataError: a method has no such trial, or a finished trial lacks a metric.
    """
    frame = r.check(results)
    study = str(frame["study"].iloc[0])
    rows = [
        row
        for row in r.rows(frame)
        if row.method in methods and not row.recipe and not row.control and row.main
    ]  # fmt: skip
    absent = [method for method in methods if method not in {row.method for row in rows}]
    if absent:
        raise DataError(
            f"results/{study}.csv: no trial of {', '.join(absent)} by the paper's recipe: "
            f"run python sweeps/{study}.py with all methods"
        )
    keys = {key for row in rows for trials in (row.finished, row.unfinished) for key in trials["key"]}
    frame = frame[frame["key"].isin(keys)].reset_index(drop=True)
    r.need_metrics(frame, metrics, f"results/{study}.csv")
    return frame, rows


def ranking(
    head: str, reference: str, ours: Mapping[str, Mapping[int, float]], values: Mapping[int, float]
) -> list[str]:
    """The line under a figure that says what its bars can show: paired differences to a reference and the p they could reach.

    ours: label of a row -> seed -> value; values: of the reference. No line where no seed is common to both.
    """
    found = {label: paired_difference(measured, values) for label, measured in ours.items()}
    known = {label: difference for label, difference in found.items() if difference}
    if not known:
        return []
    pairs = min(len(difference.seeds) for difference in known.values())
    each = ", ".join(f"{label} {signed(difference.interval)}" for label, difference in known.items())
    least = min(difference.least_p for difference in known.values())
    verdict = (
        "this cannot rank them" if pairs < PAIRS_TO_RANK else "a difference is shown where its interval leaves out 0"
    )
    return [
        f"{head} minus {reference}'s, points over {pairs} pair{'s' * (pairs > 1)} of seeds: {each}. Least attainable p "
        f"{least:.3g}: {verdict}."
    ]
