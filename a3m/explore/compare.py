"""`a3m compare RUN RUN`: which settings differ, how the metrics differ and how sure that is, which queries only one gets right.

All intervals are bootstraps over the test data, by identity (re-identification), class (retrieval) or image (classification),
with the two trained networks held fixed: what another seed would give is not in them. Differences: the first run less the second.

Writes comparison.json, settings.csv, metrics.csv, queries.csv, queries.png and comparison.txt, which is what the terminal shows.

Shape suffixes: N test images or queries.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from a3m.errors import DataError
from a3m.explore import kept as keeping
from a3m.explore.kept import Kept
from a3m.report.statistics import RESAMPLES, bootstrap_means, mcnemar_p, middle

if TYPE_CHECKING:
    from rich.console import Console

    from a3m.data.pack import Pack

WANTED = ("predictions.parquet",)
UNITS = {"re-identification": "identities", "retrieval": "classes", "classification": "images"}
RIGHT = {
    "re-identification": "rank1",
    "retrieval": "recall1",
    "classification": "accuracy",
}  # what right and wrong mean
LISTED, PICTURED = 10, 8
DASH = "\u2013"
ATTRIBUTE = "attribute/"  # as the runs call these metrics, after test/
VERSIONS = "version."


@dataclass(frozen=True)
class Measured:
    """One metric of both runs over the same test images, in percent."""

    metric: str
    first: float
    first_interval: tuple[float, float]
    second: float
    second_interval: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    images: int

    @property
    def excludes_zero(self) -> bool:
        """Whether test sampling alone does not explain the difference."""
        return not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Comparison:
    """All that is known of two runs beside each other."""

    runs: tuple[Kept, Kept]
    task: str
    groups: int  # how many identities, classes or images are resampled
    settings: pd.DataFrame  # setting, first, second
    metrics: list[Measured]
    queries: pd.DataFrame  # of the images that one gets right and the other wrong
    both: int
    neither: int
    p: float  # McNemar's
    notes: list[str]


def compare(references: tuple[str, str], root: Path, overrides: Sequence[str] = ()) -> Comparison:
    """Compare two finished runs on one data set. Raises UserError when a run cannot be had or they share no test image."""
    first, second = (keeping.keep(reference, root, WANTED, overrides) for reference in references)
    if first.key == second.key:
        raise DataError(f"both are one run: {first.name}, key {first.key}")
    if first.dataset != second.dataset:
        raise DataError(f"{first.name} ran on {first.dataset}, {second.name} on {second.dataset}: nothing to compare")
    frames = [pd.read_parquet(one.files / "predictions.parquet") for one in (first, second)]
    if list(frames[0]["id"]) != list(frames[1]["id"]):
        common = frames[0]["id"][frames[0]["id"].isin(frames[1]["id"])]
        if common.empty:
            raise DataError(f"{first.name} and {second.name} were tested on other images: nothing to compare")
        frames = [frame.set_index("id").loc[common].reset_index() for frame in frames]
    task = task_of(frames[0])
    groups_N = np.arange(len(frames[0])) if task == "classification" else frames[0]["label"].to_numpy(np.int64)
    right = [values_of(frame, task)[RIGHT[task]] for frame in frames]
    asked_N = np.isfinite(right[0]) & np.isfinite(right[1])
    a_N, b_N = right[0][asked_N] == 1, right[1][asked_N] == 1
    return Comparison(
        (first, second), task, len(np.unique(groups_N)), differing(first, second),
        measure(frames[0], frames[1], task, groups_N), only_one(frames[0], frames[1], right[0], right[1], task),
        int((a_N & b_N).sum()), int((~a_N & ~b_N).sum()), mcnemar_p(int((a_N & ~b_N).sum()), int((b_N & ~a_N).sum())),
        notes(first, second, frames, task),
    )  # fmt: skip


def task_of(frame: pd.DataFrame) -> str:
    """The task by the columns that its protocol leaves."""
    if "average_precision" in frame:
        return "re-identification"
    return "retrieval" if "first_match" in frame else "classification"


def values_of(frame: pd.DataFrame, task: str) -> dict[str, npt.NDArray[np.float64]]:
    """Metric -> (N,) what it is the mean of; NaN where an image does not count (a query without a match, no label)."""
    values: dict[str, npt.NDArray[np.float64]] = {}
    if task == "classification":
        values["accuracy"] = np.asarray(frame["prediction"] == frame["label"], np.float64)
    else:
        first_N = frame["first_match"].to_numpy(np.int64)
        name, ranks = ("rank", (1, 5, 10, 20)) if task == "re-identification" else ("recall", (1, 2, 4, 8))
        for k in ranks:
            hit_N = ((first_N >= 1) & (first_N <= k)).astype(float)
            skipped_N = (first_N == 0) & (task == "re-identification")
            values[f"{name}{k}"] = np.where(skipped_N, np.nan, hit_N)
        if task == "re-identification":
            values["mAP"] = frame["average_precision"].to_numpy(float)
    for column in frame.columns:
        if column.startswith("predicted."):
            attribute = column.removeprefix("predicted.")
            truth_N = frame[f"attribute.{attribute}"].to_numpy(np.int64)
            hit_N = (frame[column].to_numpy(np.int64) == truth_N).astype(float)
            values[ATTRIBUTE + attribute] = np.where(truth_N >= 0, hit_N, np.nan)
    return values


def measure(first: pd.DataFrame, second: pd.DataFrame, task: str, groups_N: npt.NDArray[np.integer]) -> list[Measured]:
    """Every metric that both have, with its bootstrap intervals and that of the paired difference."""
    ours, theirs = values_of(first, task), values_of(second, task)
    found = []
    for metric in (name for name in ours if name in theirs):
        pair_N2 = np.stack([ours[metric], theirs[metric]], axis=1)
        defined_N = np.isfinite(pair_N2).all(axis=1)
        if not defined_N.any():
            continue
        pair_N2 = 100 * pair_N2[defined_N]
        means_B2 = bootstrap_means(pair_N2, groups_N[defined_N])
        ranges = [middle(means_B) for means_B in (means_B2[:, 0], means_B2[:, 1], means_B2[:, 0] - means_B2[:, 1])]
        a, b, d = ((one.low, one.high) for one in ranges)
        mean = pair_N2.mean(axis=0)
        found.append(Measured(metric, mean[0], a, mean[1], b, mean[0] - mean[1], d, int(defined_N.sum())))
    return found


def differing(first: Kept, second: Kept) -> pd.DataFrame:
    """Settings, data, code and library versions in which they differ; a dash where one does not read the setting."""
    sides = []
    for one in (first, second):
        described = one.described
        versions = {name: value for name, value in one.tags.items() if name.startswith(VERSIONS)}
        sides.append(
            _flat(described["settings"])
            | {"data version": described["data"][:12], "code": described["code"]}
            | versions
        )
    names = [*sides[0], *(name for name in sides[1] if name not in sides[0])]
    rows = [(name, _shown(sides[0].get(name)), _shown(sides[1].get(name))) for name in names]
    return pd.DataFrame([row for row in rows if row[1] != row[2]], columns=["setting", "first", "second"])


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _shown(value: Any) -> str:
    return DASH if value is None else str(value)


def only_one(
    first: pd.DataFrame, second: pd.DataFrame, right_first: np.ndarray, right_second: np.ndarray, task: str
) -> pd.DataFrame:
    """A row an image that exactly one gets right: id, label, right (first | second), and what each said."""
    differ_N = np.isfinite(right_first) & np.isfinite(right_second) & (right_first != right_second)
    columns = {
        "id": first["id"], "label": first["label"], "right": np.where(right_first == 1, "first", "second"),
        "first": first["prediction"], "second": second["prediction"],
    }  # fmt: skip
    if task != "classification":
        columns |= {
            "first_nearest": first["nearest"], "second_nearest": second["nearest"],
            "first_rank_of_match": first["first_match"], "second_rank_of_match": second["first_match"],
        }  # fmt: skip
    return pd.DataFrame(columns)[differ_N].sort_values(["right", "id"], kind="stable").reset_index(drop=True)


def notes(first: Kept, second: Kept, frames: Sequence[pd.DataFrame], task: str) -> list[str]:
    """What a reader must know before believing the numbers."""
    said = [
        f"Intervals: {RESAMPLES} resamples of the test {UNITS[task]}, networks held fixed. They do not hold the spread over seeds: "
        "two runs of one method with other seeds differ as well."
    ]
    if task != "classification":
        said.append(
            "McNemar's test counts queries as independent, which those of one class are not: the interval is the safer one."
        )
    if task == "re-identification" and all(frame.columns.str.startswith("predicted.").any() for frame in frames):
        said.append("Attributes are compared over the queries; the runs' own metrics of them are over the gallery.")
    if first.described["data"] != second.described["data"]:
        said.append(f"The runs saw other data versions: compared are the {len(frames[0])} test images that both have.")
    if first.described["settings"]["train"]["on"] != second.described["settings"]["train"]["on"]:
        said.append("One was trained on training data alone and measured on the validation part.")
    if first.source == "twins":
        said.append("Measured on a synthetic twin, not on the real data set.")
    return said


# --- showing it ---------------------------------------------------------------------------------------------------------


def show(found: Comparison, console: "Console", pack: "Pack | None") -> None:
    """Print all of it; labels by their names where a pack is given."""
    from rich.markup import escape
    from rich.table import Table

    from a3m.explore.explain import label_name

    def named(label: Any) -> str:
        if pd.isna(label):
            return "nothing"
        return str(label) if pack is None else label_name(pack, int(label))

    first, second = found.runs
    for which, one in (("first ", first), ("second", second)):
        console.print(f"[bold]{which}[/]  {escape(one.name)}  (key {one.key}, run {one.run_id[:8]})")
    console.print(f"on {first.dataset}, {found.task}\n")
    table = Table(title="Settings that differ", title_justify="left")
    for head in ("setting", "first", "second"):
        table.add_column(head, overflow="fold")
    for row in found.settings.itertuples(index=False):
        table.add_row(*(escape(str(value)) for value in row))
    console.print(table)
    table = Table(
        title=f"Metrics in percent, 95 % bootstrap over {found.groups} test {UNITS[found.task]} (*: excludes 0)",
        title_justify="left",
    )
    table.add_column("metric", overflow="fold")
    for head in ("first", "second", "first - second"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("")
    sections = False
    for measured in found.metrics:
        if measured.metric.startswith(ATTRIBUTE) and not sections:
            table.add_section()
            table.add_row("[italic]attributes[/]", "", "", "", "")
            sections = True
        table.add_row(
            escape(measured.metric.removeprefix(ATTRIBUTE).replace("_", " ")), _with(measured.first, measured.first_interval),
            _with(measured.second, measured.second_interval),
            _with(measured.difference, measured.interval, sign=True), "*" if measured.excludes_zero else "",
        )  # fmt: skip
    console.print(table)
    counts = found.queries["right"].value_counts()
    only = [int(counts.get(side, 0)) for side in ("first", "second")]
    what = "images" if found.task == "classification" else "queries"
    console.print(
        f"{what}: both right {found.both}, only the first {only[0]}, only the second {only[1]}, neither {found.neither}; "
        f"McNemar's exact p {found.p:.3g}\n"
    )
    for side, number in zip(("first", "second"), only, strict=True):
        if not number:
            continue
        console.print(f"only the {side} is right:")
        listed = found.queries[found.queries["right"] == side]
        for row in listed.head(LISTED).itertuples(index=False):
            said = f"{named(row.label)}: first says {named(row.first)}, second {named(row.second)}"
            console.print(f"  {escape(str(row.id))}\n    {escape(said)}")
        if number > LISTED:
            console.print(f"  ... and {number - LISTED} more in queries.csv")
    for note in found.notes:
        console.print(f"[dim]{escape(note)}[/]")


def _with(value: float, interval: tuple[float, float], *, sign: bool = False) -> str:
    number = "+.1f" if sign else ".1f"
    return f"{value:{number}} [{interval[0]:{number}}, {interval[1]:{number}}]".replace("[", "\\[")


def write(found: Comparison, folder: Path, pack: "Pack | None", text: str) -> None:
    """The files of a comparison. Without a pack of the runs' data version there is no picture."""
    first, second = found.runs
    metrics = pd.DataFrame(
        [
            {
                "metric": one.metric, "first": one.first, "first_low": one.first_interval[0], "first_high": one.first_interval[1],
                "second": one.second, "second_low": one.second_interval[0], "second_high": one.second_interval[1],
                "difference": one.difference, "low": one.interval[0], "high": one.interval[1], "images": one.images,
            }
            for one in found.metrics
        ]
    )  # fmt: skip
    counts = found.queries["right"].value_counts()
    summary = {
        "first": {"run": first.run_id, "key": first.key, "name": first.name},
        "second": {"run": second.run_id, "key": second.key, "name": second.name},
        "dataset": first.dataset, "task": found.task, "resampled": UNITS[found.task], "groups": found.groups,
        "settings": found.settings.to_dict("records"), "metrics": metrics.to_dict("records"),
        "right": {"both": found.both, "only_first": int(counts.get("first", 0)), "only_second": int(counts.get("second", 0)),
                  "neither": found.neither, "mcnemar_p": found.p},
        "notes": found.notes,
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comparison.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
        (folder / "comparison.txt").write_text(text)
        for name, frame in (("settings", found.settings), ("metrics", metrics), ("queries", found.queries)):
            frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        picture = contact_sheet(found, pack) if pack is not None and len(found.queries) else None
        (folder / "queries.png").unlink(missing_ok=True)
        if picture is not None:
            (folder / "queries.png").write_bytes(picture)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}): name another folder with --out") from error


def contact_sheet(found: Comparison, pack: "Pack") -> bytes:
    """Some of the queries that one gets right: the image, and what each run put first; a frame says right or wrong."""
    from a3m.explore import drawing
    from a3m.explore.drawing import Tile
    from a3m.explore.explain import label_name

    row_of = {name: row for row, name in enumerate(pack.names)}
    factor = drawing.scale_of(pack.input_size)
    (top, left), (height, width) = (
        tuple(round((p - size) / 2) for p, size in zip(pack.packed_size, pack.input_size, strict=True)), pack.input_size,
    )  # fmt: skip

    def picture(name: str) -> np.ndarray:
        image = np.asarray(pack.image(row_of[name]))[top : top + height, left : left + width]
        return drawing.enlarge(image, factor)

    def said(who: str, label: Any) -> str:
        named = "nothing" if pd.isna(label) else label_name(pack, int(label))
        return f"{who}{', right' if who == side else ''}: {named}"

    rows: list[list[Tile]] = []
    heads: list[str] = []
    for side in ("first", "second"):
        shown = found.queries[found.queries["right"] == side].head(PICTURED).to_dict("records")
        if found.task == "classification":  # one image, and what each says; the rows of the first come first
            tiles = [
                Tile(picture(one["id"]), f"{said('first', one['first'])}\n{said('second', one['second'])}")
                for one in shown
            ]
            rows += [tiles[start : start + PICTURED // 2] for start in range(0, len(tiles), PICTURED // 2)]
            continue
        for one in shown:
            row = [Tile(picture(one["id"]), f"{label_name(pack, one['label'])}\n{Path(str(one['id'])).name}")]
            for who in ("first", "second"):
                near = one[f"{who}_nearest"]
                match = f"first match at rank {one[f'{who}_rank_of_match']}"
                image = np.zeros_like(row[0].image) if pd.isna(near) else picture(near)
                row.append(Tile(image, f"{said(who, one[who])}\n{match}", who == side))
            rows.append(row)
    if found.task != "classification":
        heads = ["query", "nearest by first", "nearest by second"]
        if len(rows) > 1:  # two beside each other: a sheet that is read on a screen
            half = (len(rows) + 1) // 2
            rows = [
                row + (rows[place + half] if place + half < len(rows) else []) for place, row in enumerate(rows[:half])
            ]
            heads = heads * 2
    return drawing.png(drawing.sheet(rows, heads))
