"""The CompCars twin on disk: which photographs there are, and the original's lists, labels and attribute files.

Files and columns are those of the original (Yang et al., CVPR 2015): images and label files in folders make / model / year,
attributes a model in `misc/`, the released split in `data/train_test_split/`, and the authors' lists of the 36,456 / 15,627
split in `author_lists/`, where rare models stand more than once. Of its oddities there are: label files with CRLF, a box
without area, a year `unknown`, a base name in two folders, a make whose name ends in a blank, attributes that are 0
(unknown), models with attributes and without images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from a3m.data.twins.coach import Body, build_body
from a3m.data.twins.makes import MAKES, MOST_MODELS, TYPES, CarModel, draw_models
from a3m.data.twins.matlab import cells, write_mat
from a3m.data.twins.road import take
from a3m.data.twins.scene import Box, Region, check_difficulty, generator
from a3m.errors import SettingsError

if TYPE_CHECKING:
    from a3m.settings import Twin

READS = ("seed", "difficulty", "makes", "models", "train_images_per_model", "test_images_per_model")
JPEG_QUALITY = 95
MAKE_IDS, MODEL_IDS = 163, 2004  # the original's numbers run to here
RARE = 8  # one model of so many has half the training images, each listed twice
UNKNOWN_SHARE = 0.05  # of the models, for speed, displacement and type each
WITHOUT_IMAGES = 6  # further models in attributes.txt
# Made up, as the real lists carry the folders of the machines that they were written on; the reader leaves them aside.
PREFIXES = {"train": "/lists/first place", "test": "/lists/second"}
OPEN_TOPS = {"convertible": 0.6, "hardtop convertible": 0.3}

# Streams of generators; those of the other twins begin at 1000 and 2000.
(MODELS, WORLD, NAMES, TRAIN_PHOTOGRAPH, TEST_PHOTOGRAPH, RELEASED) = range(3000, 3006)


@dataclass(frozen=True)
class Shot:
    """One photograph: make/model/year/name without suffix, its model's class (0-based), its number among its split's."""

    stem: str
    label: int
    model: CarModel
    train: bool
    number: int
    typed: bool  # attributes.txt knows the type
    degenerate: bool


class Drawn(NamedTuple):
    """What the label file says about one image, and the regions of what is seen."""

    viewpoint: int
    box: Box
    regions: list[Region]


@dataclass(frozen=True)
class Plan:
    """models: in the order of their ids, which is that of the classes. attributes: the rows of attributes.txt."""

    models: list[CarModel]
    model_ids: list[int]
    make_ids: list[int]
    attributes: dict[int, tuple[int, float, int, int, int]]
    shots: list[Shot]
    counts: dict[str, int]
    seed: int


def plan(settings: "Twin") -> Plan:
    """Which images there are. Raises SettingsError on sizes out of range."""
    check_difficulty(settings.difficulty)
    if not 1 <= settings.makes <= len(MAKES):
        raise SettingsError(f"twin.makes={settings.makes}: from 1 to {len(MAKES)}")
    if not max(2, settings.makes) <= settings.models <= MOST_MODELS:
        raise SettingsError(f"twin.models={settings.models}: from the number of makes, at least 2, to {MOST_MODELS}")
    if min(settings.train_images_per_model, settings.test_images_per_model) < 1:
        raise SettingsError("twin.train_images_per_model, twin.test_images_per_model: at least 1")
    seed = settings.seed
    rng = generator(seed, WORLD)
    drawn = draw_models(settings.models, settings.makes, seed, MODELS, settings.difficulty)
    models = [drawn[index] for index in rng.permutation(len(drawn))]
    ids = rng.permutation(MODEL_IDS)[: len(models) + WITHOUT_IMAGES] + 1
    model_ids = sorted(ids[: len(models)].tolist())
    make_ids = sorted((rng.permutation(MAKE_IDS)[: settings.makes] + 1).tolist())
    unknown = round(UNKNOWN_SHARE * len(models) + 0.49) if len(models) >= RARE else 0
    speedless, litreless, untyped = (set(rng.permutation(len(models))[:unknown].tolist()) for _ in range(3))
    attributes = {
        model_id: (
            0 if label in speedless else model.speed,
            0.0 if label in litreless else model.displacement,
            model.doors,
            model.seats,
            0 if label in untyped else model.type_id,
        )
        for label, (model_id, model) in enumerate(zip(model_ids, models, strict=True))
    }
    attributes |= {int(model_id): (0, 0.0, 0, 0, 0) for model_id in ids[len(models) :]}

    shots: list[Shot] = []
    for label, model in enumerate(models):
        train = max(settings.train_images_per_model // (2 if is_rare(label) else 1), 1)
        numbers = [(True, number) for number in range(train)]
        numbers += [(False, number) for number in range(settings.test_images_per_model)]
        named = generator(seed, NAMES, label)
        for train_image, number in numbers:
            year = str(2006 + int(named.integers(10))) if label != 1 or number % 3 else "unknown"
            name = named.bytes(7).hex()
            if label == 1 and number == 0 and train_image:
                name = Path(shots[0].stem).name
            stem = f"{make_ids[model.make]}/{model_ids[label]}/{year}/{name}"
            degenerate = label == 0 and train_image and number == train - 1
            shots.append(Shot(stem, label, model, train_image, number, label not in untyped, degenerate))
    training = sum(shot.train for shot in shots)
    counts = {"images": len(shots), "train": training, "test": len(shots) - training, "models": len(models)}
    return Plan(models, model_ids, make_ids, dict(sorted(attributes.items())), shots, counts, seed)


def is_rare(label: int) -> bool:
    """Whether a model has half the training photographs of the others."""
    return label % RARE == RARE - 1


def make_folders(root: Path, plan: Plan) -> None:
    """The folders of CompCars' layout under `root`, which must not be there yet."""
    for folder in ("misc", "author_lists", "data/train_test_split/classification"):
        (root / folder).mkdir(parents=True)
    for folder in sorted({str(Path(shot.stem).parent) for shot in plan.shots}):
        (root / "data" / "image" / folder).mkdir(parents=True)
        (root / "data" / "label" / folder).mkdir(parents=True)


def draw_shots(root: Path, seed: int, difficulty: float, shots: Sequence[Shot]) -> list[Drawn]:
    """Draws and writes these images. Training and test images have streams of their own."""
    bodies: dict[tuple[int, bool], Body] = {}
    drawn = []
    for shot in shots:
        rng = generator(seed, TRAIN_PHOTOGRAPH if shot.train else TEST_PHOTOGRAPH, shot.label, shot.number)
        open_top = bool(rng.random() < OPEN_TOPS.get(shot.model.type, 0.0))
        if (shot.label, open_top) not in bodies:
            bodies[shot.label, open_top] = build_body(shot.model, open_top=open_top)
        photograph = take(bodies[shot.label, open_top], difficulty, rng)
        path = f"data/image/{shot.stem}.jpg"
        Image.fromarray(photograph.pixels).save(root / path, quality=JPEG_QUALITY)
        seen = {name: box for name, box in photograph.regions.items() if name != "type" or shot.typed}
        regions = [Region(path, name, *box) for name, box in seen.items()]
        drawn.append(Drawn(photograph.viewpoint, photograph.box, regions))
    return drawn


def write_annotations(root: Path, plan: Plan, drawn: Sequence[Drawn]) -> None:
    """All but the images; `drawn` in the order of `plan.shots`."""
    for shot, car in zip(plan.shots, drawn, strict=True):
        x, y, w, h = car.box
        corners = (x + 1, y + 1, x + 1, y + h) if shot.degenerate else (x + 1, y + 1, x + w, y + h)
        lines = [str(car.viewpoint), "1", " ".join(map(str, corners)), ""]
        end = "\r\n" if (shot.number + shot.label) % 3 else "\n"
        (root / "data" / "label" / f"{shot.stem}.txt").write_bytes(end.join(lines).encode())
    write_lists(root, plan, drawn)
    rows = [
        f"{key} {speed} {litres:.1f} {doors} {seats} {type_}"
        for key, (speed, litres, doors, seats, type_) in plan.attributes.items()
    ]
    header = "model_id maximum_speed displacement door_number seat_number type"
    write_lines(root / "misc" / "attributes.txt", [header, *rows])
    write_mat(root / "misc" / "car_type.mat", {"types": cells(TYPES)}, "types of a drawn twin of CompCars")
    makes = [f"Make {number}" for number in range(1, MAKE_IDS + 1)]
    for name, number in zip(MAKES, plan.make_ids, strict=False):
        makes[number - 1] = name
    makes[plan.make_ids[-1] - 1] += " "
    models: list[str | None] = [None] * MODEL_IDS
    for number in plan.attributes:
        models[number - 1] = f"Model {number}"
    for number, model in zip(plan.model_ids, plan.models, strict=True):
        models[number - 1] = f"{MAKES[model.make]} {model.name}"
    content = {"make_names": cells(makes, column=True), "model_names": cells(models, column=True)}
    write_mat(root / "misc" / "make_model_name.mat", content, "names of a drawn twin of CompCars")


def write_lists(root: Path, plan: Plan, drawn: Sequence[Drawn]) -> None:
    """The authors' lists, in an order of their own, and the released split, which is another one over part of the images."""
    released: dict[str, list[str]] = {"train": [], "test": []}
    draw = generator(plan.seed, RELEASED)
    chance = draw.random(len(plan.shots)).tolist()
    first: set[int] = set()
    for shot, share in zip(plan.shots, chance, strict=True):
        if shot.label not in first or share < 0.9:  # every model keeps a training image
            released["train" if shot.label not in first or share < 0.46 else "test"].append(f"{shot.stem}.jpg")
        first.add(shot.label)
    for split, lines in released.items():
        write_lines(root / "data" / "train_test_split" / "classification" / f"{split}.txt", lines)
        views = []
        for shot, car in zip(plan.shots, drawn, strict=True):
            if shot.train == (split == "train"):
                viewpoint = car.viewpoint - 1 if car.viewpoint > 0 else -1
                row = f"{PREFIXES[split]}/CompCars/image/{shot.stem}.jpg {shot.label} {viewpoint}"
                views += [row] * (2 if shot.train and is_rare(shot.label) else 1)
        write_lines(root / "author_lists" / f"classification_view_{split}", views)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file, one line an entry."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
