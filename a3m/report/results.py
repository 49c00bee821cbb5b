"""What a study measured, as tables, figures and the page read it: results/<study>.csv, one row a trial.

`check` is where a data frame is refused; everything after it may rely on what it says. `rows` groups the trials into the
rows of a table: the same method with the same settings, over its seeds.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from a3m.errors import DataError

STUDIES = {
    "ablation": "Table 1 and Figure 5",
    "alpha_beta": "Figure 7",
}
METHODS = {  # in the paper's order
    "baseline1": "Baseline-1",
    "baseline2": "Baseline-2",
    "att1": "Att-1",
    "att2": "Att-2",
    "a3m_unlabelled": "A3M w/o attr-label",
    "a3m": "A3M",
}
LEARNED_REGION = ("att1", "a3m_unlabelled", "a3m")
LEARNED_ATTRIBUTE = ("att2", "a3m_unlabelled", "a3m")
LEARNED_ATTENTION = ("att1", "att2", "a3m_unlabelled", "a3m")
DATASETS = {"market1501": "Market-1501", "cub200": "CUB-200-2011"}
SOURCES = {  # the word before each of our columns
    "twins": "twin",
    "raw": "ours",
    "raw subset": "subset",
}
STATUSES = ("finished", "failed", "missing")
IDENTITY = ("key", "study", "dataset", "source", "method", "seed")
PROVENANCE = ("train.on", "train.epochs", "data", "code", "versions", "status", "reason")
NOT_SETTINGS = frozenset(IDENTITY + PROVENANCE)
UNIFORM = {  # one table compares like with like
    "dataset": "run each data set as its own study",
    "source": "twins and real data never share a table: run the sweep again on one source",
    "data": "the trials saw different data: run the sweep again, it trains what is missing on the present data",
    "train.on": "give all trials the same train.on and run the sweep again",
    "train.epochs": "give all trials the same train.epochs and run the sweep again",
}


@dataclass(frozen=True)
class Row:
    """All trials of one method with one choice of settings."""

    method: str
    label: str
    settings: dict[str, str]  # setting path -> value, without those the method does not read
    finished: pd.DataFrame  # indexed by seed
    unfinished: pd.DataFrame  # indexed by seed

    def values(self, metric: str) -> dict[int, float]:
        """Seed -> fraction, of the finished trials that measured it."""
        if metric not in self.finished:
            return {}
        return {int(str(seed)): float(value) for seed, value in self.finished[metric].dropna().items()}


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

    Returned: sorted by method (paper's order), settings and seed; `seed` int, metrics float, every other cell text with
    '' for empty; a trial that stands there twice with all cells equal stands there once.

    Raises:
        DataError: a column is missing, no rows, an unknown method or status, a value that is no number or no fraction,
            mixed data sets, sources, data digests or training, or one trial twice.
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
    seeds = _numbers(frame["seed"], name)
    if seeds.isna().any() or (seeds % 1 != 0).any():
        raise DataError(f"{name}: column seed holds a value that is no whole number")
    frame["seed"] = seeds.astype(int)
    for column, known in (("method", tuple(METHODS)), ("source", tuple(SOURCES)), ("status", STATUSES)):
        unknown = sorted(set(frame[column]) - set(known))
        if unknown:
            raise DataError(f"{name}: unknown {column} {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
    for column, remedy in UNIFORM.items():
        values = sorted(set(frame[column]) - {""})
        if len(values) > 1:
            raise DataError(f"{name}: mixed {column}: {', '.join(values)}; {remedy}")
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
    frame["_order"] = frame["method"].map(list(METHODS).index)
    return frame.sort_values(["_order", *trial[1:]], ignore_index=True, kind="stable").drop(columns="_order")


def need_metrics(results: pd.DataFrame, metrics: list[str], name: str) -> None:
    """Refuses a checked frame in which a finished trial lacks one of the metrics, or has it in percent."""
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


def settings_of(results: pd.DataFrame) -> list[str]:
    """The columns that are setting paths: neither identity, nor provenance, nor a metric (metrics have a slash)."""
    return [str(column) for column in results if column not in NOT_SETTINGS and "/" not in str(column)]


def rows(results: pd.DataFrame) -> list[Row]:
    """The rows of a checked frame in the paper's order of methods; within one, as written before normalised scores."""
    settings = settings_of(results)
    grouped = []
    for values, trials in results.groupby(["method", *settings], sort=False, dropna=False):
        method, *chosen = (str(value) for value in values)
        read = {path: value for path, value in zip(settings, chosen, strict=True) if value}
        indexed = trials.set_index("seed").sort_index()
        done = indexed["status"] == "finished"
        grouped.append(Row(method, _label(method, read), read, indexed[done], indexed[~done]))
    return sorted(grouped, key=_order)


def need_methods(grouped: list[Row], methods: list[str], name: str) -> None:
    """Refuses a study without any trial of a method. A trial that failed or is missing is a row, and is said, not refused."""
    absent = [method for method in methods if method not in {row.method for row in grouped}]
    if absent:
        raise DataError(f"{name}: no trial of {', '.join(absent)}: run python sweeps/ablation.py with all methods")


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


def _label(method: str, settings: dict[str, str]) -> str:
    label = METHODS[method]
    rest = dict(settings)
    form = rest.pop("head.form", "paper")
    feature = rest.pop("baseline1.feature", "category")
    normalised = rest.pop("head.normalise_scores", "")
    if form != "paper":
        label += f", {form} form"
    if feature != "category":
        label += f", {feature} feature"
    if method in LEARNED_ATTENTION and normalised and form == "paper":
        label += " (normalised scores)" if normalised == "true" else " (as written)"
    if rest:
        label += f" [{', '.join(f'{path}={value}' for path, value in sorted(rest.items()))}]"
    return label


def _order(row: Row) -> tuple[int, int, bool, bool, str]:
    known = ("baseline1.feature", "head.normalise_scores")
    others = sum(path not in known for path in row.settings)
    pooled = row.settings.get("baseline1.feature") == "pooled"
    normalised = row.settings.get("head.normalise_scores") == "true"
    return (list(METHODS).index(row.method), others, pooled, normalised, row.label)
