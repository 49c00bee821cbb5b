"""What a row costs: parameters, FLOPs, and how fast it trained. For the page and report.md only.

How fast a trial trains differs from run to run, so it never stands in reports/tables, whose bytes hang on results alone.
"""

import pandas as pd

from a3m.report import names as n
from a3m.report.describe import DASH, NAN, dataset_name
from a3m.report.rows import rows
from a3m.report.table import Table

SPEED, SECONDS = "images_per_second", "seconds"


def cost_table(results: pd.DataFrame, runs: pd.DataFrame | None) -> Table | None:
    """One line a row of the study; None where neither sizes nor speed were recorded.

    `results` is a checked frame, `runs` results/<study>.runs.csv as text.
    """
    speed, seconds = (_by_key(runs, column) for column in (SPEED, SECONDS))
    sized = "model/parameters" in results or "model/flops" in results
    if not sized and speed.empty:
        return None
    ours = n.SOURCES[str(results["source"].iloc[0])]
    shown: list[dict[str, str]] = []
    numbers: list[dict[str, object]] = []
    trials: dict[tuple[int, str], tuple[str, ...]] = {}
    names: dict[tuple[str, ...], str] = {}
    for row in rows(results):
        keys = list(row.finished["key"])
        measured = {
            "parameters (M)": _first(list(row.values("model/parameters").values())) / 1e6,
            "FLOPs (M)": _first(list(row.values("model/flops").values())) / 1e6,
            "images/s": speed.reindex(keys).mean(),
            "seconds a trial": seconds.reindex(keys).mean(),
        }
        texts = {
            "parameters (M)": "{:,.2f}",
            "FLOPs (M)": "{:,.1f}",
            "images/s": "{:,.0f}",
            "seconds a trial": "{:,.0f}",
        }
        cells = {f"{ours} {head}": texts[head].format(v) if v == v else DASH for head, v in measured.items()}
        names[row.all_keys] = row.name
        trials |= {(len(shown), column): row.all_keys for column in cells}
        shown.append({"method": row.name, **cells})
        numbers.append({"method": row.name, **{f"{ours} {head}": value for head, value in measured.items()}})
    return Table(
        title="Cost",
        caption=f"What each row on {dataset_name(results)} costs: parameters and FLOPs (one image forward) in millions; images "
        "trained a second and seconds of training, means over the finished trials, as each run logged them on its machine, with "
        "whatever ran beside it. The last two differ from run to run.",
        display=pd.DataFrame(shown),
        numbers=pd.DataFrame(numbers),
        source=str(results["source"].iloc[0]),
        trials=trials,
        names=names,
    )


def _by_key(runs: pd.DataFrame | None, column: str) -> "pd.Series[float]":
    """Key -> number, of the runs that have one."""
    if runs is None or column not in runs or "key" not in runs:
        return pd.Series(dtype=float)
    values = pd.to_numeric(runs[column], errors="coerce")
    return values.groupby(runs["key"]).mean().dropna()


def _first(values: list[float]) -> float:
    return values[0] if values else NAN
