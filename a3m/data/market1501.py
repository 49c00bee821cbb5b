"""Market-1501 (Zheng et al., ICCV 2015) with the attributes of Lin et al. (Pattern Recognition 2019).

The facts, as the real files have them:
* bounding_box_train 12,936 images of 751 people; query 3,368 of 750 others; bounding_box_test 19,732 = 13,115 of the
  same 750 + 2,798 distractors (identity 0000: they stay in the gallery) + 3,819 junk (identity -1: dropped here, and
  counted). 15,913 gallery images remain. Six cameras.
* Names are `0002_c1s1_000451_03.jpg`: identity, camera, sequence, frame, box. 24 names end in `.jpg.jpg` (query and
  gallery). Folders may hold a `Thumbs.db`.
* `market_attribute.mat` holds one struct for test and one for train (in this order). Their fields are the same but in a
  different order: always access by name. Values count from 1. `image_index` names the identity of each column; files
  without it are the 2017 versions, in which hat and the colours of train are coded the other way round.
* Attributes belong to an identity. Of the colours at most one is set: 78 train and 69 test identities have no upper
  colour, 30 and 44 no lower one. Folded, these are unlabelled (-1), never a class of their own.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.io

from a3m.data.disk import check_counts, expected_counts, file_sizes
from a3m.data.records import Records, arrange
from a3m.errors import DataError, SettingsError

if TYPE_CHECKING:
    from a3m.settings import Data

FOLDER = "Market-1501-v15.09.15"
FOLDERS = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
NAME = re.compile(r"(-1|\d{4})_c([1-6])s[1-6]_\d{6}_\d{2}\.jpg(?:\.jpg)?")
FOLDS = ("12", "27")
LITTER = {"Thumbs.db", "desktop.ini", ".DS_Store"}
JUNK, DISTRACTOR = -1, 0
IMAGES_FROM = "the Market-1501 project page of Liang Zheng (zheng-lab.cecs.anu.edu.au/Project/project_reid.html)"
ATTRIBUTES_FROM = "github.com/vana77/Market-1501_Attribute (market_attribute.mat of its last version, 10,220 bytes)"

# What a reader counts; a twin's `twin.json` holds the same keys.
PUBLISHED = {
    "train": 12936,
    "train_identities": 751,
    "query": 3368,
    "query_identities": 750,
    "gallery": 15913,  # junk left out
    "gallery_identities": 750,  # distractors left out
    "distractors": 2798,
    "junk": 3819,
}

# Value names by Lin et al.; the file's values count from 1 in this order.
ATTRIBUTES = {
    "gender": ["male", "female"],
    "hair": ["short", "long"],
    "age": ["young", "teenager", "adult", "old"],
    "up": ["long", "short"],  # sleeves
    "down": ["long", "short"],  # lower-body clothing
    "clothes": ["dress", "pants"],
    "hat": ["no", "yes"],
    "backpack": ["no", "yes"],
    "bag": ["no", "yes"],
    "handbag": ["no", "yes"],
}
# Colours in the order of the authors' evaluate_market_attribute.m; the file's fields are upblack ... and downblack ...
COLOURS = {
    "upper_colour": ("up", ["black", "white", "red", "purple", "gray", "blue", "green", "yellow"]),
    "lower_colour": ("down", ["black", "white", "pink", "gray", "blue", "green", "brown", "yellow", "purple"]),
}
FIELDS = (*ATTRIBUTES, *(stem + colour for stem, colours in COLOURS.values() for colour in colours))


def read(root: Path, settings: "Data", task: str = "re-identification") -> Records:
    """Read the original layout below `root`, which contains `Market-1501-v15.09.15/` or is that folder.

    `settings.fold` "12": the 17 colours become upper_colour and lower_colour. "27": every field of the file is an
    attribute (`upper_colour_black` no | yes, ...). Labels are original identities. No image is decoded here.
    Raises DataError on anything missing, empty, unexpected or incomplete; `settings.allow_subset` admits fewer images
    and a missing attribute file (then there are no attribute columns).
    """
    if task != "re-identification":
        raise SettingsError(f"dataset.task={task}: Market-1501 is read for re-identification")
    if settings.fold not in FOLDS:
        raise SettingsError(f"data.fold={settings.fold}: Market-1501 knows the folds {' and '.join(FOLDS)}")
    base = _base(root)
    checks: list[str] = []
    frame = pd.concat([_images(root, base / folder, split) for folder, split in FOLDERS.items()], ignore_index=True)
    junk = frame["label"] == JUNK
    if junk.any():
        checks.append(f"{junk.sum()} junk images (identity -1) left out of the gallery")
    identities = frame[frame["label"] > DISTRACTOR].groupby("split")["label"].nunique()
    frame = frame[~junk].reset_index(drop=True)
    counts = {split: int((frame["split"] == split).sum()) for split in FOLDERS.values()}
    counts |= {f"{split}_identities": int(identities.get(split, 0)) for split in FOLDERS.values()}
    counts |= {"distractors": int((frame["label"] == DISTRACTOR).sum()), "junk": int(junk.sum())}
    source, expected = expected_counts(root, base, PUBLISHED)
    complete = check_counts(base, counts, expected, settings.allow_subset)
    path = _attribute_file(root, base)
    names: dict[str, list[str]] = {}
    columns: dict[str, np.ndarray] = {}
    if path is None and not settings.allow_subset:
        raise DataError(
            f"{base / 'attribute' / 'market_attribute.mat'}: missing; it is to be had from {ATTRIBUTES_FROM}"
        )
    if path is None:
        complete = False
        checks.append("no market_attribute.mat: no attributes")
    else:
        names, people = _people(path, settings.fold)
        columns = _columns(path, frame, people, settings.allow_subset, checks)
        unlabelled = {name: int((values == -1)[frame["label"] > 0].sum()) for name, values in columns.items()}
        checks.extend(f"{name}: {number} images unlabelled" for name, number in unlabelled.items() if number)
    first = f"counts are {'those of twin.json' if source == 'twins' else 'the published ones'}"
    description = {
        "dataset": "market1501",
        "task": "re-identification",
        "source": source,
        "complete": complete,
        "attributes": names,
        "counts": {key: counts[key] for key in PUBLISHED},
        "origin": "Market-1501 (Zheng et al., ICCV 2015), attributes by Lin et al. (Pattern Recognition 2019)",
        "checks": [first if complete else "a part of the data set (data.allow_subset)", *checks],
    }
    return Records(arrange(frame, columns), description)


def _base(root: Path) -> Path:
    for base in (root / FOLDER, root):
        if any((base / folder).is_dir() for folder in FOLDERS):
            break
    else:
        raise DataError(
            f"{root}: holds no {FOLDER}/ with {', '.join(FOLDERS)}; unpack the archive from {IMAGES_FROM} there"
        )
    for folder in FOLDERS:
        if not (base / folder).is_dir():
            raise DataError(f"{base / folder}: missing; it is part of the archive from {IMAGES_FROM}")
    return base


def _images(root: Path, folder: Path, split: str) -> pd.DataFrame:
    """image, split, label, camera of one folder's images."""
    rows, stems = [], set()
    for name, size in sorted(file_sizes(folder).items()):
        if name in LITTER:
            continue
        match = NAME.fullmatch(name)
        if match is None:
            raise DataError(f"{folder / name}: not a Market-1501 file name (expected 0002_c1s1_000451_03.jpg)")
        if size == 0:
            raise DataError(f"{folder / name}: empty file; copy it again from the archive")
        identity, stem = int(match[1]), name.split(".")[0]
        if identity <= DISTRACTOR and split != "gallery":
            raise DataError(f"{folder / name}: identity {match[1]} belongs into bounding_box_test only")
        if stem in stems:
            raise DataError(f"{folder / name}: the image is there twice, as {stem}.jpg and {stem}.jpg.jpg; delete one")
        stems.add(stem)
        rows.append(((folder / name).relative_to(root).as_posix(), split, identity, int(match[2])))
    if not rows:
        raise DataError(f"{folder}: no images; they are in the archive from {IMAGES_FROM}")
    return pd.DataFrame(rows, columns=["image", "split", "label", "camera"])


def _attribute_file(root: Path, base: Path) -> Path | None:
    name = "market_attribute.mat"
    places = [base / "attribute" / name, base / name, root / "attribute" / name, root / name]
    return next((path for path in places if path.is_file()), None)


def _people(path: Path, fold: str) -> tuple[dict[str, list[str]], pd.DataFrame]:
    """Value names of every attribute, and a table with one row a person: train (bool), identity as index, attributes."""
    try:
        parts = scipy.io.loadmat(path)["market_attribute"][0, 0]
        structs = {part: parts[part][0, 0] for part in ("train", "test")}
    except Exception as error:  # scipy raises whatever a broken file leads it to
        raise DataError(
            f"{path}: not a readable market_attribute.mat ({error}); fetch it again from {ATTRIBUTES_FROM}"
        ) from error
    people = pd.concat([_part(path, part, struct) for part, struct in structs.items()])
    doubled = people.index[people.index.duplicated()]
    if len(doubled):
        raise DataError(f"{path}: identity {doubled[0]:04d} is there twice")
    names = {name: list(values) for name, values in ATTRIBUTES.items()}
    folded = {"train": people["train"], **{name: people[name] for name in ATTRIBUTES}}
    for attribute, (stem, colours) in COLOURS.items():
        chosen = people[[stem + colour for colour in colours]].to_numpy()  # 0 = no, 1 = yes
        several = people.index[chosen.sum(axis=1) > 1]
        if len(several):
            raise DataError(
                f"{path}: identity {several[0]:04d} has more than one {attribute}; fetch it again from {ATTRIBUTES_FROM}"
            )
        if fold == "12":
            names[attribute] = list(colours)
            folded[attribute] = pd.Series(np.where(chosen.any(axis=1), chosen.argmax(axis=1), -1), index=people.index)
        else:
            names |= {f"{attribute}_{colour}": ["no", "yes"] for colour in colours}
            folded |= {f"{attribute}_{colour}": people[stem + colour] for colour in colours}
    return names, pd.DataFrame(folded)


def _part(path: Path, part: str, struct: Any) -> pd.DataFrame:
    present = struct.dtype.names or ()
    if "image_index" not in present:
        raise DataError(
            f"{path}: {part} has no field image_index: a version of 2017, whose hat and colours are coded differently; "
            f"wanted is {ATTRIBUTES_FROM}"
        )
    absent = [field for field in FIELDS if field not in present]
    if absent:
        raise DataError(f"{path}: {part} lacks the fields {', '.join(absent)}; fetch it again from {ATTRIBUTES_FROM}")
    identities = _identities(path, part, struct["image_index"].ravel())
    people = pd.DataFrame({"train": part == "train"}, index=pd.Index(identities, name="identity"))
    for field in FIELDS:
        values = struct[field].ravel()
        top = len(ATTRIBUTES.get(field, ["no", "yes"]))
        if len(values) != len(identities) or not np.isin(values, range(1, top + 1)).all():
            raise DataError(f"{path}: {part}.{field} must be {len(identities)} values from 1 to {top}")
        people[field] = values.astype(np.int64) - 1
    return people


def _identities(path: Path, part: str, cells: Iterable[Any]) -> list[int]:
    try:
        return [int(str(np.ravel(cell)[0])) for cell in cells]
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: {part}.image_index holds something that is no identity ({error})") from error


def _columns(
    path: Path, frame: pd.DataFrame, people: pd.DataFrame, allow_subset: bool, checks: list[str]
) -> dict[str, np.ndarray]:
    """Attribute columns of the images; -1 for distractors. The part of the file must be that of the folder."""
    persons = frame[frame["label"] > DISTRACTOR]
    wanted = {
        part: set(persons.loc[(persons["split"] == "train") == (part == "train"), "label"])
        for part in ("train", "test")
    }
    for part, identities in wanted.items():
        described = set(people.index[people["train"] == (part == "train")])
        unknown, unseen = sorted(identities - described), sorted(described - identities)
        if unknown and not allow_subset:
            raise DataError(f"{path}: {part} lacks identity {unknown[0]:04d} ({len(unknown)} in all), which has images")
        if unseen and not allow_subset:
            raise DataError(
                f"{path}: {part} describes identity {unseen[0]:04d} ({len(unseen)} in all), which has no images"
            )
        if unknown:
            people = people.drop(index=[identity for identity in unknown if identity in people.index])
            checks.append(f"{len(unknown)} {part} identities without attributes")
    rows = people.drop(columns="train").reindex(frame["label"], fill_value=-1)
    return {str(name): rows[name].to_numpy(dtype=np.int64) for name in rows.columns}
