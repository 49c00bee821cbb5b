"""The validation part: cut from the training rows of the records, by a seed of the data and never of a trial."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from a3m.errors import DataError, SettingsError


def cut_validation(table: pd.DataFrame, task: str, share: float, seed: int) -> pd.DataFrame:
    """The table with column `fold` cut anew: `share` of the training data becomes validation.

    Classification: a share of every class, at least one image of a class of two and more, never all.
    Retrieval: a share of the classes, whole, at least two of them, and only such of two and more images.
    Re-identification: a share of the identities, whole, with a query and a gallery of their own as Market-1501 has them:
    of every identity and camera one drawn image is a query, the rest gallery. Identities that only one camera saw stay in
    training. Of an identity with one image a camera, one drawn image is gallery: otherwise none of its queries had a match.
    The cut depends on the images and `seed` alone, not on the order of rows. Raises DataError when nothing can be cut.
    """
    if not 0 <= share < 1:
        raise SettingsError(f"data.validation={share}: expected a share from 0 up to, but not including, 1")
    if task not in CUTS:
        raise DataError(f"no validation can be cut for task {task!r}; known are {', '.join(CUTS)}")
    train = table[table["split"] == "train"].sort_values("image")
    fold = dict.fromkeys(train["image"], "train")
    if share > 0:
        fold |= CUTS[task](train, share, np.random.default_rng(seed))
    return table.assign(fold=pd.Series([fold.get(image) for image in table["image"]], index=table.index))


def _cut_classes(train: pd.DataFrame, share: float, generator: np.random.Generator) -> dict[str, str]:
    fold: dict[str, str] = {}
    for _, images in train.groupby("label", sort=True)["image"]:
        number = min(max(round(share * len(images)), 1), len(images) - 1)
        fold |= dict.fromkeys(generator.permutation(images.to_numpy(dtype=object))[:number], "val")
    if not fold:
        raise DataError(f"data.validation={share}: no class has two training images; set data.validation=0")
    return fold


def _cut_identities(train: pd.DataFrame, share: float, generator: np.random.Generator) -> dict[str, str]:
    cameras = train.groupby("label", sort=True)["camera"].nunique()
    seen_twice = cameras.index[cameras > 1].to_numpy()
    number = min(max(round(share * len(cameras)), 1), len(seen_twice), len(cameras) - 1)
    if number < 1:
        raise DataError(f"data.validation={share}: no training identity that two cameras saw; set data.validation=0")
    fold: dict[str, str] = {}
    for identity in sorted(generator.permutation(seen_twice)[:number]):
        own = train[train["label"] == identity]
        fold |= dict.fromkeys(own["image"], "val_gallery")
        queries = [generator.choice(i.to_numpy(dtype=object)) for _, i in own.groupby("camera", sort=True)["image"]]
        if len(queries) == len(own):
            queries.pop(int(generator.integers(len(queries))))
        fold |= dict.fromkeys(queries, "val_query")
    return fold


def _cut_whole_classes(train: pd.DataFrame, share: float, generator: np.random.Generator) -> dict[str, str]:
    sizes = train["label"].value_counts().sort_index()
    searchable = sizes.index[sizes > 1].to_numpy()  # in a class of one image nothing can be found
    number = min(max(round(share * len(sizes)), 2), len(searchable), len(sizes) - 2)
    if number < 2:
        raise DataError(
            f"data.validation={share}: of {len(sizes)} training classes, two whole ones of two or more images cannot be "
            "cut so that two are left; set data.validation=0"
        )
    drawn = generator.permutation(searchable)[:number]
    return dict.fromkeys(train.loc[train["label"].isin(drawn), "image"], "val")


CUTS: dict[str, Callable[[pd.DataFrame, float, np.random.Generator], dict[str, str]]] = {
    "classification": _cut_classes,
    "re-identification": _cut_identities,
    "retrieval": _cut_whole_classes,
}
