"""`a3m check data.csv`: every problem of a user's own data set at once, and what was understood of it."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from a3m.data.folds import cut_validation
from a3m.data.manifest import records
from a3m.data.manifest_find import Found, find
from a3m.data.manifest_images import Seen, look_at_all
from a3m.data.manifest_rows import BOX, Problem, shown
from a3m.data.manifest_task import distractors
from a3m.data.pack import frame
from a3m.data.records import validate
from a3m.errors import DataError
from a3m.settings import Data

AT_MOST = 50  # problems of one kind that are listed
TOLERANCE = 1.0  # pixels that a box may lie outside, as rounding leaves them; they are cut off
METRICS = {
    "classification": "test/accuracy",
    "re-identification": "test/rank1, rank5, rank10, rank20, test/mAP, test/mAP_trapezoid",
    "retrieval": "test/recall1, recall2, recall4, recall8, test/nmi",
}
STUDIES = {
    "classification": "ablation; its table, Figures 2, 4, 5 and 6",
    "re-identification": "ablation; its table, Figures 2, 4, 5 and 6",
    "retrieval": "cub200_retrieval; its table and Figure 4",
}


@dataclass(frozen=True)
class Checked:
    """A manifest with what its images hold (row -> Seen, of `found.frame`) and how the validation part will be cut."""

    found: Found
    seen: dict[int, Seen]
    problems: list[Problem]
    warnings: list[Problem]
    validation: str


def check(path: Path, progress: Callable[[int, int], None] | None = None) -> Checked:
    """Look for every problem, those inside the images too. Raises DataError only when there is no CSV to read."""
    found = find(path)
    bad = {
        problem.line for problem in found.problems if problem.kind in ("missing image", "empty image", "doubled image")
    }
    rows = [
        row
        for row, (image, line) in enumerate(zip(found.frame["image"], found.frame["line"], strict=True))
        if image and line not in bad
    ]
    looked = look_at_all([path.parent / found.frame["image"].iloc[row] for row in rows], progress)
    seen = dict(zip(rows, looked, strict=True))
    problems, warnings = list(found.problems), list(found.warnings)
    _in_images(found.frame, seen, problems, warnings)
    validation = "to be told when the problems are mended"
    if not problems:
        validation = _validation(found, problems, warnings)
    return Checked(found, seen, sorted(problems, key=lambda problem: problem.line), warnings, validation)


def _in_images(table: pd.DataFrame, seen: dict[int, Seen], problems: list[Problem], warnings: list[Problem]) -> None:
    """What only the opened images show."""
    first: dict[bytes, str] = {}
    columns = [table[name].tolist() for name in ("line", "image", "split", *BOX)]
    for row, one in seen.items():
        line, image, split, x, y, w, h = (column[row] for column in columns)
        if one.wrong:
            problems.append(Problem("image that cannot be decoded", line, f"{shown(image)}: {one.wrong}"))
            continue
        place = f"line {line} ({split})"
        before = first.setdefault(one.digest, place)
        if before != place:
            what = f"{shown(image)} ({split}) is the same file as that of {before}"
            warnings.append(Problem("copy of an image", line, what))
        if x is not None and (x + w > one.width + TOLERANCE or y + h > one.height + TOLERANCE):
            what = f"x {x:g} y {y:g} w {w:g} h {h:g}, the image has {one.width} x {one.height} pixels"
            problems.append(Problem("box outside the image", line, what))
        elif x is not None and frame(np.array([x, y, w, h]), one.width, one.height) is None:
            what = f"x {x:g} y {y:g} w {w:g} h {h:g}: less than a pixel of it lies in the image"
            problems.append(Problem("box without area", line, what))


def _validation(found: Found, problems: list[Problem], warnings: list[Problem]) -> str:
    """Cut the validation part as stage prepare will, and say how; what fails there is told here."""
    made, settings = records(found), Data()
    try:
        table = cut_validation(made.table, found.task, settings.validation, settings.split_seed)
    except DataError as error:
        warnings.append(Problem("no validation part", 0, str(error)))
        return "none"
    try:
        validate(type(made)(table, made.description))
    except DataError as error:
        problems.append(Problem("records", 0, str(error)))
    cut = table[table["fold"].fillna("train") != "train"]
    whole = {
        "classification": "a share of every class",
        "retrieval": f"{cut['label'].nunique()} whole classes",
        "re-identification": f"{cut['label'].nunique()} whole identities",
    }[found.task]
    sizes = ", ".join(f"{name} {number:,}" for name, number in sorted(Counter(cut["fold"]).items()))
    return f"{whole} of the training images: {sizes} (data.validation={settings.validation:g}, never test data)"


# --- what is printed ----------------------------------------------------------------------------------------------------


def report(checked: Checked) -> list[str]:
    """The lines of `a3m check`: what was understood, notes, warnings, problems."""
    found = checked.found
    lines = [f"{found.path}: {_count(len(found.frame), 'image')}, {found.task or 'the task cannot be told'}", ""]
    lines.extend(_row(name, text) for name, text in _understood(checked))
    lines.extend(_row("note", note) for note in found.notes)
    lines.extend(_listed("warning", checked.warnings))
    lines.extend(_listed("problem", checked.problems))
    bad = len({problem.line for problem in checked.problems if problem.line})
    number = len(checked.problems)
    if number:
        place = f" on {_count(bad, 'line')}" if bad else ""
        lines += ["", f"{_count(number, 'problem')}{place}: mend {'them' if number > 1 else 'it'} and check again"]
    else:
        warned = f", {_count(len(checked.warnings), 'warning')}" if checked.warnings else ""
        lines += ["", f"fine: no problems{warned}"]
    return lines


def _row(name: str, text: str) -> str:
    return f"  {name:<12} {text}"


def _understood(checked: Checked) -> Iterable[tuple[str, str]]:
    found, table = checked.found, checked.found.frame
    yield "columns", ", ".join(shown(name) for name in found.sheet.header)
    noun, nouns = ("identity", "identities") if found.task == "re-identification" else ("class", "classes")
    nobody = distractors(found.names) if noun == "identity" else set()
    names = [name for name in found.names if name not in nobody]
    for split in ("train", "test", "query", "gallery"):
        part = table[table["split"] == split]
        if len(part):
            sizes = part["name"].value_counts()
            others = sizes[~sizes.index.isin(names)].sum()
            sizes = sizes[sizes.index.isin(names)]
            spread = _range(sizes.tolist())
            beside = f", {_count(others, 'distractor')}" if others else ""
            of = f"of {spread} image{'s' * (spread != '1')}"
            yield split, f"{_count(len(part), 'image')}, {_count(len(sizes), noun, nouns)} {of}{beside}"
    if names:
        yield nouns, f"{len(names):,}: {_some(names)}"
    if found.task == "re-identification":
        cameras = table["camera"].dropna()
        if len(cameras):
            yield "cameras", ", ".join(f"{camera} ({number:,})" for camera, number in sorted(Counter(cameras).items()))
        else:
            yield "cameras", "not known: each query is compared with the whole gallery, nothing is left out"
    boxes = int(table["x"].notna().sum())
    if boxes:
        yield "boxes", f"{boxes:,} of {len(table):,} images; cropped to with data.crop_box=true"
    for attribute, values in found.attributes.items():
        codes = Counter(found.columns[attribute].tolist())
        parts = _some([f"{value} {codes[code]:,}" for code, value in enumerate(values)], 12)
        yield "attribute", f"{attribute}: {parts}; unlabelled {codes[-1] / max(len(table), 1):.1%}"
    if found.task and not found.attributes:
        yield (
            "attributes",
            "none: Baseline-1 can be trained, and A3M without attribute labels (head.attributes=<number>)",
        )
    yield from _pixels(list(checked.seen.values()))
    if found.task:
        yield "validation", checked.validation
    if found.task and not any(problem.kind == "no task" for problem in checked.problems):
        yield "metrics", METRICS[found.task]
        if found.attributes:
            yield "", "test/attribute/<name> beside test/attribute_majority/<name>, test/attribute_mean"
        yield "study", f"{STUDIES[found.task]} (docs/own-data.md)"


def _pixels(seen: list[Seen]) -> Iterable[tuple[str, str]]:
    whole = [one for one in seen if not one.wrong]
    if not whole:
        return
    small, large = (
        min(whole, key=lambda one: one.width * one.height),
        max(whole, key=lambda one: one.width * one.height),
    )
    widths, heights = sorted(one.width for one in whole), sorted(one.height for one in whole)
    middle = f"{widths[len(whole) // 2]} x {heights[len(whole) // 2]}"
    spread = (
        f"{small.width} x {small.height} to {large.width} x {large.height} pixels (width x height), median {middle}"
    )
    yield "image sizes", spread
    grey, rotated = sum(one.grey for one in whole), sum(one.rotated for one in whole)
    yield "grey", f"{_count(grey, 'image')}{'; read as RGB with three equal channels' if grey else ''}"
    remedy = (
        "; they are used as stored, since boxes refer to stored pixels: turn the pixels themselves (exiftran -a -i, "
        "jpegtran) and draw boxes anew"
    )
    yield "EXIF turned", f"{_count(rotated, 'image')}{remedy if rotated else ''}"


def _count(number: int, noun: str, nouns: str = "") -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def _range(numbers: list[int]) -> str:
    if len(set(numbers)) < 2:
        return f"{numbers[0]:,}" if numbers else "0"
    return f"{min(numbers):,} to {max(numbers):,}"


def _some(texts: list[str], limit: int = 8) -> str:
    more = f", ... ({len(texts) - limit} more)" if len(texts) > limit else ""
    return ", ".join(shown(text, 40) for text in texts[:limit]) + more


def _listed(noun: str, problems: list[Problem]) -> Iterable[str]:
    """Problems by kind, a line each, in the order of the file."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    for kind, some in kinds.items():
        yield ""
        yield f"{noun}: {kind} ({len(some):,})"
        for one in some[:AT_MOST]:
            place = f"line {one.line}" if one.line else "file"
            yield f"  {place:<10} {one.what}"
        if len(some) > AT_MOST:
            yield f"  and {len(some) - AT_MOST:,} more"
