"""The Market-1501 twin on disk: which photographs there are, their names, and `market_attribute.mat`.

Names and structure are those of the original (Zheng et al., ICCV 2015; attributes of Lin et al., 2019): training and
test identities are disjoint, every test person has one query image a camera (box number 00) and the rest in the
gallery, distractors are identity 0000, junk is -1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from a3m.data.twins.matlab import cells, write_mat
from a3m.data.twins.people import LOWER_COLOURS, UPPER_COLOURS, Person, draw_people, held_out_pairs
from a3m.data.twins.scene import Region, check_difficulty, generator
from a3m.data.twins.street import CAMERAS, build_cameras, draw_view, take
from a3m.errors import SettingsError

if TYPE_CHECKING:
    from a3m.settings import Twin

FOLDER = "Market-1501-v15.09.15"
READS = ("seed", "difficulty", "train_identities", "test_identities", "images_per_identity", "distractors", "junk")
JPEG_QUALITY = 95

# Streams of generators: the first number of every spawn key, so that no two things share randomness.
(WORLD, CAMERA, TRAIN_PEOPLE, TEST_PEOPLE, DISTRACTOR_PEOPLE, JUNK_PEOPLE, PLAN, PHOTOGRAPH) = range(1000, 1008)

BINARY = ("gender", "hair", "up", "down", "clothes", "hat", "backpack", "bag", "handbag")
# The order of the fields differs between the two parts of the original file, so it does here.
TRAIN_FIELDS = (
    *("age", "backpack", "bag", "handbag", "downblack", "downblue", "downbrown", "downgray", "downgreen", "downpink"),
    *(
        "downpurple",
        "downwhite",
        "downyellow",
        "upblack",
        "upblue",
        "upgreen",
        "upgray",
        "uppurple",
        "upred",
        "upwhite",
    ),
    *("upyellow", "clothes", "down", "up", "hair", "hat", "gender"),
)
TEST_FIELDS = (
    *("age", "backpack", "bag", "handbag", "clothes", "down", "up", "hair", "hat", "gender", "upblack", "upwhite"),
    *("upred", "uppurple", "upyellow", "upgray", "upblue", "upgreen", "downblack", "downwhite", "downpink"),
    *("downpurple", "downyellow", "downgray", "downblue", "downgreen", "downbrown"),
)


@dataclass(frozen=True)
class Shot:
    """One photograph: its path below the root, who is on it (None: nobody), the camera (0-based) and its own number."""

    path: str
    person: Person | None
    camera: int
    number: int
    badly_cut: bool = False
    described: bool = True  # regions are written


@dataclass(frozen=True)
class Plan:
    """Every photograph to be drawn: people by identity, shots, counts and notes for the description."""

    train: dict[int, Person]
    test: dict[int, Person]
    shots: list[Shot]
    counts: dict[str, int]
    notes: dict[str, Any]


def plan(settings: "Twin") -> Plan:
    """Who is photographed where. Raises SettingsError on sizes that no Market-1501 layout can hold."""
    check_difficulty(settings.difficulty)
    total = settings.train_identities + settings.test_identities
    if settings.train_identities < 1 or settings.test_identities < 1 or total > 9999:
        raise SettingsError("twin.train_identities, twin.test_identities: each at least 1, together at most 9999")
    if settings.images_per_identity < 4:
        raise SettingsError("twin.images_per_identity: at least 4 (two cameras, two images each)")
    if min(settings.distractors, settings.junk) < 0:
        raise SettingsError("twin.distractors, twin.junk: not below 0")
    seed, difficulty = settings.seed, settings.difficulty
    forbidden = held_out_pairs(seed, WORLD)
    people = {
        stream: draw_people(count, seed, stream, difficulty, forbidden, test=stream == TEST_PEOPLE)
        for stream, count in (
            (TRAIN_PEOPLE, settings.train_identities),
            (TEST_PEOPLE, settings.test_identities),
            (DISTRACTOR_PEOPLE, settings.distractors),
            (JUNK_PEOPLE, settings.junk),
        )
    }
    numbers = (generator(seed, WORLD, 1).permutation(total) + 1).tolist()
    train_numbers, test_numbers = numbers[: settings.train_identities], numbers[settings.train_identities :]
    train = dict(sorted(zip(train_numbers, people[TRAIN_PEOPLE], strict=True)))
    test = dict(sorted(zip(test_numbers, people[TEST_PEOPLE], strict=True)))

    shots: list[Shot] = []
    for identity, person in train.items():
        for camera, stem, _ in stems(identity, settings):
            shots.append(Shot(f"{FOLDER}/bounding_box_train/{stem}", person, camera, len(shots)))
    query = 0
    for identity, person in test.items():
        for camera, stem, first in stems(identity, settings, query=True):
            folder = "query" if first else "bounding_box_test"
            query += first
            shots.append(Shot(f"{FOLDER}/{folder}/{stem}", person, camera, len(shots)))
    rng = generator(seed, PLAN, 0)
    for index, person in enumerate(people[DISTRACTOR_PEOPLE] + people[JUNK_PEOPLE]):
        junk = index >= settings.distractors
        camera, sequence = int(rng.integers(CAMERAS)), int(rng.integers(1, 7))
        stem = f"{'-1' if junk else '0000'}_c{camera + 1}s{sequence}_{25 * index + 1:06d}_01.jpg"
        nobody = junk and index % 3 == 0
        path = f"{FOLDER}/bounding_box_test/{stem}"
        shots.append(Shot(path, None if nobody else person, camera, len(shots), badly_cut=junk, described=False))
    images = settings.images_per_identity
    counts = {
        "train": images * len(train),
        "train_identities": len(train),
        "query": query,
        "query_identities": len(test),
        "gallery": images * len(test) - query + settings.distractors,
        "gallery_identities": len(test),
        "distractors": settings.distractors,
        "junk": settings.junk,
    }
    uppers, lowers = list(UPPER_COLOURS), list(LOWER_COLOURS)
    notes = {"held_out_colour_pairs": [[uppers[upper], lowers[lower]] for upper, lower in sorted(forbidden)]}
    return Plan(train, test, shots, counts, notes)


def stems(identity: int, settings: "Twin", *, query: bool = False) -> list[tuple[int, str, bool]]:
    """(camera, file name, is it the camera's query) of a person's images; two to four cameras take two or more each."""
    rng = generator(settings.seed, PLAN, identity)
    images = settings.images_per_identity
    seen_by = int(rng.integers(2, min(4, images // 2) + 1))
    cameras = np.sort(rng.choice(CAMERAS, seen_by, replace=False)).tolist()
    shares = 2 + rng.multinomial(images - 2 * seen_by, [1.0 / seen_by] * seen_by)
    named = []
    for camera, share in zip(cameras, shares.tolist(), strict=True):
        sequence, frame = int(rng.integers(1, 7)), 25 * int(rng.integers(0, 3900)) + 1
        for image in range(share):
            first = query and image == 0
            box = 0 if first else image + (0 if query else 1)
            named.append(
                (camera, f"{identity:04d}_c{camera + 1}s{sequence}_{frame + 25 * image:06d}_{box:02d}.jpg", first)
            )
    return named


def draw_shots(root: Path, seed: int, difficulty: float, shots: Sequence[Shot]) -> list[Region]:
    """Draws and writes these images; returns the regions of those that are described."""
    cameras = build_cameras(seed, CAMERA, difficulty)
    regions: list[Region] = []
    for shot in shots:
        rng = generator(seed, PHOTOGRAPH, shot.number)
        view = draw_view(cameras[shot.camera], difficulty, rng, badly_cut=shot.badly_cut)
        pixels, boxes = take(shot.person, cameras[shot.camera], view, rng)
        Image.fromarray(pixels).save(root / shot.path, quality=JPEG_QUALITY)
        if shot.described:
            regions.extend(Region(shot.path, name, *box) for name, box in boxes.items())
    return regions


def make_folders(root: Path) -> None:
    """The folders of Market-1501's layout under `root`, which must not be there yet."""
    for folder in ("bounding_box_train", "bounding_box_test", "query", "attribute"):
        (root / FOLDER / folder).mkdir(parents=True)


def write_attributes(root: Path, train: dict[int, Person], test: dict[int, Person]) -> None:
    """`attribute/market_attribute.mat`, as in the authors' last version: values from 1, fields in two orders."""
    structs = {"test": struct(test, TEST_FIELDS), "train": struct(train, TRAIN_FIELDS)}
    path = root / FOLDER / "attribute" / "market_attribute.mat"
    write_mat(path, {"market_attribute": structs}, "attributes of a drawn twin of Market-1501")


def struct(people: dict[int, Person], fields: tuple[str, ...]) -> dict[str, np.ndarray]:
    """One MATLAB structure of attributes, a column a person: values from 1, and the identities as text."""
    values: dict[str, list[int]] = {"age": [person.attributes["age"] + 1 for person in people.values()]}
    for name in BINARY:
        values[name] = [person.attributes[name] + 1 for person in people.values()]
    for kind, stem, colours in (("upper_colour", "up", UPPER_COLOURS), ("lower_colour", "down", LOWER_COLOURS)):
        for index, colour in enumerate(colours):
            values[stem + colour] = [1 + (person.attributes[kind] == index) for person in people.values()]
    index_cells = cells([f"{identity:04d}" for identity in people])
    arrays = {name: np.array([values[name]], dtype=np.uint8) for name in fields}
    return {**arrays, "image_index": index_cells}
