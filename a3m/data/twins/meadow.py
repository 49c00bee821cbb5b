"""Where the birds of the CUB-200-2011 twin are photographed: background, perch, light, and leaves in front.

Nothing here depends on the species; everything is drawn from the image's own generator.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from a3m.data.twins.birds import Bird
from a3m.data.twins.plumage import draw_bird_shapes
from a3m.data.twins.posture import REGIONS, Frame, landmarks
from a3m.data.twins.scene import Box, Canvas, Colour, Exposure, Shape, ellipse, limb, photograph, shade

OVERSAMPLING = 2
MARGIN = 72
SIDES = (120, 180)
SCENES: tuple[tuple[Colour, ...], ...] = (
    ((76, 112, 58), (120, 146, 84), (52, 80, 44), (164, 172, 112)),  # leaves
    ((148, 176, 204), (196, 208, 216), (120, 152, 190), (222, 224, 220)),  # sky
    ((128, 112, 88), (160, 144, 116), (98, 88, 70), (182, 168, 140)),  # earth
    ((88, 110, 122), (116, 138, 146), (66, 86, 98), (150, 164, 166)),  # water
    ((150, 134, 96), (182, 164, 112), (116, 112, 70), (98, 96, 62)),  # dry grass
    ((66, 62, 58), (92, 86, 78), (44, 44, 44), (120, 108, 92)),  # shade
)


class Photograph(NamedTuple):
    """pixels (height, width, 3) uint8; box: x, y, w, h of the bird; regions: of the visible attributes;
    landmarks: x, y of the visible ones of the original's 15 parts.
    """

    pixels: np.ndarray
    box: Box
    regions: dict[str, Box]
    landmarks: dict[str, tuple[float, float] | None]


def backdrop(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Out of focus: a few colours of one scene, spread into each other."""
    palette = np.array(SCENES[int(rng.integers(len(SCENES)))])
    cells = int(rng.integers(3, 9))
    grid = palette[rng.integers(0, len(palette), (cells, cells))] * rng.uniform(0.8, 1.2, (cells, cells, 1))
    small = Image.fromarray(np.clip(grid, 0, 255).astype(np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def take(bird: Bird, difficulty: float, rng: np.random.Generator) -> Photograph:
    """One photograph. difficulty scales posture, turning, framing, light, blur and what is in front of the bird."""
    chance = rng.random(16).tolist()
    normal = np.clip(rng.standard_normal(12), -2.2, 2.2).tolist()
    size = (int(rng.integers(SIDES[0], SIDES[1] + 1)), int(rng.integers(SIDES[0], SIDES[1] + 1)))
    canvas = Canvas(backdrop(size, rng), OVERSAMPLING, MARGIN)
    mirrored = chance[0] < 0.5
    frame = Frame(bird, tilt=0.13 * difficulty * normal[0], nod=0.5 * difficulty * normal[1])
    ground = 0.27 + 0.08 * bird.traits["leg_length"]
    feet = ((-0.045, ground), (0.035, ground))

    length = min(size) * (0.74 + 0.1 * chance[1]) * math.exp(0.07 * difficulty * normal[2])
    close = 0.0 if chance[13] > 1.0 - math.exp(-0.25 * difficulty) else 0.3  # so close that the frame cuts the bird
    length *= 1.0 + close
    turn = math.radians(6.0 * difficulty * normal[3])
    sign = -1.0 if mirrored else 1.0
    linear = length * np.array([[sign * math.cos(turn), -math.sin(turn)], [sign * math.sin(turn), math.cos(turn)]])
    middle = np.array(size) * (0.5 + (0.04 * difficulty + 0.3 * close) * np.array([normal[4], normal[5]]))
    matrix = np.column_stack([linear, middle])

    canvas.paint([*perch(chance, ground), *draw_bird_shapes(bird, frame, feet)], matrix)
    canvas.finish_subject()
    box = canvas.subject_box()
    canvas.paint(foliage(size, length, difficulty, rng), np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    light = [math.exp(difficulty * (0.13 * normal[6] + 0.045 * normal[i])) for i in (7, 8, 9)]
    exposure = Exposure(
        gain=(light[0], light[1], light[2]),
        slope_x=0.12 * difficulty * normal[10],
        slope_y=0.12 * difficulty * normal[11],
        contrast=1.0 - 0.22 * difficulty * chance[10],
        blur=0.3 + 0.9 * difficulty * chance[11] ** 2,
        noise=2.0 + 5.0 * difficulty * chance[12],
        coarseness=1.0,
    )
    regions = canvas.visible_boxes(REGIONS)
    parts = canvas.part_map()
    (xx, xy, left), (yx, yy, top) = matrix.tolist()
    seen: dict[str, tuple[float, float] | None] = {}
    for name, landmark in landmarks(bird, frame, feet, mirrored).items():
        seen[name] = None
        if landmark is not None:
            along, across = landmark[0]
            x, y = xx * along + xy * across + left, yx * along + yy * across + top
            if 0 <= x < size[0] and 0 <= y < size[1]:
                near = parts[max(int(y) - 2, 0) : int(y) + 3, max(int(x) - 2, 0) : int(x) + 3]
                if not set(near.tobytes()).isdisjoint(landmark[1]):
                    seen[name] = (round(x, 1), round(y, 1))
    return Photograph(photograph(canvas, exposure, rng), box, regions, seen)


def perch(chance: list[float], ground: float) -> list[Shape]:
    """A branch, a stone or the ground under the feet, in the bird's coordinates."""
    wood = shade((110, 90, 70), 0.6 + 0.8 * chance[2])
    y = ground + 0.045
    slope = 0.25 * (chance[3] - 0.5)
    if chance[4] < 0.6:
        width = 0.028 + 0.03 * chance[5]
        branch = limb(
            (-1.6, y + width - 1.6 * slope), (1.6, y + width + 1.6 * slope), width * (0.7 + 0.6 * chance[6]), width
        )
        twig = limb((0.3 * (chance[7] - 0.5), y + width), (1.4 * (chance[8] - 0.5), y + 0.9), 0.02, 0.012)
        return [Shape(twig, shade(wood, 0.85), None), Shape(branch, wood, None)]
    stone = shade((140, 136, 130), 0.6 + 0.7 * chance[5])
    if chance[4] < 0.8:
        return [Shape(ellipse((0.2 * (chance[6] - 0.5), y + 0.32), 0.5 + 0.3 * chance[7], 0.33), stone, None)]
    return [Shape([(-1.8, y), (1.8, y), (1.8, y + 1.8), (-1.8, y + 1.8)], blend_ground(chance), None)]


def blend_ground(chance: list[float]) -> Colour:
    """A colour of grass or sand, of the chances that were drawn for a background."""
    first, second = ((96, 116, 62), (152, 132, 100)) if chance[6] < 0.5 else ((136, 130, 120), (206, 202, 196))
    return tuple(a + chance[7] * (b - a) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def foliage(size: tuple[int, int], length: float, difficulty: float, rng: np.random.Generator) -> list[Shape]:
    """What stands in front, in pixels: sprays of leaves, tall grass, a blade or trunk near the lens; often nothing."""
    shapes: list[Shape] = []
    width, height = size
    for _ in range(int(rng.poisson(1.0 * difficulty))):
        chance = rng.random(26).tolist()
        x = width * 0.5 + length * (chance[0] - 0.5) * 0.95
        y = height * 0.5 + length * (chance[1] - 0.5) * 0.75
        green = shade((84, 118, 58), 0.6 + 0.7 * chance[3])
        if chance[4] < 0.2:  # grass
            top = y + 0.1 * length
            for blade in range(20):
                foot = width * (blade + chance[5 + blade]) / 20
                tip = (
                    foot + 0.2 * length * (chance[5 + (7 * blade) % 20] - 0.5),
                    top + 0.25 * length * chance[5 + (3 * blade) % 20],
                )
                shapes.append(
                    Shape(
                        limb((foot, height + 4.0), tip, 0.035 * length, 0.006 * length),
                        shade(green, 0.75 + 0.02 * blade),
                        0,
                    )
                )
        elif chance[4] < 0.36:  # out of focus, near the lens
            lean = 0.5 * (chance[5] - 0.5)
            half = (0.05 + 0.06 * chance[6]) * length
            colour = green if chance[7] < 0.6 else shade((104, 88, 72), 0.6 + 0.7 * chance[8])
            shapes.append(
                Shape(limb((x - lean * height, -9.0), (x + lean * height, height + 9.0), half, half), colour, 0)
            )
        else:
            away = math.tau * chance[2]
            twig = (x + 1.2 * length * math.cos(away), y + 1.2 * length * math.sin(away))
            shapes.append(Shape(limb((x, y), twig, 0.012 * length, 0.02 * length), (86, 72, 56), 0))
            broad = 0.7 + 0.9 * chance[25]
            for leaf in range(3 + int(5 * chance[5])):
                along = 0.09 * broad * leaf * length
                side = 0.07 * broad * length * (1 if leaf % 2 else -1)
                at = (
                    x + along * math.cos(away) - side * math.sin(away),
                    y + along * math.sin(away) + side * math.cos(away),
                )
                long = (0.075 + 0.05 * chance[6 + leaf]) * broad * length
                blade_shape = ellipse(at, long, 0.45 * long, away + (0.7 if leaf % 2 else -0.7))
                shapes.append(Shape(blade_shape, shade(green, 0.8 + 0.4 * chance[14 + leaf]), 0))
    return shapes
