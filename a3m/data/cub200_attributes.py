"""The 312 attributes of CUB-200-2011: the names in their 28 groups, the labels of every image, and the fold into groups.

The facts, as the real files have them:
* `attributes.txt` lies *beside* `CUB_200_2011/` in the real archive; other copies have it inside, or inside
  `attributes/`. 312 names `has_<group>::<value>` form 28 groups, in file order; some copies end lines in CR LF.
* `attributes/image_attribute_labels.txt`: image, attribute, present, certainty, time; 11,788 x 312 = 3,677,856 rows. The
  rows of images 2275 and 9364 have 6 tokens: an extra 0 before the time. Only the first three are read.
* More than one value of a group can be present. The fold is that of the authors' released labels: the last present
  value of a group wins, whatever the certainty. Groups without a present value are common (up to 35 % of the images).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from a3m.data.disk import keyed_rows
from a3m.errors import DataError

ARCHIVE = (
    "the archive CUB_200_2011.tgz (Caltech-UCSD Birds-200-2011, CaltechDATA, data.caltech.edu/records/65de6-vp158)"
)
LABELS = "image_attribute_labels.txt"
FOLDS = ("masked", "released")


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


def names_file(root: Path, base: Path) -> Path:
    """attributes.txt in one of its places. Raises DataError when it is in none."""
    places = [root / "attributes.txt", base / "attributes.txt", base / "attributes" / "attributes.txt"]
    for path in places:
        if path.is_file():
            return path
    raise DataError(f"{root / 'attributes.txt'}: missing (the 312 attribute names); it is part of {ARCHIVE}")


def read_groups(path: Path) -> dict[str, list[str]]:
    """Group name without `has_` -> its value names, both in file order. Ids must count from 1, groups be contiguous."""
    groups: dict[str, list[str]] = {}
    last = None
    for position, (key, (name,)) in enumerate(keyed_rows(path, 2, ARCHIVE, numeric=False).items(), start=1):
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
    return groups


def read_present(path: Path, ids: np.ndarray, attributes: int, *, others: bool) -> np.ndarray:
    """(images, attributes) bool, rows in the order of `ids`. Every pair must be there once.

    `others` admits rows of further images. Raises DataError naming file and row.
    """
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
    if not known.all() and not others:
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
