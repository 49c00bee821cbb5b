"""The words and cells that every table shares: means, footnotes, caption, title."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from a3m.report import names as n
from a3m.report import results as r
from a3m.report.rows import SATURATED_PARTS
from a3m.report.statistics import Interval, Range, mean_interval
from a3m.report.table import DASH, MINUS, Notes, Pair, Table

NAN = float("nan")
FORMULA = (
    "Attention can saturate with the formula as the paper writes it, m = max sigmoid(V^T a) and s = sigmoid(A^T v): nothing in it "
    "keeps the scores small, and where they grow all weights become 1. An A3M whose weights are all 1 is Baseline-2."
)


@dataclass
class Draft:
    """A table while its rows are added; `results` is the checked frame, of one study or of several, that they come from."""

    results: pd.DataFrame
    shown: list[dict[str, str]] = field(default_factory=list)
    numbers: list[dict[str, object]] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
    remarks: list[str] = field(default_factory=list)
    bold: set[tuple[int, str]] = field(default_factory=set)
    blocks: list[tuple[int, str]] = field(default_factory=list)  # (first row, heading)
    trials: dict[tuple[int, str], tuple[str, ...]] = field(default_factory=dict)
    names: dict[tuple[str, ...], str] = field(default_factory=dict)
    pairs: dict[tuple[int, str], Pair] = field(default_factory=dict)
    saturated: set[int] = field(default_factory=set)
    one_seed: bool = False
    unit: str = ""  # what of the test data was resampled: identities, classes, images; '' where nothing was

    @cached_property
    def source(self) -> str:
        return str(self.results["source"].iloc[0])

    @cached_property
    def ours(self) -> str:
        """The word that heads each of our columns."""
        return r.SOURCES[self.source]

    def add(
        self, cells: dict[str, str], values: dict[str, object], row: r.Row | None, columns: Mapping[str, str]
    ) -> int:
        """Adds a row: what is given, then seeds and mean +- interval of each metric, with its footnotes. Returns its place."""
        seeds = len(row.finished) if row else 0
        cells[f"{self.ours} seeds"] = str(seeds) if row else DASH
        values[f"{self.ours} seeds"] = seeds
        for metric, head in columns.items():
            measured = row.values(metric) if row else {}
            interval = mean_interval(list(measured.values())) if measured else None
            cells[f"{self.ours} {head}"] = plain(interval) if interval else DASH
            add_interval(values, f"{self.ours} {head}", interval)
        if row:
            for head in ("seeds", *columns.values()):
                self.source_of(len(self.shown), f"{self.ours} {head}", row)
        self.shown.append(cells)
        self.numbers.append(values)
        self.one_seed |= seeds == 1 and bool(columns)
        if row:
            self._mark(row)
        return len(self.shown) - 1

    def source_of(self, i: int, column: str, row: r.Row) -> None:
        """Says which trials the number in row i and this column comes from."""
        self.trials[i, column] = keys = row.all_keys
        if not row.is_reranked:  # re-ranked scores are of the same trials, and their row says so
            self.names[keys] = row.name

    def table(self, title: str) -> Table:
        """The finished table; the footnotes' texts go into the CSV too, as its last column."""
        ending = {"twins": " (ours: synthetic twins)", "raw subset": " (ours: part of the real data set)", "raw": ""}
        alone = ["A row with one seed has no interval: one value has no spread."] if self.one_seed else []
        alone += [FORMULA] if self.saturated else []
        return Table(
            title=title + ending[self.source],
            caption=caption(self.results),
            display=pd.DataFrame(self.shown),
            numbers=pd.DataFrame(self.numbers).assign(notes=[self.notes.of(i) for i in range(len(self.shown))]),
            notes=tuple(self.notes.texts),
            marks={i: self.notes.letters(i) for i in sorted(self.notes.rows)},
            remarks=(*self.remarks, *alone),
            bold=frozenset(self.bold),
            source=self.source,
            blocks=tuple(self.blocks),
            trials=self.trials,
            names=self.names,
            pairs=self.pairs,
            saturated=frozenset(self.saturated),
        )

    def block(self, title: str) -> None:
        """Begins a block of rows under a heading; one without rows is not shown."""
        if self.blocks and self.blocks[-1][0] == len(self.shown):
            self.blocks.pop()
        self.blocks.append((len(self.shown), title))

    def _mark(self, row: r.Row) -> None:
        """Footnotes that any row may need: trials that did not finish, saturated attention, other code or versions."""
        i = len(self.shown) - 1
        if len(row.unfinished):
            lost = f"{len(row.unfinished)} of {len(row.unfinished) + len(row.finished)} trials not counted"
            self.notes.mark(i, f"{lost}: {unfinished_text(row)}.")
        for part, symbol in SATURATED_PARTS.items():
            seeds = row.saturated(part)
            if not seeds:
                continue
            self.saturated.add(i)
            means, deviations = (row.values(f"test/attention/{part}_{what}") for what in ("mean", "std"))
            ones = [means[seed] for seed in seeds if means[seed] > r.SATURATED_MEAN]
            where = (
                f"nearly 1 everywhere (mean at least {min(ones):.4f}, of at most 1)"
                if ones
                else (
                    f"nearly the same everywhere (standard deviation {max(deviations[seed] for seed in seeds):.4f} or less)"
                )
            )
            self.notes.mark(
                i,
                f"Attention saturated: the {part} weights {symbol} are {where} in {len(seeds)} of {len(row.finished)} seeds; "
                "Baseline-2's are 1 by definition.",
            )
        finished = self.results[self.results["status"] == "finished"]
        for column, what in (("code", "code"), ("versions", "library versions")):
            if finished[column].nunique() > 1:
                usual = str(finished[column].mode().iloc[0])
                others = sorted(set(row.finished[column]) - {usual})
                if others:
                    self.notes.mark(i, f"Other {what} than most rows ({usual}): {'; '.join(others)}.")


def caption(results: pd.DataFrame) -> str:
    """What our columns are, and all that is needed to know which trials they come from."""
    dataset = dataset_name(results)
    meaning = {
        "twins": f"Columns headed 'twin' are measured on synthetic twins of {dataset}, drawn by this project; they are not "
        "comparable with published numbers, which are of the real data set.",
        "raw subset": f"Columns headed 'subset' are measured on a part of the real data set {dataset}, or on another split than "
        "the published one; they are not comparable with published numbers, which are of the whole.",
        "raw": f"Columns headed 'ours' are measured on {'' if dataset.startswith('your') else 'the real data set '}{dataset}.",
    }[str(results["source"].iloc[0])]
    finished = results[results["status"] == "finished"]
    known = finished if len(finished) else results

    def distinct(column: str) -> str:
        return "; ".join(sorted({str(value) for value in known[column]} - {""})) or "none"

    mixed = [what for column, what in (("code", "code"), ("versions", "versions")) if known[column].nunique() > 1]
    return (
        f"{meaning} Ours in percent, mean ± 95 % t interval over seeds. Trained on {distinct('train.on')}, "
        f"{_epochs(known)} epochs, last weights tested once; seeds {', '.join(map(str, sorted(set(known['seed']))))}; "
        f"data {distinct('data')}; code {distinct('code')}; versions: {distinct('versions')}."
        + (f" Mixed {' and '.join(mixed)}: see the footnotes." if mixed else "")
    )


def _epochs(results: pd.DataFrame) -> str:
    """'60', or '60 (the paper's recipe), 120 (modern recipe)', or of several studies each."""
    parts = ["study"] if results["study"].nunique() > 1 else []
    if n.RECIPE in results and results[n.RECIPE].nunique() > 1:
        parts.append(n.RECIPE)
    if results["train.epochs"].nunique() == 1 or not parts:
        return "; ".join(sorted(set(results["train.epochs"])))
    texts = []
    for key, trials in results.groupby(parts):
        said = [n.RECIPES.get(str(value), str(value)) for value in key]
        texts.append(f"{'; '.join(sorted(set(trials['train.epochs'])))} ({', '.join(said)})")
    return ", ".join(texts)


def unfinished_text(row: r.Row) -> str:
    """'seed 2 failed (loss is not a number), seed 3 missing', or '' when every trial has finished."""
    texts = []
    for seed, trial in row.unfinished.iterrows():
        reason = textwrap.shorten(str(trial["reason"]), 160, placeholder=" ...")
        texts.append(f"seed {seed} {trial['status']}" + (f" ({reason})" if reason else ""))
    return ", ".join(texts)


def dataset_name(results: pd.DataFrame) -> str:
    name = str(results["dataset"].iloc[0])
    return r.DATASETS.get(name, name)


def add_interval(values: dict[str, object], head: str, interval: Interval | None) -> None:
    """Mean and half-width in percent under `head`, NaN where there is none."""
    half_width = interval.half_width if interval else None
    values[head] = 100 * interval.mean if interval else NAN
    values[f"{head} half-width"] = NAN if half_width is None else 100 * half_width


def plain(interval: Interval) -> str:
    """'87.1 ± 3.4' percent; without an interval the mean alone."""
    return f"{100 * interval.mean:.1f}" + ("" if interval.half_width is None else f" ± {100 * interval.half_width:.1f}")


def span(found: Range) -> str:
    """'−0.8 to +3.1' points."""
    return f"{100 * found.low:+.1f} to {100 * found.high:+.1f}".replace("-", MINUS)


def signed(interval: Interval) -> str:
    """'+0.8 ± 3.1' points."""
    text = f"{100 * interval.mean:+.1f}".replace("-", MINUS)
    return text + ("" if interval.half_width is None else f" ± {100 * interval.half_width:.1f}")
