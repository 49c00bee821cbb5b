"""A table of methods, described: which studies, which published numbers, which metrics, and who stands beside whom.

The descriptions of the paper's tables are in a3m/report/layouts.py; a3m/report/methods.py makes tables of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

import pandas as pd

from a3m.errors import DataError
from a3m.report import names as n
from a3m.report.rows import Row


@dataclass(frozen=True)
class Place:
    """Which of our rows stands beside a published one."""

    published: str  # the method's name there
    methods: tuple[str, ...]  # ours, the first that was run
    published_backbone: str = ""  # where one name stands there twice
    backbone: str = ""  # our row has this one and no other
    reranked: bool = False
    note: str = ""

    def takes(self, row: Row) -> bool:
        right_backbone = row.settings.get(n.BACKBONE) == self.backbone if self.backbone else row.main
        return row.method in self.methods and right_backbone and row.is_reranked == self.reranked and not row.control


@dataclass(frozen=True)
class Layout:
    """The description of one table of methods."""

    title: str
    studies: Mapping[str, str]  # study -> what the headings of its blocks add
    dataset: str  # that the published numbers are of; a study on another one stands without them
    metrics: Mapping[str, str]  # metric -> head of its column
    compared: tuple[str, ...]  # the metrics with differences
    reference: str  # the method that others are compared with
    subject: tuple[str, ...] = ("a3m",)  # the method that the sentence under the table is about; the first that was run
    required: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # method -> methods that will do
    published: str = ""  # file in published/, without its ending
    columns: Mapping[str, str] = field(default_factory=dict)  # column of that file -> head; shares in percent
    facts: Mapping[str, str] = field(default_factory=dict)  # column of that file -> head; text
    places: tuple[Place, ...] = ()
    published_notes: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (method, source) -> footnote
    method_notes: Mapping[str, str] = field(default_factory=dict)  # our method -> footnote
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """One row of a table: published, ours, or both."""

    cited: pd.Series | None
    place: Place | None
    row: Row | None

    @property
    def is_comparator(self) -> bool:
        """Whether the row is named and cited as another paper's method."""
        return self.cited is not None and self.cited["source"] != "A3M paper"

    @property
    def name(self) -> str:
        """The published name of another paper's method, and where ours has another name; else the label of our row."""
        if self.cited is None:
            return self.row.label if self.row else ""
        published = str(self.cited["method"])
        own = self.row is not None and not self.is_comparator and n.METHODS[self.row.method] == published
        return self.row.label if self.row is not None and own else published

    @property
    def reranked_comparator(self) -> bool:
        return self.is_comparator and self.row is not None and self.row.is_reranked


def published(name: str) -> pd.DataFrame:
    """A table of the paper (`table1_market1501` ...) as text, '' where it gives no number. Shares in percent."""
    with (resources.files("a3m.report") / "published" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def lines(layout: Layout, cited: pd.DataFrame | None, grouped: list[Row]) -> list[Line]:
    """Every published row once, in its order, ours beside it; our other rows between, in the order of methods.

    A published number stands once, beside the first of our rows that has its place: as written before normalised scores.
    Re-ranked Baseline-1 has no row of its own: it stands only beside the published re-ranking.
    """
    placed: list[Line] = []
    taken: list[Row] = []
    for _, numbers in cited.iterrows() if cited is not None else ():
        place = place_of(layout, numbers)
        found = next((row for row in grouped if place and place.takes(row) and all(row is not t for t in taken)), None)
        taken += [found] if found else []
        placed.append(Line(numbers, place, found))
    order = list(n.METHODS).index
    for row in grouped:
        if any(row is other for other in taken) or (row.is_reranked and row.method == "baseline1"):
            continue
        ours = [
            (i, order(line.row.method)) for i, line in enumerate(placed) if line.row and not line.reranked_comparator
        ]
        before = [i for i, rank in ours if rank <= order(row.method)]
        after = [i for i, rank in ours if rank > order(row.method)]
        at = before[-1] + 1 if before else (after[0] if after else len(placed))
        placed.insert(at, Line(None, None, row))
    return placed


def check_published(layout: Layout, cited: pd.DataFrame) -> None:
    """Refuses a published table in which a place of ours is missing or stands twice."""
    for place in layout.places:
        standing = [numbers for _, numbers in cited.iterrows() if place_of(layout, numbers) is place]
        if len(standing) != 1:
            raise DataError(
                f"published/{layout.published}.csv: {place.published} must stand there once, not {len(standing)} times"
            )


def place_of(layout: Layout, numbers: pd.Series) -> Place | None:
    return next(
        (
            place
            for place in layout.places
            if place.published == numbers["method"] and place.published_backbone in ("", numbers.get("backbone", ""))
        ),
        None,
    )
