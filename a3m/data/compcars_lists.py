"""Which images of CompCars train and which are tested: the authors' lists, the shipped lists, or a random draw.

The facts, as the real files have them:
* The published split, 36,456 / 15,627, is not the one that the data set ships (`data/train_test_split/classification`)
  but that of the first author's lists `classification_view_train` and `_test`, rows `<prefix>/CompCars/image/<path>
  class viewpoint`: the prefix is a foreign folder, 37,917 training rows repeat images of rare models up to 5 times.
* Paths are `<make>/<model>/<year>/<14 hex digits>.jpg`. Years are also `unknown` and `5008` (a model's name taken for its
  year). File names are not unique: the path is the identity of an image.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from a3m.data.disk import file_sizes, read_lines
from a3m.errors import DataError

if TYPE_CHECKING:
    from a3m.settings import Data

ARCHIVE = "the CompCars archive (mmlab.ie.cuhk.edu.hk/datasets/comp_cars)"
LISTS_FROM = "the first author's lists (github.com/bogger/caffe-multigpu, models/finetune_web_car/lists)"
LISTS = "author_lists"  # folder in the root
SHIPPED = "train_test_split/classification"  # folder in data/
IMAGE = re.compile(r"(?:.*/)?((\d+)/(\d+)/(\w+)/[0-9a-fA-F]{14}\.jpg)")
TRAIN_SHARE = 0.7  # of a model's images, in the random split

Rows = list[tuple[str, str]]  # path below image/, split


def read_paper(root: Path, base: Path, settings: "Data", checks: list[str]) -> tuple[Rows, str]:
    """The authors' lists, each image once, and their name. One class a model, counted from 0.

    Raises DataError naming list and line; `settings.allow_subset` admits lists of a part of the models.
    """
    rows: Rows = []
    splits: dict[str, str] = {}
    where: list[tuple[Path, int, int]] = []  # list, line, class
    class_of: dict[str, int] = {}
    model_of: dict[int, str] = {}
    for split in ("train", "test"):
        path = author_list(root, f"classification_view_{split}")
        lines = read_lines(path, LISTS_FROM)
        for number, line in lines:
            image, *tokens = line.rsplit(maxsplit=2)
            match = IMAGE.fullmatch(image)
            if match is None or len(tokens) != 2 or not tokens[0].isdigit():
                raise DataError(
                    f"{path}, line {number}: {line[:120]!r} does not parse (expected .../image/78/1/2010/071c428717ceca.jpg "
                    f"class viewpoint); fetch it again: {LISTS_FROM}"
                )
            model, label = match[3], int(tokens[0])
            if class_of.setdefault(model, label) != label or model_of.setdefault(label, model) != model:
                raise DataError(
                    f"{path}, line {number}: model {model} has class {label} here, and before model {model} class "
                    f"{class_of[model]} or class {label} another model; fetch it again: {LISTS_FROM}"
                )
            where.append((path, number, label))
            if splits.setdefault(match[1], split) != split:
                raise DataError(f"{path}, line {number}: {match[1]} also trains; fetch both lists again: {LISTS_FROM}")
        rows += [(image, split) for image, its in splits.items() if its == split]
        repeated = len(lines) - sum(its == split for its in splits.values())
        if repeated:
            checks.append(f"{path.name}: {len(lines)} rows, {repeated} of which repeat an image; each is read once")
    if not settings.allow_subset:
        for path, number, label in where:
            if label >= len(class_of):
                raise DataError(
                    f"{path}, line {number}: class {label} is outside 0..{len(class_of) - 1}, for the lists name "
                    f"{len(class_of)} models; fetch them again: {LISTS_FROM}"
                )
    return rows, "classification_view_train and _test"


def author_list(root: Path, name: str, needed: bool = True) -> Path:
    """Where one of the authors' lists lies in `author_lists/`, plain or gzipped. DataError when it is `needed` and missing."""
    places = [root / LISTS / f"{name}{end}" for end in ("", ".gz", ".txt", ".txt.gz")]
    path = next((path for path in places if path.is_file()), None)
    if path is None and needed:
        raise DataError(
            f"{places[1]}: missing; the published split is that of {LISTS_FROM}: put it there, or set data.split=random or "
            "released, which are not comparable with published numbers"
        )
    return path or places[0]


def read_released(root: Path, base: Path, settings: "Data", checks: list[str]) -> tuple[Rows, str]:
    """The lists that the data set ships, one path a row, and their name. Raises DataError naming list and line."""
    rows: Rows = []
    for split in ("train", "test"):
        packed = base / SHIPPED / f"{split}.txt.gz"
        path = packed if packed.is_file() else packed.with_suffix("")
        for number, line in read_lines(path, ARCHIVE):
            match = IMAGE.fullmatch(line)
            if match is None:
                raise DataError(
                    f"{path}, line {number}: {line[:120]!r} does not parse (expected 78/1/2010/071c428717ceca.jpg)"
                )
            rows.append((match[1], split))
    doubled = [image for image, number in Counter(image for image, _ in rows).items() if number > 1]
    if doubled:
        raise DataError(f"{base / SHIPPED}: {doubled[0]} is listed twice ({len(doubled)} in all)")
    return rows, "train.txt and test.txt"


def draw_random(root: Path, base: Path, settings: "Data", checks: list[str]) -> tuple[Rows, str]:
    """A seeded draw of the images on disk, model by model; it depends on the images and the seed alone."""
    models = None
    if author_list(root, "classification_view_train", needed=False).is_file():
        named, origin = read_paper(root, base, settings, [])
    elif (base / SHIPPED).is_dir():
        named, origin = read_released(root, base, settings, [])
    else:
        named, origin = [], ""
    if named:
        models = {image.split("/")[1] for image, _ in named}
        checks.append(f"random split of the {len(models)} models that {origin} name")
    own: dict[str, list[str]] = {}
    for folder in sorted((base / "image").glob("*/*/*")):
        make, model, year = folder.parts[-3:]
        if (models is None or model in models) and folder.is_dir():
            paths = (f"{make}/{model}/{year}/{name}" for name in file_sizes(folder))
            own.setdefault(model, []).extend(path for path in paths if IMAGE.fullmatch(path))
    generator = np.random.default_rng(settings.split_seed)
    rows: Rows = []
    for model in sorted(own, key=int):
        images = generator.permutation(np.array(sorted(own[model]), dtype=object))
        number = max(min(round(TRAIN_SHARE * len(images)), len(images) - 1), 1)
        rows += [(image, "train" if place < number else "test") for place, image in enumerate(images)]
    return rows, "the draw"


SPLITS: dict[str, Callable[[Path, Path, "Data", list[str]], tuple[Rows, str]]] = {
    "paper": read_paper,
    "released": read_released,
    "random": draw_random,
}
