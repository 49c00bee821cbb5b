"""Caltech-UCSD Birds-200-2011 (Wah et al., 2011): classification by the official split, or retrieval by halves of the classes.

The facts, as the real files have them (those of the attributes: cub200_attributes.py):
* 11,788 images of 200 classes, 5,994 to train and 5,794 to test; 41 to 60 images a class. Folder == class name.
* For retrieval classes 1 to 100 train (5,864 images of both splits), 101 to 200 are searched (5,924).
* Boxes are `x y w h` in pixels, the corner counted from 0. An image without a box, or with one of no area, counts as a
  whole image.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from a3m.data.cub200_attributes import ARCHIVE, FOLDS, LABELS, fold, names_file, read_groups, read_present
from a3m.data.disk import check_counts, expected_counts, keyed_rows, on_disk
from a3m.data.records import BOX, Records, arrange
from a3m.errors import DataError, SettingsError

if TYPE_CHECKING:
    from a3m.settings import Data

FOLDER = "CUB_200_2011"
TASKS = ("classification", "retrieval")

# What a reader counts; a twin's `twin.json` holds the keys of classification, whatever the task.
PUBLISHED = {"images": 11788, "train": 5994, "test": 5794, "classes": 200, "attributes": 312, "attribute_groups": 28}
PUBLISHED_RETRIEVAL = {
    "images": 11788,
    "classes": 200,
    "train": 5864,
    "test": 5924,
    "train_classes": 100,
    "test_classes": 100,
}


def read(root: Path, settings: "Data", task: str = "classification") -> Records:
    """Read the original layout below `root`, which contains `CUB_200_2011/` or is that folder.

    Classification: `settings.fold` "masked": a group without a present value is -1. "released": it is value 0, "absent",
    a class of its own. Retrieval: the first half of the classes, by class id, trains and the second half is searched,
    whatever the official split; no attributes, whose files are not read, and no boxes.
    Labels are class id - 1; with `settings.allow_subset` they are the rank among the classes that have images.
    Raises DataError on anything missing, empty, unexpected or incomplete; `settings.allow_subset` admits fewer images,
    drops those that are listed but not on disk, and admits a missing attribute file (then there are no attributes).
    `settings.missing_limit` is the share of the listed images that may be missing otherwise.
    """
    if task not in TASKS:
        raise SettingsError(f"dataset.task={task}: CUB-200-2011 is read for {' and '.join(TASKS)}")
    if task == "classification" and settings.fold not in FOLDS:
        raise SettingsError(f"data.fold={settings.fold}: CUB-200-2011 knows the folds {' and '.join(FOLDS)}")
    base = root / FOLDER if (root / FOLDER).is_dir() else root
    if not (base / "images.txt").is_file():
        raise DataError(f"{root}: holds no {FOLDER}/images.txt; unpack {ARCHIVE} there")
    if not (base / "images").is_dir():
        raise DataError(f"{base / 'images'}: missing; it is part of {ARCHIVE}")
    checks: list[str] = []
    listed = _listed(root, base, checks)
    frame = on_disk(root, listed, lists="images.txt", origin=ARCHIVE, settings=settings, checks=checks)
    missing = len(listed) - len(frame)
    listed, listed_classes = _contiguous(base, listed, settings.allow_subset)
    frame, classes = _contiguous(base, frame, settings.allow_subset)

    groups: dict[str, list[str]] = {}
    columns: dict[str, np.ndarray] = {}
    if task == "retrieval":
        listed, frame = _halves(listed, len(listed_classes)), _halves(frame, len(classes))
    else:
        groups, columns = _attributes(root, base, frame, settings, missing > 0, checks)
    published = PUBLISHED if task == "classification" else PUBLISHED_RETRIEVAL
    source, expected = expected_counts(
        root, base, published, None if task == "classification" else ("images", "classes")
    )
    complete = check_counts(base, _counts(listed, groups, task), expected, settings.allow_subset) and not missing
    first = f"counts are {'those of twin.json' if source == 'twins' else 'the published ones'}"
    names = {name: ["absent", *values] if settings.fold == "released" else values for name, values in groups.items()}
    description = {
        "dataset": "cub200",
        "task": task,
        "source": source,
        "complete": complete,
        "attributes": names,
        "classes": classes,
        "counts": _counts(frame, groups, task),
        "origin": "Caltech-UCSD Birds-200-2011 (Wah et al., 2011)",
        "checks": [first if complete else "a part of the data set", *checks],
    }
    return Records(arrange(frame, columns), description)


def _attributes(
    root: Path, base: Path, frame: pd.DataFrame, settings: "Data", missing: bool, checks: list[str]
) -> tuple[dict[str, list[str]], dict[str, np.ndarray]]:
    """The groups with their value names, and one column a group for the images of `frame`."""
    path = base / "attributes" / LABELS
    if not path.is_file():
        if not settings.allow_subset:
            raise DataError(f"{path}: missing; it is part of {ARCHIVE}")
        checks.append(f"no {LABELS}: no attributes")
        return {}, {}
    groups = read_groups(names_file(root, base))
    sizes = [len(values) for values in groups.values()]
    others = settings.allow_subset or missing
    present = read_present(path, frame["id"].to_numpy(), sum(sizes), others=others)
    return groups, fold(present, sizes, groups, settings.fold)


def _halves(frame: pd.DataFrame, classes: int) -> pd.DataFrame:
    """The rows with the splits of retrieval, without boxes."""
    return frame.drop(columns=list(BOX)).assign(split=np.where(frame["label"] < classes // 2, "train", "test"))


def _counts(frame: pd.DataFrame, groups: dict[str, list[str]], task: str) -> dict[str, int]:
    train = frame["split"] == "train"
    counts = {
        "images": len(frame),
        "train": int(train.sum()),
        "test": int((~train).sum()),
        "classes": int(frame["label"].nunique()),
    }
    if task == "retrieval":
        trained = int(frame.loc[train, "label"].nunique())
        return counts | {"train_classes": trained, "test_classes": counts["classes"] - trained}
    return counts | {"attributes": sum(map(len, groups.values())), "attribute_groups": len(groups)}


def _listed(root: Path, base: Path, checks: list[str]) -> pd.DataFrame:
    """One row an image of images.txt: id, name, image, split, class id, x y w h."""
    names = keyed_rows(base / "images.txt", 2, ARCHIVE, numeric=False)
    labels = keyed_rows(base / "image_class_labels.txt", 2, ARCHIVE)
    splits = keyed_rows(base / "train_test_split.txt", 2, ARCHIVE)
    boxes = keyed_rows(base / "bounding_boxes.txt", 5, ARCHIVE)
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


def _contiguous(base: Path, frame: pd.DataFrame, allow_subset: bool) -> tuple[pd.DataFrame, list[str]]:
    """The rows with a column `label`, and the class names in label order."""
    path = base / "classes.txt"
    classes = {key: name for key, (name,) in sorted(keyed_rows(path, 2, ARCHIVE, numeric=False).items())}
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
