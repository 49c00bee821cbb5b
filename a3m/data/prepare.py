"""Stage prepare: check a source, twin or real, and write its records with a validation part."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from a3m.data import cars196, compcars, cub200, market1501
from a3m.data.cub200_attributes import ARCHIVE
from a3m.data.folds import cut_validation
from a3m.data.records import Records, validate, write, write_parquet
from a3m.errors import DataError, SettingsError

if TYPE_CHECKING:
    from a3m.settings import Data


def _manifest(root: Path, settings: "Data", task: str) -> Records:
    """A user's own data. Imported where it is used: the other data sets do not depend on its code."""
    from a3m.data import manifest

    return manifest.read(root, settings, task)


Reader = Callable[[Path, "Data", str], Records]
READERS: dict[str, Reader] = {
    "market1501": market1501.read,
    "cub200": cub200.read,
    "compcars": compcars.read,
    "cars196": cars196.read,
    "manifest": _manifest,
}

# What a user puts into the root for each reader, and from where.
LAYOUT = {
    "market1501": (
        f"{market1501.FOLDER}/ with bounding_box_train, bounding_box_test and query from {market1501.IMAGES_FROM}, "
        f"and in its folder attribute/ market_attribute.mat from {market1501.ATTRIBUTES_FROM}"
    ),
    "cub200": f"{cub200.FOLDER}/ and attributes.txt beside it, both from {ARCHIVE}",
    "compcars": f"data/ and misc/ from {compcars.ARCHIVE}, and author_lists/ from {compcars.LISTS_FROM}",
    "cars196": f"cars_annos.mat and car_ims/ from {cars196.ARCHIVE}",
    "manifest": "your images and a CSV (columns image, label or identity, split) that names them",
}
REGION_COLUMNS = ["image", "attribute", "x", "y", "w", "h"]


def prepare(dataset: str, reader: str, task: str, root: Path, settings: "Data", out: Path) -> dict[str, Any]:
    """Read `root`, cut the validation part, validate, and write records.parquet, description.json and, for a twin with
    attributes, regions.parquet (columns image, attribute, x, y, w, h in pixels of the image file) into `out`.

    `dataset` names the records, `reader` knows the layout of `root`, which is only read.
    Returns the description. Raises DataError or SettingsError and then leaves no description in `out`.
    """
    if reader not in READERS:
        raise SettingsError(f"dataset.reader={reader}: no such reader; known are {', '.join(READERS)}")
    if not _holds_data(root):
        what = "is missing" if not root.is_dir() else "is empty"
        remedy = "draw the twin (stage twin)" if settings.source == "twins" else f"put there: {LAYOUT[reader]}"
        raise DataError(f"{root}: {what}; {remedy}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "description.json").unlink(missing_ok=True)  # until the end, nothing here passes for whole
    (out / "regions.parquet").unlink(missing_ok=True)
    records = READERS[reader](root, settings, task)
    table = cut_validation(records.table, records.description["task"], settings.validation, settings.split_seed)
    fold = table["fold"].value_counts().sort_index()
    validation = {"share": settings.validation, "seed": settings.split_seed}
    validation |= {str(name): int(number) for name, number in fold.items()}
    more = {"dataset": dataset, "attribute_fold": settings.fold, "validation": validation}
    records = Records(table, records.description | more)
    validate(records)
    if (root / "regions.csv").is_file() and records.description["attributes"]:
        write_parquet(_regions(root / "regions.csv", records), out / "regions.parquet")
    write(records, out)
    return records.description


def _holds_data(root: Path) -> bool:
    if not root.is_dir():
        return False
    return any(not path.name.startswith(".") and path.name != "README.md" for path in root.iterdir())


def _regions(path: Path, records: Records) -> pd.DataFrame:
    """The visible region of every attribute of every image of the records, sorted; junk images have no place there.

    An attribute that the fold splits (upper_colour of Market-1501 into upper_colour_black ...) passes its region on.
    """
    try:
        regions = pd.read_csv(path, dtype={"image": "str", "attribute": "str"} | dict.fromkeys("xywh", "float64"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); draw the twin again (stage twin)") from error
    if list(regions.columns) != REGION_COLUMNS:
        raise DataError(f"{path}: columns are {list(regions.columns)}, expected {REGION_COLUMNS}; draw the twin again")
    names = list(records.description["attributes"])
    heirs = {a: [n for n in names if n == a or n.startswith(f"{a}_")] for a in regions["attribute"].unique()}
    unknown = [str(attribute) for attribute, found in heirs.items() if not found]
    if unknown:
        raise DataError(f"{path}: attribute {unknown[0]!r} is not one of {', '.join(names)}")
    regions = regions[regions["image"].isin(records.table["image"])]
    bad = regions[["x", "y", "w", "h"]].isna().any(axis=1) | (regions["w"] <= 0) | (regions["h"] <= 0)
    if bad.any():
        raise DataError(f"{path}, line {int(regions.index[bad][0]) + 2}: the region has no area")
    regions = regions.assign(attribute=regions["attribute"].map(heirs)).explode("attribute")
    regions["attribute"] = pd.Categorical(regions["attribute"], categories=names, ordered=True)
    regions = regions.sort_values(["image", "attribute"], ignore_index=True)
    doubled = regions.duplicated(["image", "attribute"])
    if doubled.any():
        row = regions[doubled].iloc[0]
        raise DataError(f"{path}: {row['image']}, {row['attribute']} is there twice")
    return regions.assign(attribute=regions["attribute"].astype("str"))
