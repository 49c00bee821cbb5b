"""What one finished A3M trial shows of itself: results/<study>.samples.npz, images and features for Figures 2, 4 and 6.

Dimension letters: N people, Q queries, M points, K attributes, S attribute-guided maps (K where the data set names its attributes),
H W image, h w attention map, D embedding, E final feature.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from a3m.errors import DataError

Array = npt.NDArray[np.generic]
META = ("dataset", "source", "task", "method", "seed", "key")
ARRAYS = {  # name -> kind of number (u unsigned, i whole, f real, b yes or no), dimensions
    "train_images": ("u", "N H W 3"),
    "train_labels": ("i", "N"),
    "train_attributes": ("i", "N K"),
    "query_images": ("u", "Q H W 3"),
    "query_labels": ("i", "Q"),
    "query_attributes": ("i", "Q K"),
    "query_predicted": ("i", "Q K"),
    "query_scores": ("f", "Q S h w"),
    "query_weights": ("f", "Q h w"),
    "query_right": ("b", "Q"),
    "nearest_images": ("u", "Q H W 3"),
    "nearest_labels": ("i", "Q"),
    "embedding_final": ("f", "M E"),
    "embedding_category": ("f", "M D"),
    "embedding_attribute": ("f", "M D"),
    "embedding_labels": ("i", "M"),
}
KINDS = {"u": "uint8", "i": "whole numbers", "f": "real numbers", "b": "bool"}


class NothingToShow(DataError):
    """A whole file of a study that has not what a figure is made of: no A3M finished, or the data set has no attributes."""


@dataclass(frozen=True)
class Samples:
    """The checked content of a file; `arrays` holds those of ARRAYS that the study has."""

    path: str
    dataset: str
    source: str
    task: str
    method: str
    seed: int
    key: str
    attributes: dict[str, list[str]]  # name -> names of its values
    classes: list[str]  # names of the classes by label; empty where the data set has none
    arrays: dict[str, Array]

    def need(self, *names: str, figure: str) -> list[npt.NDArray]:
        """These arrays.

        Raises:
            NothingToShow: the study has not all of them.
        """
        absent = [name for name in names if name not in self.arrays]
        if absent:
            raise NothingToShow(
                f"{self.path}: holds no {', '.join(absent)}; {figure} needs a study whose data set has them: "
                f"python pipelines/figures.py {figure} study=<another>"
            )
        return [self.arrays[name] for name in names]

    @property
    def trial(self) -> str:
        """Which trial all this comes from, for a caption."""
        return f"trial {self.key}, seed {self.seed}"

    def value(self, attribute: int, value: int) -> str:
        """The name of an attribute's value; a dash where the image is unlabelled (-1)."""
        if value < 0:
            return "\u2013"
        return list(self.attributes.values())[attribute][value].replace("_", " ").replace(" - ", "\u2013")


def read(path: Path) -> Samples:
    """Reads and checks a file; nothing in it is unpickled.

    Raises:
        NothingToShow: the sweep wrote that no A3M trial has finished.
        DataError: no such file, no npz file, an array of another kind or shape than ARRAYS says, an attribute's value that
            has no name, a number that is not finite, weights outside [0, 1].
    """
    study = path.name.partition(".")[0]
    again = f"run python sweeps/{study}.py, it writes the file anew"
    if not path.is_file():
        raise DataError(
            f"{path}: not here; run python sweeps/{study}.py: it keeps samples of the first finished A3M trial"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as npz without pickles ({error}); {again}") from None
    try:
        return _checked(path, arrays)
    except ValueError as error:
        raise DataError(f"{path}: {error}; {again}") from None


def _checked(path: Path, arrays: dict[str, Array]) -> Samples:
    """Raises ValueError with what is wrong."""
    if "meta" not in arrays:
        raise ValueError("no array meta")
    try:
        meta = json.loads(str(arrays["meta"]))
    except json.JSONDecodeError as error:
        raise ValueError(f"meta is no JSON ({error})") from None
    if isinstance(meta, dict) and "missing" in meta:
        raise NothingToShow(f"{path.name}: {meta['missing']}")
    absent = [key for key in META if not isinstance(meta, dict) or key not in meta]
    if absent:
        raise ValueError(f"meta without {', '.join(absent)}")
    attributes = {str(name): [str(value) for value in values] for name, values in meta.get("attributes", {}).items()}
    known = {name: arrays[name] for name in ARRAYS if name in arrays}
    sizes = {"3": 3}
    if attributes:
        sizes["K"] = len(attributes)
    for name, array in known.items():
        kind, letters = ARRAYS[name]
        if array.dtype.kind not in {"i": "iu"}.get(kind, kind) or (kind == "u" and array.dtype != np.uint8):
            raise ValueError(f"{name} holds {array.dtype}, not {KINDS[kind]}")
        dimensions = letters.split()
        if array.ndim != len(dimensions):
            raise ValueError(f"{name} has shape {array.shape}, not ({letters})")
        for letter, size in zip(dimensions, array.shape, strict=True):
            if sizes.setdefault(letter, size) != size or not size:
                raise ValueError(
                    f"{name} has shape {array.shape}, where {letter} of ({letters}) is {sizes[letter]} elsewhere"
                )
        if kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite numbers")
    for name in ("train_attributes", "query_attributes", "query_predicted"):
        if name in known:
            values = np.asarray(known[name], dtype=np.int64)
            limits = np.array([len(names) for names in attributes.values()])
            if values.shape[1] != limits.size or (values < -1).any() or (values >= limits).any():
                raise ValueError(f"{name} holds a value without a name in meta's attributes")
    if "query_predicted" in known and "query_scores" in known and known["query_scores"].shape[1] != len(attributes):
        raise ValueError(
            f"query_scores has {known['query_scores'].shape[1]} maps, meta names {len(attributes)} attributes"
        )
    weights = np.asarray(known.get("query_weights", np.zeros(1)), dtype=float)
    if weights.min() < 0 or weights.max() > 1:
        raise ValueError("query_weights holds values outside [0, 1]")
    return Samples(
        path=str(path.name),
        dataset=str(meta["dataset"]),
        source=str(meta["source"]),
        task=str(meta["task"]),
        method=str(meta["method"]),
        seed=int(meta["seed"]),
        key=str(meta["key"]),
        attributes=attributes,
        classes=[str(name) for name in meta.get("classes", [])],
        arrays=known,
    )
