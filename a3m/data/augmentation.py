"""From the packed images of a batch to what the network sees: random crop, flip, affine map and erasing, normalisation.

Crops and flips are drawn for the whole batch at once and cut out of the memory-mapped pack, so that only what is seen is copied;
a transform an image and a seeding of torch's global generators took four times as long.
Shape suffixes: B batch.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from a3m import randomness
from a3m.data.pack import Pack


class Augmentation:
    """`names`: of crop, flip, affine, erase. (pack, rows (B,), seed) -> images (B, 3, H, W) float32, normalised."""

    def __init__(self, names: list[str], mean: Tensor, std: Tensor) -> None:
        self.crop, self.flip = "crop" in names, "flip" in names
        # The released code's: rotation 30 degrees, shift 10 %, zoom 0.75-1.33.
        self.affine = v2.RandomAffine(30, translate=(0.1, 0.1), scale=(0.75, 1.33)) if "affine" in names else None
        self.erase = v2.RandomErasing(p=0.5) if "erase" in names else None
        self.mean, self.std = mean, std

    def __call__(self, pack: Pack, rows: np.ndarray, seed: int) -> Tensor:
        count, room = len(rows), (pack.packed_size[0] - pack.input_size[0], pack.packed_size[1] - pack.input_size[1])
        generator = np.random.default_rng(seed)
        # Drawn whether used or not: a setting that adds one kind of change leaves the others as they were.
        corners = generator.integers(0, room, (count, 2), endpoint=True)
        flipped = generator.random(count) < 0.5
        images = self._cut(pack, rows, corners if self.crop else centre(pack, count), seed)
        if self.flip:
            mirror(images, flipped)
        normalised = normalise(images, self.mean, self.std)
        if self.erase is not None:
            with randomness.stream(seed, "erase"):
                normalised = torch.stack([self.erase(image) for image in normalised])
        return normalised

    def _cut(self, pack: Pack, rows: np.ndarray, corners: np.ndarray, seed: int) -> np.ndarray:
        if self.affine is None:
            return cut(pack, rows, corners)
        with randomness.stream(seed, "affine"):
            return cut(pack, rows, corners, self._affine)

    def _affine(self, image: np.ndarray) -> np.ndarray:
        assert self.affine is not None
        moved: Tensor = self.affine(torch.from_numpy(np.array(image)).permute(2, 0, 1))
        return moved.permute(1, 2, 0).numpy()


def centre(pack: Pack, count: int) -> np.ndarray:
    """The top left corner of the centre crop, `count` times: (count, 2)."""
    sides = zip(pack.packed_size, pack.input_size, strict=True)
    return np.tile([round((packed - seen) / 2) for packed, seen in sides], (count, 1))


def cut(
    pack: Pack, rows: np.ndarray, corners: np.ndarray, transform: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Crops of the network's size at the given top left corners (B, 2), of packed images or what `transform` makes of them:
    (B, H, W, 3) uint8.
    """
    height, width = pack.input_size
    images = np.empty((len(rows), height, width, 3), np.uint8)
    for image, row, (top, left) in zip(images, rows, corners.tolist(), strict=True):
        packed = pack.image(row) if transform is None else transform(pack.image(row))
        image[:] = packed[top : top + height, left : left + width]
    return images


def mirror(images: np.ndarray, flipped: np.ndarray) -> None:
    """Flip the images (B, H, W, 3) where `flipped` (B,) from left to right, in place."""
    for number in np.flatnonzero(flipped):
        image = torch.from_numpy(images[number])  # torch flips pixels of three bytes three times as fast as numpy
        image.copy_(image.flip(1))


def normalise(images: np.ndarray, mean: Tensor, std: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, channels last in memory: (x / 255 - mean) / std."""
    count, height, width, _ = images.shape
    # A row of pixels at a time, with mean and std as often as it has pixels: over three channels at a time nothing is vectorised.
    rows = torch.from_numpy(images).view(count * height, width * 3).float()
    normalised = rows.mul_((1 / (255 * std)).repeat(width)).sub_((mean / std).repeat(width))
    return normalised.view(count, height, width, 3).permute(0, 3, 1, 2)
