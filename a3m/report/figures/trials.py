"""Which trials of a study the bars of Figures 5 and 8 are made of."""

from collections.abc import Sequence

import pandas as pd

from a3m.errors import DataError
from a3m.report import results as r


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
