"""What a manifest says, and every problem in it: one search for the reader and for `a3m check`. It opens no image.

The task follows from the columns: `identity` with train, query and gallery is re-identification; `label` with train and
test is classification when the test classes are among the training ones, and retrieval when none of them is. A mixture is
an error (`a3m.data.manifest_task`).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from a3m.data.manifest_images import Folder
from a3m.data.manifest_rows import BOX, WHOLE, Problem, Sheet, ordered, read_sheet, shown, whole
from a3m.data.manifest_task import DISTRACTOR, cross_check, mixed_names, task_of

SPLITS = ("train", "test", "query", "gallery")
MANY_NUMBERS, MANY_NAMES = 20, 100  # more different values than this make no attribute
MOSTLY = 0.9  # from this share of numbers on, text in a column is probably a slip
NO_VALUES = {"na", "n/a", "nan", "none", "null", "unknown", "?", "-"}  # taken for values; a warning says so


@dataclass
class Found:
    """What a manifest says, as far as it can be understood, and everything that is wrong with it.

    `frame` has a row an image: line, image (below the CSV's folder), split, name (of class or identity, as written),
    camera, x, y, w, h; None where a cell is empty or wrong. `columns` holds the attributes' values of these rows: index
    into the names of `attributes`, -1 = unlabelled. `task` is empty where it cannot be told.
    """

    path: Path
    sheet: Sheet
    task: str
    frame: pd.DataFrame
    names: list[str]  # the classes, or the identities, in the order of their labels
    attributes: dict[str, list[str]]
    columns: dict[str, np.ndarray]
    problems: list[Problem]
    warnings: list[Problem]
    notes: list[str]
    absent: int  # images that are not on disk and were left out


def find(path: Path, *, missing_limit: float = 0.0) -> Found:
    """Read a manifest and look for every problem in it. Raises DataError only when the CSV is no file at all."""
    sheet = read_sheet(path)
    problems, warnings, notes = list(sheet.problems), list(sheet.warnings), list(sheet.notes)
    frame = _typed(sheet, problems, notes)
    frame = _on_disk(path, frame, missing_limit, problems, notes)
    absent = len(sheet.rows) - len(frame)
    task = task_of(sheet, frame, problems)
    columns, attributes = _attributes(sheet, frame, problems, warnings, notes)
    torn = sheet.torn
    if task == "re-identification":
        torn = torn | mixed_names(frame, problems, warnings)
        frame = _without_junk(frame, problems, notes)
    elif task and frame["camera"].notna().any():
        notes.append(f"column camera is not read: {task} knows no cameras")
    if task == "retrieval" and attributes:
        notes.append(f"attributes {', '.join(attributes)} are not read: retrieval trains without them")
        columns, attributes = {}, {}
    if task:
        cross_check(task, frame, torn, problems, warnings)
    columns = {name: values[frame.index.to_numpy()] for name, values in columns.items()}
    frame = frame.reset_index(drop=True)
    _unlearnable(frame, attributes, columns, warnings, notes)
    names = ordered(name for name in frame["name"] if name)
    problems.sort(key=lambda problem: problem.line)
    return Found(path, sheet, task, frame, names, attributes, columns, problems, warnings, notes, absent)


def _typed(sheet: Sheet, problems: list[Problem], notes: list[str]) -> pd.DataFrame:
    """The rows with numbers as numbers; a cell that is wrong or empty becomes None, a required one also a problem."""
    target = "identity" if "identity" in sheet.header else "label"
    has_camera = any(row.cells.get("camera") for row in sheet.rows)
    if "camera" in sheet.header and not has_camera:
        notes.append("column camera is empty: cameras are not known")
    written: dict[int, str] = {}
    rows: list[dict[str, Any]] = []
    for line, cells in sheet.rows:
        row: dict[str, Any] = {"line": line, "image": cells.get("image") or None, "split": cells.get("split") or None}
        row["name"] = cells.get(target) or None
        for column in ("image", "split", target):
            if cells.get(column) == "":
                problems.append(Problem("missing value", line, f"no {column}"))
        if row["split"] and row["split"] not in SPLITS:
            problems.append(Problem("unknown split", line, _split_hint(row["split"])))
            row["split"] = None
        if row["name"] and WHOLE.fullmatch(row["name"]):
            before = written.setdefault(whole(row["name"]), row["name"])
            if before != row["name"]:
                problems.append(
                    Problem("one number written two ways", line, f"{target} {row['name']!r}, elsewhere {before!r}")
                )
        camera = cells.get("camera", "")
        row["camera"] = whole(camera) if WHOLE.fullmatch(camera) and whole(camera) >= 0 else None
        if camera and row["camera"] is None:
            what = f"camera {shown(camera)!r}: expected a whole number from 0"
            problems.append(Problem("text where a number belongs", line, what))
        elif has_camera and not camera and target == "identity":
            problems.append(Problem("missing value", line, "no camera; give it on every row, or leave the column out"))
        row |= dict(zip(BOX, _box(line, cells, problems), strict=True))
        rows.append(row)
    return pd.DataFrame(rows, columns=["line", "image", "split", "name", "camera", *BOX], dtype=object)


def _split_hint(split: str) -> str:
    if split.lower() in SPLITS:
        return f"{shown(split)!r}: write {split.lower()}"
    if split.lower() in ("val", "valid", "validation", "dev"):
        return f"{shown(split)!r}: write train; validation is cut from it (data.validation)"
    return f"{shown(split)!r}: expected train and test, or train, query and gallery"


def _box(line: int, cells: dict[str, str], problems: list[Problem]) -> list[float | None]:
    """x, y, w, h of a row, or four times None: no box, or a wrong one."""
    texts = [cells.get(name, "") for name in BOX]
    nothing: list[float | None] = [None] * len(BOX)
    if not any(texts) or any(name not in cells for name in BOX):
        return nothing
    if not all(texts):
        absent = ", ".join(name for name, text in zip(BOX, texts, strict=True) if not text)
        problems.append(Problem("missing value", line, f"a box without {absent}"))
        return nothing
    numbers = []
    for name, text in zip(BOX, texts, strict=True):
        try:
            numbers.append(float(text))
            if not math.isfinite(numbers[-1]):
                raise ValueError
        except ValueError:
            problems.append(Problem("text where a number belongs", line, f"{name} {shown(text)!r}: expected pixels"))
            return nothing
    x, y, w, h = numbers
    if w <= 0 or h <= 0:
        problems.append(Problem("box without area", line, f"w {w:g}, h {h:g}"))
        return nothing
    if x < 0 or y < 0:
        problems.append(Problem("box outside the image", line, f"x {x:g}, y {y:g}: the corner counts from 0"))
        return nothing
    return [x, y, w, h]


def _on_disk(
    path: Path, frame: pd.DataFrame, missing_limit: float, problems: list[Problem], notes: list[str]
) -> pd.DataFrame:
    """The rows with `image` in its plain form; problems of the paths; without the missing images where these are few."""
    folder = Folder(path.parent)
    first: dict[str, int] = {}
    missing: list[tuple[int, Problem]] = []
    images = frame["image"].tolist()
    for row, (line, written) in enumerate(zip(frame["line"], images, strict=True)):
        if not written:
            images[row] = None
            continue
        images[row], wrong = folder.look(written)
        if wrong and wrong[0] == "missing image":
            missing.append((row, Problem(wrong[0], line, wrong[1])))
        elif wrong:
            problems.append(Problem(wrong[0], line, wrong[1]))
        if images[row] is not None and first.setdefault(images[row], line) != line:
            problems.append(Problem("doubled image", line, f"{shown(written)} is on line {first[images[row]]} already"))
    frame = frame.assign(image=pd.Series(images, dtype=object, index=frame.index))
    if missing and len(missing) <= missing_limit * len(frame):
        some = ", ".join(shown(str(images[row])) for row, _ in missing[:5])
        notes.append(f"{len(missing)} images are not on disk, left out (data.missing_limit); the first: {some}")
        return frame.drop(index=[row for row, _ in missing])
    problems.extend(problem for _, problem in missing)
    return frame


def _without_junk(frame: pd.DataFrame, problems: list[Problem], notes: list[str]) -> pd.DataFrame:
    """Identity 0 and those below it mean something; beside text they are problems already (`mixed_names`)."""
    numbers = [whole(name) if name and WHOLE.fullmatch(name) else 1 for name in frame["name"]]
    for line, split, number in zip(frame["line"], frame["split"], numbers, strict=True):
        if number <= DISTRACTOR and split in ("train", "query"):
            kind = "a distractor: a gallery image of nobody who is asked for" if number == 0 else "junk"
            what = f"identity {number} in {split} means {kind}; count people from 1, or give them names"
            problems.append(Problem("distractor or junk outside the gallery", line, what))
    junk = np.array([number < DISTRACTOR for number in numbers]) & (frame["split"] == "gallery").to_numpy()
    if junk.any():
        notes.append(f"{junk.sum()} junk images (identity below 0) left out of the gallery")
    return frame[~junk]


def _attributes(
    sheet: Sheet, frame: pd.DataFrame, problems: list[Problem], warnings: list[Problem], notes: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Codes (one a row of the sheet, -1 = empty) and value names of every column that is an attribute."""
    columns: dict[str, np.ndarray] = {}
    names: dict[str, list[str]] = {}
    for attribute in sheet.attributes:
        cells = [row.cells[attribute] for row in sheet.rows]
        first: dict[str, int] = {}
        for row, cell in zip(sheet.rows, cells, strict=True):
            first.setdefault(cell, row.line)
        kept = [sheet.rows[row].cells[attribute] for row in frame.index]
        values = ordered(cell for cell in kept if cell)
        if len(values) < 2:
            only = f"has one value, {shown(values[0])}" if values else "is empty"
            notes.append(f"attribute {attribute} {only}: left out")
            continue
        strange = _text_among_numbers(attribute, [cell for cell in kept if cell], first, warnings)
        number = all(map(_is_number, set(values) - set(strange)))
        if len(values) > (MANY_NUMBERS if number else MANY_NAMES):
            remedy = "sort its numbers into a few bins, such as low, middle, high" if number else "group or remove them"
            what = f"attribute {attribute} has {len(values)} different values, {', '.join(map(shown, values[:3]))} ...: {remedy}"
            if strange:
                some = ", ".join(f"{shown(value)!r} (line {first[value]})" for value in strange[:3])
                what += f"; text among its numbers: {some}{' ...' if len(strange) > 3 else ''}"
            problems.append(Problem("too many values", sheet.line, what))
            continue
        spelt: dict[object, str] = {}
        for value in sorted(values, key=first.__getitem__):
            same = whole(value) if WHOLE.fullmatch(value) else value.casefold()
            before = spelt.setdefault(same, value)
            if before != value:
                what = f"attribute {attribute}: {shown(value)!r} and {shown(before)!r} count as two values"
                warnings.append(Problem("nearly the same value", first[value], what))
            if value.lower() in NO_VALUES:
                what = f"attribute {attribute}: {shown(value)!r} counts as a value; leave the cell empty for unlabelled"
                warnings.append(Problem("a value like an empty cell", first[value], what))
        code = {value: index for index, value in enumerate(values)}
        columns[attribute] = np.array([code.get(cell, -1) for cell in cells], dtype=np.int64)
        names[attribute] = values
    return columns, names


def _text_among_numbers(attribute: str, cells: list[str], first: dict[str, int], warnings: list[Problem]) -> list[str]:
    """The values that are no numbers where nearly all labelled cells are, each with a warning; in the order of the file."""
    text = [cell for cell in cells if not _is_number(cell)]
    if len(text) > (1 - MOSTLY) * len(cells) + 1e-9:
        return []
    values = sorted(set(text), key=first.__getitem__)
    for value in values:
        if value.lower() not in NO_VALUES:  # those have a warning of their own
            what = f"attribute {attribute}: {shown(value)!r} among numbers counts as one more value"
            warnings.append(Problem("text among numbers", first[value], what))
    return values


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _unlearnable(
    frame: pd.DataFrame, attributes: dict[str, list[str]], columns: dict[str, np.ndarray], warnings: list[Problem],
    notes: list[str],
) -> None:  # fmt: skip
    """Leave out attributes that no training image has a value for; warn of values that only others have."""
    train = (frame["split"] == "train").to_numpy()
    for attribute, values in list(attributes.items()):
        codes = columns[attribute]
        learnt = set(codes[train].tolist()) - {-1}
        if train.any() and not learnt:
            notes.append(f"attribute {attribute}: no training image has a value, left out")
            del attributes[attribute], columns[attribute]
            continue
        for code in sorted(set(codes.tolist()) - learnt - {-1}):
            line = int(frame["line"].iloc[int(np.flatnonzero(codes == code)[0])])
            what = f"attribute {attribute}: no training image has {shown(values[code])!r}, which cannot be learnt"
            warnings.append(Problem("value never trained", line, what))
