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
from torchvision.transforms import v2

from a3m import randomness
from a3m.data.pack import FOLDS, SPLITS, Pack
from a3m.errors import DataError

if TYPE_CHECKING:
    from a3m.settings import Train

TEST_BATCH = 128


class Batch(NamedTuple):
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
    """Which rows train and which are tested, by `train.on` (DESIGN: validation). Raises DataError when a part is empty."""
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
    """Batch number `step` of a whole training, augmented; the last incomplete batch of an epoch is left out."""

    def __init__(
        self, pack: Pack, rows: np.ndarray, classes: np.ndarray, settings: "Train", seed: int, mean: Tensor, std: Tensor
    ):
        self.pack, self.rows, self.seed, self.mean, self.std = pack, rows, seed, mean, std
        self.labels = np.searchsorted(classes, pack.label[rows])
        self.batch_size = min(settings.batch_size, len(rows))
        self.steps_per_epoch = len(rows) // self.batch_size
        self.transform, self.erase = augmentation(settings.augment, pack.input_size)
        self._order: tuple[int, np.ndarray] = (-1, rows)

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.steps_per_epoch)
        chosen = self.order(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        rows = self.rows[chosen]
        with randomness.stream(self.seed, "augmentation", step):
            images = torch.stack([self.transform(_tensor(self.pack, row)) for row in rows])
            images = normalise(images, self.mean, self.std)
            if self.erase is not None:
                images = torch.stack([self.erase(image) for image in images])
        return _batch(self.pack, images, self.labels[chosen], rows)

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of the training rows in an epoch: the same for every method with the same seed."""
        if self._order[0] != epoch:
            generator = np.random.default_rng(randomness.derive(self.seed, "order", epoch))
            self._order = (epoch, generator.permutation(len(self.rows)))
        return self._order[1]

    def stream(self, first_step: int, steps: int, workers: int) -> Iterator[Batch]:
        """Batches first_step .. steps-1, loaded by `workers` further processes."""
        return iter(DataLoader(self, batch_size=None, sampler=range(first_step, steps), num_workers=workers))


def augmentation(names: list[str], size: tuple[int, int]) -> tuple[v2.Transform, v2.Transform | None]:
    """torchvision's transforms on one packed uint8 image, and random erasing, which wants the normalised one, or None."""
    steps: list[v2.Transform] = []
    if "affine" in names:  # the released code's: rotation 30 degrees, shift 10 %, zoom 0.75-1.33
        steps.append(v2.RandomAffine(30, translate=(0.1, 0.1), scale=(0.75, 1.33)))
    steps.append(v2.RandomCrop(size) if "crop" in names else v2.CenterCrop(size))
    if "flip" in names:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose(steps), v2.RandomErasing(p=0.5) if "erase" in names else None


def evaluation_batches(pack: Pack, rows: np.ndarray, mean: Tensor, std: Tensor) -> Iterator[Batch]:
    """The given rows in order, centre-cropped; labels as they stand in the pack."""
    crop = v2.CenterCrop(pack.input_size)
    for start in range(0, len(rows), TEST_BATCH):
        chosen = rows[start : start + TEST_BATCH]
        images = torch.stack([crop(_tensor(pack, row)) for row in chosen])
        yield _batch(pack, normalise(images, mean, std), pack.label[chosen], chosen)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> float32, (x / 255 - mean) / std."""
    return images.float().div_(255).sub_(mean.view(1, 3, 1, 1)).div_(std.view(1, 3, 1, 1))


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


def _tensor(pack: Pack, row: int) -> Tensor:
    return torch.from_numpy(np.array(pack.image(row))).permute(2, 0, 1)


def _batch(pack: Pack, images: Tensor, labels: np.ndarray, rows: np.ndarray) -> Batch:
    return Batch(
        images,
        torch.from_numpy(np.ascontiguousarray(labels)),
        torch.from_numpy(pack.attributes[rows]),
        torch.from_numpy(pack.camera[rows]),
        torch.from_numpy(np.ascontiguousarray(rows)),
    )
