"""Where the cars of the twins are photographed: background, viewpoint, paint, light, and what stands in front.

Nothing here depends on the model; everything is drawn from the image's own generator. Viewpoints are those of CompCars.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from a3m.data.twins.bodywork import REGIONS
from a3m.data.twins.coach import Body
from a3m.data.twins.scene import Box, Canvas, Colour, Exposure, Shape, blend, ellipse, limb, photograph, shade

OVERSAMPLING = 2
MARGIN = 64
WIDTHS, ASPECT = (108, 128), 1.45
FRONT, REAR, SIDE, FRONT_SIDE, REAR_SIDE, UNCERTAIN = 1, 2, 3, 4, 5, -1
FLAT = math.radians(72.0)  # beyond, from ahead, what is left of the side no longer tells the doors
VIEWPOINTS = (FRONT, REAR, SIDE, FRONT_SIDE, REAR_SIDE)
# Without difficulty, and from difficulty 1 on, about as in the original.
VIEWPOINT_SHARES = ((0.05, 0.05, 0.15, 0.6, 0.15), (0.14, 0.12, 0.18, 0.35, 0.21))
PAINTS: tuple[Colour, ...] = (
    (226, 228, 228),
    (186, 190, 194),
    (126, 130, 136),
    (44, 46, 52),
    (168, 36, 40),
    (44, 80, 150),
    (92, 140, 190),
    (52, 92, 66),
    (110, 78, 56),
    (200, 186, 150),
    (216, 178, 50),
    (206, 106, 40),
)
SILVER: Colour = (150, 154, 160)
# Glass and the seats behind it, by tint: whatever the light, each tells from the other.
GLASS: dict[str, tuple[Colour, Colour]] = {
    "light": ((150, 172, 186), (44, 42, 46)),
    "middle": ((84, 98, 112), (206, 192, 168)),
    "dark": ((34, 38, 44), (176, 150, 116)),
}
SKIES: tuple[Colour, ...] = ((150, 180, 210), (196, 204, 210), (220, 222, 222), (120, 150, 190), (226, 214, 198))
WALLS: tuple[Colour, ...] = (
    (150, 140, 128),
    (118, 122, 126),
    (94, 84, 78),
    (186, 180, 170),
    (76, 98, 66),
    (58, 80, 52),
)
GROUNDS: tuple[Colour, ...] = (
    (122, 122, 124),
    (96, 98, 102),
    (150, 146, 140),
    (136, 124, 106),
    (172, 170, 168),
    (104, 116, 82),
)


class Photograph(NamedTuple):
    """pixels (height, width, 3) uint8; viewpoint: a label of CompCars; box: x, y, w, h of the car; regions: of what is
    visible, for doors, seats and type.
    """

    pixels: np.ndarray
    viewpoint: int
    box: Box
    regions: dict[str, Box]


class View(NamedTuple):
    """turn: radians, from -pi/2 (from behind) over 0 (from the side) to pi/2 (from ahead); pitch: of a camera above."""

    turn: float
    pitch: float
    roll: float
    mirrored: bool
    depth: float  # how much larger the near end is than the far end
    size: float  # of the image
    shift: tuple[float, float]


def place(size: tuple[int, int], difficulty: float, rng: np.random.Generator) -> Image.Image:
    """A background: sky, walls or trees out of focus, a street; posts and marks the more the greater the difficulty."""
    width, height = size
    chance = rng.random(24).tolist()
    clutter = min(difficulty, 1.0)
    horizon = 0.45 + (0.1 + 0.2 * clutter) * (chance[0] - 0.5)
    sky, ground = SKIES[int(chance[1] * len(SKIES))], GROUNDS[int(chance[2] * len(GROUNDS))]
    rows, columns = 6, 4 + int(5 * chance[3])
    kinds = rng.integers(0, len(WALLS), columns).tolist()
    tall = rng.random(columns).tolist()
    light = rng.uniform(0.75, 1.2, (rows, columns)).tolist()
    cells = []
    for row in range(rows):
        for column in range(columns):
            edge = horizon * rows
            colour = ground if row >= edge else sky if row < edge * tall[column] * 0.9 else WALLS[kinds[column]]
            spread = light[row][column] if row < edge else 0.9 + 0.2 * light[row][column]
            cells.append(tuple(int(value) for value in shade(colour, spread)))
    small = Image.new("RGB", (columns, rows))
    small.putdata(cells)
    image = small.resize(size, Image.Resampling.BICUBIC if chance[4] < 0.6 else Image.Resampling.BILINEAR)
    brush = ImageDraw.Draw(image)
    for index in range(int(4 * chance[5] * clutter + 0.5 * chance[5])):  # posts, trunks, edges of walls
        x = width * chance[6 + index]
        tone = shade(WALLS[int(chance[10 + index] * len(WALLS))], 0.5 + chance[14 + index])
        foot = height * (horizon + 0.05)
        brush.rectangle((x, foot * 0.7 * chance[18], x + 2 + 8 * chance[19], foot), fill=whole(tone))
    if chance[20] < 0.6 * clutter:  # kerb or lane
        y = height * (horizon + 0.06 + 0.3 * chance[21])
        brush.line(
            (0, y, width, y + 8 * (chance[22] - 0.5)), fill=whole(shade(ground, 0.8 + 0.6 * chance[23])), width=2
        )
    return image


def whole(colour: Colour) -> tuple[int, int, int]:
    """A colour in whole numbers, as Pillow wants it."""
    return int(colour[0]), int(colour[1]), int(colour[2])


def draw_view(difficulty: float, rng: np.random.Generator) -> tuple[int, View]:
    """(label, view). difficulty scales how evenly viewpoints are spread, how far about their middle, and the framing."""
    chance = rng.random(8).tolist()
    normal = np.clip(rng.standard_normal(6), -2.2, 2.2).tolist()
    spread_out = min(difficulty, 1.0)
    shares = np.cumsum([few + spread_out * (all_ - few) for few, all_ in zip(*VIEWPOINT_SHARES, strict=True)])
    label = VIEWPOINTS[int(np.searchsorted(shares[:-1], chance[0], side="right"))]
    middle = {FRONT: 85.0, REAR: -85.0, SIDE: 0.0, FRONT_SIDE: 42.0, REAR_SIDE: -42.0}[label]
    wide = 2.0 + 6.0 * min(difficulty, 2.0)
    turn = min(max(middle + wide * normal[0], -90.0), 90.0)
    view = View(
        turn=math.radians(turn),
        pitch=math.radians(
            (4.0 if abs(middle) > 80.0 else 7.0)
            + 3.0 * (spread_out * (chance[1] - 0.5) + min(difficulty, 2.0) * abs(normal[1]))
        ),
        roll=math.radians(1.2 * difficulty) * normal[2],
        mirrored=chance[2] < 0.5 * spread_out,
        depth=0.16 + 0.16 * spread_out * (chance[3] - 0.5),
        size=(0.9 + 0.08 * spread_out * (chance[4] - 0.5)) * math.exp(0.07 * difficulty * normal[3]),
        shift=(0.03 * difficulty * normal[4], 0.03 * difficulty * normal[5]),
    )
    return (UNCERTAIN if chance[5] < 0.01 else label), view


def colours(rng: np.random.Generator, difficulty: float) -> dict[str, Colour]:
    """Every paint of this car as this light shows it."""
    chance = rng.random(16).tolist()
    drawn = blend(PAINTS[int(chance[0] * len(PAINTS))], PAINTS[int(chance[1] * len(PAINTS))], 0.12 * chance[2])
    body = blend(SILVER, drawn, min(0.3 + 0.5 * difficulty, 1.0))
    relief = 1.0 + 0.8 * min(difficulty, 1.0) * (chance[3] - 0.5)  # hard or soft light
    top, side, end = (1.0 + relief * share for share in (0.22, -0.12, -0.2 + 0.16 * chance[4]))
    bright = 170 + 50 * chance[7]
    panes: dict[str, Colour] = {}
    for name, (glass, seat) in GLASS.items():
        tone = shade(glass, 0.85 + 0.3 * chance[5])
        panes |= {f"glass_{name}": tone, f"screen_{name}": shade(tone, 1.1), f"rear_screen_{name}": shade(tone, 0.88)}
        back = shade(seat, 0.85 + 0.3 * chance[6])
        panes |= {f"seat_{name}": back, f"seat_dark_{name}": shade(back, 0.65)}
    return {
        "top": shade(body, top),
        "roof": shade(body, top * 0.98),
        "side": shade(body, side),
        "side_low": shade(body, side * 0.82),
        "cabin_side": shade(body, side * 0.96),
        "pillar": shade(body, 0.5 * (top + end)),
        "front": shade(body, end),
        "front_low": shade(body, end * 0.86),
        "end": shade(body, end),
        "end_low": shade(body, end * 0.86),
        "crease": shade(body, side * (0.74 if chance[8] < 0.6 else 1.3)),
        "shut": blend(shade(body, side * 0.4), (20, 20, 22), 0.4),
        "handle": (bright, bright, bright + 4) if chance[9] < 0.4 else shade(body, side * 0.6),
        **panes,
        "cabin": (38, 36, 38),
        "bed": (48, 48, 50),
        "cloth": ((34, 34, 38), (110, 92, 72), (96, 40, 44))[int(2.99 * chance[10] ** 2)],
        "plastic": (58, 58, 60),
        "black": (24, 24, 26),
        "chrome": (206, 208, 212),
        "rail": (170, 172, 176) if chance[11] < 0.6 else (40, 40, 42),
        "lamp": (232, 236, 238),
        "tail_lamp": (186, 28, 32),
        "plate": (222, 222, 214) if chance[12] < 0.5 else (70, 96, 160),
        "tyre": (30, 30, 32),
        "rim": (bright, bright, bright + 3),
        "rim_dark": (62, 62, 66),
        "hub": (96, 96, 100),
    }


def project(points: np.ndarray, body: Body, view: View, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) metres to (N, 2) pixels, framed to the image; and the four corners of the ground under the car."""
    half_length, half_width = body.length / 2, body.width / 2
    corners = np.array([(x, y, 0.0) for x, y in ((0, -1), (body.length, -1), (body.length, 1), (0, 1))])
    corners[:, 1] *= half_width
    space = np.concatenate([points, corners]) - (half_length, 0.0, 0.5 * body.height)
    sine, cosine = math.sin(view.turn), math.cos(view.turn)
    towards = space[:, 1] * cosine - space[:, 0] * sine
    across = space[:, 0] * cosine + space[:, 1] * sine
    down = towards * math.sin(view.pitch) - space[:, 2] * math.cos(view.pitch)
    nearer = 1.0 + view.depth * towards / body.length
    flat = np.stack([across * nearer * (-1.0 if view.mirrored else 1.0), down * nearer], axis=1)
    low, high = flat.min(axis=0), flat.max(axis=0)
    scale = view.size * min(size[0] / (high[0] - low[0]), size[1] / (high[1] - low[1]))
    turn = np.array([[math.cos(view.roll), math.sin(view.roll)], [-math.sin(view.roll), math.cos(view.roll)]])
    flat = (flat - (low + high) / 2) * scale @ turn + np.array(size) * (0.5 + np.array(view.shift))
    return flat[:-4], flat[-4:]


def take(body: Body, difficulty: float, rng: np.random.Generator, paint: dict[str, Colour] | None = None) -> Photograph:
    """One photograph. difficulty scales view, framing, light, blur and what is in front. paint: instead of a drawn one."""
    chance = rng.random(4).tolist()
    normal = np.clip(rng.standard_normal(7), -2.2, 2.2).tolist()
    width = int(rng.integers(WIDTHS[0], WIDTHS[1] + 1))
    size = (width, round(width / (ASPECT * math.exp(0.08 * min(difficulty, 1.5) * normal[6]))))
    background = place(size, difficulty, rng)
    label, view = draw_view(difficulty, rng)
    drawn = colours(rng, difficulty)
    paint = paint or drawn
    canvas = Canvas(background, OVERSAMPLING, MARGIN)
    outline = body.front if view.turn > 0 else body.rear
    points, ground = project(outline.points, body, view, size)
    facing = outline.slopes @ np.array([-math.sin(view.turn) * math.cos(view.pitch), math.sin(view.pitch)])
    middle, (wide, tall) = ground.mean(axis=0), np.ptp(ground, axis=0)
    shadow = ellipse((float(middle[0]), float(middle[1])), 0.54 * float(wide), 0.5 * float(tall) + 1.0)
    identity = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    canvas.paint([Shape(shadow, (46, 46, 48), None)], identity)
    hidden = (facing <= 0.0).tolist()  # nan, always drawn, is not
    canvas.paint_points(
        points,
        outline.ends,
        [None if hide else whole(paint[name]) for hide, name in zip(hidden, outline.paints, strict=True)],
        outline.parts,
    )
    canvas.finish_subject()
    box = canvas.subject_box()
    canvas.paint(in_front(size, difficulty, rng), identity)
    light = [math.exp(difficulty * (0.12 * normal[0] + 0.045 * normal[i])) for i in (1, 2, 3)]
    exposure = Exposure(
        gain=(light[0], light[1], light[2]),
        slope_x=0.1 * difficulty * normal[4],
        slope_y=0.1 * difficulty * normal[5],
        contrast=1.0 - 0.22 * difficulty * chance[0],
        blur=0.2 + 0.6 * difficulty * chance[1] ** 2,
        noise=2.0 + 4.0 * difficulty * chance[2],
        coarseness=1.0,
    )
    regions = canvas.visible_boxes(REGIONS)
    if view.turn > FLAT:
        regions.pop("doors", None)
    return Photograph(photograph(canvas, exposure, rng), label, box, regions)


def in_front(size: tuple[int, int], difficulty: float, rng: np.random.Generator) -> list[Shape]:
    """What hides part of the car, in pixels: a post, a passer-by, leaves, another car's corner; often nothing."""
    width, height = size
    shapes: list[Shape] = []
    for _ in range(int(rng.poisson(0.45 * difficulty))):
        chance = rng.random(16).tolist()
        x = width * (0.08 + 0.84 * chance[0])
        if chance[1] < 0.3:
            half = 1.5 + 3.0 * chance[2]
            shapes.append(
                Shape(limb((x, -9.0), (x, height + 9.0), half, half), shade((96, 96, 100), 0.5 + chance[3]), 0)
            )
        elif chance[1] < 0.55:
            foot, tall = height * (0.85 + 0.2 * chance[2]), height * (0.5 + 0.2 * chance[3])
            coat: Colour = (40 + 170 * chance[4], 40 + 150 * chance[5], 40 + 150 * chance[6])
            shapes += [
                Shape(
                    limb((x, foot - 0.5 * tall), (x + 3 * (chance[7] - 0.5), foot), 0.1 * tall, 0.07 * tall),
                    shade(coat, 0.5),
                    0,
                ),
                Shape(limb((x, foot - 0.85 * tall), (x, foot - 0.42 * tall), 0.11 * tall, 0.12 * tall), coat, 0),
                Shape(ellipse((x, foot - 0.93 * tall), 0.06 * tall, 0.08 * tall), (200, 160, 132), 0),
            ]
        elif chance[1] < 0.8:
            green = shade((78, 108, 54), 0.6 + 0.7 * chance[2])
            y = height * (0.85 + 0.15 * chance[3])
            for leaf in range(6):
                at = (x + width * 0.06 * (leaf - 2.5), y - height * 0.1 * chance[4 + leaf])
                shapes.append(Shape(ellipse(at, 0.06 * width, 0.11 * height), shade(green, 0.8 + 0.4 * chance[10]), 0))
        else:
            edge = -1.0 if chance[2] < 0.5 else 1.0
            at = (width * (0.5 + edge * (0.5 + 0.1 * chance[3])), height * (0.84 + 0.1 * chance[4]))
            colour = PAINTS[int(chance[5] * len(PAINTS))]
            shapes.append(Shape(ellipse(at, 0.24 * width, 0.2 * height), colour, 0))
            glass = (at[0] - 0.02 * edge * width, at[1] - 0.1 * height)
            shapes.append(Shape(ellipse(glass, 0.14 * width, 0.06 * height), (60, 66, 74), 0))
    return shapes
