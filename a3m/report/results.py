"""What a study measured, as tables, figures and the page read it: results/<study>.csv, one row a trial.

`check` is where a data frame is refused; everything after it may rely on what it says. `rows` (a3m/report/rows.py) groups the
trials into the rows of a table.
"""

from pathlib import Path

import pandas as pd

from a3m.errors import DataError
from a3m.report.names import ATTRIBUTE_LABELS as ATTRIBUTE_LABELS
from a3m.report.names import ATTRIBUTE_OUTPUTS as ATTRIBUTE_OUTPUTS
from a3m.report.names import DATASETS as DATASETS
from a3m.report.names import HEIGHT, IDENTITY, METHODS, PROVENANCE, RECIPE, RECIPES, SOURCES, STATUSES
from a3m.report.names import LEARNED_ATTENTION as LEARNED_ATTENTION
from a3m.report.names import LEARNED_ATTRIBUTE as LEARNED_ATTRIBUTE
from a3m.report.names import LEARNED_REGION as LEARNED_REGION
from a3m.report.names import STUDIES as STUDIES
from a3m.report.rows import SATURATED_MEAN as SATURATED_MEAN
from a3m.report.rows import Row as Row
from a3m.report.rows import need_methods as need_methods
from a3m.report.rows import rows as rows
from a3m.report.rows import settings_of

WHOLE = r"(-?\d+)\.0"  # as pandas writes a whole number of a column that has empty cells too
UNIFORM = {  # one table compares like with like
    "dataset": "run each data set as its own study",
    "source": "twins and real data never share a table: run the sweep again on one source",
    "data": "the trials saw different data: run the sweep again, it trains what is missing on the present data",
    "train.on": "give all trials the same train.on and run the sweep again",
}
UNIFORM_IN_A_RECIPE = {"train.epochs": "give all trials of a recipe the same train.epochs and run the sweep again"}


def read_study(path: Path) -> pd.DataFrame:
    """Reads results/<study>.csv and checks it. Keys and digests stay text: one made of digits alone is no number."""
    return check(read_text(path), path.name)


def read_text(path: Path) -> pd.DataFrame:
    """A CSV file with every cell as text and empty cells as ''."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"{path}: cannot be read as CSV ({error}); run the sweep again, it writes the file anew"
        ) from None


def check(results: pd.DataFrame, name: str = "results") -> pd.DataFrame:
    """Refuses a frame that no table should be made of; returns it in one form.

    Returned: sorted by method (order of print), settings and seed; `seed` int, metrics float, every other cell text with
    '' for empty; a trial that stands there twice with all cells equal stands there once.

    Raises:
        DataError: a column is missing, no rows, an unknown method or status, a value that is no number or no fraction,
            mixed data sets, sources, data digests or training (epochs may differ between
            recipes), or one trial twice.
    """
    absent = [column for column in IDENTITY + PROVENANCE if column not in results]
    if absent:
        raise DataError(f"{name}: no column {', '.join(absent)}; is it a results/<study>.csv that a sweep wrote?")
    if results.empty:
        raise DataError(f"{name}: no rows; run the sweep again")
    frame = results.reset_index(drop=True).copy()
    for column in frame:
        if "/" in str(column):
            frame[column] = _numbers(frame[column], name)
        elif column != "seed":
            frame[column] = pd.Series([cell_text(cell) for cell in frame[column]], index=frame.index, dtype=object)
    for column in [*settings_of(frame), *({HEIGHT} & set(frame))]:
        frame[column] = frame[column].str.replace(f"^{WHOLE}$", r"\1", regex=True)
    if RECIPE in frame:
        frame[RECIPE] = frame[RECIPE].replace("paper", "")
    seeds = _numbers(frame["seed"], name)
    if seeds.isna().any() or (seeds % 1 != 0).any():
        raise DataError(f"{name}: column seed holds a value that is no whole number")
    frame["seed"] = seeds.astype(int)
    known_values = {"method": tuple(METHODS), "source": tuple(SOURCES), "status": STATUSES, RECIPE: tuple(RECIPES)}
    for column, known in known_values.items():
        if column not in frame:
            continue
        unknown = sorted(set(frame[column]) - set(known))
        if unknown:
            raise DataError(f"{name}: unknown {column} {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
    recipes = [trials for _, trials in frame.groupby(RECIPE)] if RECIPE in frame else [frame]
    for parts, uniform in (([frame], UNIFORM), (recipes, UNIFORM_IN_A_RECIPE)):
        for column, remedy in uniform.items():
            mixed = [values for part in parts if len(values := sorted(set(part[column]) - {""})) > 1]
            if mixed:
                raise DataError(f"{name}: mixed {column}: {', '.join(mixed[0])}; {remedy}")
    frame = frame.drop_duplicates(ignore_index=True)
    trial = ["method", *settings_of(frame), "seed"]
    for columns in (trial, ["key"]):
        twice = frame[frame.duplicated(columns, keep=False)]
        if len(twice):
            keys = ", ".join(sorted(set(twice["key"])))
            one = twice.iloc[0]
            raise DataError(
                f"{name}: {one['method']} with seed {one['seed']} and the same settings stands there more than once "
                f"(keys {keys}): run the sweep again, it writes each trial once"
            )
    frame = frame.copy()  # in one piece again: a frame of many columns grew column by column
    frame["_order"] = frame["method"].map(list(METHODS).index)
    return frame.sort_values(["_order", *trial[1:]], ignore_index=True, kind="stable").drop(columns="_order")


def need_metrics(results: pd.DataFrame, metrics: list[str], name: str) -> None:
    """Refuses a checked frame in which a finished trial lacks one of the metrics, or has it in percent.

    A metric that only some methods measure does not belong here.
    """
    finished = results[results["status"] == "finished"]
    for metric in metrics:
        lacking = finished if metric not in finished else finished[finished[metric].isna()]
        if len(lacking):
            one = lacking.iloc[0]
            remedy = ": train.on=train tests nothing, set train.on=train+val" if one["train.on"] == "train" else ""
            trial = f"trial {one['key']} ({one['method']}, seed {one['seed']})"
            raise DataError(f"{name}: {trial} is finished without {metric}{remedy}")
        if len(finished) and not finished[metric].between(0, 1).all():
            raise DataError(f"{name}: {metric} holds values outside [0, 1]; results are fractions, never percent")


def cell_text(value: object) -> str:
    """One spelling for each value: '' for nothing, true | false, 0.5 and 1 for numbers; other text as it is."""
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return ""
    text = str(value)
    if text.lower() in ("true", "false"):
        return text.lower()
    return f"{value:.12g}" if isinstance(value, float) else text


def _numbers(column: pd.Series, name: str) -> pd.Series:
    """float64, NaN where empty."""
    try:
        return pd.to_numeric(column.replace("", None), errors="raise").astype(float)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name}: column {column.name} holds a value that is no number ({error})") from None
