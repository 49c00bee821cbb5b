"""The drawn twins: the originals' layouts, the same pixels again, and nothing given away by camera or background."""

import dataclasses
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io
from PIL import Image

from a3m.data import twins
from a3m.data.twins import cub200 as twin_cub200
from a3m.data.twins import market1501 as twin_market1501
from a3m.data.twins.birds import GROUPS, draw_bird, draw_species
from a3m.data.twins.meadow import take as photograph_bird
from a3m.data.twins.people import ATTRIBUTES, LOWER_COLOURS, UPPER_COLOURS, Person, colour_pair, signature_of
from a3m.data.twins.scene import generator
from a3m.data.twins.street import build_cameras, draw_view, take
from a3m.errors import DataError, SettingsError
from a3m.settings import Twin

TINY = Twin(
    train_identities=12,
    test_identities=8,
    images_per_identity=6,
    distractors=5,
    junk=4,
    classes=8,
    train_images_per_class=3,
    test_images_per_class=2,
)
MARKET = "Market-1501-v15.09.15"
CUB = "CUB_200_2011"
NAME = re.compile(r"(-1|\d{4})_c([1-6])s([1-6])_(\d{6})_(\d{2})\.jpg")
DRAW = {"market1501": twins.draw_market1501, "cub200": twins.draw_cub200}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twins") / "market1501"
    twins.draw_market1501(root, TINY, workers=1)
    return root


@pytest.fixture(scope="module")
def cub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twins") / "cub200"
    twins.draw_cub200(root, TINY, workers=1)
    return root


def names(root: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (root / MARKET / folder).iterdir())


def table(path: Path, columns: list[str]) -> pd.DataFrame:
    return pd.read_csv(path, sep=" ", header=None, names=columns)


# The same settings, the same pixels


@pytest.mark.parametrize("dataset", DRAW)
def test_pixels_do_not_depend_on_the_number_of_processes_but_on_the_seed(
    dataset: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Path = request.getfixturevalue("market" if dataset == "market1501" else "cub")
    monkeypatch.setattr(twins, "CHUNK", 31)
    DRAW[dataset](tmp_path / "two", TINY, 2)
    assert twins.pixel_digest(tmp_path / "two") == twins.pixel_digest(first)
    others = [path.relative_to(first) for path in sorted(first.rglob("*")) if path.is_file() and path.suffix != ".jpg"]
    assert len(others) > 2
    for path in others:
        assert (tmp_path / "two" / path).read_bytes() == (first / path).read_bytes(), path

    DRAW[dataset](tmp_path / "other", dataclasses.replace(TINY, seed=1), 1)
    assert twins.pixel_digest(tmp_path / "other") != twins.pixel_digest(first)


def test_the_digest_is_of_pixels_and_names(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    before = twins.pixel_digest(tmp_path)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=50)
    assert twins.pixel_digest(tmp_path) == before
    (tmp_path / "a.jpg").rename(tmp_path / "b.jpg")
    assert twins.pixel_digest(tmp_path) != before


# Market-1501: layout


def test_market_images_have_the_originals_names_and_size(market: Path) -> None:
    counts = json.loads((market / "twin.json").read_text())["counts"]
    found = {folder: names(market, folder) for folder in ("bounding_box_train", "query", "bounding_box_test")}
    for folder, listed in found.items():
        for name in listed:
            assert NAME.fullmatch(name), name
            with Image.open(market / MARKET / folder / name) as image:
                assert (image.format, image.size, image.mode) == ("JPEG", (64, 128), "RGB")
    assert len(found["bounding_box_train"]) == counts["train"] == 12 * 6
    assert len(found["query"]) == counts["query"]
    kinds = Counter(name.split("_")[0] for name in found["bounding_box_test"])
    assert kinds["-1"] == counts["junk"] == 4
    assert kinds["0000"] == counts["distractors"] == 5
    assert len(found["bounding_box_test"]) - 4 == counts["gallery"]
    assert counts["query"] + counts["gallery"] - 5 == 8 * 6


def test_train_and_test_people_differ_and_every_query_has_a_match_in_another_camera(market: Path) -> None:
    def people(folder: str) -> list[tuple[str, str]]:
        return [(match[1], match[2]) for name in names(market, folder) if (match := NAME.fullmatch(name))]

    train, query = people("bounding_box_train"), people("query")
    gallery = [pair for pair in people("bounding_box_test") if pair[0] not in ("-1", "0000")]
    assert not {identity for identity, _ in train} & {identity for identity, _ in query + gallery}
    assert len({identity for identity, _ in train}) == 12
    assert len({identity for identity, _ in query}) == 8
    assert not set(names(market, "query")) & set(names(market, "bounding_box_test"))
    assert set(query) == set(gallery), "one query for every person and camera, and the rest in the gallery"
    assert len(set(query)) == len(query)
    for identity, camera in query:
        assert any(other == identity and seen != camera for other, seen in gallery)
    for identity in {identity for identity, _ in train}:
        assert len({camera for other, camera in train if other == identity}) >= 2


def structure(path: Path) -> dict[str, Any]:
    loaded = scipy.io.loadmat(path)["market_attribute"]
    parts: dict[str, Any] = {"": (loaded.shape, loaded.dtype.names)}
    for part in loaded.dtype.names:
        struct = loaded[0, 0][part]
        fields = {
            name: (
                struct[0, 0][name].dtype.kind,
                struct[0, 0][name].itemsize,
                struct[0, 0][name].ndim,
                len(struct[0, 0][name]),
            )
            for name in struct.dtype.names
        }
        cell = struct[0, 0]["image_index"][0, 0]
        parts[part] = (struct.shape, struct.dtype.names, fields, cell.shape, cell.dtype)
    return parts


def test_the_attribute_file_has_the_structure_of_the_real_one(market: Path, shared_annotations: Path) -> None:
    drawn = market / MARKET / "attribute" / "market_attribute.mat"
    assert structure(drawn) == structure(shared_annotations / "market1501" / "market_attribute.mat")


def test_the_attribute_file_says_what_the_people_are(market: Path) -> None:
    parts = scipy.io.loadmat(market / MARKET / "attribute" / "market_attribute.mat")["market_attribute"][0, 0]
    plan = twin_market1501.plan(TINY)
    for part, people in (("train", plan.train), ("test", plan.test)):
        struct = parts[part][0, 0]
        assert [str(cell[0]) for cell in struct["image_index"][0]] == [f"{identity:04d}" for identity in sorted(people)]
        for column, person in enumerate(people.values()):
            for name in ATTRIBUTES[:10]:
                assert struct[name].dtype == np.uint8
                assert struct[name][0, column] == person.attributes[name] + 1
            for stem, kind, colours in (("up", "upper_colour", UPPER_COLOURS), ("down", "lower_colour", LOWER_COLOURS)):
                set_ = [colour for colour in colours if struct[stem + colour][0, column] == 2]
                wanted = person.attributes[kind]
                assert set_ == ([list(colours)[wanted]] if wanted >= 0 else [])


# Market-1501: people


@pytest.fixture(scope="module")
def default_plan() -> twin_market1501.Plan:
    return twin_market1501.plan(Twin())


def test_a_signature_belongs_to_one_to_three_people(default_plan: twin_market1501.Plan) -> None:
    for people in (default_plan.train, default_plan.test):
        shared = Counter(Counter(signature_of(person.attributes) for person in people.values()).values())
        assert set(shared) == {1, 2, 3}
    signatures = {signature_of(person.attributes) for person in default_plan.train.values()}
    assert 0.55 < len(signatures) / len(default_plan.train) < 0.8  # the real set: 508 of 751


def test_some_pairs_of_colours_are_seen_in_test_only(default_plan: twin_market1501.Plan) -> None:
    uppers, lowers = list(UPPER_COLOURS), list(LOWER_COLOURS)
    held_out = {
        (uppers.index(upper), lowers.index(lower)) for upper, lower in default_plan.notes["held_out_colour_pairs"]
    }
    train = [colour_pair(person.attributes) for person in default_plan.train.values()]
    test = [colour_pair(person.attributes) for person in default_plan.test.values()]
    assert not held_out & set(train)
    assert 0.1 < np.mean([pair in held_out for pair in test]) < 0.6


def test_every_attribute_varies_and_some_people_have_no_colour(default_plan: twin_market1501.Plan) -> None:
    sizes = {"age": 4, "upper_colour": 9, "lower_colour": 10}
    for people in (default_plan.train, default_plan.test):
        frame = pd.DataFrame([person.attributes for person in people.values()])
        assert list(frame) == list(ATTRIBUTES)
        for name in ATTRIBUTES:
            shares = frame[name].value_counts(normalize=True)
            assert len(shares) >= sizes.get(name, 2) - (2 if "colour" in name else 0), name
            assert shares.max() < 0.93, name
        assert (frame[["upper_colour", "lower_colour"]] == -1).any().all()
        assert not ((frame["gender"] == 0) & (frame["clothes"] == 0)).any()


def test_families_share_most_attributes_and_grow_more_alike_with_difficulty() -> None:
    distances = []
    for difficulty in (0.0, 0.5, 1.0, 2.0):
        people = list(twin_market1501.plan(Twin(difficulty=difficulty)).train.values())
        pairs = [(a, b) for a in people for b in people if a.family == b.family and a is not b]
        differing = [sum(a.attributes[name] != b.attributes[name] for name in ATTRIBUTES) for a, b in pairs]
        assert np.mean(differing) < 4
        traits = [[list(person.traits.values()) for person in pair] for pair in pairs]
        distances.append(float(np.mean([np.abs(np.subtract(a, b)).mean() for a, b in traits])))
        assert min(np.abs(np.subtract(a, b)).max() for a, b in traits) > 0.02, "no two people are the same"
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.8 * distances[0]


# Market-1501: nothing but the person tells who it is


@pytest.fixture(scope="module")
def street_photographs() -> tuple[np.ndarray, pd.DataFrame]:
    """How far apart the images are in what is seen beside the head, with camera, identity and attributes of every image."""
    settings = Twin(train_identities=110, images_per_identity=6)
    plan = twin_market1501.plan(settings)
    cameras = build_cameras(settings.seed, twin_market1501.CAMERA, settings.difficulty)
    features, rows = [], []
    numbers = {id(person): identity for identity, person in plan.train.items()}
    for shot in (shot for shot in plan.shots if "bounding_box_train" in shot.path):
        assert shot.person is not None
        rng = generator(settings.seed, twin_market1501.PHOTOGRAPH, shot.number)
        view = draw_view(cameras[shot.camera], settings.difficulty, rng)
        pixels, _ = take(shot.person, cameras[shot.camera], view, rng)
        corners = [pixels[:16, :12], pixels[:16, -12:]]
        blocks = [corner.reshape(4, 4, 3, 4, 3).mean(axis=(1, 3)).ravel() for corner in corners]
        features.append(np.concatenate([*blocks, 40.0 * np.eye(6)[shot.camera]]))
        rows.append({"identity": numbers[id(shot.person)], "camera": shot.camera, **shot.person.attributes})
    seen = np.array(features)
    return ((seen[:, None] - seen[None]) ** 2).sum(axis=2), pd.DataFrame(rows)


def test_background_and_camera_do_not_tell_who_it_is(street_photographs: tuple[np.ndarray, pd.DataFrame]) -> None:
    apart, frame = street_photographs
    identity, camera = frame["identity"].to_numpy(), frame["camera"].to_numpy()
    distance = apart.copy()
    distance[(identity[:, None] == identity) & (camera[:, None] == camera)] = np.inf  # the protocol leaves these out
    hits = identity[distance.argmin(axis=1)] == identity
    chance = 4.0 / len(frame)  # of six images of a person, about four were taken by other cameras
    assert hits.mean() < 3 * chance + 0.005


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_background_and_camera_do_not_tell_an_attribute(
    name: str, street_photographs: tuple[np.ndarray, pd.DataFrame]
) -> None:
    apart, frame = street_photographs
    identity, value = frame["identity"].to_numpy(), frame[name].to_numpy()
    distance = apart.copy()
    distance[identity[:, None] == identity] = np.inf
    neighbours = value[np.argsort(distance, axis=1)[:, :15]] + 1
    predicted = np.array([np.bincount(row).argmax() - 1 for row in neighbours])
    majority = frame[name].value_counts(normalize=True).max()
    assert (predicted == value).mean() < majority + 0.05


# Regions


def check_regions(root: Path, attributes: tuple[str, ...], images: list[str], least: float) -> None:
    regions = pd.read_csv(root / "regions.csv")
    assert list(regions) == ["image", "attribute", "x", "y", "w", "h"]
    assert not regions.duplicated(["image", "attribute"]).any()
    assert set(regions["attribute"]) == set(attributes)
    assert set(regions["image"]) <= set(images)
    sizes = {image: Image.open(root / image).size for image in set(regions["image"])}
    width, height = (regions["image"].map(lambda image, axis=axis: sizes[image][axis]) for axis in (0, 1))
    assert (regions[["x", "y"]].min() >= 0).all()
    assert (regions[["w", "h"]].min() >= 1).all()
    assert (regions["x"] + regions["w"] <= width).all()
    assert (regions["y"] + regions["h"] <= height).all()
    assert (regions["attribute"].value_counts() >= least * len(images)).all()


def test_market_regions_lie_inside_the_images(market: Path) -> None:
    images = [
        f"{MARKET}/{folder}/{name}"
        for folder in ("bounding_box_train", "query", "bounding_box_test")
        for name in names(market, folder)
    ]
    described = [image for image in images if "/-1_" not in image and "/0000_" not in image]
    check_regions(market, ATTRIBUTES, described, least=0.6)


def inside(mask: np.ndarray, boxes: list[tuple[int, int, int, int]], margin: int) -> float:
    """The share of mask's pixels that lie in one of the boxes."""
    covered = np.zeros_like(mask)
    for x, y, w, h in boxes:
        covered[max(y - margin, 0) : y + h + margin, max(x - margin, 0) : x + w + margin] = True
    return float((mask & covered).sum() / mask.sum())


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_of_a_person_changes_pixels_in_its_region(name: str) -> None:
    settings = Twin(difficulty=0.0)
    plan = twin_market1501.plan(settings)
    camera = build_cameras(0, twin_market1501.CAMERA, 0.0)[0]
    shares, changed = [], 0
    for number, person in enumerate(list(plan.train.values())[:30]):
        values = {"age": 4, "upper_colour": 8, "lower_colour": 9}.get(name, 2)
        other = Person(
            {**person.attributes, name: (person.attributes[name] + 1) % values}, person.traits, person.family
        )
        view = draw_view(camera, 0.0, generator(0, 1, number))
        (before, at), (after, then) = (take(one, camera, view, generator(0, 2, number)) for one in (person, other))
        mask = np.abs(before.astype(int) - after).max(axis=2) > 12
        if mask.any() and name in at and name in then:
            changed += 1
            shares.append(inside(mask, [at[name], then[name]], margin=2))
    assert changed >= 18
    assert np.mean(shares) > 0.85


@pytest.mark.parametrize("name", GROUPS)
def test_an_attribute_of_a_bird_changes_pixels_in_its_region(name: str) -> None:
    shares, changed = [], 0
    for number, species in enumerate(draw_species(16, 0, 1, 0.0)):
        bird = draw_bird(species, 0.0, generator(0, 2, number))
        value = (bird.attributes[name] + 1) % len(GROUPS[name])
        other = dataclasses.replace(bird, attributes={**bird.attributes, name: value})
        before, after = (photograph_bird(one, 0.0, generator(0, 3, number)) for one in (bird, other))
        mask = np.abs(before.pixels.astype(int) - after.pixels).max(axis=2) > 12
        if mask.any():
            changed += 1
            shares.append(inside(mask, [before.regions[name], after.regions[name]], margin=3))
    assert changed >= 11
    assert np.mean(shares) > 0.8


# CUB-200-2011


def test_cub_files_have_the_originals_columns(cub: Path) -> None:
    base = cub / CUB
    counts = json.loads((cub / "twin.json").read_text())["counts"]
    images = table(base / "images.txt", ["id", "image"])
    labels = table(base / "image_class_labels.txt", ["id", "class"])
    split = table(base / "train_test_split.txt", ["id", "train"])
    boxes = table(base / "bounding_boxes.txt", ["id", "x", "y", "w", "h"])
    classes = table(base / "classes.txt", ["id", "name"])
    for frame in (images, labels, split, boxes):
        assert frame["id"].tolist() == list(range(1, counts["images"] + 1))
    assert labels["class"].is_monotonic_increasing
    assert split.groupby(labels["class"])["train"].sum().tolist() == [3] * 8
    assert (len(classes), classes["name"].nunique(), classes["name"].str[4:].nunique()) == (8, 8, 8)
    assert all(re.fullmatch(r"\d{3}\.[A-Z][A-Za-z_]+", name) for name in classes["name"])
    for image, label, box in zip(images["image"], labels["class"], boxes.itertuples(), strict=True):
        folder, _, name = image.partition("/")
        assert folder == classes["name"][label - 1]
        assert re.fullmatch(rf"{folder[4:]}_\d{{4}}_\d+\.jpg", name)
        with Image.open(base / "images" / image) as picture:
            assert picture.format == "JPEG"
            assert all(120 <= side <= 200 for side in picture.size)
            assert min(box.x, box.y) >= 0
            assert box.x + box.w <= picture.width
            assert box.y + box.h <= picture.height
            assert box.w * box.h > 0.06 * picture.width * picture.height


def test_cub_labels_are_absent_where_the_part_is_hidden(cub: Path) -> None:
    columns = ["image", "attribute", "present", "certainty", "time"]
    labels = table(cub / CUB / "attributes" / "image_attribute_labels.txt", columns)
    written = (cub / "attributes.txt").read_text().splitlines()
    group = [line.split(" ")[1].split("::")[0].removeprefix("has_") for line in written]
    assert len(labels) == 40 * len(written)
    labels["group"] = np.array(group)[labels["attribute"] - 1]
    each = labels.groupby(["image", "group"])
    present, certainty = each["present"].sum(), each["certainty"].agg(["min", "max"])
    visible = present == 1
    assert set(present) == {0, 1}
    assert (certainty["min"] == certainty["max"]).all()
    assert (certainty["min"] == visible.map({True: 4, False: 1})).all()
    assert 0.6 < visible.mean() < 0.99

    regions = pd.read_csv(cub / "regions.csv")
    images = table(cub / CUB / "images.txt", ["id", "image"]).set_index("id")["image"]
    seen = {(f"{CUB}/images/{images[image]}", name) for (image, name), there in visible.items() if there}
    assert seen == set(zip(regions["image"], regions["attribute"], strict=True))


def test_cub_names_are_the_originals(cub: Path, shared_annotations: Path) -> None:
    real = shared_annotations / "cub200_2011"
    assert (cub / CUB / "attributes" / "certainties.txt").read_text() == (
        real / "attributes" / "certainties.txt"
    ).read_text()
    drawn = [line.split(" ", 1)[1] for line in (cub / "attributes.txt").read_text().splitlines()]
    original = [line.split(" ", 1)[1] for line in (real / "attributes.txt").read_text().splitlines()]
    assert drawn == [name for name in original if name in set(drawn)], "real names in the real order"
    assert 10 <= len({name.partition("::")[0] for name in drawn}) <= 14


def test_cub_parts_lie_on_the_bird(cub: Path) -> None:
    parts = (cub / CUB / "parts" / "parts.txt").read_text().splitlines()
    assert len(parts) == 15
    assert parts[6] == "7 left eye"
    places = table(cub / CUB / "parts" / "part_locs.txt", ["image", "part", "x", "y", "visible"])
    boxes = table(cub / CUB / "bounding_boxes.txt", ["image", "bx", "by", "w", "h"])
    assert len(places) == 40 * 15
    assert 0.5 < places["visible"].mean() < 0.9  # the real set: 0.80
    assert (places.loc[places["visible"] == 0, ["x", "y"]] == 0).all(axis=None)
    seen = places[places["visible"] == 1].merge(boxes, on="image")
    assert ((seen["x"] >= seen["bx"] - 3) & (seen["x"] <= seen["bx"] + seen["w"] + 3)).all()
    assert ((seen["y"] >= seen["by"] - 3) & (seen["y"] <= seen["by"] + seen["h"] + 3)).all()


def test_cub_regions_lie_inside_the_images(cub: Path) -> None:
    images = [f"{CUB}/images/{image}" for image in table(cub / CUB / "images.txt", ["id", "image"])["image"]]
    check_regions(cub, tuple(GROUPS), images, least=0.5)


def test_species_of_a_genus_differ_in_few_attributes_and_birds_of_a_species_too() -> None:
    species = draw_species(40, 0, twin_cub200.SPECIES, 1.0)
    assert len({one.name for one in species}) == 40
    bright = np.array([list(one.plumages[0].values()) for one in species])
    within = [
        np.sum(bright[4 * genus + a] != bright[4 * genus + b])
        for genus in range(10)
        for a in range(4)
        for b in range(a)
    ]
    across = [np.sum(bright[a] != bright[b]) for a in range(40) for b in range(a) if a // 4 != b // 4]
    assert min(within) >= 1
    assert np.mean(within) < 5 < np.mean(across)
    birds = [
        [tuple(draw_bird(one, 1.0, generator(0, 1, number)).attributes.values()) for number in range(10)]
        for one in species
    ]
    assert np.mean([len(set(drawn)) > 1 for drawn in birds]) > 0.6


def test_background_does_not_tell_the_species() -> None:
    features, labels = [], []
    for label, species in enumerate(draw_species(20, 0, 1, 1.0)):
        for number in range(12):
            rng = generator(0, 2, label, number)
            pixels = photograph_bird(draw_bird(species, 1.0, rng), 1.0, rng).pixels
            corners = [pixels[:10, :10], pixels[:10, -10:], pixels[-10:, :10], pixels[-10:, -10:]]
            features.append(np.concatenate([corner.mean(axis=(0, 1)) for corner in corners]))
            labels.append(label)
    distance = ((np.array(features)[:, None] - np.array(features)) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    hits = np.array(labels)[distance.argmin(axis=1)] == labels
    assert hits.mean() < 2.2 / 20


# Writing


@pytest.mark.parametrize("dataset", DRAW)
def test_a_folder_that_is_no_twin_is_refused_and_a_twin_is_replaced(dataset: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "photograph.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"no twin\.json"):
        DRAW[dataset](root, TINY, 1)
    assert (root / "photograph.jpg").read_bytes() == b"mine"
    (root / "photograph.jpg").unlink()
    steps: list[tuple[int, int]] = []
    few = dataclasses.replace(TINY, train_identities=1, test_identities=1, classes=2, distractors=0, junk=0)
    description = DRAW[dataset](root, few, 1, lambda done, total: steps.append((done, total)))
    assert description == json.loads((root / "twin.json").read_text())
    assert steps[-1][0] == steps[-1][1] == len(list(root.rglob("*.jpg")))
    (root / "old").touch()
    DRAW[dataset](root, dataclasses.replace(few, seed=3), 1)
    assert not (root / "old").exists()
    assert json.loads((root / "twin.json").read_text())["settings"]["seed"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_drawing_that_fails_leaves_the_old_twin_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dataclasses.replace(TINY, classes=2)
    twins.draw_cub200(tmp_path / "cub", few, 1)
    digest = twins.pixel_digest(tmp_path / "cub")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(twin_cub200, "write_annotations", fail)
    with pytest.raises(DataError, match=r"cannot be written there .*no space left"):
        twins.draw_cub200(tmp_path / "cub", dataclasses.replace(few, seed=1), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["cub"]
    assert twins.pixel_digest(tmp_path / "cub") == digest


@pytest.mark.parametrize(
    ("dataset", "change"),
    [
        ("market1501", {"images_per_identity": 3}),
        ("market1501", {"train_identities": 9000, "test_identities": 1000}),
        ("market1501", {"junk": -1}),
        ("market1501", {"difficulty": -0.5}),
        ("cub200", {"classes": 1}),
        ("cub200", {"classes": 1000}),
        ("cub200", {"test_images_per_class": 0}),
        ("cub200", {"difficulty": float("nan")}),
    ],
)
def test_impossible_sizes_are_named(dataset: str, change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"twin\.{next(iter(change))}"):
        DRAW[dataset](tmp_path / "twin", dataclasses.replace(TINY, **change), 1)
    assert not (tmp_path / "twin").exists()


def test_a_twin_depends_only_on_the_settings_that_it_reads(cub: Path, tmp_path: Path) -> None:
    twins.draw_cub200(tmp_path / "cub", dataclasses.replace(TINY, junk=50), 1)
    assert (tmp_path / "cub" / "twin.json").read_bytes() == (cub / "twin.json").read_bytes()
