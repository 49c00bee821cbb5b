"""The drawn twins of CompCars and CARS196: the originals' layouts, cars that show their attributes, and nothing else that tells."""

import dataclasses
import gzip
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io
from PIL import Image, ImageFilter

from a3m.data import cars196, compcars, twins
from a3m.data.twins import cars196 as twin_cars196
from a3m.data.twins import compcars as twin_compcars
from a3m.data.twins import road
from a3m.data.twins.coach import build_body
from a3m.data.twins.makes import BUILDS, TYPES, CarModel, draw_models
from a3m.data.twins.scene import Canvas, Shape, box_sum, generator
from a3m.errors import SettingsError
from a3m.settings import Data, Twin

TINY = Twin(makes=4, models=16, train_images_per_model=4, test_images_per_model=3, classes=10, images_per_class=7)
MODEL_PATH = re.compile(r"\d+/\d+/(\d{4}|unknown)/[0-9a-f]{14}\.jpg")
AUTHOR_ROW = re.compile(r"/.+/CompCars/image/\d+/\d+/(\d{4}|unknown)/[0-9a-f]{14}\.jpg \d+ (-1|[0-4])")


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twins") / "compcars"
    twins.draw_compcars(root, TINY, workers=1)
    return root


@pytest.fixture(scope="module")
def stanford(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twins") / "cars196"
    twins.draw_cars196(root, TINY, workers=1)
    return root


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


# The same settings, the same pixels


@pytest.mark.parametrize("dataset", ["compcars", "cars196"])
def test_pixels_and_files_do_not_depend_on_the_number_of_processes_but_on_the_seed(
    dataset: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Path = request.getfixturevalue("cars" if dataset == "compcars" else "stanford")
    monkeypatch.setattr(twins, "CHUNK", 31)
    twins.DRAW[dataset](tmp_path / "two", TINY, 2, None)
    files = [path.relative_to(first) for path in sorted(first.rglob("*")) if path.is_file()]
    assert twins.pixel_digest(tmp_path / "two") == twins.pixel_digest(first)
    for path in files:
        assert (tmp_path / "two" / path).read_bytes() == (first / path).read_bytes(), path
    few = dataclasses.replace(TINY, seed=1, models=4, classes=2)
    twins.DRAW[dataset](tmp_path / "other", few, 1, None)
    twins.DRAW[dataset](tmp_path / "same", dataclasses.replace(few, seed=0), 1, None)
    assert twins.pixel_digest(tmp_path / "other") != twins.pixel_digest(tmp_path / "same")


@pytest.mark.parametrize("dataset", ["compcars", "cars196"])
def test_a_twin_reads_the_settings_it_names_and_no_others(dataset: str, tmp_path: Path) -> None:
    reads = {"compcars": twin_compcars, "cars196": twin_cars196}[dataset].READS
    few = dataclasses.replace(TINY, models=4, classes=2)
    only: Any = SimpleNamespace(**{name: getattr(few, name) for name in reads})
    description = twins.DRAW[dataset](tmp_path / "twin", only, 1, None)
    assert description["settings"] == vars(only)


@pytest.mark.parametrize(
    ("dataset", "change"),
    [
        ("compcars", {"makes": 0}),
        ("compcars", {"makes": 100}),
        ("compcars", {"models": 3}),
        ("compcars", {"train_images_per_model": 0}),
        ("cars196", {"classes": 1}),
        ("cars196", {"classes": 256}),
        ("cars196", {"images_per_class": 1}),
        ("cars196", {"difficulty": 5.0}),
    ],
)
def test_impossible_sizes_are_named(dataset: str, change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"twin\.{next(iter(change))}"):
        twins.DRAW[dataset](tmp_path / "twin", dataclasses.replace(TINY, **change), 1, None)
    assert not (tmp_path / "twin").exists()


# CompCars: layout


def test_the_readers_find_what_was_drawn(cars: Path, stanford: Path) -> None:
    drawn = json.loads((cars / "twin.json").read_text())["counts"]
    found = compcars.read(cars, Data())
    assert {key: found.description["counts"][key] for key in drawn} == drawn
    assert found.description["source"] == "twins"
    assert {"doors", "seats", "type"} <= set(found.description["attributes"])
    counts = json.loads((stanford / "twin.json").read_text())["counts"]
    retrieval = cars196.read(stanford, Data()).description["counts"]
    assert {key: retrieval[key] for key in counts} == counts == {"images": 70, "train": 35, "test": 35, "classes": 10}


def test_the_authors_lists_hold_every_image_once_and_those_of_rare_models_twice(
    cars: Path, shared_annotations: Path
) -> None:
    counts = json.loads((cars / "twin.json").read_text())["counts"]
    listed = {}
    for split in ("train", "test"):
        rows = lines(cars / "author_lists" / f"classification_view_{split}")
        assert all(AUTHOR_ROW.fullmatch(row) for row in rows)
        with gzip.open(
            shared_annotations / "compcars" / "author_lists" / f"classification_view_{split}.gz", "rt"
        ) as real:
            assert sum(AUTHOR_ROW.fullmatch(row.strip()) is not None for row in real) > 15000
        parts = [row.rsplit(" ", 2) for row in rows]
        listed[split] = [path.partition("/CompCars/image/")[2] for path, *_ in parts]
        model_ids = sorted({int(path.split("/")[1]) for path in listed[split]})
        assert [int(label) for _, label, _ in parts] == [
            model_ids.index(int(path.split("/")[1])) for path in listed[split]
        ]
        for path, (_, _, view) in zip(listed[split], parts, strict=True):
            viewpoint = int(lines(cars / "data" / "label" / path.replace(".jpg", ".txt"))[0])
            assert int(view) == (viewpoint - 1 if viewpoint > 0 else -1)
    times = Counter(listed["train"])
    assert set(times.values()) == {1, 2}
    assert len(times) == counts["train"]
    assert len(set(listed["test"])) == len(listed["test"]) == counts["test"]
    images = {path.relative_to(cars / "data" / "image").as_posix() for path in (cars / "data").rglob("*.jpg")}
    assert set(times) | set(listed["test"]) == images
    assert not set(times) & set(listed["test"])


def test_the_released_split_is_another_one(cars: Path) -> None:
    folder = cars / "data" / "train_test_split" / "classification"
    train, test = (lines(folder / f"{split}.txt") for split in ("train", "test"))
    assert all(MODEL_PATH.fullmatch(row) for row in train + test)
    assert not set(train) & set(test)
    assert len({row.split("/")[1] for row in train}) == TINY.models
    images = {path.relative_to(cars / "data" / "image").as_posix() for path in (cars / "data").rglob("*.jpg")}
    assert set(train) | set(test) < images


def test_label_files_hold_viewpoint_count_and_a_box_from_1(cars: Path) -> None:
    ends, degenerate = Counter[bytes](), 0
    for path in sorted((cars / "data" / "label").rglob("*.txt")):
        content = path.read_bytes()
        match = re.fullmatch(rb"(-1|[1-5])(\r?\n)1\r?\n(\d+) (\d+) (\d+) (\d+)\r?\n", content)
        assert match, content
        ends[match[2]] += 1
        x1, y1, x2, y2 = (int(match[group]) for group in (3, 4, 5, 6))
        image = Image.open(cars / "data" / "image" / path.relative_to(cars / "data" / "label").with_suffix(".jpg"))
        assert 1 <= x1 <= x2 <= image.width
        assert 1 <= y1 <= y2 <= image.height
        degenerate += x1 == x2 or y1 == y2
    assert set(ends) == {b"\n", b"\r\n"}
    assert degenerate == 1


def test_the_originals_oddities_are_there(cars: Path) -> None:
    images = sorted((cars / "data" / "image").rglob("*.jpg"))
    assert len({path.name for path in images}) == len(images) - 1, "one base name in two folders"
    assert "unknown" in {path.parent.name for path in images}
    names = scipy.io.loadmat(cars / "misc" / "make_model_name.mat")
    makes, models = names["make_names"], names["model_names"]
    assert (makes.shape, models.shape) == ((163, 1), (2004, 1))
    assert any(str(cell[0]).endswith(" ") for cell in makes[:, 0])
    assert sum(cell.size == 0 for cell in models[:, 0]) > 1000
    ids = {(int(path.parts[-4]), int(path.parts[-3])) for path in images}
    assert all(str(models[model - 1, 0][0]).startswith(str(makes[make - 1, 0][0]).strip()) for make, model in ids)


def test_attributes_txt_says_what_the_models_are(cars: Path) -> None:
    plan = twin_compcars.plan(TINY)
    path = cars / "misc" / "attributes.txt"
    assert lines(path)[0] == "model_id maximum_speed displacement door_number seat_number type"
    table = pd.read_csv(path, sep=" ").set_index("model_id")
    assert table.index.is_monotonic_increasing
    assert len(table) == TINY.models + 6
    assert all(re.fullmatch(r"\d+ \d+ \d\.\d [0-6] \d+ \d+", row) for row in lines(path)[1:])
    for model_id, model in zip(plan.model_ids, plan.models, strict=True):
        row = table.loc[model_id]
        assert (row["door_number"], row["seat_number"]) == (model.doors, model.seats)
        assert row["type"] in (0, TYPES.index(model.type) + 1)
    held = table.loc[plan.model_ids]
    assert (held[["maximum_speed", "displacement", "type"]] == 0).any().all(), "some are unknown"
    types = scipy.io.loadmat(cars / "misc" / "car_type.mat")["types"]
    assert [str(cell[0]) for cell in types[0]] == list(TYPES)


# CARS196: layout


def test_the_annotations_have_the_structure_of_the_real_ones(stanford: Path, shared_annotations: Path) -> None:
    drawn = scipy.io.loadmat(stanford / "cars_annos.mat")
    real = scipy.io.loadmat(shared_annotations / "cars196" / "cars_annos.mat")
    ours, theirs = drawn["annotations"], real["annotations"][:, :70]
    assert ours.dtype == theirs.dtype
    assert ours.shape == (1, 70)
    assert drawn["class_names"].dtype == real["class_names"].dtype
    for name in ours.dtype.names:
        assert {cell.shape for cell in ours[name][0]} == {cell.shape for cell in theirs[name][0]}
    numbers = [cell.dtype for name in ours.dtype.names[1:] for cell in ours[name][0]]
    assert set(numbers) == {np.dtype(np.uint8), np.dtype(np.uint16)}


def test_one_class_comes_in_two_runs_and_boxes_lie_in_the_images(stanford: Path) -> None:
    file = scipy.io.loadmat(stanford / "cars_annos.mat")
    rows = file["annotations"][0]
    classes = [int(row["class"][0, 0]) for row in rows]
    runs = [label for index, label in enumerate(classes) if index == 0 or classes[index - 1] != label]
    assert Counter(runs).most_common(2)[0][1] == 2
    assert len(runs) == 11
    assert Counter(classes) == dict.fromkeys(range(1, 11), 7)
    names = [str(cell[0]) for cell in file["class_names"][0]]
    assert len(set(names)) == 10
    assert all(re.search(r" \d{4}$", name) for name in names)
    assert any("/" in name for name in names)
    assert {int(row["test"][0, 0]) for row in rows} == {0, 1}
    for number, row in enumerate(rows, start=1):
        assert str(row["relative_im_path"][0]) == f"car_ims/{number:06d}.jpg"
        x1, y1, x2, y2 = (int(row[f"bbox_{corner}"][0, 0]) for corner in ("x1", "y1", "x2", "y2"))
        with Image.open(stanford / f"car_ims/{number:06d}.jpg") as image:
            assert 1 <= x1 < x2 <= image.width
            assert 1 <= y1 < y2 <= image.height


def test_classes_that_train_and_that_are_searched_share_no_make(stanford: Path) -> None:
    names = [str(cell[0]) for cell in scipy.io.loadmat(stanford / "cars_annos.mat")["class_names"][0]]
    assert not {name.split()[0] for name in names[:5]} & {name.split()[0] for name in names[5:]}
    assert (stanford / "regions.csv").read_text() == "image,attribute,x,y,w,h\n"


# Models and what is seen of them


@pytest.fixture(scope="module")
def models() -> list[CarModel]:
    return draw_models(48, 8, 0, 1, 1.0)


def test_models_are_spread_over_makes_and_types_and_share_their_makes_face(models: list[CarModel]) -> None:
    assert Counter(model.make for model in models) == dict.fromkeys(range(8), 6)
    assert set(Counter(model.type for model in models)) == set(TYPES)
    assert len({model.name + str(model.make) for model in models}) == 48
    for first, second in combinations(models, 2):
        assert first.make != second.make or first.face == second.face
        assert first.traits != second.traits
    assert all((model.doors, model.seats) in BUILDS[model.type] for model in models)
    assert len({model.face for model in models}) > 4


def test_sports_cars_are_faster_and_shape_alone_does_not_say_how_fast(models: list[CarModel]) -> None:
    many = draw_models(240, 20, 0, 1, 0.0)
    table = pd.DataFrame([(m.type, m.speed, m.displacement, m.traits["hood"]) for m in many], columns=list("tsdh"))
    means = table.groupby("t")["s"].mean()
    assert means["sports"] == means.max()
    assert means["minibus"] == means.min()
    assert 0.3 < table["s"].corr(table["d"]) < 0.95
    within = table["s"] - table["t"].map(means)
    assert 0.2 < within.corr(table["h"]) < 0.9


def test_models_of_a_line_grow_more_alike_with_difficulty() -> None:
    apart = []
    for difficulty in (0.0, 1.0, 3.0):
        drawn = draw_models(60, 10, 0, 1, difficulty)
        pairs = [(a, b) for a, b in combinations(drawn, 2) if (a.make, a.type) == (b.make, b.type)]
        assert len(pairs) >= 25
        apart.append(np.mean([np.abs(np.subtract(*(list(m.traits.values()) for m in pair))).mean() for pair in pairs]))
    assert apart == sorted(apart, reverse=True)


def side_view(model: CarModel, number: int) -> np.ndarray:
    """The model in an even grey, without nuisance, from the side or from ahead."""
    paint = road.colours(generator(0, 9), 0.0)
    return road.take(build_body(model), 0.0, generator(0, 3, number), paint).pixels.astype(np.float64)


def test_two_models_of_one_make_and_type_differ_in_their_bodies() -> None:
    drawn = draw_models(24, 4, 0, 1, 1.0)
    pairs = [(a, b) for a, b in combinations(drawn, 2) if (a.make, a.type) == (b.make, b.type)]
    assert len(pairs) >= 8
    for first, second in pairs:
        difference = np.abs(side_view(first, 1) - side_view(second, 1)).max(axis=2)
        assert (difference > 25).mean() > 0.01


def test_the_type_is_seen_in_the_outline() -> None:
    """From the side the nearest outline of another make is mostly one of the same type."""
    wide, tall = 96, 40
    outlines, kinds = [], []
    for model in draw_models(96, 16, 0, 1, 1.0):
        body = build_body(model)
        view = road.View(0.0, 0.05, 0.0, mirrored=False, depth=0.0, size=1.0, shift=(0.0, 0.0))
        points, _ = road.project(body.front.points, body, view, (wide, tall))
        canvas = Canvas(Image.new("RGB", (wide, tall)), 1, 4)
        starts = [0, *body.front.ends[:-1]]
        shapes = [
            Shape(points[start:end].tolist(), (0, 0, 0), part)
            for start, end, part in zip(starts, body.front.ends, body.front.parts, strict=True)
        ]
        canvas.paint(shapes, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        outlines.append((canvas.part_map() > 0).ravel())
        kinds.append((model.type, model.make))
    distance = (np.array(outlines)[:, None] != np.array(outlines)).sum(axis=2).astype(float)
    makes = np.array([make for _, make in kinds])
    distance[makes[:, None] == makes] = np.inf
    hits = [kinds[at][0] == kind for at, (kind, _) in zip(distance.argmin(axis=1), kinds, strict=True)]
    assert np.mean(hits) > 0.6  # chance: a twelfth


# Regions


def test_regions_lie_inside_the_images_and_are_of_what_the_attributes_name(cars: Path) -> None:
    regions = pd.read_csv(cars / "regions.csv")
    images = [path.relative_to(cars).as_posix() for path in sorted(cars.rglob("*.jpg"))]
    assert list(regions) == ["image", "attribute", "x", "y", "w", "h"]
    assert not regions.duplicated(["image", "attribute"]).any()
    assert set(regions["attribute"]) == {"doors", "seats", "type"}
    assert set(regions["image"]) <= set(images)
    sizes = {image: Image.open(cars / image).size for image in set(regions["image"])}
    assert (regions[["x", "y"]].min() >= 0).all()
    assert (regions[["w", "h"]].min() >= 1).all()
    for axis, (at, extent) in enumerate((("x", "w"), ("y", "h"))):
        assert (regions[at] + regions[extent] <= regions["image"].map(lambda i, axis=axis: sizes[i][axis])).all()
    assert (regions["attribute"].value_counts() > 0.6 * len(images)).all()
    # The type is that of the whole car: doors and panes lie within it.
    whole = regions[regions["attribute"] == "type"].merge(regions, on="image", suffixes=("", "_part"))
    assert (whole["x_part"] >= whole["x"]).all()
    assert (whole["x_part"] + whole["w_part"] <= whole["x"] + whole["w"]).all()
    table = pd.read_csv(cars / "misc" / "attributes.txt", sep=" ").set_index("model_id")
    typed = regions["image"].str.split("/").str[3].astype(int).map(table["type"]) > 0
    assert not ((regions["attribute"] == "type") & ~typed).any(), "no region where the attribute is unknown"


@pytest.mark.parametrize(("name", "other"), [("doors", {5: 3, 4: 2, 3: 5, 2: 4}), ("seats", {2: 5, 4: 7, 5: 4, 7: 4})])
def test_an_attribute_changes_pixels_in_its_region(name: str, other: dict[int, int], models: list[CarModel]) -> None:
    shares, changed = [], 0
    for number, model in enumerate(models[:24]):
        second = dataclasses.replace(model, **{name: other[getattr(model, name)]})
        before, after = (road.take(build_body(one), 0.0, generator(0, 4, number)) for one in (model, second))
        mask = np.abs(before.pixels.astype(int) - after.pixels).max(axis=2) > 12
        if mask.any() and name in before.regions and name in after.regions:
            changed += 1
            covered = np.zeros_like(mask)
            # A wider front door moves the panes as well: doors and panes together.
            for photograph in (before, after):
                for part in ("doors", "seats"):
                    x, y, w, h = photograph.regions.get(part, (0, 0, 0, 0))
                    covered[max(y - 3, 0) : y + h + 3, max(x - 3, 0) : x + w + 3] |= part == name or name == "doors"
            shares.append((mask & covered).sum() / mask.sum())
    assert changed >= 15
    assert np.mean(shares) > 0.85


def test_from_straight_ahead_no_doors_are_seen(models: list[CarModel]) -> None:
    seen: dict[int, list[bool]] = {}
    for number in range(60):
        photograph = road.take(build_body(models[number % 12]), 0.0, generator(0, 6, number))
        seen.setdefault(photograph.viewpoint, []).append("doors" in photograph.regions)
    assert not any(seen[road.FRONT])
    assert all(seen[road.SIDE])
    assert set(road.VIEWPOINTS) <= set(seen)


# Nothing but the car's shape tells what it is


def probe(features: np.ndarray, labels: np.ndarray, train: np.ndarray) -> float:
    """Test accuracy of a linear probe (ridge regression to one-hot labels) on standardised features."""
    scaled = (features - features[train].mean(axis=0)) / (features[train].std(axis=0) + 1e-9)
    inputs = np.column_stack([scaled, np.ones(len(scaled))])
    targets = np.eye(labels.max() + 1)[labels]
    weights = np.linalg.solve(
        inputs[train].T @ inputs[train] + 3.0 * np.eye(inputs.shape[1]), inputs[train].T @ targets[train]
    )
    return float(((inputs @ weights).argmax(axis=1) == labels)[~train].mean())


def test_colour_and_background_tell_nothing_of_the_model(models: list[CarModel]) -> None:
    features, labels, train = [], [], []
    for label, model in enumerate(models[:12]):
        body = build_body(model)
        for number in range(24):
            photograph = road.take(body, 1.0, generator(0, 7, label, number))
            pixels = photograph.pixels.astype(np.float64)
            corners = [pixels[:12, :12], pixels[:12, -12:], pixels[-8:, :12], pixels[-8:, -12:]]
            x, y, w, h = photograph.box
            body_colour = pixels[y + h // 3 : y + 2 * h // 3, x + w // 4 : x + 3 * w // 4].mean(axis=(0, 1))
            places = [corner.mean(axis=(0, 1)) for corner in corners]
            features.append(np.concatenate([body_colour, *places, pixels.shape[:2]]))
            labels.append(label)
            train.append(number < 14)
    accuracy = probe(np.array(features), np.array(labels), np.array(train))
    assert accuracy < 2.2 / 12  # 120 test images: chance 10 of them, three standard deviations 9


def test_the_probe_would_find_colours_tied_to_the_model() -> None:
    labels = np.arange(200) % 10
    features = (
        np.random.default_rng(0).normal(size=(200, 5)) + 4.0 * np.random.default_rng(1).normal(size=(10, 5))[labels]
    )
    assert probe(features, labels, np.arange(200) < 120) > 0.6


# What all twins draw with


@pytest.mark.parametrize("radius", [0.2, 0.5, 1.0])
def test_box_sum_is_a_box_blur(radius: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    ours = box_sum(pixels, radius).reshape(37, 53, 3) / (1.0 + 2.0 * radius) ** 2
    reference = np.asarray(Image.fromarray(pixels).filter(ImageFilter.BoxBlur(radius)))
    assert np.abs(ours - reference).max() <= 1.0 + 1e-4  # Pillow rounds after each of its two passes


def test_visible_boxes_are_those_found_part_by_part() -> None:
    rng = np.random.default_rng(0)
    canvas = Canvas(Image.new("RGB", (60, 50)), 2, 8)
    identity = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    shapes = [Shape(rng.uniform(-6, 60, (4, 2)).tolist(), (9, 9, 9), part) for part in (1, 2, 3, 7, 31)]
    canvas.paint(shapes, identity)
    canvas.finish_subject()
    whole = np.asarray(canvas.parts)
    canvas.paint([Shape([(20.0, -9.0), (34.0, -9.0), (34.0, 60.0), (20.0, 60.0)], (0, 0, 0), 0)], identity)
    wanted = {"a": (1,), "b": (2, 3), "c": (31,), "d": (7, 1), "none": (12,)}
    expected = {}
    for name, parts in wanted.items():
        seen = np.isin(canvas.part_map(), parts)
        if seen.sum() >= max(0.5 * np.isin(whole, parts).sum(), 2):
            rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
            expected[name] = (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert canvas.visible_boxes(wanted) == expected
    assert 2 <= len(expected) < len(wanted)
