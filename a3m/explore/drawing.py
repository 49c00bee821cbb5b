"""Pictures of maps and of rows of images, with Pillow alone: matplotlib would take longer to import than to draw.

Shape suffixes: H W image, h w attention map.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

# Five points of viridis: even in lightness, and told apart by colour-blind eyes.
VIRIDIS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float32)
BLUE, RED, GREY = (0, 114, 178), (213, 94, 0), (150, 150, 150)  # as the report's right and wrong
HEAT = 0.55  # share of the map's colour over the grey image
LONGEST = 320  # pixels of a shown image's longer side
GAP, WORDS, NARROWEST, MARK = 10, 34, 132, 13


def scale_of(size: tuple[int, int]) -> int:
    """By how much an image of this size is enlarged to be shown."""
    return max(1, round(LONGEST / max(size)))


def overlay(image_HW3: np.ndarray, map_hw: npt.NDArray[np.floating], low: float, high: float) -> np.ndarray:
    """The map in colour over the image in grey, (H, W, 3) uint8. `low` and `high` are the ends of the colour scale."""
    height, width = image_HW3.shape[:2]
    span = high - low if high > low else 1.0
    shares_hw = np.clip((np.asarray(map_hw, np.float32) - low) / span, 0, 1)
    shares = np.asarray(Image.fromarray(shares_hw, "F").resize((width, height), Image.Resampling.BICUBIC))
    places = np.clip(shares, 0, 1) * (len(VIRIDIS) - 1)
    below = np.minimum(places.astype(int), len(VIRIDIS) - 2)
    rest = (places - below)[..., None]
    colours = VIRIDIS[below] * (1 - rest) + VIRIDIS[below + 1] * rest
    grey = image_HW3.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return (HEAT * colours + (1 - HEAT) * grey[..., None]).round().astype(np.uint8)


@dataclass(frozen=True)
class Tile:
    """One image of a sheet: pixels, words below it, and whether it is right (None: not asked)."""

    image: np.ndarray
    words: str = ""
    right: bool | None = None


def sheet(rows: Sequence[Sequence[Tile]], heads: Sequence[str] = ()) -> Image.Image:
    """Tiles in rows on white; a frame says right (blue, thin, a tick) or wrong (orange, thick, a cross)."""
    font = ImageFont.load_default(12)
    width = max(NARROWEST, *(tile.image.shape[1] for row in rows for tile in row))
    heights = [max(tile.image.shape[0] for tile in row) for row in rows]
    columns = max(map(len, rows))
    head = 22 if heads else 0
    total = head + sum(heights) + len(rows) * (WORDS + GAP) + GAP
    canvas = Image.new("RGB", (GAP + columns * (width + GAP), total), "white")
    draw = ImageDraw.Draw(canvas)
    for column, text in enumerate(heads):
        draw.text((GAP + column * (width + GAP), 6), _fitting(text, width, font), "black", font)
    top = head + GAP
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            left = GAP + column * (width + GAP)
            canvas.paste(Image.fromarray(tile.image), (left, top))
            h, w = tile.image.shape[:2]
            if tile.right is not None:
                draw.rectangle(
                    (left - 3, top - 3, left + w + 2, top + h + 2),
                    None,
                    BLUE if tile.right else RED,
                    2 if tile.right else 4,
                )
                _mark(draw, left + w + 2, top + h + 2, tile.right)
            for line, text in enumerate(tile.words.split("\n")[:2]):
                draw.text((left, top + h + 4 + 14 * line), _fitting(text, width, font), "black", font)
        top += height + WORDS + GAP
    return canvas


def _mark(draw: ImageDraw.ImageDraw, right: int, bottom: int, yes: bool) -> None:
    """A tick or a cross in the lower right corner of a frame, for whom the colours do not tell apart."""
    left, top = right - MARK, bottom - MARK
    draw.rectangle((left, top, right, bottom), BLUE if yes else RED)
    if yes:
        draw.line([(left + 2, top + 7), (left + 5, top + 10), (right - 2, top + 3)], "white", 2)
    else:
        draw.line([(left + 3, top + 3), (right - 3, bottom - 3)], "white", 2)
        draw.line([(left + 3, bottom - 3), (right - 3, top + 3)], "white", 2)


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    while text and font.getlength(text) > width + GAP - 4:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def enlarge(image_HW3: np.ndarray, factor: int) -> np.ndarray:
    """The image `factor` times as large."""
    if factor == 1:
        return np.asarray(image_HW3)
    height, width = image_HW3.shape[:2]
    resized = Image.fromarray(np.ascontiguousarray(image_HW3)).resize(
        (width * factor, height * factor), Image.Resampling.BICUBIC
    )
    return np.asarray(resized)


def png(image: np.ndarray | Image.Image) -> bytes:
    """Encoded as PNG."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, "PNG")
    return buffer.getvalue()
