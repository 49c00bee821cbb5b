"""Caltech-UCSD Birds-200-2011 (Wah et al., 2011), for classification by the official split.

The facts, as the real files have them:
* 11,788 images of 200 classes, 5,994 to train and 5,794 to test; 41 to 60 images a class. Folder == class name.
* Boxes are `x y w h` in pixels, the corner counted from 0. An image without a box, or with one of no area, counts as a
  whole image.
* `attributes.txt` lies *beside* `CUB_200_2011/` in the real archive; other copies have it inside, or inside
  `attributes/`. 312 names `has_<group>::<value>` form 28 groups, in file order; some copies end lines in CR LF.
* `attributes/image_attribute_labels.txt`: image, attribute, present, certainty, time; 11,788 x 312 = 3,677,856 rows. The
  rows of images 2275 and 9364 have 6 tokens: an extra 0 before the time. Only the first three are read.
* More than one value of a group can be present. The fold is that of the authors' released labels: the last present
  value of a group wins, whatever the certainty. Groups without a present value are common (up to 35 % of the images).
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from a3m.data.records import Records, arrange, check_counts, expected_counts, file_sizes
from a3m.errors import DataError, SettingsError

if TYPE_CHECKING:
    from a3m.settings import Data

FOLDER = "CUB_200_2011"
LABELS = "image_attribute_labels.txt"
ARCHIVE = (
    "the archive CUB_200_2011.tgz (Caltech-UCSD Birds-200-2011, CaltechDATA, data.caltech.edu/records/65de6-vp158)"
)
FOLDS = ("masked", "released")

# What a reader counts; a twin's `twin.json` holds the same keys.
PUBLISHED = {"images": 11788, "train": 5994, "test": 5794, "classes": 200, "attributes": 312, "attribute_groups": 28}


def read(root: Path, settings: "Data") -> Records:
    """Read the original layout below `root`, which contains `CUB_200_2011/` or is that folder.

    `settings.fold` "masked": a group without a present value is -1. "released": it is value 0, "absent", a class of its
    own. Labels are class id - 1; with `settings.allow_subset` they are the rank among the classes that have images.
    Raises DataError on anything missing, empty, unexpected or incomplete; `settings.allow_subset` admits fewer images,
    drops those that are listed but not on disk, and admits a missing attribute file (then there are no attributes).
    """
    if settings.fold not in FOLDS:
        raise SettingsError(f"data.fold={settings.fold}: CUB-200-2011 knows the folds {' and '.join(FOLDS)}")
    base = root / FOLDER if (root / FOLDER).is_dir() else root
    if not (base / "images.txt").is_file():
        raise DataError(f"{root}: holds no {FOLDER}/images.txt; unpack {ARCHIVE} there")
    checks: list[str] = []
    frame = _listed(root, base, checks)
    frame = _on_disk(base, frame, settings.allow_subset, checks)
    frame, classes = _contiguous(base, frame, settings.allow_subset)

    groups: dict[str, list[str]] = {}
    columns: dict[str, np.ndarray] = {}
    path = base / "attributes" / LABELS
    if not path.is_file() and not settings.allow_subset:
        raise DataError(f"{path}: missing; it is part of {ARCHIVE}")
    if path.is_file():
        groups = _groups(_attribute_names(root, base))
        present = _present(path, frame["id"].to_numpy(), sum(map(len, groups.values())), settings.allow_subset)
        columns = fold(present, [len(values) for values in groups.values()], groups, settings.fold)
    else:
        checks.append(f"no {LABELS}: no attributes")
    counts = {
        "images": len(frame),
        "train": int((frame["split"] == "train").sum()),
        "test": int((frame["split"] == "test").sum()),
        "classes": len(classes),
        "attributes": sum(map(len, groups.values())),
        "attribute_groups": len(groups),
    }
    source, expected = expected_counts(root, base, PUBLISHED)
    complete = check_counts(base, counts, expected, settings.allow_subset)
    first = f"counts are {'those of twin.json' if source == 'twins' else 'the published ones'}"
    names = {name: ["absent", *values] if settings.fold == "released" else values for name, values in groups.items()}
    description = {
        "dataset": "cub200",
        "task": "classification",
        "source": source,
        "complete": complete,
        "attributes": names,
        "classes": classes,
        "counts": counts,
        "origin": "Caltech-UCSD Birds-200-2011 (Wah et al., 2011)",
        "checks": [first if complete else "a part of the data set (data.allow_subset)", *checks],
    }
    return Records(arrange(frame, columns), description)


def fold(present: np.ndarray, sizes: list[int], names: dict[str, list[str]], kind: str) -> dict[str, np.ndarray]:
    """Fold binary attributes into groups: name -> (N,) int64.

    `present` is (N, attributes) bool, `sizes` the number of attributes of each group in that order. The last present
    value of a group wins. Without one: -1 (`kind` "masked"), or 0 with the values counted from 1 ("released").
    """
    ends = np.cumsum(sizes)
    columns = {}
    for name, size, end in zip(names, sizes, ends, strict=True):
        reversed_ = present[:, end - size : end][:, ::-1]
        last = np.where(reversed_.any(axis=1), size - 1 - reversed_.argmax(axis=1), -1).astype(np.int64)
        columns[name] = last + (kind == "released")
    return columns


def _rows(path: Path, tokens: int) -> list[tuple[int, list[str]]]:
    """(line number, tokens) of a text file; the last token takes the rest of the line. Any line ends."""
    if not path.is_file():
        raise DataError(f"{path}: missing; it is part of {ARCHIVE}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        parts = line.split(maxsplit=tokens - 1)
        if parts and len(parts) != tokens:
            raise DataError(f"{path}, line {number}: {len(parts)} columns, expected {tokens}: {line[:80]!r}")
        if parts:
            rows.append((number, parts))
    return rows


def _keyed(path: Path, tokens: int, numeric: bool = True) -> dict[int, list]:
    """First column (a whole number, each once) -> the others; as floats where `numeric`."""
    table: dict[int, list] = {}
    for number, parts in _rows(path, tokens):
        try:
            key = int(parts[0])
            values = [float(part) for part in parts[1:]] if numeric else [parts[1].strip()]
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        if key in table:
            raise DataError(f"{path}, line {number}: {key} is there twice")
        table[key] = values
    return table


def _listed(root: Path, base: Path, checks: list[str]) -> pd.DataFrame:
    """One row an image of images.txt: id, name, image, split, class id, x y w h."""
    names = _keyed(base / "images.txt", 2, numeric=False)
    labels = _keyed(base / "image_class_labels.txt", 2)
    splits = _keyed(base / "train_test_split.txt", 2)
    boxes = _keyed(base / "bounding_boxes.txt", 5)
    if not names:
        raise DataError(f"{base / 'images.txt'}: empty; it is part of {ARCHIVE}")
    for file, table in (("image_class_labels.txt", labels), ("train_test_split.txt", splits)):
        without = [key for key in names if key not in table]
        if without:
            raise DataError(f"{base / file}: lacks image {without[0]} of images.txt ({len(without)} in all)")
    prefix = (base / "images").relative_to(root).as_posix()
    rows = []
    for key, (name,) in names.items():
        parts = PurePosixPath(name).parts
        if len(parts) != 2 or ".." in parts or "\\" in name:
            raise DataError(
                f"{base / 'images.txt'}, image {key}: {name!r} does not parse (expected 001.Class_name/Image.jpg)"
            )
        if splits[key][0] not in (0, 1):
            raise DataError(f"{base / 'train_test_split.txt'}, image {key}: {splits[key][0]:g} is neither 0 nor 1")
        if not labels[key][0].is_integer():
            raise DataError(f"{base / 'image_class_labels.txt'}, image {key}: {labels[key][0]:g} is no class id")
        box = boxes.get(key)
        if box is not None and (not np.isfinite(box).all() or min(box) < 0):
            raise DataError(f"{base / 'bounding_boxes.txt'}, image {key}: {box} is no box (x y width height in pixels)")
        rows.append((key, name, f"{prefix}/{name}", "train" if splits[key][0] else "test", int(labels[key][0]), box))
    whole = [None if box is None or box[2] == 0 or box[3] == 0 else box for *_, box in rows]
    for what, number in (
        ("no box", sum(box is None for *_, box in rows)),
        ("a box of no area", sum(box is not None and box[2] * box[3] == 0 for *_, box in rows)),
    ):
        if number:
            checks.append(f"{number} images with {what}: the whole image is used")
    frame = pd.DataFrame([row[:-1] for row in rows], columns=["id", "name", "image", "split", "class"])
    for axis, column in enumerate("xywh"):
        frame[column] = pd.array([None if box is None else box[axis] for box in whole], dtype="Float64")
    return frame


def _on_disk(base: Path, frame: pd.DataFrame, allow_subset: bool, checks: list[str]) -> pd.DataFrame:
    """The rows whose file exists; one listing a folder, no image is opened."""
    if not (base / "images").is_dir():
        raise DataError(f"{base / 'images'}: missing; it is part of {ARCHIVE}")
    parents = frame["name"].str.partition("/")[0]
    sizes: dict[str, int] = {}
    for folder in sorted(set(parents)):
        if (base / "images" / folder).is_dir():
            sizes |= {f"{folder}/{name}": size for name, size in file_sizes(base / "images" / folder).items()}
    found = frame["name"].map(sizes)
    empty = frame.loc[found == 0, "name"].tolist()
    if empty:
        raise DataError(f"{base / 'images' / empty[0]}: empty file ({len(empty)} in all); copy it again from {ARCHIVE}")
    missing = frame.loc[found.isna(), "name"].tolist()
    if missing and (not allow_subset or len(missing) == len(frame)):
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            f"{base / 'images'}: {len(missing)} of the {len(frame)} images of images.txt are not on disk: {some}; "
            f"they are in {ARCHIVE}; data.allow_subset=true leaves them out"
        )
    if missing:
        checks.append(f"{len(missing)} images listed but not on disk, left out; the first: {', '.join(missing[:5])}")
    others = len(set(sizes) - set(frame["name"]))
    if others:
        checks.append(f"{others} files in the image folders that images.txt does not list, ignored")
    return frame[found.notna()].reset_index(drop=True)


def _contiguous(base: Path, frame: pd.DataFrame, allow_subset: bool) -> tuple[pd.DataFrame, list[str]]:
    """The rows with a column `label`, and the class names in label order."""
    path = base / "classes.txt"
    classes = {key: name for key, (name,) in sorted(_keyed(path, 2, numeric=False).items())}
    if len(set(classes.values())) != len(classes):
        raise DataError(f"{path}: a class name is there twice")
    folders = frame["name"].str.partition("/")[0]
    unlike = folders != frame["class"].map(classes)
    if unlike.any():
        row = frame[unlike].iloc[0]
        where = f"{base / 'image_class_labels.txt'}, image {row['id']}"
        name = classes.get(row["class"], "not in classes.txt")
        raise DataError(
            f"{where}: {row['name']} lies in another folder than that of its class {row['class']} ({name}); "
            "the text files belong to different copies"
        )
    if not allow_subset and list(classes) != list(range(1, len(classes) + 1)):
        raise DataError(f"{path}: class ids are not 1 to {len(classes)}; data.allow_subset=true admits a part")
    held = set(frame["class"])
    kept = [key for key in classes if key in held or not allow_subset]
    rank = {key: label for label, key in enumerate(kept)}
    return frame.assign(label=frame["class"].map(rank)), [classes[key] for key in kept]


def _attribute_names(root: Path, base: Path) -> Path:
    places = [root / "attributes.txt", base / "attributes.txt", base / "attributes" / "attributes.txt"]
    for path in places:
        if path.is_file():
            return path
    raise DataError(f"{root / 'attributes.txt'}: missing (the 312 attribute names); it is part of {ARCHIVE}")


def _groups(path: Path) -> dict[str, list[str]]:
    """Group name without `has_` -> its value names, both in file order. Ids must count from 1, groups be contiguous."""
    groups: dict[str, list[str]] = {}
    last = None
    for position, (key, (name,)) in enumerate(_keyed(path, 2, numeric=False).items(), start=1):
        group, mark, value = name.partition("::")
        group = group.removeprefix("has_")
        if key != position or not mark or not group or not value:
            raise DataError(
                f"{path}, entry {position}: {key} {name!r} does not parse (expected 1 has_bill_shape::dagger)"
            )
        if group in groups and group != last:
            raise DataError(f"{path}, entry {position}: the values of {group} do not follow each other")
        groups.setdefault(group, []).append(value)
        last = group
    if not groups:
        raise DataError(f"{path}: empty; it is part of {ARCHIVE}")
    return groups


def _present(path: Path, ids: np.ndarray, attributes: int, allow_subset: bool) -> np.ndarray:
    """(images, attributes) bool, rows in the order of `ids`. Every pair must be there once."""
    try:
        # With usecols, pandas admits rows longer than the others, such as those with the extra token.
        table = pd.read_csv(
            path,
            sep=r"\s+",
            header=None,
            names=[0, 1, 2],
            usecols=[0, 1, 2],
            dtype=np.int32,
            engine="c",
            encoding="latin-1",
        )
    except (ValueError, OverflowError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{path}: {_first_bad_line(path) or error}; fetch it again from {ARCHIVE}") from error
    image, attribute, present = (table[column].to_numpy() for column in range(3))
    order = np.argsort(ids)
    position = np.searchsorted(ids, image, sorter=order).clip(max=len(ids) - 1)
    row = order[position]
    known = ids[row] == image
    if not known.all() and not allow_subset:
        raise DataError(f"{path}: image {image[~known][0]} is not in images.txt")
    bad = (attribute < 1) | (attribute > attributes) | ((present != 0) & (present != 1))
    if bad.any():
        number = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{path}, row {number + 1}: image {image[number]}, attribute {attribute[number]}, present {present[number]} "
            f"(expected an attribute from 1 to {attributes} and 0 or 1)"
        )
    cell = row[known].astype(np.int64) * attributes + attribute[known] - 1
    times = np.bincount(cell, minlength=len(ids) * attributes).reshape(len(ids), attributes)
    unlike = np.argwhere(times != 1)
    if len(unlike):
        where, which = unlike[0]
        raise DataError(
            f"{path}: image {ids[where]}, attribute {which + 1} is there {times[where, which]} times, expected once "
            f"({len(unlike)} pairs in all); the file is cut off or doubled: fetch it again from {ARCHIVE}"
        )
    matrix = np.zeros(len(ids) * attributes, dtype=bool)
    matrix[cell] = present[known] == 1
    return matrix.reshape(len(ids), attributes)


def _first_bad_line(path: Path) -> str | None:
    """Name the first line that is not three whole numbers and two or three more tokens. Slow; only after a failure."""
    with path.open(encoding="latin-1") as lines:
        for number, line in enumerate(lines, start=1):
            tokens = line.split()
            whole = all(token.removeprefix("-").isdigit() for token in tokens[:3])
            if tokens and (len(tokens) not in (5, 6) or not whole):
                return f"line {number} does not parse: {line.strip()[:80]!r} (expected image attribute present certainty time)"
    return None
