"""The CUB-200-2011 twin on disk: which photographs there are, and the original's text files.

Files and columns are those of the original (Wah et al., 2011): ids count from 1 and are sorted by class, training and
test images of a class are mixed, `attributes.txt` lies beside `CUB_200_2011/`, and the labels of a group that cannot be
seen are all 0 with certainty 1 (not visible), else 1 for what is there, with certainty 4 (definitely).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from a3m.data.twins.birds import GROUPS, MOST_CLASSES, Species, draw_bird, draw_species
from a3m.data.twins.meadow import take
from a3m.data.twins.scene import Box, Region, check_difficulty, generator
from a3m.errors import SettingsError

if TYPE_CHECKING:
    from a3m.settings import Twin

FOLDER = "CUB_200_2011"
READS = ("seed", "difficulty", "classes", "train_images_per_class", "test_images_per_class")
JPEG_QUALITY = 95
CERTAINTIES = ("not visible", "guessing", "probably", "definitely")
NOT_VISIBLE, DEFINITELY = 1, 4

# Streams of generators; those of the Market-1501 twin begin at 1000.
(SPECIES, ORDER, TRAIN_PHOTOGRAPH, TEST_PHOTOGRAPH, ANSWER) = range(2000, 2005)


@dataclass(frozen=True)
class Shot:
    """One photograph: its id (from 1), path below images/, class id (from 1), and its number among its split's."""

    key: int
    path: str
    label: int
    species: Species
    train: bool
    number: int


class Drawn(NamedTuple):
    """What the text files say about one image. values: the value of each group, None where it cannot be seen."""

    box: Box
    values: dict[str, int | None]
    landmarks: dict[str, tuple[float, float] | None]
    regions: list[Region]


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
    if min(settings.train_images_per_class, settings.test_images_per_class) < 1:
        raise SettingsError("twin.train_images_per_class, twin.test_images_per_class: at least 1")
    train, test = settings.train_images_per_class, settings.test_images_per_class
    classes: list[str] = []
    shots: list[Shot] = []
    for label, species in enumerate(
        draw_species(settings.classes, settings.seed, SPECIES, settings.difficulty), start=1
    ):
        classes.append(f"{label:03d}.{species.name}")
        order = generator(settings.seed, ORDER, label).permutation(train + test).tolist()
        for number in order:
            key = len(shots) + 1
            path = f"{classes[-1]}/{species.name}_{number + 1:04d}_{key}.jpg"
            shots.append(Shot(key, path, label, species, number < train, number))
    counts = {
        "images": len(shots),
        "train": train * len(classes),
        "test": test * len(classes),
        "classes": len(classes),
        "attributes": sum(map(len, GROUPS.values())),
        "attribute_groups": len(GROUPS),
    }
    return Plan(classes, shots, counts, settings.seed)


def make_folders(root: Path, plan: Plan) -> None:
    """The folders of CUB-200-2011's layout under `root`, which must not be there yet."""
    for folder in ("attributes", "parts", *(f"images/{name}" for name in plan.classes)):
        (root / FOLDER / folder).mkdir(parents=True)


def draw_shots(root: Path, seed: int, difficulty: float, shots: Sequence[Shot]) -> list[Drawn]:
    """Draws and writes these images. Training and test images have streams of their own."""
    drawn = []
    for shot in shots:
        rng = generator(seed, TRAIN_PHOTOGRAPH if shot.train else TEST_PHOTOGRAPH, shot.label, shot.number)
        bird = draw_bird(shot.species, difficulty, rng)
        photograph = take(bird, difficulty, rng)
        path = f"{FOLDER}/images/{shot.path}"
        Image.fromarray(photograph.pixels).save(root / path, quality=JPEG_QUALITY)
        values = {name: bird.attributes[name] if name in photograph.regions else None for name in GROUPS}
        regions = [Region(path, name, *box) for name, box in photograph.regions.items()]
        drawn.append(Drawn(photograph.box, values, photograph.landmarks, regions))
    return drawn


def write_annotations(root: Path, plan: Plan, drawn: Sequence[Drawn]) -> None:
    """All text files; `drawn` in the order of `plan.shots`."""
    base = root / FOLDER
    shots = plan.shots
    write_lines(base / "images.txt", [f"{shot.key} {shot.path}" for shot in shots])
    write_lines(base / "image_class_labels.txt", [f"{shot.key} {shot.label}" for shot in shots])
    write_lines(base / "train_test_split.txt", [f"{shot.key} {int(shot.train)}" for shot in shots])
    write_lines(base / "classes.txt", [f"{label} {name}" for label, name in enumerate(plan.classes, start=1)])
    boxes = [" ".join(f"{value:.1f}" for value in bird.box) for bird in drawn]
    write_lines(base / "bounding_boxes.txt", [f"{shot.key} {box}" for shot, box in zip(shots, boxes, strict=True)])

    names = list(drawn[0].landmarks)
    write_lines(base / "parts" / "parts.txt", [f"{number} {name}" for number, name in enumerate(names, start=1)])
    locations = []
    for shot, bird in zip(shots, drawn, strict=True):
        for number, name in enumerate(names, start=1):
            x, y, visible = (*bird.landmarks[name], 1) if bird.landmarks[name] else (0.0, 0.0, 0)  # type: ignore[misc]
            locations.append(f"{shot.key} {number} {x:.1f} {y:.1f} {visible}")
    write_lines(base / "parts" / "part_locs.txt", locations)

    pairs = [(group, value) for group, values in GROUPS.items() for value in range(len(values))]
    written = [f"{number} has_{group}::{GROUPS[group][value]}" for number, (group, value) in enumerate(pairs, start=1)]
    write_lines(root / "attributes.txt", written)
    certainties = [f"{number} {name}" for number, name in enumerate(CERTAINTIES, start=1)]
    write_lines(base / "attributes" / "certainties.txt", certainties)
    present = np.array([[bird.values[group] == value for group, value in pairs] for bird in drawn], dtype=np.int64)
    visible = np.array([[bird.values[group] is not None for group, _ in pairs] for bird in drawn])
    certainty = np.where(visible, DEFINITELY, NOT_VISIBLE)
    seconds = generator(plan.seed, ANSWER).gamma(2.0, 2.5, present.shape)  # the time that an annotator took
    rows = zip(shots, present.tolist(), certainty.tolist(), seconds.tolist(), strict=True)
    answers = [
        f"{shot.key} {column} {there} {sure} {time:.3f}"
        for shot, *answered in rows
        for column, (there, sure, time) in enumerate(zip(*answered, strict=True), start=1)
    ]
    write_lines(base / "attributes" / "image_attribute_labels.txt", answers)
    labels = np.array([shot.label for shot in shots])
    shares = [100.0 * present[labels == label].mean(axis=0) for label in range(1, len(plan.classes) + 1)]
    continuous = [" ".join(f"{share:.10g}" for share in row) for row in shares]
    write_lines(base / "attributes" / "class_attribute_labels_continuous.txt", continuous)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file, one line an entry."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
