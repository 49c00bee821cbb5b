"""What both twins draw with: shapes on a canvas that remembers which part each pixel shows, and a camera's faults.

Lengths are pixels of the finished image unless said otherwise; colours are 0-255 RGB.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    if not 0.0 <= difficulty <= MOST_DIFFICULT:
        raise SettingsError(f"twin.difficulty={difficulty}: from 0 to {MOST_DIFFICULT:g}")


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The generator of one drawn thing. Two different streams of one seed share nothing, in whatever order they run."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))


def shade(colour: Colour, factor: float) -> Colour:
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
        points = np.array([point for shape in shapes for point in shape.points])
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
        width, height = self.size
        return np.asarray(self.parts)[self.margin : self.margin + height, self.margin : self.margin + width]

    def visible_boxes(self, parts: dict[str, tuple[int, ...]]) -> dict[str, Box]:
        """x, y, w, h of what is seen of each named set of parts; without those mostly hidden or outside the image."""
        seen = self._framed().histogram()
        bits = PART_BITS[self.part_map()]  # a bit a part: one pass finds the rows and columns of all of them
        in_row, in_column = np.bitwise_or.reduce(bits, axis=1), np.bitwise_or.reduce(bits, axis=0)
        boxes = {}
        for name, wanted in parts.items():
            whole = sum(self._counts[part] for part in wanted)
            if whole == 0 or sum(seen[part] for part in wanted) < max(LEAST_VISIBLE * whole, 2):
                continue
            mask = np.bitwise_or.reduce(PART_BITS[list(wanted)])
            rows, columns = np.flatnonzero(in_row & mask), np.flatnonzero(in_column & mask)
            x, y = int(columns[0]), int(rows[0])
            boxes[name] = (x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y)
        return boxes


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
    if exposure.blur > 0.1:
        image = image.filter(ImageFilter.BoxBlur(float(exposure.blur)))
    across = 1.0 + exposure.slope_x * np.linspace(-1, 1, width, dtype=np.float32)
    down = 1.0 + exposure.slope_y * np.linspace(-1, 1, height, dtype=np.float32)
    light = down[:, None] * across
    # Grey grain, evenly spread, which is a tenth of the cost of a normal one; a byte's own deviation is 73.9.
    grain = np.frombuffer(rng.bytes(width * height), dtype=np.uint8).reshape(height, width).astype(np.float32)
    grain -= 127.5
    grain *= np.float32(exposure.noise / 73.9)
    grain += np.float32(GREY * (1.0 - exposure.contrast) + 0.5)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for channel, (plane, gain) in enumerate(zip(image.split(), exposure.gain, strict=True)):
        exposed = light * np.float32(gain * exposure.contrast)  # plane by plane: three times faster than all at once
        exposed *= np.asarray(plane)
        exposed += grain
        pixels[:, :, channel] = np.clip(exposed, 0, 255, out=exposed)
    return pixels
