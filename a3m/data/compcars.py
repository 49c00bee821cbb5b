"""CompCars (Yang et al., CVPR 2015; enlarged in arXiv:1506.08959), photographs of whole cars: classification of 431 models.

The facts, as the real files and their readers have them:
* Images are `data/image/<path>`, listed by compcars_lists.py. A class is a model id.
* `data/label/<path>.txt` is viewpoint, number of boxes, and `x1 y1 x2 y2` counted from 1, in three lines that end in LF
  or in CR LF. Some boxes have no area: the whole image is used.
* `misc/make_model_name.mat`: names by id, with empty slots, makes that end in a blank, model names that occur twice.
* Attributes belong to a model (compcars_attributes.py).
"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.io

from a3m.data import compcars_attributes as attributes
from a3m.data.compcars_lists import ARCHIVE, LISTS, LISTS_FROM, SPLITS, Rows, author_list
from a3m.data.disk import check_counts, expected_counts, on_disk
from a3m.data.records import BOX, Records, arrange
from a3m.errors import DataError, SettingsError

if TYPE_CHECKING:
    from a3m.settings import Data

# What a reader counts; a twin's `twin.json` holds all but the makes.
PUBLISHED = {"images": 52083, "train": 36456, "test": 15627, "models": 431, "makes": 75}


def read(root: Path, settings: "Data", task: str = "classification") -> Records:
    """Read the original layout below `root`: `data/`, `misc/` (in `data/` or beside it) and, for the published split,
    `author_lists/`, plain or gzipped.

    `settings.split` "paper": the authors' lists. "released": the lists that the data set ships. "random": a draw of 70 %
    of the images of every model, seeded by `settings.split_seed`, of the models that either kind of list names, else of all
    on disk. Only "paper" may stand beside published numbers: the description says `comparable`, and so do the checks.
    Labels are the rank of the model id. Attributes are those of misc/attributes.txt, in `settings.bins` bins where they
    are continuous; without that file those of the authors' lists, without speed and displacement.
    Raises DataError on anything missing, empty, unexpected or incomplete; `settings.allow_subset` admits fewer images and
    no attributes. `settings.missing_limit` is the share of the listed images that may be missing on disk otherwise.
    """
    if task != "classification":
        raise SettingsError(f"dataset.task={task}: CompCars is read for classification")
    if settings.split not in SPLITS:
        raise SettingsError(f"data.split={settings.split}: CompCars knows the splits {', '.join(SPLITS)}")
    if settings.bins < 2:
        raise SettingsError(f"data.bins={settings.bins}: at least 2 bins of speed and displacement")
    base = root / "data" if (root / "data" / "image").is_dir() else root
    if not (base / "image").is_dir():
        raise DataError(f"{root}: holds no data/image/; unpack {ARCHIVE} there")
    checks: list[str] = []
    rows, lists = SPLITS[settings.split](root, base, settings, checks)
    listed = _frame(base.relative_to(root), rows)
    frame = on_disk(root, listed, lists=lists, origin=ARCHIVE, settings=settings, checks=checks)
    source, expected = expected_counts(root, base, PUBLISHED, ("images", "train", "test", "models"))
    comparable = settings.split == "paper"
    complete = comparable and check_counts(root, _counts(listed), expected, settings.allow_subset)
    complete = complete and len(frame) == len(listed)
    models = sorted((frame if settings.allow_subset else listed)["model"].unique())
    frame["label"] = frame["model"].map({model: label for label, model in enumerate(models)})
    frame[list(BOX)] = _boxes(base, frame["path"], checks)
    names, folded, edges, attributes_from = _attributes(root, base, frame, models, settings, checks)
    columns = {name: np.array([folded[model][name] for model in frame["model"]], dtype=np.int64) for name in names}
    for name in names:
        unlabelled = sum(folded[model][name] == -1 for model in models)
        if unlabelled:
            checks.append(f"{name}: {unlabelled} models unlabelled")
    first = f"counts are {'those of twin.json' if source == 'twins' else 'the published ones'}"
    if not comparable:
        first = f"data.split={settings.split}: not the published split, not comparable with published numbers"
    description = {
        "dataset": "compcars",
        "task": task,
        "source": source,
        "complete": complete,
        "comparable": comparable,
        "data_split": settings.split,
        "attributes": names,
        "attributes_from": attributes_from,
        "bins": edges,
        "classes": _class_names(root, base, frame, models, checks),
        "counts": _counts(frame),
        "origin": "CompCars (Yang et al., CVPR 2015)",
        "checks": [first if complete or not comparable else "a part of the data set", *checks],
    }
    return Records(arrange(frame, columns), description)


def _frame(base: Path, rows: Rows) -> pd.DataFrame:
    """image (below root), path (below image/), split, make, model of every row."""
    prefix = (base / "image").as_posix()
    parts = [path.split("/") for path, _ in rows]
    return pd.DataFrame(
        {
            "image": [f"{prefix}/{path}" for path, _ in rows],
            "path": [path for path, _ in rows],
            "split": [split for _, split in rows],
            "make": [int(part[0]) for part in parts],
            "model": [int(part[1]) for part in parts],
        }
    )


def _counts(frame: pd.DataFrame) -> dict[str, int]:
    train = frame["split"] == "train"
    return {
        "images": len(frame),
        "train": int(train.sum()),
        "test": int((~train).sum()),
        "models": int(frame["model"].nunique()),
        "makes": int(frame["make"].nunique()),
    }


def _boxes(base: Path, paths: pd.Series, checks: list[str]) -> pd.DataFrame:
    """x y w h of every image by its label file; null, counted in `checks`, without one or where a box has no area."""
    boxes: list[tuple[int | None, ...]] = []
    none = degenerate = 0
    for path in paths:
        file = base / "label" / f"{path[:-4]}.txt"
        try:
            tokens = file.read_text(encoding="utf-8").split()  # any line ends
        except FileNotFoundError:
            none += 1
            boxes.append((None,) * 4)
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: cannot be read ({error}); copy it again from {ARCHIVE}") from error
        try:
            x1, y1, x2, y2 = (int(token) for token in tokens[2:6])
        except ValueError as error:
            raise DataError(
                f"{file}: {' '.join(tokens)[:80]!r} does not parse (expected viewpoint, 1, x1 y1 x2 y2 in three lines); "
                f"copy it again from {ARCHIVE}"
            ) from error
        whole = x2 <= x1 or y2 <= y1
        degenerate += whole
        x1, y1 = max(x1, 1), max(y1, 1)
        boxes.append((None,) * 4 if whole else (x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1))
    if none:
        checks.append(f"{none} images without a label file: the whole image is used")
    if degenerate:
        checks.append(f"{degenerate} images with a box of no area: the whole image is used")
    return pd.DataFrame(boxes, columns=list(BOX), index=paths.index, dtype="Float64")


def _misc(root: Path, base: Path, name: str) -> Path:
    """A file of misc/, which lies in data/ or beside it."""
    places = [base / "misc" / name, root / "misc" / name]
    return next((path for path in places if path.is_file()), places[0])


def _attributes(
    root: Path, base: Path, frame: pd.DataFrame, models: list[int], settings: "Data", checks: list[str]
) -> tuple[dict[str, list[str]], dict[int, dict[str, int]], dict[str, list[float]], str]:
    """Value names, model -> attribute -> class index, edges of the bins, and the file that they come from."""
    types = attributes.type_names(_misc(root, base, "car_type.mat"), ARCHIVE)
    path = _misc(root, base, "attributes.txt")
    if path.is_file():
        values = attributes.read_attributes(path, types, ARCHIVE)
        train = set(frame.loc[frame["split"] == "train", "model"])
        folded = attributes.fold_attributes(models, train, values, types, settings.bins, checks)
        return *folded, path.name
    lists = [author_list(root, f"{part}_attr_disc", needed=False) for part in ("train", "test")]
    lists = [path for path in lists if path.is_file()]
    if lists:
        checks.append("no misc/attributes.txt: no maximum speed and displacement; the rest from the authors' lists")
        known = attributes.read_author_attributes(lists, types, LISTS_FROM)
        names = {"doors": list(attributes.DOORS), "seats": list(attributes.SEATS), "type": types}
        return names, {model: known.get(model, dict.fromkeys(names, -1)) for model in models}, {}, lists[0].name
    if not settings.allow_subset:
        raise DataError(
            f"{path}: missing; it is part of {ARCHIVE}. {LISTS}/train_attr_disc would serve for three of five"
        )
    checks.append("no misc/attributes.txt and no train_attr_disc: no attributes")
    return {}, {}, {}, ""


def _class_names(root: Path, base: Path, frame: pd.DataFrame, models: list[int], checks: list[str]) -> list[str]:
    """`<make> <model>` of every model, without a doubled make, made unique by the model id where two are alike."""
    path = _misc(root, base, "make_model_name.mat")
    names: dict[int, str] = {}
    if path.is_file():
        try:
            file = scipy.io.loadmat(path)
            by_id = {key: [_text(cell) for cell in file[key].ravel()] for key in ("make_names", "model_names")}
        except Exception as error:  # scipy raises whatever a broken file leads it to
            raise DataError(
                f"{path}: not a readable make_model_name.mat ({error!r}); fetch it again: {ARCHIVE}"
            ) from error
        make_of = dict(zip(frame["model"], frame["make"], strict=True))
        for model in models:
            make = _at(by_id["make_names"], make_of.get(model, 0))
            name = _at(by_id["model_names"], model)
            if name:
                names[model] = name if name.lower().startswith(make.lower()) else f"{make} {name}"
    unnamed = [model for model in models if model not in names]
    if unnamed:
        checks.append(f"{len(unnamed)} models without a name in make_model_name.mat, called by their id")
    names |= {model: f"model {model}" for model in unnamed}
    often = Counter(names.values())
    return [names[model] if often[names[model]] == 1 else f"{names[model]} (model {model})" for model in models]


def _text(cell: Any) -> str:
    return str(np.ravel(cell)[0]).strip() if np.size(cell) else ""


def _at(names: list[str], key: int) -> str:
    return names[key - 1] if 0 < key <= len(names) else ""
