"""From a pack to batches: which rows train and which test, augmentation, order, normalisation.

Everything random is a function of (seed, what for, step), never of a generator that lives through training: a trial that is
continued elsewhere, or that loads with other processes, sees the very same batches.

Shape suffixes: B batch, K attributes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from a3m import randomness
from a3m.data.augmentation import Augmentation, centre, cut, normalise
from a3m.data.pack import FOLDS, SPLITS, Pack
from a3m.data.sampling import class_batches, classes_of_a_batch, shuffled_attributes
from a3m.errors import DataError

if TYPE_CHECKING:
    from a3m.settings import Train

TEST_BATCH = 128


class Batch(NamedTuple):
    """What a step of training or testing reads: B images with what is known of them."""

    images: Tensor  # (B, 3, H, W) float32, normalised as the backbone wants it
    labels: Tensor  # (B,) int64; class indices in training, class indices or identities in testing
    attributes: Tensor  # (B, K) int64, -1 = unlabelled
    cameras: Tensor  # (B,) int64, -1 = none
    index: Tensor  # type: ignore[assignment]  # (B,) int64, rows of the pack; hides tuple.index, which nothing calls


@dataclass(frozen=True)
class Parts:
    """Rows of a pack by their use. `classes[i]` is the label or identity that training calls class i."""

    train: np.ndarray
    test: dict[str, np.ndarray]  # classification {"test"}; re-identification {"query", "gallery"}
    prefix: str  # of the metrics: test | val
    classes: np.ndarray


def parts(pack: Pack, on: str) -> Parts:
    """Which rows train and which are tested, by `train.on`: train+val is tested on the test part, train on the validation part.

    Raises DataError when a part is empty.
    """
    split, fold = pack.split, pack.fold

    def rows(codes: np.ndarray, names: tuple[str, ...], name: str) -> np.ndarray:
        return np.flatnonzero(codes == names.index(name))

    if on == "train+val":
        train, prefix = rows(split, SPLITS, "train"), "test"
        test = {name: rows(split, SPLITS, name) for name in _tested(pack, "test", "query", "gallery")}
    else:
        train, prefix = rows(fold, FOLDS, "train"), "val"
        names = _tested(pack, "val", "val_query", "val_gallery")
        test = {name.removeprefix("val_") if name != "val" else "test": rows(fold, FOLDS, name) for name in names}
    for name, found in {"train": train, **test}.items():
        if not len(found):
            raise DataError(f"{pack.path}: train.on={on} finds no {name} images in {pack.description['dataset']}")
    return Parts(train, test, prefix, np.unique(pack.label[train]))


def _tested(pack: Pack, whole: str, query: str, gallery: str) -> tuple[str, ...]:
    return (query, gallery) if pack.description["task"] == "re-identification" else (whole,)


class TrainBatches(Dataset[Batch]):
    """Batch number `step` of a whole training, augmented; the last incomplete batch of an epoch is left out.

    images_per_class: 0 shows the rows shuffled, every one once an epoch; K > 0 makes batches of batch_size // K classes with K
    images each. shuffle_attributes: the control whose attribute labels say nothing. Raises SettingsError for a batch too small.
    """

    def __init__(
        self,
        pack: Pack,
        rows: np.ndarray,
        classes: np.ndarray,
        settings: "Train",
        seed: int,
        mean: Tensor,
        std: Tensor,
        *,
        images_per_class: int = 0,
        shuffle_attributes: bool = False,
    ):
        self.pack, self.rows, self.seed, self.images_per_class = pack, rows, seed, images_per_class
        self.labels = np.searchsorted(classes, pack.label[rows])
        self.attributes = pack.attributes[rows]
        if shuffle_attributes:
            self.attributes = shuffled_attributes(self.attributes, self.labels, seed)
        self.batch_size = min(settings.batch_size, len(rows))
        if images_per_class:
            self.batch_size = images_per_class * classes_of_a_batch(settings.batch_size, images_per_class, len(classes))
        self.steps_per_epoch = max(len(rows) // self.batch_size, 1)
        self.augment = Augmentation(settings.augment, mean, std)
        self._order: tuple[int, np.ndarray] = (-1, rows)

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.steps_per_epoch)
        chosen = self.order(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        rows = self.rows[chosen]
        images = self.augment(self.pack, rows, randomness.derive(self.seed, "augmentation", step))
        return _batch(self.pack, images, self.labels[chosen], self.attributes[chosen], rows)

    def order(self, epoch: int) -> np.ndarray:
        """Positions in the training rows, batch after batch of an epoch: the same for every method with the same seed and K."""
        if self._order[0] != epoch:
            generator = np.random.default_rng(randomness.derive(self.seed, "order", epoch))
            self._order = (epoch, self._drawn(generator))
        return self._order[1]

    def _drawn(self, generator: np.random.Generator) -> np.ndarray:
        K = self.images_per_class
        if K == 0:
            return generator.permutation(len(self.rows))
        return class_batches(self.labels, self.batch_size // K, K, self.steps_per_epoch, generator).ravel()

    def stream(self, first_step: int, steps: int, workers: int) -> Iterator[Batch]:
        """Batches first_step .. steps-1, loaded by `workers` further processes."""
        return iter(DataLoader(self, batch_size=None, sampler=range(first_step, steps), num_workers=workers))


def evaluation_batches(pack: Pack, rows: np.ndarray, mean: Tensor, std: Tensor) -> Iterator[Batch]:
    """The given rows in order, centre-cropped; labels as they stand in the pack."""
    for start in range(0, len(rows), TEST_BATCH):
        chosen = rows[start : start + TEST_BATCH]
        images = normalise(cut(pack, chosen, centre(pack, len(chosen))), mean, std)
        yield _batch(pack, images, pack.label[chosen], pack.attributes[chosen], chosen)


def evaluation_regions(pack: Pack, rows: np.ndarray) -> np.ndarray | None:
    """True regions of the attributes of `rows` as shares of the network's (centre-cropped) input, (N, K, 4); NaN = unknown."""
    if pack.regions is None:
        return None
    packed_h, packed_w = pack.packed_size
    height, width = pack.input_size
    top, left = round((packed_h - height) / 2), round((packed_w - width) / 2)
    scale = np.array([packed_w / width, packed_h / height, packed_w / width, packed_h / height], np.float32)
    shift = np.array([left / width, top / height, left / width, top / height], np.float32)
    regions = np.clip(pack.regions[rows] * scale - shift, 0, 1)
    gone = (regions[..., 2] <= regions[..., 0]) | (regions[..., 3] <= regions[..., 1])
    regions[gone] = np.nan
    return regions


def _batch(pack: Pack, images: Tensor, labels: np.ndarray, attributes: np.ndarray, rows: np.ndarray) -> Batch:
    return Batch(
        images,
        torch.from_numpy(np.ascontiguousarray(labels)),
        torch.from_numpy(attributes),
        torch.from_numpy(pack.camera[rows]),
        torch.from_numpy(np.ascontiguousarray(rows)),
    )
