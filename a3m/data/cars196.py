"""CARS196, Stanford Cars (Krause et al., 2013): retrieval by halves of the classes, or classification by the official split.

The facts, as the real files have them:
* `cars_annos.mat` with `car_ims/`: 16,185 images, 196 classes, `test` 0 (8,144) or 1 (8,041). The other distribution has
  `cars_train/`, `cars_test/` and `devkit/` (cars_train_annos.mat, cars_meta.mat) with `cars_test_annos_withlabels.mat`;
  its images are the same under other numbers, and 00001.jpg of cars_train is another image than that of cars_test.
* For retrieval classes 1 to 98 train (8,054 images of both splits), 99 to 196 are searched (8,131).
* Rows are not sorted by class: class 119 comes in two runs, the devkit's are mixed.
* Numbers are of the smallest type that holds them, box by box (uint8 beside uint16): cast before any arithmetic.
* Boxes are corners in pixels, counted from 1, both inside the box. Class 174 has a slash in its name.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.io

from a3m.data.disk import check_counts, expected_counts, on_disk
from a3m.data.records import BOX, Records, arrange
from a3m.errors import DataError, SettingsError

if TYPE_CHECKING:
    from a3m.settings import Data

TASKS = ("retrieval", "classification")
ARCHIVE = "Stanford Cars (Krause et al., 3DRR 2013: car_ims.tgz and cars_annos.mat)"
TEST_LABELS = "cars_test_annos_withlabels.mat"
CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")

# What a reader counts; a twin's `twin.json` states images and classes.
PUBLISHED = {
    "retrieval": {
        "images": 16185,
        "classes": 196,
        "train": 8054,
        "test": 8131,
        "train_classes": 98,
        "test_classes": 98,
    },
    "classification": {"images": 16185, "classes": 196, "train": 8144, "test": 8041},
}


def read(root: Path, settings: "Data", task: str = "retrieval") -> Records:
    """Read `cars_annos.mat` and `car_ims/` in `root`, or the devkit's layout: its folders, `devkit/` and the test labels.

    Retrieval: the first half of the classes, by class id, trains and the second half is searched, whatever the official
    split; no boxes. Classification: the official split, with boxes. Labels are class id - 1; with
    `settings.allow_subset` they are the rank among the classes that have images. There are no attributes.
    Raises DataError on anything missing, empty, unexpected or incomplete; `settings.allow_subset` admits fewer images.
    `settings.missing_limit` is the share of the listed images that may be missing on disk otherwise.
    """
    if task not in TASKS:
        raise SettingsError(f"dataset.task={task}: CARS196 is read for {' and '.join(TASKS)}")
    checks: list[str] = []
    listed, names, lists = _listed(root)
    frame = on_disk(root, listed, lists=lists, origin=ARCHIVE, settings=settings, checks=checks)
    missing = len(listed) - len(frame)
    listed, _ = _labelled(listed, names, task, settings.allow_subset)
    frame, classes = _labelled(frame, names, task, settings.allow_subset)
    source, expected = expected_counts(root, root, PUBLISHED[task], ("images", "classes"))
    complete = check_counts(root, _counts(listed, task), expected, settings.allow_subset) and not missing
    if task == "retrieval":
        frame = frame.drop(columns=list(BOX))
    elif (degenerate := int(frame["w"].isna().sum())) > 0:
        checks.append(f"{degenerate} images with a box of no area: the whole image is used")
    first = f"counts are {'those of twin.json' if source == 'twins' else 'the published ones'}"
    description = {
        "dataset": "cars196",
        "task": task,
        "source": source,
        "complete": complete,
        "attributes": {},
        "classes": classes,
        "counts": _counts(frame, task),
        "origin": "CARS196 (Krause et al., 3DRR 2013)",
        "checks": [first if complete else "a part of the data set", f"read from {lists}", *checks],
    }
    return Records(arrange(frame, {}), description)


def _listed(root: Path) -> tuple[pd.DataFrame, list[str], str]:
    """The images that either layout lists (image, class, test, x y w h), the class names, and the lists' names."""
    annotations, devkit = root / "cars_annos.mat", root / "devkit"
    if annotations.is_file() and ((root / "car_ims").is_dir() or not devkit.is_dir()):
        file = _load(annotations, "annotations", "class_names")
        names = _class_names(annotations, file)
        frame = _rows(annotations, file["annotations"], "relative_im_path", "", len(names))
        cells = enumerate(_field(annotations, file["annotations"], "test"), start=1)
        flags = [_whole(annotations, number, "test", cell) for number, cell in cells]
        if not set(flags) <= {0, 1}:
            raise DataError(f"{annotations}: test is neither 0 nor 1 somewhere; fetch it again: {ARCHIVE}")
        return frame.assign(test=flags), names, annotations.name
    if not devkit.is_dir():
        raise DataError(
            f"{root}: holds neither cars_annos.mat with car_ims/ nor devkit/ with cars_train/ and cars_test/; "
            f"unpack {ARCHIVE} there"
        )
    labels = next((path for path in (root / TEST_LABELS, devkit / TEST_LABELS) if path.is_file()), None)
    if labels is None:
        raise DataError(
            f"{root / TEST_LABELS}: missing; devkit/cars_test_annos.mat has no classes. It is part of {ARCHIVE}"
        )
    meta = devkit / "cars_meta.mat"
    names = _class_names(meta, _load(meta, "class_names"))
    parts = []
    for path, folder, flag in ((devkit / "cars_train_annos.mat", "cars_train/", 0), (labels, "cars_test/", 1)):
        file = _load(path, "annotations")
        parts.append(_rows(path, file["annotations"], "fname", folder, len(names)).assign(test=flag))
    return pd.concat(parts, ignore_index=True), names, f"cars_train_annos.mat and {TEST_LABELS}"


def _load(path: Path, *variables: str) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: missing; it is part of {ARCHIVE}")
    try:
        file = scipy.io.loadmat(path)
    except Exception as error:  # scipy raises whatever a broken file leads it to
        raise DataError(f"{path}: not a readable MATLAB file ({error}); fetch it again: {ARCHIVE}") from error
    absent = [name for name in variables if name not in file]
    if absent:
        raise DataError(f"{path}: holds no {' and no '.join(absent)}; fetch it again: {ARCHIVE}")
    return file


def _class_names(path: Path, file: dict[str, Any]) -> list[str]:
    names = [str(np.ravel(cell)[0]) if np.size(cell) else "" for cell in file["class_names"].ravel()]
    if not all(names) or len(set(names)) != len(names):
        raise DataError(f"{path}: class names are empty or there twice; fetch it again: {ARCHIVE}")
    return names


def _field(path: Path, struct: np.ndarray, field: str) -> np.ndarray:
    if field not in (struct.dtype.names or ()):
        raise DataError(f"{path}: its annotations have no field {field}; fetch it again: {ARCHIVE}")
    return struct[field].ravel()


def _whole(path: Path, row: int, field: str, cell: Any) -> int:
    """A cell as a whole number of Python's own type: sums and differences of the file's uint8 would wrap around."""
    value = np.ravel(cell)
    if value.size != 1 or value.dtype.kind not in "uif" or not float(value[0]).is_integer():
        raise DataError(f"{path}, annotation {row}: {field} is {cell!r}, no whole number; fetch it again: {ARCHIVE}")
    return int(value[0])


def _rows(path: Path, struct: np.ndarray, name: str, folder: str, classes: int) -> pd.DataFrame:
    """image, class, x y w h of every annotation; a box of no area is null."""
    cells = [_field(path, struct, field) for field in (name, "class", *CORNERS)]
    rows, seen = [], set()
    for number, (image_, class_, *corners) in enumerate(zip(*cells, strict=True), start=1):
        image = folder + (str(np.ravel(image_)[0]) if np.size(image_) else "")
        parts = PurePosixPath(image).parts
        if len(parts) != 2 or ".." in parts or "\\" in image:
            raise DataError(
                f"{path}, annotation {number}: {image!r} is no image path (expected car_ims/000001.jpg); "
                f"fetch it again: {ARCHIVE}"
            )
        if image in seen:
            raise DataError(f"{path}, annotation {number}: {image} is there twice; fetch it again: {ARCHIVE}")
        seen.add(image)
        label = _whole(path, number, "class", class_)
        if not 1 <= label <= classes:
            raise DataError(
                f"{path}, annotation {number}: class {label} is outside 1..{classes}, the number of class names; "
                f"fetch it again: {ARCHIVE}"
            )
        x1, y1, x2, y2 = (_whole(path, number, f, cell) for f, cell in zip(CORNERS, corners, strict=True))
        whole = x2 <= x1 or y2 <= y1
        rows.append((image, label, *((None,) * 4 if whole else (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1))))
    if not rows:
        raise DataError(f"{path}: lists no images; fetch it again: {ARCHIVE}")
    return pd.DataFrame(rows, columns=["image", "class", *BOX])


def _labelled(frame: pd.DataFrame, names: list[str], task: str, allow_subset: bool) -> tuple[pd.DataFrame, list[str]]:
    """The rows with columns `label` and `split`, and the class names in label order."""
    held = set(frame["class"])
    kept = [key for key in range(1, len(names) + 1) if key in held or not allow_subset]
    frame = frame.assign(label=frame["class"].map({key: label for label, key in enumerate(kept)}))
    train = frame["label"] < len(kept) // 2 if task == "retrieval" else frame["test"] == 0
    return frame.assign(split=np.where(train, "train", "test")), [names[key - 1] for key in kept]


def _counts(frame: pd.DataFrame, task: str) -> dict[str, int]:
    train = frame["split"] == "train"
    counts = {
        "images": len(frame),
        "classes": int(frame["label"].nunique()),
        "train": int(train.sum()),
        "test": int((~train).sum()),
    }
    if task == "retrieval":
        trained = int(frame.loc[train, "label"].nunique())
        counts |= {"train_classes": trained, "test_classes": counts["classes"] - trained}
    return counts
