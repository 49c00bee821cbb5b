"""Records: the one table that every reader returns, its validation and its files (`a3m.data.folds` cuts the validation part).

One row an image, sorted by `image`, columns in this order:
  image    path below the data set's root, with forward slashes
  split    train | test (classification, retrieval); train | query | gallery (re-identification)
  fold     of rows that may train: train | val, or train | val_query | val_gallery; null on all others
  label    int64: class index from 0, or the original identity (0 = distractor, only in the gallery). In retrieval the
           classes of train and test are disjoint, as are those of folds train and val; the index runs over all of them
  camera   Int64, null unless people are re-identified
  x y w h  Float64, the object's box in pixels of the image file, corner counted from 0; all null = the whole image
  attribute.<name>  int64, one column an attribute: index into its value names, -1 = unlabelled
On disk: `records.parquet` and `description.json` in one folder. The description is written last and removed first, so
that a folder without it is never taken for whole.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from a3m.errors import DataError

COLUMNS = ("image", "split", "fold", "label", "camera", "x", "y", "w", "h")
BOX = ("x", "y", "w", "h")
PREFIX = "attribute."
ATTRIBUTE = re.compile(r"\w[\w .-]{0,99}")  # it becomes part of metric names, which some stores keep as paths
SPLITS = {
    "classification": ("train", "test"),
    "re-identification": ("train", "query", "gallery"),
    "retrieval": ("train", "test"),
}
FOLDS = {
    "classification": ("train", "val"),
    "re-identification": ("train", "val_query", "val_gallery"),
    "retrieval": ("train", "val"),
}
DESCRIPTION_KEYS = ("dataset", "task", "source", "complete", "attributes", "counts", "origin", "checks")


@dataclass(frozen=True)
class Records:
    """The images of one data set and what is known about them.

    `description` (all of it can be written as JSON): dataset, task ("classification" | "re-identification" |
    "retrieval"), source ("twins" | "raw"), complete (the counts are the published ones, or the twin's own), attributes
    {name: [value names]} in column order, classes [names] (not in re-identification), counts, origin, checks [what was
    checked or dropped, one sentence each].
    """

    table: pd.DataFrame
    description: dict[str, Any]


def arrange(frame: pd.DataFrame, attributes: dict[str, np.ndarray]) -> pd.DataFrame:
    """Bring a reader's rows into the form above: columns in order, dtypes, sorted by image, every train row in fold train.

    `frame` has image, split, label and, where the data set has them, camera and x y w h; `attributes` holds one
    integer array a name, rows as in `frame`.
    """
    table = pd.DataFrame({"image": list(frame["image"]), "split": list(frame["split"])})
    table["fold"] = pd.Series(["train" if split == "train" else None for split in table["split"]])
    table["label"] = frame["label"].to_numpy(dtype=np.int64)
    for name, dtype in (("camera", "Int64"), *((name, "Float64") for name in BOX)):
        values = list(frame[name]) if name in frame else [None] * len(frame)
        table[name] = pd.Series(values, dtype=dtype)
    columns = {PREFIX + name: np.asarray(values, dtype=np.int64) for name, values in attributes.items()}
    table = pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)
    order = np.argsort(np.array(table["image"].tolist(), dtype=str), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def validate(records: Records) -> None:
    """Raise DataError, naming the row and its image, unless the records keep every promise of this module's head."""
    table, description = records.table, records.description
    missing = [key for key in DESCRIPTION_KEYS if key not in description]
    if missing:
        raise DataError(f"description of the records lacks {', '.join(missing)}")
    name, task = description["dataset"], description["task"]
    if task not in SPLITS:
        raise DataError(f"{name}: task {task!r} is not one of {', '.join(SPLITS)}")
    columns = [*COLUMNS, *(PREFIX + attribute for attribute in description["attributes"])]
    if list(table.columns) != columns:
        raise DataError(f"{name}: columns are {list(table.columns)}, expected {columns}")
    _validate_images(name, table)
    _validate_splits(name, table, task)
    _validate_boxes(name, table)
    _validate_attributes(name, table, description["attributes"])
    if task == "re-identification":
        _validate_identities(name, table, bool(description["complete"]))
        return
    classes = description.get("classes")
    if not classes:
        raise DataError(f"{name}: the description holds no class names")
    bad = (table["label"] < 0) | (table["label"] >= len(classes))
    _refuse(name, table, bad, f"label is outside 0..{len(classes) - 1}")
    if task == "classification":
        _validate_classes(name, table, classes)
    else:
        _validate_retrieval(name, table)


def _refuse(name: str, table: pd.DataFrame, bad: Any, what: str) -> None:
    rows = np.flatnonzero(np.asarray(bad, dtype=bool))
    if rows.size:
        more = f" (and {rows.size - 1} more rows)" if rows.size > 1 else ""
        raise DataError(f"{name}, row {rows[0]}, {table['image'].iloc[rows[0]]}: {what}{more}")


def _validate_images(name: str, table: pd.DataFrame) -> None:
    for column in ("image", "split", "fold"):
        _refuse(name, table, [not (isinstance(v, str) or pd.isna(v)) for v in table[column]], f"{column} is no string")
    dtypes = {"label": "int64", "camera": "Int64"} | dict.fromkeys(BOX, "Float64")
    dtypes |= {column: "int64" for column in table.columns if column.startswith(PREFIX)}
    for column, dtype in dtypes.items():
        if str(table[column].dtype) != dtype:
            raise DataError(f"{name}: column {column} is {table[column].dtype}, expected {dtype}")
    images = table["image"]
    _refuse(name, table, images.isna(), "no image path")
    paths = [PurePosixPath(image) for image in images]
    outside = [not path.parts or path.is_absolute() or ".." in path.parts or "\\" in str(path) for path in paths]
    _refuse(name, table, outside, "not a path below the data set's root with forward slashes")
    _refuse(name, table, images.duplicated(), "the image is listed twice")
    if images.tolist() != sorted(images) or not table.index.equals(pd.RangeIndex(len(table))):
        raise DataError(f"{name}: rows are not sorted by image and numbered from 0")


def _validate_splits(name: str, table: pd.DataFrame, task: str) -> None:
    splits, folds = SPLITS[task], FOLDS[task]
    _refuse(name, table, ~table["split"].isin(splits), f"split is not one of {', '.join(splits)}")
    trains = table["split"] == "train"
    _refuse(name, table, trains & ~table["fold"].isin(folds), f"fold of a train row is not one of {', '.join(folds)}")
    _refuse(name, table, ~trains & table["fold"].notna(), "fold is given on a row that does not train")
    for split in splits:
        if not (table["split"] == split).any():
            raise DataError(f"{name}: no {split} images")
    if not (table["fold"] == "train").any():
        raise DataError(f"{name}: no images are left to train on; lower data.validation")


def _validate_boxes(name: str, table: pd.DataFrame) -> None:
    box = table[list(BOX)].to_numpy(dtype=np.float64, na_value=np.nan)
    empty = np.isnan(box)
    _refuse(name, table, empty.any(axis=1) & ~empty.all(axis=1), "only a part of the box is given")
    box = np.where(empty, 1.0, box)
    bad = ~np.isfinite(box).all(axis=1) | (box[:, :2] < 0).any(axis=1) | (box[:, 2:] <= 0).any(axis=1)
    _refuse(name, table, bad, "the box has no area or starts outside the image")


def _validate_attributes(name: str, table: pd.DataFrame, attributes: dict[str, list[str]]) -> None:
    for attribute, values in attributes.items():
        if not ATTRIBUTE.fullmatch(attribute):
            raise DataError(
                f"{name}: attribute {attribute!r}: a name is letters, digits, blanks, dots, _ and -, at most 100"
            )
        if len(values) < 2 or len(set(values)) != len(values):
            raise DataError(f"{name}: attribute {attribute} needs two or more different values, not {values}")
        column = table[PREFIX + attribute]
        bad = (column < -1) | (column >= len(values))
        _refuse(name, table, bad, f"{attribute} is outside -1..{len(values) - 1}")


def _validate_classes(name: str, table: pd.DataFrame, classes: list[str]) -> None:
    trained = set(table.loc[table["fold"] == "train", "label"])
    untrained = [f"{label} ({classes[label]})" for label in range(len(classes)) if label not in trained]
    if untrained:
        raise DataError(
            f"{name}: without training images: class {', '.join(untrained[:5])}{', ...' if len(untrained) > 5 else ''}; "
            "add images, or leave the class out of the data set"
        )


def _validate_retrieval(name: str, table: pd.DataFrame) -> None:
    """Classes of train and test, of train and val are disjoint; what is searched has something to be found."""
    split, fold, label = table["split"], table["fold"], table["label"]
    _refuse(name, table, (split == "test") & label.isin(set(label[split == "train"])), "a test class that also trains")
    _refuse(
        name, table, (fold == "train") & label.isin(set(label[fold == "val"])), "a class in training and validation"
    )
    for what, rows in (("test", split == "test"), ("validation", fold == "val")):
        sizes = label[rows].value_counts()
        if len(sizes) and (len(sizes) < 2 or sizes.max() < 2):
            raise DataError(f"{name}: {what} needs two or more classes, one of them with two or more images")


def _validate_identities(name: str, table: pd.DataFrame, complete: bool) -> None:
    split, fold, label = table["split"], table["fold"], table["label"]
    _refuse(name, table, table["camera"].isna(), "no camera")
    _refuse(name, table, label < 0, "junk (identity below 0) does not belong into the records")
    _refuse(name, table, (label == 0) & (split != "gallery"), "a distractor (identity 0) outside the gallery")
    trained = set(label[split == "train"])
    _refuse(name, table, (split != "train") & label.isin(trained), "an identity of the test part that also trains")
    validated = set(label[fold.isin(["val_query", "val_gallery"])])
    _refuse(name, table, (fold == "train") & label.isin(validated), "an identity both in training and in validation")
    pairs = [(split == "query", split == "gallery"), (fold == "val_query", fold == "val_gallery")]
    for query, gallery in pairs:
        here = set(label[gallery])
        alone = query & ~label.isin(here)
        if complete or alone[query].all():
            _refuse(name, table, alone, "a query whose identity is not in the gallery")


def write(records: Records, folder: Path) -> None:
    """Write records.parquet and description.json into `folder`; equal records give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "description.json").unlink(missing_ok=True)
    write_parquet(records.table, folder / "records.parquet")
    text = (
        json.dumps(records.description, indent=2, ensure_ascii=False) + "\n"
    )  # not sorted: attributes are in column order
    temporary = folder / "description.json.part"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / "description.json")


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table under a temporary name, then rename it: a file of that name is always whole."""
    temporary = path.with_name(path.name + ".part")
    table.to_parquet(temporary, index=False)
    temporary.replace(path)


def read(folder: Path) -> Records:
    """Read what `write` wrote. Raises DataError when it is missing or cannot be read."""
    try:
        description = json.loads((folder / "description.json").read_text(encoding="utf-8"))
        table = pd.read_parquet(folder / "records.parquet")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}: no whole records.parquet and description.json ({error}); run stage prepare"
        ) from error
    return Records(table, description)


def read_regions(folder: Path) -> pd.DataFrame | None:
    """The true regions of a twin's attributes beside its records, or None: columns image, attribute, x, y, w, h in pixels."""
    path = folder / "regions.parquet"
    return pd.read_parquet(path) if path.is_file() else None
