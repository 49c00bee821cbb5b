"""The CompCars reader, held against the first author's lists, 12 real photographs with their labels, and small made-up copies.

`misc/` of the complete set is made up in the original's format: its real files are not to be had. Expected numbers: the paper
and counts of the real lists.
"""

import csv
import dataclasses
import gzip
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from stubs import stub_images

from a3m.data import compcars
from a3m.data.compcars_attributes import bin_names, quantile_edges
from a3m.data.records import Records, validate
from a3m.errors import DataError, SettingsError
from a3m.settings import Data

WHOLE = Data(source="raw", bins=2)
PART = Data(source="raw", bins=2, allow_subset=True)
LISTS = ("classification_view_train", "classification_view_test", "train_attr_disc")


def cells(names: list[str], across: bool = False) -> np.ndarray:
    """A MATLAB cell array of strings; an empty string is an empty slot."""
    made = np.empty((len(names), 1), dtype=object)
    made[:, 0] = [name or np.zeros((0, 0)) for name in names]
    return made.T if across else made


@pytest.fixture(scope="module")
def real_rows(shared_annotations: Path) -> dict[str, list[list[str]]]:
    """The rows of the real lists, split once more by other means."""
    folder = shared_annotations / "compcars" / "author_lists"
    return {name: [row.split() for row in gzip.open(folder / f"{name}.gz", "rt")] for name in LISTS}


@pytest.fixture(scope="module")
def real_files(
    shared_annotations: Path, real_rows: dict[str, list[list[str]]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The complete set under its real names, every image a single byte, with the authors' lists and 13 label files."""
    root, source = tmp_path_factory.mktemp("compcars"), shared_annotations / "compcars"
    (root / "author_lists").mkdir()
    for name in LISTS:
        shutil.copyfile(source / "author_lists" / f"{name}.gz", root / "author_lists" / f"{name}.gz")
    for name in ("train.txt.gz", "test.txt.gz"):
        folder = Path("train_test_split") / "classification"
        (root / "data" / folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "derived" / folder / name, root / "data" / folder / name)
    images = {row[0].partition("/CompCars/")[2] for row in real_rows["train_attr_disc"]}
    stub_images(root / "data", images)
    shutil.copytree(source / "data" / "label", root / "data" / "label", copy_function=shutil.copyfile)
    return root


@pytest.fixture(scope="module")
def complete(real_files: Path) -> Records:
    return compcars.read(real_files, WHOLE)


def test_the_complete_set_has_the_published_counts(complete: Records) -> None:
    validate(complete)
    assert complete.description["complete"]
    assert complete.description["comparable"]
    assert complete.description["counts"] == {
        "images": 52083,
        "train": 36456,
        "test": 15627,
        "models": 431,
        "makes": 75,
    }
    assert len(complete.description["classes"]) == 431
    assert (
        "classification_view_train.gz: 37917 rows, 1461 of which repeat an image; each is read once"
        in (complete.description["checks"])
    )


def test_labels_are_the_authors_classes_and_paths_the_identity_of_an_image(
    complete: Records, real_rows: dict[str, list[list[str]]]
) -> None:
    table = complete.table.set_index("image")
    for split in ("train", "test"):
        rows = {row[0].partition("/CompCars/")[2]: int(row[1]) for row in real_rows[f"classification_view_{split}"]}
        own = table.loc[[f"data/{image}" for image in rows]]
        assert set(own["split"]) == {split}
        assert own["label"].tolist() == list(rows.values())
    names = Counter(image.rpartition("/")[2] for image in table.index)
    assert sum(number > 1 for number in names.values()) == 21


def test_odd_years_are_read(complete: Records) -> None:
    years = Counter(image.split("/")[-2] for image in complete.table["image"])
    assert (years["unknown"], years["5008"]) == (30, 8)


def test_without_attributes_txt_the_authors_lists_give_doors_seats_and_type(
    complete: Records, shared_annotations: Path
) -> None:
    attributes = complete.description["attributes"]
    assert {name: len(values) for name, values in attributes.items()} == {"doors": 4, "seats": 4, "type": 12}
    assert complete.description["attributes_from"] == "train_attr_disc.gz"
    assert (
        "no misc/attributes.txt: no maximum speed and displacement; the rest from the authors' lists"
        in (complete.description["checks"])
    )
    models = complete.table.drop_duplicates("label").sort_values("label")
    counts = {name: models[f"attribute.{name}"].value_counts().sort_index().tolist() for name in attributes}
    assert counts["doors"] == [28, 11, 180, 212]
    assert counts["seats"] == [4, 39, 363, 25]
    assert counts["type"] == [22, 84, 179, 83, 7, 13, 10, 4, 8, 13, 4, 4]
    first = models.iloc[0]  # model 1: 5 doors, 5 seats, a hatchback
    found = [attributes[name][first[f"attribute.{name}"]] for name in attributes]
    assert found == ["5", "5", "hatchback"]
    # the types that another reader took from the data set's own attributes.txt; one model differs there
    with (shared_annotations / "compcars" / "derived" / "misc" / "model_type_1716.csv").open() as file:
        types = {int(row["model_id"]): row["type_name"] for row in csv.DictReader(file)}
    ids = complete.table["image"].str.split("/").str[3].astype(int).groupby(complete.table["label"]).first()
    mine = [attributes["type"][value] for value in models["attribute.type"]]
    unlike = [model for model, name in zip(ids, mine, strict=True) if types[model] and types[model] != name]
    assert unlike == [127]


def test_boxes_are_read_and_counted_from_0(complete: Records, real_files: Path) -> None:
    table = complete.table.set_index("image")
    boxes = table.loc[table["w"].notna(), ["x", "y", "w", "h"]]
    found = table.loc["data/image/4/509/2012/11689a8ea7b28f.jpg", ["x", "y", "w", "h"]].tolist()
    assert found == [139, 112, 633, 459]  # 140 113 772 571
    assert len(boxes) == 12  # the 13th label file has x1 = x2 and y1 = y2
    checks = complete.description["checks"]
    assert "1 images with a box of no area: the whole image is used" in checks
    assert f"{52083 - 13} images without a label file: the whole image is used" in checks


@pytest.mark.slow
def test_the_shipped_lists_and_a_random_draw_are_marked_as_not_comparable(
    real_files: Path, complete: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("released", "random"):
        records = compcars.read(real_files, dataclasses.replace(WHOLE, split=split))
        validate(records)
        assert not records.description["comparable"]
        assert not records.description["complete"]
        message = f"data.split={split}: not the published split, not comparable with published numbers"
        assert records.description["checks"][0] == message
        counts = records.description["counts"]
        if split == "released":  # these lists were derived from the authors'
            assert counts == complete.description["counts"]
        else:
            assert (counts["images"], counts["models"]) == (52083, 431)
            assert abs(counts["train"] - 0.7 * 52083) < 431 / 2  # of every model the nearest whole number
            own = records.table.groupby("label")["split"].value_counts(normalize=True).unstack()["train"]
            assert own.between(0.6, 0.8).all()
            moved = (records.table["split"] != complete.table["split"]).mean()
            assert moved > 0.3


def test_the_real_photographs_with_their_labels_are_a_part(shared_annotations: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(shared_annotations / "compcars" / "data", root / "data", copy_function=shutil.copyfile)
    records = compcars.read(root, dataclasses.replace(PART, split="random"))
    assert "no misc/attributes.txt and no train_attr_disc: no attributes" in records.description["checks"]
    assert records.description["attributes"] == {}
    assert records.description["counts"] == {"images": 12, "train": 8, "test": 4, "models": 1, "makes": 1}
    with pytest.raises(DataError, match=r"attributes\.txt: missing"):
        compcars.read(root, dataclasses.replace(WHOLE, split="random"))
    with pytest.raises(DataError, match=r"classification_view_train\.gz: missing.*first author's lists.*data\.split"):
        compcars.read(root, PART)


# --- a small made-up copy

MODELS = {(4, 12): "A3", (4, 13): "A3", (4, 20): "Audi TT", (9, 31): "i30 ", (9, 40): ""}  # make, model
HEADER = "model_id maximum_speed displacement door_number seat_number type"
ROWS = [
    "12 180 1.6 4 5 3",
    "13 200 2.0 5 5 4",
    "20 250 3.2 2 2 10",
    "31 180 1.4 5 7 4",
    "40 0 0.0 3 4 0",
    "99 90 1.0 6 3 5",  # a model without images
]


def path_of(make: int, model: int, number: int) -> str:
    return f"{make}/{model}/{'unknown' if number == 3 else 2010}/{model:04x}{number:010x}.jpg"


def write(path: Path, lines: list[str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Five models of two makes, two training and one test image each."""
    base, rows = tmp_path / "data", {"train": [], "test": []}
    for place, (make, model) in enumerate(MODELS):
        for number in (1, 2, 3):
            image = path_of(make, model, number)
            write(base / "image" / image, ["x"])
            write(base / "label" / f"{image[:-4]}.txt", ["4", "1", "11 6 250 300"], end="\r\n" if number == 2 else "\n")
            rows["test" if number == 3 else "train"].append(f"/data 2/CompCars/image/{image} {place} {number}")
    rows["train"] += [rows["train"][0].replace("/data 2/", "/data 3/other/")] * 2  # repeated under a further prefix
    for split, lines in rows.items():
        write(tmp_path / "author_lists" / f"classification_view_{split}", lines)
    write(tmp_path / "misc" / "attributes.txt", [HEADER, *ROWS])
    makes = [""] * 9
    makes[3], makes[8] = "Audi", "Hyundai "
    models = [""] * 50
    for (_, model), name in MODELS.items():
        models[model - 1] = name
    scipy.io.savemat(
        tmp_path / "misc" / "make_model_name.mat", {"make_names": cells(makes), "model_names": cells(models)}
    )
    counts = '{"images": 15, "train": 10, "test": 5, "models": 5}'
    (tmp_path / "twin.json").write_text(f'{{"counts": {counts}}}')
    return tmp_path


def values(records: Records, name: str) -> list[int]:
    return records.table.drop_duplicates("label").sort_values("label")[f"attribute.{name}"].tolist()


def test_attributes_txt_wins_over_the_authors_lists_and_zero_is_unlabelled(small: Path) -> None:
    write(small / "author_lists" / "train_attr_disc", [f"x/image/{path_of(4, 12, 1)} 0 0 0"])
    records = compcars.read(small, WHOLE)
    validate(records)
    assert records.description["attributes_from"] == "attributes.txt"
    assert list(records.description["attributes"]) == ["maximum_speed", "displacement", "doors", "seats", "type"]
    assert values(records, "doors") == [2, 3, 0, 3, 1]  # of 2, 3, 4, 5
    assert values(records, "seats") == [2, 2, 0, 3, 1]  # of 2, 4, 5, more than 5
    assert values(records, "type") == [2, 3, 9, 3, -1]
    assert values(records, "maximum_speed") == [0, 1, 1, 0, -1]  # 180 180 200 250, in halves
    assert values(records, "displacement") == [0, 1, 1, 0, -1]  # 1.4 1.6 2.0 3.2
    assert records.description["bins"] == {"maximum_speed": [200.0], "displacement": [2.0]}
    assert records.description["attributes"]["displacement"] == ["below 2 l", "2 l and more"]
    assert "type: 1 models unlabelled" in records.description["checks"]


def test_the_edges_are_those_of_the_training_models(small: Path) -> None:
    lines = (small / "author_lists" / "classification_view_train").read_text().splitlines()
    write(small / "author_lists" / "classification_view_train", [line for line in lines if "/20/" not in line])
    records = compcars.read(small, PART)  # model 20, the fastest, is tested only
    assert records.description["bins"]["maximum_speed"] == [200.0]  # of 180 180 200: the slowest are a bin of their own
    assert records.description["bins"]["displacement"] == [1.6]  # of 1.4 1.6 2.0
    assert values(records, "displacement") == [1, 1, 1, 0, -1]


def test_a_quantile_edge_is_a_value_that_occurs_and_no_bin_is_empty() -> None:
    assert quantile_edges(np.arange(1.0, 7.0), 2) == [4.0]  # 1 2 3 | 4 5 6
    assert quantile_edges(np.arange(1.0, 7.0), 3) == [3.0, 5.0]
    assert quantile_edges(np.array([1.0, 1.0, 1.0, 1.0, 9.0]), 5) == [9.0]
    assert quantile_edges(np.array([2.0, 2.0]), 3) == []
    assert quantile_edges(np.array([]), 3) == []
    generator = np.random.default_rng(0)
    for bins in (2, 3, 6):
        for _ in range(20):
            drawn = generator.integers(1, 9, size=generator.integers(2, 30)).astype(float)
            edges = quantile_edges(drawn, bins)
            held = np.bincount(np.searchsorted(edges, drawn, side="right"), minlength=len(edges) + 1)
            assert len(edges) < bins
            assert (held > 0).all()


def test_bins_are_named_by_their_edges() -> None:
    assert bin_names([1.6, 2.0], "l") == ["below 1.6 l", "1.6 to 2 l", "2 l and more"]


def test_equal_speeds_are_left_out_and_said(small: Path) -> None:
    rows = [" ".join([row.split()[0], "180", *row.split()[2:]]) for row in ROWS]
    write(small / "misc" / "attributes.txt", [HEADER, *rows])
    records = compcars.read(small, WHOLE)
    validate(records)
    assert "maximum_speed" not in records.description["attributes"]
    assert (
        "maximum_speed: fewer than two different values on the training models; left out"
        in records.description["checks"]
    )


def test_a_number_of_doors_or_seats_that_is_no_class_is_unlabelled_and_said(small: Path) -> None:
    write(small / "misc" / "attributes.txt", [HEADER, "12 180 1.6 6 3 3", *ROWS[1:]])
    records = compcars.read(small, WHOLE)
    assert (values(records, "doors")[0], values(records, "seats")[0]) == (-1, -1)
    said = "models with a number of doors or seats that is no class, unlabelled: 12 (6 doors), 12 (3 seats)"
    assert said in records.description["checks"]


def test_columns_go_by_the_header_and_misc_may_lie_in_data(small: Path) -> None:
    expected = compcars.read(small, WHOLE).table
    shutil.move(small / "misc", small / "data" / "misc")
    order = [5, 0, 2, 1, 4, 3]
    lines = [" ".join(line.split()[column] for column in order) for line in (HEADER, *ROWS)]
    write(small / "data" / "misc" / "attributes.txt", lines, end="\r\n")
    assert compcars.read(small, WHOLE).table.equals(expected)


def test_names_of_makes_and_models_become_unique_class_names(small: Path) -> None:
    records = compcars.read(small, WHOLE)
    assert records.description["classes"] == [
        "Audi A3 (model 12)",
        "Audi A3 (model 13)",
        "Audi TT",  # not Audi Audi TT
        "Hyundai i30",  # both names end in a blank
        "model 40",  # an empty slot
    ]
    (small / "misc" / "make_model_name.mat").unlink()
    assert compcars.read(small, WHOLE).description["classes"][2] == "model 20"


def test_types_take_the_names_of_car_type_mat(small: Path) -> None:
    scipy.io.savemat(small / "misc" / "car_type.mat", {"types": cells([f"kind {n}" for n in range(10)], across=True)})
    records = compcars.read(small, WHOLE)
    assert records.description["attributes"]["type"][9] == "kind 9"
    scipy.io.savemat(small / "misc" / "car_type.mat", {"types": cells(["MPV", "SUV"], across=True)})
    with pytest.raises(
        DataError, match=r"attributes\.txt, line 2: model 12 has type 3, expected .* 0 \(unknown\) to 2"
    ):
        compcars.read(small, WHOLE)
    (small / "misc" / "car_type.mat").write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match=r"not a readable car_type\.mat"):
        compcars.read(small, WHOLE)


def test_lists_may_be_gzipped_and_repeat_images_under_any_prefix(small: Path) -> None:
    expected = compcars.read(small, WHOLE)
    validate(expected)
    assert expected.description["source"] == "twins"
    assert expected.description["complete"]
    for split in ("train", "test"):
        path = small / "author_lists" / f"classification_view_{split}"
        (path.parent / f"{path.name}.txt.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert compcars.read(small, WHOLE).table.equals(expected.table)


def test_a_list_that_is_cut_off_or_empty_is_named(small: Path) -> None:
    path = small / "author_lists" / "classification_view_test"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    (path.parent / f"{path.name}.gz").write_bytes(packed[:-12])
    with pytest.raises(DataError, match=r"classification_view_test\.gz: cannot be read .*bogger/caffe-multigpu"):
        compcars.read(small, WHOLE)
    (path.parent / f"{path.name}.gz").write_bytes(gzip.compress(b"\n"))
    with pytest.raises(DataError, match=r"classification_view_test\.gz: empty; .*bogger/caffe-multigpu"):
        compcars.read(small, WHOLE)


def test_label_files_end_lines_in_either_way_and_degenerate_boxes_are_the_whole_image(small: Path) -> None:
    records = compcars.read(small, WHOLE)
    assert records.table["w"].tolist() == [240.0] * 15  # 250 - 11 + 1
    for number, box in ((1, "11 6 11 300"), (2, "11 300 250 300")):
        write(small / "data" / "label" / f"{path_of(4, 12, number)[:-4]}.txt", ["-1", "1", box], end="\r\n")
    (small / "data" / "label" / f"{path_of(4, 12, 3)[:-4]}.txt").unlink()
    records = compcars.read(small, WHOLE)
    validate(records)
    assert records.table["w"].isna().sum() == 3
    assert "2 images with a box of no area: the whole image is used" in records.description["checks"]
    assert "1 images without a label file: the whole image is used" in records.description["checks"]


@pytest.mark.parametrize("text", ["4\n1\n11 6 250\n", "4\n1\n11 6 x 300\n", ""])
def test_a_label_file_that_does_not_parse_is_named(small: Path, text: str) -> None:
    path = small / "data" / "label" / f"{path_of(4, 12, 1)[:-4]}.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"{path.name}: .* does not parse"):
        compcars.read(small, PART)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x/image/4/12/2010/abc.jpg 0 1", "does not parse"),
        ("x/image/4/12/2010/000c0000000001.jpg 0", "does not parse"),
        ("x/image/4/12/2010/000c0000000001.jpg -1 1", "does not parse"),
        ("x/image/4/12/2010/000c0000000001.jpg 1 1", "model 12 has class 1 here"),
        ("x/image/7/77/2010/00000000000001.jpg 4 1", "model 77 has class 4 here"),
        ("x/image/7/77/2010/00000000000001.jpg 6 1", r"class 6 is outside 0\.\.5"),
        (f"x/image/{path_of(4, 12, 3)} 0 1", "also trains"),
    ],
)
def test_a_bad_line_of_the_authors_lists_is_named_with_its_source(small: Path, line: str, message: str) -> None:
    path = small / "author_lists" / "classification_view_train"
    lines = path.read_text().splitlines()
    write(path, [*lines, line])
    where = r"classification_view_test, line 1" if "trains" in message else f"{path.name}, line 13"
    with pytest.raises(DataError, match=rf"{where}: .*{message}.*bogger/caffe-multigpu"):
        compcars.read(small, WHOLE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("12 180 1.6 4 5 13", "type 13, expected a whole number from 0"),
        ("12 180 1.6 7 5 3", "door_number 7, expected a whole number from 0"),
        ("12 180 1.6 4.5 5 3", "door_number 4.5"),
        ("12 -1 1.6 4 5 3", "maximum_speed -1"),
        ("12 nan 1.6 4 5 3", "maximum_speed nan"),
        ("12 180 1.6 4 5", "does not parse"),
        ("12 fast 1.6 4 5 3", "does not parse"),
        ("13 180 1.6 4 5 3", "model 13 is there twice"),
    ],
)
def test_a_bad_line_of_attributes_txt_is_named(small: Path, line: str, message: str) -> None:
    write(small / "misc" / "attributes.txt", [HEADER, line, *ROWS[1:]])
    with pytest.raises(DataError, match=rf"attributes\.txt, line [23]: .*{message}.*CompCars archive"):
        compcars.read(small, PART)


@pytest.mark.parametrize(
    ("tail", "message"),
    [("4 0 0", r"doors 4 is outside 0\.\.3"), ("0 0 12", r"type 12 is outside 0\.\.11"), ("0 0", "not parse|not three"),
     ("1 0 0", "other attributes")],
)  # fmt: skip
def test_a_bad_line_of_the_authors_attributes_is_named(small: Path, tail: str, message: str) -> None:
    (small / "misc" / "attributes.txt").unlink()
    image = f"x/image/{path_of(4, 12, 1)}"
    write(small / "author_lists" / "train_attr_disc", [f"{image} 0 0 0", f"{image} {tail}"])
    with pytest.raises(DataError, match=rf"train_attr_disc, line 2: .*({message})"):
        compcars.read(small, WHOLE)


def test_a_model_that_no_list_describes_is_unlabelled(small: Path) -> None:
    (small / "misc" / "attributes.txt").unlink()
    write(small / "author_lists" / "train_attr_disc", [f"x/image/{path_of(4, 12, 1)} 1 2 3"])
    write(small / "author_lists" / "test_attr_disc", [f"x/image/{path_of(9, 31, 1)} 3 3 11"])
    records = compcars.read(small, WHOLE)
    validate(records)
    assert values(records, "type") == [3, -1, -1, 11, -1]
    assert "doors: 3 models unlabelled" in records.description["checks"]


def test_listed_images_that_are_not_on_disk_are_an_error_above_the_stated_share(small: Path) -> None:
    gone = path_of(4, 12, 1)
    (small / "data" / "image" / gone).unlink()
    with pytest.raises(DataError, match=rf"1 of the 15 images of .* are not on disk: data/image/{gone}"):
        compcars.read(small, WHOLE)
    records = compcars.read(small, dataclasses.replace(WHOLE, missing_limit=0.1))
    validate(records)
    assert not records.description["complete"]
    assert records.description["counts"]["images"] == 14
    assert f"1 images listed but not on disk, left out: data/image/{gone}" in records.description["checks"]


def test_the_shipped_lists_are_read_for_split_released(small: Path) -> None:
    released = dataclasses.replace(WHOLE, split="released")
    with pytest.raises(DataError, match=r"train_test_split/classification/train\.txt: missing.*CompCars archive"):
        compcars.read(small, released)
    folder = small / "data" / "train_test_split" / "classification"
    for split, numbers in (("train", (1, 3)), ("test", (2,))):
        write(folder / f"{split}.txt", [path_of(*model, n) for model in MODELS for n in numbers], end="\r\n")
    records = compcars.read(small, released)
    validate(records)
    assert not records.description["complete"]
    assert records.table.loc[records.table["split"] == "test", "image"].str.endswith("2.jpg").all()
    write(folder / "test.txt", [path_of(4, 12, 1)])
    with pytest.raises(DataError, match="is listed twice"):
        compcars.read(small, released)
    write(folder / "test.txt", ["4/12/2010"])
    with pytest.raises(DataError, match=r"test\.txt, line 1: .* does not parse"):
        compcars.read(small, released)


def test_a_random_split_is_drawn_by_its_seed_of_every_model_on_disk(small: Path) -> None:
    def split(seed: int) -> Records:
        records = compcars.read(small, dataclasses.replace(WHOLE, split="random", split_seed=seed))
        validate(records)
        return records

    assert (split(0).table.groupby("label")["split"].value_counts().unstack()["train"] == 2).all()
    assert split(0).table.equals(split(0).table)
    assert any(not split(0).table["split"].equals(split(seed).table["split"]) for seed in range(1, 4))
    write(small / "data" / "image" / "9" / "99" / "2011" / "00000000000001.jpg", ["x"])
    assert split(0).description["counts"]["models"] == 5  # the lists name five
    shutil.rmtree(small / "author_lists")
    assert split(0).description["counts"]["models"] == 6


def test_what_is_missing_is_named(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(DataError, match=r"holds no data/image/; unpack the CompCars archive"):
        compcars.read(tmp_path_factory.mktemp("empty"), WHOLE)
    for change, message in (
        ({"split": "official"}, r"data\.split=official.*paper, released, random"),
        ({"bins": 1}, r"data\.bins=1"),
    ):
        with pytest.raises(SettingsError, match=message):
            compcars.read(small, dataclasses.replace(WHOLE, **change))
    with pytest.raises(SettingsError, match=r"dataset\.task=retrieval.*classification"):
        compcars.read(small, WHOLE, "retrieval")
    (small / "misc" / "make_model_name.mat").write_bytes(b"x")
    with pytest.raises(DataError, match=r"not a readable make_model_name\.mat"):
        compcars.read(small, WHOLE)
