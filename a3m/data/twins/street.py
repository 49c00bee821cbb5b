"""The six cameras of the Market-1501 twin: their streets, light and faults, and the photographs they take.

Nothing here depends on who is photographed: camera, place, pose and light are drawn from the image's own generator.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from a3m.data.twins.figure import Pose
from a3m.data.twins.pedestrian import draw_pedestrian, region_parts
from a3m.data.twins.people import Person
from a3m.data.twins.scene import Box, Canvas, Colour, Exposure, Shape, ellipse, generator, limb, photograph, shade

WIDTH, HEIGHT = 64, 128
OVERSAMPLING = 2
MARGIN = 48
CAMERAS = 6
PANORAMA = (720, 300)

WALLS: tuple[Colour, ...] = (
    (132, 126, 118),
    (96, 104, 92),
    (158, 150, 138),
    (92, 96, 108),
    (118, 98, 84),
    (150, 156, 160),
)
GROUNDS: tuple[Colour, ...] = (
    (128, 124, 120),
    (146, 138, 128),
    (112, 114, 118),
    (138, 142, 136),
    (120, 110, 104),
    (156, 154, 150),
)


@dataclass(frozen=True)
class Camera:
    """panorama: what stands behind people. The numbers are those of Exposure, before each image's own variation."""

    panorama: Image.Image
    gain: Colour
    contrast: float
    blur: float
    noise: float
    coarseness: float
    scale: float


def build_cameras(seed: int, stream: int, difficulty: float) -> list[Camera]:
    """The six cameras. difficulty scales how far their colours, contrast, sharpness and noise are apart."""
    cameras = []
    for number in range(CAMERAS):
        rng = generator(seed, stream, number)
        chance = rng.uniform(-1.0, 1.0, 8).tolist()
        angle = math.tau * (number + 0.4 * chance[0]) / CAMERAS  # six casts all round the colour circle
        cast = 0.05 + 0.045 * difficulty
        light = 1.0 + (0.06 + 0.1 * difficulty) * chance[1]
        gain = tuple(light * (1.0 + cast * math.cos(angle + shift)) for shift in (0.0, math.tau / 3, 2 * math.tau / 3))
        cameras.append(
            Camera(
                panorama=street(number, rng),
                gain=(gain[0], gain[1], gain[2]),
                contrast=1.0 - 0.16 * difficulty * (0.5 + 0.5 * chance[2]),
                blur=0.25 + 0.3 * difficulty * (0.5 + 0.5 * chance[3]),
                noise=2.0 + 3.0 * difficulty * (0.5 + 0.5 * chance[4]),
                coarseness=1.0 + 0.5 * difficulty * max(chance[5], 0.0),
                scale=1.0 + 0.05 * chance[6],
            )
        )
    return cameras


def street(number: int, rng: np.random.Generator) -> Image.Image:
    """A wall or a hedge above, the ground below, and what stands about: doors, pillars, bicycles, bushes."""
    width, height = PANORAMA
    wall, ground = WALLS[number % len(WALLS)], GROUNDS[number % len(GROUNDS)]
    image = Image.new("RGB", PANORAMA, tuple(int(value) for value in wall))
    brush = ImageDraw.Draw(image)

    def fill(colour: Colour, factor: float) -> tuple[int, int, int]:
        red, green, blue = shade(colour, factor)
        return int(red), int(green), int(blue)

    horizon = int(height * rng.uniform(0.38, 0.62))
    x = 0.0
    while x < width:  # doors, windows, pillars, hedges
        wide = float(rng.uniform(20, 90))
        kind = int(rng.integers(4))
        top = int(rng.uniform(0, 0.5) * horizon)
        if kind == 0:
            brush.rectangle((x, top, x + wide, horizon), fill=fill((52, 54, 60), rng.uniform(0.6, 1.4)))
        elif kind == 1:
            brush.rectangle((x, 0, x + wide * 0.3, horizon), fill=fill(wall, rng.uniform(1.1, 1.4)))
        elif kind == 2:
            for _ in range(14):
                at, radius = (x + rng.uniform(0, wide), horizon - rng.uniform(0, 60)), rng.uniform(8, 20)
                box = (at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius)
                brush.ellipse(box, fill=fill((70, 104, 58), rng.uniform(0.6, 1.3)))
        else:
            brush.rectangle((x, 0, x + wide, horizon), fill=fill(wall, rng.uniform(0.75, 1.2)))
        x += wide * float(rng.uniform(0.7, 1.5))
    brush.rectangle((0, horizon, width, height), fill=fill(ground, 1.0))
    tile = float(rng.uniform(14, 40))
    for row in np.arange(horizon, height, tile * 0.5):
        brush.line((0, row, width, row), fill=fill(ground, 0.9), width=1)
    for column in np.arange(-width, 2 * width, tile):
        brush.line((column, horizon, width / 2 + (column - width / 2) * 2.2, height), fill=fill(ground, 0.93), width=1)
    for _ in range(int(rng.integers(4, 12))):  # bicycles
        rear, foot, radius = (
            float(rng.uniform(0, width)),
            horizon + float(rng.uniform(0, 70)),
            float(rng.uniform(14, 24)),
        )
        colour = fill((60, 60, 66), rng.uniform(0.5, 1.6))
        for wheel in (rear, rear + 2.6 * radius):
            brush.ellipse((wheel - radius, foot - 2 * radius, wheel + radius, foot), outline=colour, width=3)
        brush.line(
            (rear, foot - radius, rear + radius, foot - 2.4 * radius, rear + 2.6 * radius, foot - radius),
            fill=colour,
            width=3,
        )
    grain = (
        np.rint(rng.normal(0.0, 7.0, (height // 2, width // 2))).astype(np.int16).repeat(2, axis=0).repeat(6, axis=1)
    )
    pixels = np.asarray(image).reshape(height, 3 * width) + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).reshape(height, width, 3))


@dataclass(frozen=True)
class View:
    """Everything about one photograph but the person and the camera."""

    pose: Pose
    matrix: np.ndarray  # (2, 3): the person's coordinates to pixels
    crop: tuple[float, float, float, float]  # of the panorama
    flipped: bool
    front: tuple[Shape, ...]  # what stands before the person, in pixels
    light: Colour
    slopes: tuple[float, float]
    exposure_noise: tuple[float, float, float]


def draw_view(camera: Camera, difficulty: float, rng: np.random.Generator, *, badly_cut: bool = False) -> View:
    """How one photograph is taken. difficulty scales pose, misalignment, light, blur, and how often something hides
    part of the person. badly_cut: a box that holds a piece of a person or almost nothing, as junk boxes do.
    """
    normal = np.clip(rng.standard_normal(14), -2.2, 2.2).tolist()
    chance = rng.random(14).tolist()
    turn = ("front", "back", "side", "side")[int(chance[0] * 4)]
    mirrored = turn == "side" and chance[1] < 0.5
    stride = (0.08 + 0.34 * chance[2]) * (1.0 if chance[3] < 0.5 else -1.0)
    pose = Pose(
        turn=turn,  # type: ignore[arg-type]
        mirrored=mirrored,
        stride=stride,
        arm=-0.9 * stride + 0.2 * normal[0] * min(difficulty, 2.0),
        lean=math.radians(2.0 * difficulty) * normal[1],
        width=1.0 + 0.04 * difficulty * normal[2],
    )
    tall = 0.87 * HEIGHT * camera.scale * math.exp(0.055 * difficulty * normal[3])
    centre_x = WIDTH * (0.5 + 0.05 * difficulty * normal[4])
    feet = HEIGHT * (0.955 + 0.028 * difficulty * normal[5])
    if badly_cut:
        tall *= 1.0 + 0.9 * chance[4]
        centre_x += WIDTH * (0.5 if chance[5] < 0.5 else -0.5) * (0.7 + 0.9 * chance[6])
        feet += HEIGHT * (chance[7] - 0.4)
    sign = -1.0 if mirrored else 1.0
    sine, cosine = math.sin(pose.lean), math.cos(pose.lean)
    wide = tall * 1.08
    linear = np.array([[sign * wide * cosine, -tall * sine], [sign * wide * sine, tall * cosine]])
    matrix = np.column_stack([linear, np.array([centre_x, feet]) - linear @ np.array([0.0, 1.0])])
    light = [math.exp(difficulty * (0.11 * normal[6] + 0.03 * normal[i])) for i in (7, 8, 9)]
    zoom = 0.8 + 0.5 * chance[8]
    crop_width, crop_height = 110 * zoom, 220 * zoom
    left = chance[9] * (PANORAMA[0] - crop_width)
    above = min(chance[10] * (PANORAMA[1] - crop_height), PANORAMA[1] - crop_height)
    return View(
        pose=pose,
        matrix=matrix,
        crop=(left, max(above, 0.0), left + crop_width, max(above, 0.0) + crop_height),
        flipped=bool(chance[11] < 0.5),
        front=occluder(difficulty, rng),
        light=(light[0], light[1], light[2]),
        slopes=(0.1 * difficulty * normal[10], 0.1 * difficulty * normal[11]),
        exposure_noise=(abs(normal[12]), float(chance[12]), float(chance[13])),
    )


def occluder(difficulty: float, rng: np.random.Generator) -> tuple[Shape, ...]:
    """A pole, a bush, a bin, a bicycle or a passer-by's half; often nothing. In pixels."""
    chance = rng.random(8).tolist()
    hue = rng.uniform(30, 210, 3)
    colour: Colour = (float(hue[0]), float(hue[1]), float(hue[2]))
    if chance[0] > 1.0 - math.exp(-0.42 * difficulty):
        return ()
    kind = int(chance[1] * 5)
    if kind == 0:
        x, half = WIDTH * (0.15 + 0.7 * chance[2]), 2.0 + 3.0 * chance[3]
        return (Shape(limb((x, -10.0), (x, HEIGHT + 10.0), half, half), shade((92, 92, 96), 0.6 + 0.8 * chance[4]), 0),)
    if kind == 1:
        top = HEIGHT * (0.66 + 0.22 * chance[2])
        green = shade((66, 100, 52), 0.7 + 0.6 * chance[3])
        bush = [
            ellipse((8.0 * i + 6.0 * chance[4], top + 10.0 * math.sin(2.3 * i + 6 * chance[5]) + 14.0), 9.0, 16.0)
            for i in range(9)
        ]
        ground = [(-9.0, top + 16.0), (WIDTH + 9.0, top + 16.0), (WIDTH + 9.0, HEIGHT + 9.0), (-9.0, HEIGHT + 9.0)]
        return (
            *(Shape(leaves, shade(green, 0.9 + 0.04 * i), 0) for i, leaves in enumerate(bush)),
            Shape(ground, green, 0),
        )
    if kind == 2:
        x, y, half = WIDTH * (0.1 + 0.8 * chance[2]), HEIGHT * (0.6 + 0.2 * chance[3]), 9.0 + 8.0 * chance[4]
        box = [(x - half, y), (x + half, y), (x + 0.9 * half, HEIGHT + 9.0), (x - 0.9 * half, HEIGHT + 9.0)]
        lid = [
            (x - half - 1.5, y - 3.0),
            (x + half + 1.5, y - 3.0),
            (x + half + 1.5, y + 3.0),
            (x - half - 1.5, y + 3.0),
        ]
        return Shape(box, shade(colour, 0.7), 0), Shape(lid, shade(colour, 0.5), 0)
    if kind == 3:
        x, y, radius = WIDTH * chance[2], HEIGHT * (0.9 + 0.08 * chance[3]), 13.0 + 6.0 * chance[4]
        wheels = []
        for centre in (x - 1.2 * radius, x + 1.2 * radius):
            rim = [
                (centre + radius * math.cos(a), y - radius + radius * math.sin(a)) for a in np.linspace(0, math.tau, 13)
            ]
            wheels += [Shape(limb(rim[i], rim[i + 1], 1.1, 1.1), (36, 36, 40), 0) for i in range(12)]
        saddle, bar = (x - 0.5 * radius, y - 2.3 * radius), (x + 0.9 * radius, y - 2.5 * radius)
        frame = [(x - 1.2 * radius, y - radius), saddle, (x, y - radius), bar, (x + 1.2 * radius, y - radius)]
        return (
            *wheels,
            *(Shape(limb(a, b, 1.5, 1.5), shade(colour, 0.6), 0) for a, b in pairwise(frame)),
        )
    sign = 1.0 if chance[2] < 0.5 else -1.0
    x = WIDTH * (0.5 + sign * (0.42 + 0.16 * chance[3]))
    y = HEIGHT * (0.04 + 0.1 * chance[4])
    coat = [(x - 13.0, y + 20.0), (x + 13.0, y + 20.0), (x + 15.0, y + 62.0), (x - 15.0, y + 62.0)]
    below = [(x - 13.0, y + 60.0), (x + 13.0, y + 60.0), (x + 11.0, HEIGHT + 9.0), (x - 11.0, HEIGHT + 9.0)]
    dark = shade((90, 92, 104), 0.5 + 0.6 * chance[5])
    head = (
        Shape(ellipse((x, y + 11.0), 6.0, 8.0), (206, 166, 138), 0),
        Shape(ellipse((x, y + 8.0), 6.4, 6.5), (34, 28, 28), 0),
    )
    return (*head, Shape(below, dark, 0), Shape(coat, colour, 0))


def take(
    person: Person | None, camera: Camera, view: View, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, Box]]:
    """(128, 64, 3) uint8 and, for every attribute that is visible, its box. Without a person: the street alone."""
    background = camera.panorama.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=view.crop)
    if view.flipped:
        background = background.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas = Canvas(background, OVERSAMPLING, MARGIN)
    if person is not None:
        ground = ellipse((0.0, 0.985), 0.17, 0.022)
        canvas.paint([Shape(ground, (58, 56, 56), None), *draw_pedestrian(person, view.pose)], view.matrix)
    canvas.finish_subject()
    canvas.paint(view.front, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    gain = tuple(a * b for a, b in zip(camera.gain, view.light, strict=True))
    exposure = Exposure(
        gain=(gain[0], gain[1], gain[2]),
        slope_x=view.slopes[0],
        slope_y=view.slopes[1],
        contrast=camera.contrast,
        blur=camera.blur * (0.7 + 0.6 * view.exposure_noise[0]),
        noise=camera.noise * (0.7 + 0.6 * view.exposure_noise[1]),
        coarseness=1.0 + (camera.coarseness - 1.0) * (0.5 + view.exposure_noise[2]),
    )
    pixels = photograph(canvas, exposure, rng)
    return pixels, canvas.visible_boxes(region_parts(person)) if person is not None else {}
