"""The five attributes of a CompCars model: maximum speed, displacement, doors, seats and type.

The facts, as the real files and their readers have them:
* `misc/attributes.txt`: a header, then `model_id maximum_speed displacement door_number seat_number type`, 1,716 models;
  speed 0..420 (km/h), displacement 0.0..8.0 (litres), doors 0..6, seats 0..23, type 0..12; 0 = unknown.
* `misc/car_type.mat` names the 12 types. `author_lists/train_attr_disc`, `test_attr_disc`: `<path> doors seats type` an
  image, the same for all of a model: class indices from 0 of doors {2, 3, 4, 5}, seats {2, 4, 5, more} and type - 1.
* attributes.txt wins, whole: the authors' lists serve where it is missing, and then there is no speed and displacement.
* Speed and displacement become quantile bins, whose edges are those of the models that have training images.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io

from a3m.data.disk import read_lines
from a3m.errors import DataError

COLUMNS = ("model_id", "maximum_speed", "displacement", "door_number", "seat_number", "type")
TYPES = (
    "MPV", "SUV", "sedan", "hatchback", "minibus", "fastback", "estate", "pickup", "hardtop convertible", "sports",
    "crossover", "convertible",
)  # fmt: skip
DOORS = ("2", "3", "4", "5")
SEATS = ("2", "4", "5", "more than 5")
BINNED = {"maximum_speed": "km/h", "displacement": "l"}


def read_attributes(path: Path, types: Sequence[str], origin: str) -> dict[int, dict[str, float]]:
    """Model id -> the values of `attributes.txt` as they stand there, 0 = unknown. Raises DataError naming the line."""
    order: Sequence[str] = COLUMNS
    models: dict[int, dict[str, float]] = {}
    for position, (number, line) in enumerate(read_lines(path, origin)):
        parts = line.split()
        if position == 0 and set(parts) == set(COLUMNS):
            order = parts
            continue
        try:
            row = dict(zip(order, map(float, parts), strict=True))
            model = int(row["model_id"])
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: {line[:80]!r} does not parse (expected {' '.join(COLUMNS)}); fetch it again: {origin}"
            ) from error
        for name, top, whole in (
            ("maximum_speed", 1000, False),
            ("displacement", 20, False),
            ("door_number", 6, True),
            ("seat_number", 100, True),
            ("type", len(types), True),
        ):
            if not 0 <= row[name] <= top or (whole and not row[name].is_integer()):
                raise DataError(
                    f"{path}, line {number}: model {model} has {name} {row[name]:g}, expected "
                    f"{'a whole number ' if whole else ''}from 0 (unknown) to {top}; fetch it again: {origin}"
                )
        if model in models:
            raise DataError(f"{path}, line {number}: model {model} is there twice; fetch it again: {origin}")
        models[model] = row
    return models


def fold_attributes(
    models: Sequence[int], train: set[int], values: dict[int, dict[str, float]], types: Sequence[str], bins: int,
    checks: list[str],
) -> tuple[dict[str, list[str]], dict[int, dict[str, int]], dict[str, list[float]]]:  # fmt: skip
    """Value names of the attributes, model -> attribute -> class index (-1 = unknown), and the edges of the bins.

    `train` holds the models that have training images. A count of doors or seats that is none of the classes, such as 3
    seats, is unknown and counted in `checks`; so is what cannot be binned, which is left out.
    """
    unknown = dict.fromkeys(COLUMNS, 0.0)
    rows = {model: values.get(model, unknown) for model in models}
    names: dict[str, list[str]] = {}
    folded: dict[int, dict[str, int]] = {model: {} for model in models}
    edges: dict[str, list[float]] = {}
    for name, unit in BINNED.items():
        known = [rows[model][name] for model in models if model in train and rows[model][name] > 0]
        edges[name] = quantile_edges(np.array(known), bins)
        if not edges[name]:
            checks.append(f"{name}: fewer than two different values on the training models; left out")
            del edges[name]
            continue
        if len(edges[name]) + 1 < bins:
            checks.append(f"{name}: {len(edges[name]) + 1} bins instead of {bins}, because of equal values")
        names[name] = bin_names(edges[name], unit)
        for model, row in rows.items():
            folded[model][name] = int(np.searchsorted(edges[name], row[name], side="right")) if row[name] > 0 else -1
    odd: list[str] = []
    for model, row in rows.items():
        doors, seats = int(row["door_number"]), int(row["seat_number"])
        folded[model]["doors"] = DOORS.index(str(doors)) if str(doors) in DOORS else -1
        folded[model]["seats"] = SEATS.index(str(seats)) if str(seats) in SEATS else len(SEATS) - 1 if seats > 5 else -1
        folded[model]["type"] = int(row["type"]) - 1
        odd += [
            f"{model} ({number} {name})"
            for name, number in (("doors", doors), ("seats", seats))
            if number and folded[model][name] == -1
        ]
    if odd:
        checks.append(f"models with a number of doors or seats that is no class, unlabelled: {', '.join(odd)}")
    names |= {"doors": list(DOORS), "seats": list(SEATS), "type": list(types)}
    return names, folded, edges


def quantile_edges(values: np.ndarray, bins: int) -> list[float]:
    """Inner edges of `bins` bins with about equally many of `values` (n,); a value at an edge is in the bin above it.

    Edges are values that occur, each once: equal values stay together, so there can be fewer bins, none of them empty, and
    two wherever two values differ.
    """
    different = np.unique(values)
    if len(different) < 2:
        return []
    inner = np.quantile(values, np.arange(1, bins) / bins, method="higher")
    return [float(edge) for edge in np.unique(np.maximum(inner, different[1]))]


def bin_names(edges: Sequence[float], unit: str) -> list[str]:
    """One name a bin, such as `below 1.6 l`, `1.6 to 2 l`, `2 l and more`."""
    between = [f"{low:g} to {high:g} {unit}" for low, high in itertools.pairwise(edges)]
    return [f"below {edges[0]:g} {unit}", *between, f"{edges[-1]:g} {unit} and more"]


def read_author_attributes(paths: Sequence[Path], types: Sequence[str], origin: str) -> dict[int, dict[str, int]]:
    """Model id -> class index of doors, seats and type, from lists `<path> doors seats type`. DataError names the line."""
    models: dict[int, tuple[int, ...]] = {}
    for path in paths:
        for number, line in read_lines(path, origin):
            image, *tokens = line.rsplit(maxsplit=3)
            parts = image.split("/")
            try:
                model, classes = int(parts[-3]), tuple(int(token) for token in tokens)
            except (ValueError, IndexError) as error:
                raise DataError(
                    f"{path}, line {number}: {line[:100]!r} does not parse (expected <path> doors seats type); "
                    f"fetch it again: {origin}"
                ) from error
            for name, value, number_of in zip(
                ("doors", "seats", "type"), classes, (len(DOORS), len(SEATS), len(types)), strict=False
            ):
                if not 0 <= value < number_of:
                    raise DataError(
                        f"{path}, line {number}: {name} {value} is outside 0..{number_of - 1}; fetch it again: {origin}"
                    )
            if len(classes) != 3 or models.setdefault(model, classes) != classes:
                raise DataError(
                    f"{path}, line {number}: model {model} has other attributes than in an earlier line, or not three; "
                    f"fetch it again: {origin}"
                )
    return {model: dict(zip(("doors", "seats", "type"), classes, strict=True)) for model, classes in models.items()}


def type_names(path: Path, origin: str) -> list[str]:
    """The names of the types by `car_type.mat`; those of the data set's paper where the file is missing."""
    if not path.is_file():
        return list(TYPES)
    try:
        return [str(np.ravel(cell)[0]).strip() for cell in scipy.io.loadmat(path)["types"].ravel()]
    except Exception as error:  # scipy raises whatever a broken file leads it to
        raise DataError(f"{path}: not a readable car_type.mat ({error!r}); fetch it again: {origin}") from error
