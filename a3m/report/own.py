"""The table of any study, also one that the report does not know by name: what `a3m table` writes."""

import re
from pathlib import Path

import pandas as pd

from a3m.errors import DataError, SettingsError
from a3m.report import methods, stage
from a3m.report import results as r
from a3m.report.describe import dataset_name
from a3m.report.layout import Layout
from a3m.report.predictions import Predictions
from a3m.report.studies import measured_task
from a3m.report.table import Table

REFERENCES = ("baseline2", "baseline1")


def own_table(results: pd.DataFrame, predictions: Predictions | None = None) -> Table:
    """The rows of a study with mean and interval of its task's metrics, compared with Baseline-2, else Baseline-1, else its first
    method. Raises DataError on a frame that no table should be made of.
    """
    checked = r.check(results)
    study = str(checked["study"].iloc[0])
    metrics, compared = measured_task(checked)
    there = list(dict.fromkeys(checked["method"]))
    layout = Layout(
        title=f"Study {study}, {dataset_name(checked)}",
        studies={study: ""},
        dataset=str(checked["dataset"].iloc[0]),
        metrics=metrics,
        compared=compared,
        reference=next((method for method in REFERENCES if method in there), there[0]),
    )
    known = {} if predictions is None else {study: predictions}
    return methods.method_table(layout, methods.check(layout, {study: checked}, known))


def write(root: Path, study: str) -> tuple[Table, list[Path]]:
    """Make the table of results/<study>.csv and write it to reports/own/<study>.{csv,md,tex} -> the table and its files.

    Raises SettingsError for what is no study's name, DataError where there are no results.
    """
    if not re.fullmatch(r"\w+", study):
        raise SettingsError(f"a3m table {study}: expected the name of a study, such as ablation")
    path = root / "results" / f"{study}.csv"
    if not path.is_file():
        made = sorted(found.stem for found in path.parent.glob("*.csv") if "." not in found.stem)
        raise DataError(
            f"{path}: not there; `python sweeps/{study}.py` makes it. There are results of: {', '.join(made) or 'none'}"
        )
    results = r.read_study(path)
    table = own_table(results, stage.read_predictions(root, {study: results}).get(study))
    folder = root / "reports" / "own"
    folder.mkdir(parents=True, exist_ok=True)
    return table, table.write(folder, study)
