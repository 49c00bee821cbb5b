"""What both twins draw with: shapes on a canvas that remembers which part each pixel shows, and a camera's faults.

Lengths are pixels of the finished image unless said otherwise; colours are 0-255 RGB.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from a3m.errors import SettingsError

Colour = tuple[float, float, float]
Point = tuple[float, float]
Box = tuple[int, int, int, int]

MOST_DIFFICULT = 4.0  # beyond, light and contrast leave nothing to see
GREY = 118.0  # the tone that contrast leaves as it is
# A part that is less visible than this has no region: what is left of it no longer tells the attribute.
LEAST_VISIBLE = 0.5
PART_BITS = np.array([0] + [1 << part for part in range(31)] + [0] * 224, dtype=np.uint32)  # part numbers are 1 to 31


class Shape(NamedTuple):
    """A filled polygon. `part` is the number its pixels carry; None leaves the numbers as they are (decoration)."""

    points: Sequence[Point]
    colour: Colour
    part: int | None


class Region(NamedTuple):
    """Where an attribute is seen in an image: one row of regions.csv, in pixels of the image file."""

    image: str
    attribute: str
    x: int
    y: int
    w: int
    h: int


def check_difficulty(difficulty: float) -> None:
    """Raises SettingsError for a twin.difficulty out of range."""
    if not 0.0 <= difficulty <= MOST_DIFFICULT:
        raise SettingsError(f"twin.difficulty={difficulty}: from 0 to {MOST_DIFFICULT:g}")


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The generator of one drawn thing. Two different streams of one seed share nothing, in whatever order they run."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker (factor < 1) or lighter, each channel at most 255."""
    red, green, blue = colour
    return (min(red * factor, 255.0), min(green * factor, 255.0), min(blue * factor, 255.0))


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour in the first."""
    keep = 1.0 - share
    return (
        first[0] * keep + second[0] * share,
        first[1] * keep + second[1] * share,
        first[2] * keep + second[2] * share,
    )


CIRCLE = [(math.cos(math.tau * i / 18), math.sin(math.tau * i / 18)) for i in range(18)]


def ellipse(centre: Point, radius_x: float, radius_y: float, turn: float = 0.0) -> list[Point]:
    """Turned by `turn` radians, clockwise on the screen."""
    if turn == 0.0:
        x0, y0 = centre
        return [(x0 + radius_x * x, y0 + radius_y * y) for x, y in CIRCLE]
    cosine, sine = math.cos(turn), math.sin(turn)
    return [
        (
            centre[0] + radius_x * x * cosine - radius_y * y * sine,
            centre[1] + radius_x * x * sine + radius_y * y * cosine,
        )
        for x, y in CIRCLE
    ]


def limb(start: Point, end: Point, width_start: float, width_end: float) -> list[Point]:
    """A tapered bar with blunted ends; widths are half widths."""
    x1, y1 = start
    x2, y2 = end
    length = math.hypot(x2 - x1, y2 - y1) or 1e-9
    ux, uy = (x2 - x1) / length, (y2 - y1) / length  # along; across is (-uy, ux)
    a, b = width_start, width_end
    return [
        (x1 + a * uy, y1 - a * ux),
        (x1 + a * (0.55 * uy - 0.75 * ux), y1 - a * (0.55 * ux + 0.75 * uy)),
        (x1 - a * (0.55 * uy + 0.75 * ux), y1 + a * (0.55 * ux - 0.75 * uy)),
        (x1 - a * uy, y1 + a * ux),
        (x2 - b * uy, y2 + b * ux),
        (x2 - b * (0.55 * uy - 0.75 * ux), y2 + b * (0.55 * ux + 0.75 * uy)),
        (x2 + b * (0.55 * uy + 0.75 * ux), y2 - b * (0.55 * ux - 0.75 * uy)),
        (x2 + b * uy, y2 - b * ux),
    ]


class Canvas:
    """An image under the brush, `oversampling` times as large as it will be, and beside it a map of part numbers.

    The map reaches `margin` beyond the image on every side, so that what is cut off by the frame counts as hidden.
    Part 0 is the background and whatever stands in front.
    """

    def __init__(self, background: Image.Image, oversampling: int, margin: int) -> None:
        self.size = size = background.size
        self.oversampling = oversampling
        self.margin = margin
        # Averaging undoes this exactly: the background costs what it costs at its own size.
        self.image = background.resize((size[0] * oversampling, size[1] * oversampling), Image.Resampling.NEAREST)
        self.parts = Image.new("L", (size[0] + 2 * margin, size[1] + 2 * margin), 0)
        self._counts = [0] * 256
        self._subject = (0, 0, *size)

    def paint(self, shapes: Iterable[Shape], matrix: np.ndarray) -> None:
        """Draws in order. matrix (2, 3) maps the shapes' coordinates to pixels."""
        shapes = list(shapes)
        if not shapes:
            return
        flat = chain.from_iterable(chain.from_iterable(shape.points for shape in shapes))
        points = np.fromiter(flat, dtype=np.float64).reshape(-1, 2)
        self.paint_points(
            points @ matrix[:, :2].T + matrix[:, 2],
            np.cumsum([len(shape.points) for shape in shapes]).tolist(),
            [(int(shape.colour[0]), int(shape.colour[1]), int(shape.colour[2])) for shape in shapes],
            [shape.part for shape in shapes],
        )

    def paint_points(
        self,
        points: np.ndarray,
        ends: Sequence[int],
        colours: Sequence[tuple[int, int, int] | None],
        parts: Sequence[int | None],
    ) -> None:
        """Draws polygons in order: points (N, 2) in pixels, where each polygon ends; without a colour it is left out."""
        fine = (points * self.oversampling).ravel().tolist()
        coarse = (points + self.margin).ravel().tolist()
        brush, numbers = ImageDraw.Draw(self.image), ImageDraw.Draw(self.parts)
        start = 0
        for end, colour, part in zip(ends, colours, parts, strict=True):
            if colour is not None:
                brush.polygon(fine[2 * start : 2 * end], fill=colour)
                if part is not None:
                    numbers.polygon(coarse[2 * start : 2 * end], fill=part)
            start = end

    def finish_subject(self) -> None:
        """Call when the subject is drawn and before anything is put in front of it: counts each part's pixels."""
        self._counts = self.parts.histogram()
        self._subject = self._framed().getbbox() or (0, 0, *self.size)

    def _framed(self) -> Image.Image:
        width, height = self.size
        return self.parts.crop((self.margin, self.margin, self.margin + width, self.margin + height))

    def subject_box(self) -> Box:
        """x, y, w, h of the subject inside the image, seen or hidden; call after finish_subject."""
        left, top, right, bottom = self._subject
        return left, top, right - left, bottom - top

    def part_map(self) -> np.ndarray:
        """(height, width) uint8: the part that each pixel of the image shows."""
        return np.asarray(self._framed())

    def visible_boxes(self, parts: dict[str, tuple[int, ...]]) -> dict[str, Box]:
        """x, y, w, h of what is seen of each named set of parts; without those mostly hidden or outside the image."""
        seen = self._framed().histogram()
        names = []
        for name, wanted in parts.items():
            whole = sum(self._counts[part] for part in wanted)
            if whole and sum(seen[part] for part in wanted) >= max(LEAST_VISIBLE * whole, 2):
                names.append(name)
        if not names:
            return {}
        left, top, right, bottom = self._subject
        bits = PART_BITS.take(self.part_map()[top:bottom, left:right])  # a bit a part: one pass finds all of them
        masks = np.array([[sum(1 << (part - 1) for part in parts[name])] for name in names], dtype=np.uint32)
        edges = []
        for axis in (1, 0):
            there = (np.bitwise_or.reduce(bits, axis=axis) & masks) != 0  # (names, rows), then (names, columns)
            edges += [there.argmax(axis=1).tolist(), (there.shape[1] - there[:, ::-1].argmax(axis=1)).tolist()]
        return {
            name: (left + x1, top + y1, x2 - x1, y2 - y1) for name, y1, y2, x1, x2 in zip(names, *edges, strict=True)
        }


@dataclass(frozen=True)
class Exposure:
    """What stands between a scene and its pixels.

    gain: one factor a channel. slope_x, slope_y: light falling off across the image, as a share from centre to edge.
    contrast: factor about GREY. blur: half width. noise: standard deviation. coarseness: size of the sensor's pixels.
    """

    gain: Colour
    slope_x: float
    slope_y: float
    contrast: float
    blur: float
    noise: float
    coarseness: float


def photograph(canvas: Canvas, exposure: Exposure, rng: np.random.Generator) -> np.ndarray:
    """The finished image, (height, width, 3) uint8."""
    width, height = canvas.size
    image = canvas.image.reduce(canvas.oversampling)
    if exposure.coarseness > 1.05:
        small = (max(round(width / exposure.coarseness), 8), max(round(height / exposure.coarseness), 8))
        image = image.resize(small, Image.Resampling.BILINEAR).resize((width, height), Image.Resampling.BICUBIC)
    radius = exposure.blur if exposure.blur > 0.1 else 0.0
    if radius > 1.0:
        image, radius = image.filter(ImageFilter.BoxBlur(float(radius))), 0.0
    across, down = ramp(width, exposure.slope_x), ramp(height, exposure.slope_y)
    gain = np.array(exposure.gain, dtype=np.float32) * np.float32(exposure.contrast / (1.0 + 2.0 * radius) ** 2)
    # Rows of width * 3 numbers: numpy is slow over an axis of three.
    exposed = box_sum(np.asarray(image), float(radius)) * (across[:, None] * gain).ravel()
    exposed *= down[:, None]
    # Grey grain, evenly spread, which is a tenth of the cost of a normal one; a byte's own deviation is 73.9.
    tones = (np.arange(256, dtype=np.float32) - 127.5) * np.float32(exposure.noise / 73.9)
    tones += np.float32(GREY * (1.0 - exposure.contrast) + 0.5)
    grain = tones.take(np.frombuffer(rng.bytes(width * height), dtype=np.uint8)).reshape(height, width)
    for channel in range(3):
        exposed[:, channel::3] += grain
    return np.clip(exposed, 0, 255, out=exposed).astype(np.uint8).reshape(height, width, 3)


def ramp(length: int, slope: float) -> np.ndarray:
    """(length,) float32 from 1 - slope to 1 + slope."""
    steps = np.arange(length, dtype=np.float32)
    steps *= np.float32(2.0 * slope / max(length - 1, 1))
    steps += np.float32(1.0 - slope)
    return steps


def box_sum(pixels: np.ndarray, radius: float) -> np.ndarray:
    """(height, width, 3) uint8 to (height, width * 3) float32: each pixel, radius times those beside it, above and below it,
    and so for corners: (1 + 2 radius)^2 times what a box blur of this half width, at most 1, gives. Edges are continued.
    """
    height, width, _ = pixels.shape
    if radius == 0.0:
        return pixels.reshape(height, 3 * width).astype(np.float32)
    padded = np.empty((height + 3, width + 2, 3), dtype=np.float32)  # a row more than needed, for the last shift
    padded[1:-2, 1:-1] = pixels
    padded[0], padded[-2:] = padded[1], padded[-3]
    padded[:, 0], padded[:, -1] = padded[:, 1], padded[:, -2]
    flat, row, share = padded.ravel(), 3 * (width + 2), np.float32(radius)
    sums = flat[:-6] + flat[6:]  # one run over all rows: what wraps around falls into the margin
    sums *= share
    sums += flat[3:-3]
    both = sums[: -2 * row] + sums[2 * row :]
    both *= share
    both += sums[row:-row]
    return both[: height * row].reshape(height, row)[:, : 3 * width]
