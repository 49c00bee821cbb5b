"""The CARS196 twin on disk: which photographs there are, and `cars_annos.mat`.

Names and structure are those of the original (Krause et al., 2013): numbered images in one folder, classes that are mostly
but not all in one run, numbers of the smallest type that holds them, a few large and a few grey images. The models of the
second half of the classes, which retrieval searches, come from makes of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from a3m.data.twins.coach import Body, build_body
from a3m.data.twins.makes import MAKES, CarModel, draw_models
from a3m.data.twins.matlab import cells, write_mat
from a3m.data.twins.road import take
from a3m.data.twins.scene import Box, check_difficulty, generator
from a3m.errors import SettingsError

if TYPE_CHECKING:
    from a3m.settings import Twin

READS = ("seed", "difficulty", "classes", "images_per_class")
FOLDER = "car_ims"
JPEG_QUALITY = 95
MODELS_A_MAKE = 5
MOST_CLASSES = 255  # a class id of the original is one byte
LARGE, ENLARGED, GREY = 60, 3, 150  # one image of so many is enlarged, to three times its sides; one of so many is grey

# Streams of generators; those of the other twins begin at 1000, 2000 and 3000.
(TRAIN_MODELS, TEST_MODELS, NAMES, TRAIN_PHOTOGRAPH, TEST_PHOTOGRAPH, SPLIT) = range(4000, 4006)


@dataclass(frozen=True)
class Shot:
    """One photograph: its number in the folder (from 1), its class id (from 1), and its number in the class."""

    key: int
    label: int
    model: CarModel
    train: bool  # of the half of the classes that trains
    number: int

    @property
    def path(self) -> str:
        """The image's path inside the data set's root."""
        return f"{FOLDER}/{self.key:06d}.jpg"


class Drawn(NamedTuple):
    """What drawing a photograph finds out: the car's box in pixels."""

    box: Box


@dataclass(frozen=True)
class Plan:
    """Every photograph to be drawn, with the class names in order of their ids, and the counts for the description."""

    classes: list[str]
    shots: list[Shot]
    counts: dict[str, int]
    seed: int


def plan(settings: "Twin") -> Plan:
    """Which images there are. Raises SettingsError on sizes out of range."""
    check_difficulty(settings.difficulty)
    if not 2 <= settings.classes <= MOST_CLASSES:
        raise SettingsError(f"twin.classes={settings.classes}: from 2 to {MOST_CLASSES}")
    if settings.images_per_class < 2:
        raise SettingsError(f"twin.images_per_class={settings.images_per_class}: at least 2, one to find the other")
    seed, half = settings.seed, settings.classes // 2
    models: list[CarModel] = []
    names: list[str] = []
    for stream, number in ((TRAIN_MODELS, half), (TEST_MODELS, settings.classes - half)):
        first = len(MAKES) // 2 if stream == TEST_MODELS else 0
        makes = min(math.ceil(number / MODELS_A_MAKE), len(MAKES) // 2)
        for model in draw_models(number, makes, seed, stream, settings.difficulty):
            year = 2004 + int(generator(seed, NAMES, len(models)).integers(9))
            title = "C/V" if len(models) == 2 else model.name  # a name with a slash, as one of the original's
            names.append(f"{MAKES[first + model.make]} {title} {model.type.title()} {year}")
            models.append(model)
    numbers = [(label, number) for label in range(settings.classes) for number in range(settings.images_per_class)]
    # One class comes in two runs: its later images follow after the next three classes.
    parted, late = (3 * settings.classes) // 5, settings.images_per_class // 2
    numbers.sort(key=lambda pair: (pair[0] + 3.5 if pair[0] == parted and pair[1] >= late else pair[0], pair[1]))
    shots = [
        Shot(key, label + 1, models[label], label < half, number)
        for key, (label, number) in enumerate(numbers, start=1)
    ]
    train = half * settings.images_per_class
    counts = {"images": len(shots), "train": train, "test": len(shots) - train, "classes": settings.classes}
    return Plan(names, shots, counts, seed)


def draw_shots(root: Path, seed: int, difficulty: float, shots: Sequence[Shot]) -> list[Drawn]:
    """Draws and writes these images. The two halves of the classes have streams of their own."""
    bodies: dict[tuple[int, bool], Body] = {}
    drawn = []
    for shot in shots:
        rng = generator(seed, TRAIN_PHOTOGRAPH if shot.train else TEST_PHOTOGRAPH, shot.label, shot.number)
        # Here a convertible and its coupé are two classes, so that a roof is never up on one and down on another image.
        open_top = shot.model.type == "convertible"
        if (shot.label, open_top) not in bodies:
            bodies[shot.label, open_top] = build_body(shot.model, open_top=open_top)
        photograph = take(bodies[shot.label, open_top], difficulty, rng)
        image, box = Image.fromarray(photograph.pixels), photograph.box
        if shot.key % LARGE == LARGE // 2:
            image = image.resize((ENLARGED * image.width, ENLARGED * image.height), Image.Resampling.BICUBIC)
            box = (ENLARGED * box[0], ENLARGED * box[1], ENLARGED * box[2], ENLARGED * box[3])
        if shot.key % GREY == GREY // 2:
            image = image.convert("L")
        image.save(root / shot.path, quality=JPEG_QUALITY)
        drawn.append(Drawn(box))
    return drawn


def write_annotations(root: Path, plan: Plan, drawn: Sequence[Drawn]) -> None:
    """`cars_annos.mat`; `drawn` in the order of `plan.shots`."""
    fields = ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    struct = np.empty((1, len(plan.shots)), dtype=[(name, object) for name in fields])
    official = generator(plan.seed, SPLIT).random(len(plan.shots)) < 0.5  # not the split of retrieval
    for column, (shot, car) in enumerate(zip(plan.shots, drawn, strict=True)):
        x, y, w, h = car.box
        numbers = (x + 1, y + 1, x + w, y + h, shot.label, int(official[column]))
        struct[0, column] = (shot.path, *(small(number) for number in numbers))
    content = {"annotations": struct, "class_names": cells(plan.classes)}
    write_mat(root / "cars_annos.mat", content, "annotations of a drawn twin of CARS196")


def small(number: int) -> np.ndarray:
    """(1, 1), of the smallest type that holds the number."""
    return np.array([[number]], dtype=np.min_scalar_type(number))
