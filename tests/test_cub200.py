"""The CUB-200-2011 reader, held against the real annotation files, the authors' folded labels and 1,402 photographs.

`image_attribute_labels.txt` of the complete set is rebuilt from the authors' folded labels, with the oddities of the real
file: more than one present value, and six tokens in the rows of images 2275 and 9364.
"""

import dataclasses
import gzip
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from stubs import stub_images

from a3m.data import cub200, twins
from a3m.data.records import Records, validate
from a3m.errors import DataError, SettingsError
from a3m.settings import Data, Twin

MASKED = Data(source="raw", fold="masked")
RELEASED = Data(source="raw", fold="released")
PART = Data(source="raw", fold="masked", allow_subset=True)
FILES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt")
SIZES = [9, 15, 15, 15, 4, 15, 6, 15, 11, 15, 15, 14, 3, 15, 15, 15, 15, 5, 5, 14, 4, 4, 4, 15, 15, 15, 15, 4]


def write_labels(path: Path, present: np.ndarray, odd: tuple[int, ...] = ()) -> None:
    """image_attribute_labels.txt of (images, attributes) bool; the images `odd` get an extra 0 before the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tails = [[f" {a} {p} {1 + (a + 2 * p) % 4} " for p in (0, 1)] for a in range(1, present.shape[1] + 1)]
    with path.open("w", newline="") as file:
        for image, row in enumerate(present.tolist(), start=1):
            end = ("0 " if image in odd else "") + ("1.509\n" if image % 2 else "12.0\r\n")
            file.write("".join([f"{image}{tail[value]}{end}" for tail, value in zip(tails, row, strict=True)]))


@pytest.fixture(scope="module")
def folded(shared_annotations: Path) -> np.ndarray:
    """The authors' labels: (11788, 28), 0 = absent, else the place of the last present value, from 1."""
    with gzip.open(shared_annotations / "cub200_2011" / "processed_attributes.txt.gz", "rt") as file:
        return np.loadtxt(file, dtype=np.int64)


@pytest.fixture(scope="module")
def real_files(shared_annotations: Path, folded: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The complete set under its real names, every image a single byte."""
    root = tmp_path_factory.mktemp("cub200")
    source, base = shared_annotations / "cub200_2011", root / "CUB_200_2011"
    shutil.copytree(source / "attributes", base / "attributes", copy_function=shutil.copyfile)
    (base / "attributes").chmod(0o755)
    shutil.copyfile(source / "attributes.txt", root / "attributes.txt")
    for name in FILES:
        shutil.copyfile(source / name, base / name)
    names = [line.split()[1] for line in (base / "images.txt").read_text().splitlines()]
    stub_images(base / "images", names)
    generator, blocks = np.random.default_rng(0), []
    for size, column in zip(SIZES, folded.T, strict=True):
        places = np.arange(1, size + 1)
        earlier = (places < column[:, None]) & (generator.random((len(column), size)) < 0.2)
        blocks.append(earlier | (places == column[:, None]))
    write_labels(base / "attributes" / "image_attribute_labels.txt", np.hstack(blocks), odd=(2275, 9364))
    return root


@pytest.fixture(scope="module")
def complete(real_files: Path) -> Records:
    return cub200.read(real_files, RELEASED)


def test_the_complete_set_has_the_published_counts(complete: Records) -> None:
    assert complete.description["complete"]
    assert complete.description["counts"] == {
        "images": 11788,
        "train": 5994,
        "test": 5794,
        "classes": 200,
        "attributes": 312,
        "attribute_groups": 28,
    }
    validate(complete)


def in_file_order(records: Records, root: Path) -> Records:
    names = [line.split()[1] for line in (root / "CUB_200_2011" / "images.txt").read_text().splitlines()]
    order = [f"CUB_200_2011/images/{name}" for name in names]
    return dataclasses.replace(records, table=records.table.set_index("image").loc[order])


def test_the_released_fold_equals_the_authors_labels_for_every_image(
    complete: Records, real_files: Path, folded: np.ndarray
) -> None:
    table = in_file_order(complete, real_files).table
    np.testing.assert_array_equal(table.filter(like="attribute.").to_numpy(), folded)
    attributes = complete.description["attributes"]
    assert [len(values) for values in attributes.values()] == [size + 1 for size in SIZES]
    assert {values[0] for values in attributes.values()} == {"absent"}
    assert attributes["bill_shape"][:3] == [
        "absent",
        "curved_(up_or_down)",
        "dagger",
    ]  # the file ends its lines in CR LF


def test_the_masked_fold_leaves_absent_ones_unlabelled_within_seconds(real_files: Path, folded: np.ndarray) -> None:
    started = time.process_time()
    records = cub200.read(real_files, MASKED)
    assert time.process_time() - started < 20  # 3.7 million rows; two seconds of one core
    validate(records)
    table = in_file_order(records, real_files).table
    np.testing.assert_array_equal(table.filter(like="attribute.").to_numpy(), folded - 1)
    assert list(records.description["attributes"])[:3] == ["bill_shape", "wing_color", "upperparts_color"]
    assert [len(values) for values in records.description["attributes"].values()] == SIZES
    assert records.description["attributes"]["wing_pattern"][-1] == "multi-colored"
    # image 1, an albatross, is 5 in the authors' list: the fifth bill shape of attributes.txt
    assert records.description["attributes"]["bill_shape"][table["attribute.bill_shape"].iloc[0]] == "hooked_seabird"


def test_labels_boxes_and_split_are_those_of_the_files(complete: Records, real_files: Path) -> None:
    table = in_file_order(complete, real_files).table
    base = real_files / "CUB_200_2011"
    boxes = np.loadtxt(base / "bounding_boxes.txt")
    np.testing.assert_array_equal(table[["x", "y", "w", "h"]].to_numpy(dtype=float), boxes[:, 1:])
    np.testing.assert_array_equal(table["label"], np.loadtxt(base / "image_class_labels.txt", dtype=int)[:, 1] - 1)
    trains = np.loadtxt(base / "train_test_split.txt", dtype=int)[:, 1] == 1
    np.testing.assert_array_equal(table["split"] == "train", trains)
    assert complete.description["classes"][0] == "001.Black_footed_Albatross"
    assert complete.description["classes"][199] == "200.Common_Yellowthroat"
    assert table["camera"].isna().all()


def test_the_real_photographs_are_a_part_and_say_so(shared_data: Path) -> None:
    root = shared_data / "cub200_2011_classes_1_25"
    records = cub200.read(root, PART)
    validate(records)
    assert not records.description["complete"]
    assert records.description["counts"] == {
        "images": 1402,
        "train": 750,
        "test": 652,
        "classes": 25,
        "attributes": 312,
        "attribute_groups": 28,
    }
    assert (root / records.table["image"].iloc[0]).is_file()
    with pytest.raises(DataError, match=r"images 1402 instead of 11788.*allow_subset"):
        cub200.read(root, MASKED)


# --- retrieval


def test_retrieval_has_the_published_counts_in_disjoint_halves(real_files: Path, complete: Records) -> None:
    records = cub200.read(real_files, MASKED, "retrieval")
    validate(records)
    assert records.description["complete"]
    assert records.description["task"] == "retrieval"
    assert records.description["counts"] == {
        "images": 11788,
        "train": 5864,
        "test": 5924,
        "classes": 200,
        "train_classes": 100,
        "test_classes": 100,
    }
    labels = records.table.groupby("split")["label"].agg(["min", "max"])
    assert labels.loc["train"].tolist() == [0, 99]
    assert labels.loc["test"].tolist() == [100, 199]
    trains = complete.table["split"] == "train"  # the official split, of which retrieval takes no notice
    assert (trains & (records.table["split"] == "train")).sum() == 3000
    assert records.description["classes"] == complete.description["classes"]
    assert records.description["attributes"] == {}
    assert list(records.table.columns)[-1] == "h"
    assert records.table[["x", "y", "w", "h", "camera"]].isna().all(axis=None)


def test_retrieval_of_a_part_halves_the_classes_that_are_there(shared_data: Path) -> None:
    records = cub200.read(shared_data / "cub200_2011_classes_1_25", PART, "retrieval")
    validate(records)
    assert not records.description["complete"]
    counts = records.description["counts"]
    assert (counts["images"], counts["train_classes"], counts["test_classes"]) == (1402, 12, 13)
    assert set(records.table.loc[records.table["split"] == "train", "label"]) == set(range(12))


# --- a small made-up copy, for bad input

NAMES = ["001.Wren/a.jpg", "001.Wren/b.jpg", "002.Owl/c.jpg", "002.Owl/d.jpg"]
ATTRIBUTES = ["has_wing::red", "has_wing::blue", "has_wing::grey_(dark)", "has_size::small", "has_size::large"]


def write(path: Path, rows: list[str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{number} {row}{end}" for number, row in enumerate(rows, start=1)).encode())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two classes of a training and a test image each; its twin.json says so."""
    base = tmp_path / "CUB_200_2011"
    write(base / "images.txt", NAMES)
    write(base / "image_class_labels.txt", ["1", "1", "2", "2"])
    write(base / "train_test_split.txt", ["1", "0", "1", "0"])
    write(base / "bounding_boxes.txt", ["1.0 2.0 30.0 40.0"] * 4)
    write(base / "classes.txt", ["001.Wren", "002.Owl"])
    write(tmp_path / "attributes.txt", ATTRIBUTES)
    write(base / "attributes" / "certainties.txt", ["not visible", "guessing", "probably", "definitely"])
    present = np.array([[1, 0, 1, 0, 0], [0, 0, 0, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0]], dtype=bool)
    write_labels(base / "attributes" / "image_attribute_labels.txt", present, odd=(3,))
    for name in NAMES:
        (base / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "images" / name).write_bytes(b"x")
    counts = dict(zip(cub200.PUBLISHED, [4, 2, 2, 2, 5, 2], strict=True))
    (tmp_path / "twin.json").write_text(json.dumps({"dataset": "cub200", "counts": counts}))
    return tmp_path


def test_the_last_present_value_of_a_group_wins_whatever_the_certainty(small: Path) -> None:
    masked, released = cub200.read(small, MASKED), cub200.read(small, RELEASED)
    for records in (masked, released):
        validate(records)
    assert masked.description["source"] == "twins"
    assert masked.description["attributes"] == {"wing": ["red", "blue", "grey_(dark)"], "size": ["small", "large"]}
    assert masked.table["attribute.wing"].tolist() == [2, -1, 1, -1]
    assert masked.table["attribute.size"].tolist() == [-1, 1, -1, 0]
    assert released.description["attributes"]["size"] == ["absent", "small", "large"]
    assert released.table["attribute.wing"].tolist() == [3, 0, 2, 0]


def test_a_drawn_twin_is_read_like_the_original(tmp_path: Path) -> None:
    size = Twin(classes=3, train_images_per_class=3, test_images_per_class=2)
    drawn = twins.draw_cub200(tmp_path / "twin", size, workers=1)
    for settings in (MASKED, RELEASED):
        records = cub200.read(tmp_path / "twin", dataclasses.replace(settings, source="twins"))
        validate(records)
        assert records.description["source"] == "twins"
        assert records.description["counts"] == drawn["counts"]


@pytest.mark.parametrize(
    "place", ["attributes.txt", "CUB_200_2011/attributes.txt", "CUB_200_2011/attributes/attributes.txt"]
)
def test_attribute_names_are_found_in_each_place_and_with_any_line_end(small: Path, place: str) -> None:
    (small / "attributes.txt").unlink()
    with pytest.raises(DataError, match=r"attributes\.txt: missing"):
        cub200.read(small, MASKED)
    write(small / place, ATTRIBUTES, end="\r\n")
    assert cub200.read(small, MASKED).description["attributes"]["size"] == ["small", "large"]


def test_files_do_not_have_to_be_in_the_same_order(small: Path) -> None:
    expected = cub200.read(small, MASKED).table
    base = small / "CUB_200_2011"
    for name in (*FILES, "attributes/image_attribute_labels.txt"):
        lines = (base / name).read_text().splitlines()
        (base / name).write_text("\n".join(reversed(lines)))
    assert cub200.read(small, MASKED).table.equals(expected)


def test_missing_and_empty_boxes_mean_the_whole_image_and_are_counted(small: Path) -> None:
    write(small / "CUB_200_2011" / "bounding_boxes.txt", ["1 2 30 40", "5 5 0 10", "0 0 1 1"])
    records = cub200.read(small, MASKED)
    validate(records)
    assert records.table["w"].isna().tolist() == [False, True, False, True]
    assert "1 images with no box: the whole image is used" in records.description["checks"]
    assert "1 images with a box of no area: the whole image is used" in records.description["checks"]


@pytest.mark.parametrize("box", ["1 2 nan 4", "-1 2 3 4", "1 2 3 -4", "1 2 inf 4"])
def test_a_box_that_is_none_is_named(small: Path, box: str) -> None:
    write(small / "CUB_200_2011" / "bounding_boxes.txt", ["1 2 30 40", box])
    with pytest.raises(DataError, match=r"bounding_boxes\.txt, image 2"):
        cub200.read(small, PART)


def test_images_not_on_disk_are_listed_or_left_out(small: Path) -> None:
    (small / "CUB_200_2011" / "images" / "002.Owl" / "d.jpg").unlink()
    (small / "CUB_200_2011" / "images" / "002.Owl" / "stray_rgb.jpg").write_bytes(b"x")
    with pytest.raises(
        DataError,
        match=r"1 of the 4 images of images\.txt are not on disk: CUB_200_2011/images/002\.Owl/d\.jpg; .*archive",
    ):
        cub200.read(small, MASKED)
    records = cub200.read(small, PART)
    assert records.table["image"].tolist() == [f"CUB_200_2011/images/{name}" for name in NAMES[:3]]
    assert not records.description["complete"]
    assert (
        "1 images listed but not on disk, left out: CUB_200_2011/images/002.Owl/d.jpg" in records.description["checks"]
    )
    assert "1 files in the image folders that are not in images.txt, ignored" in records.description["checks"]


def test_no_image_on_disk_is_refused_even_as_a_part(small: Path) -> None:
    shutil.rmtree(small / "CUB_200_2011" / "images")
    with pytest.raises(DataError, match="images: missing"):
        cub200.read(small, PART)
    (small / "CUB_200_2011" / "images").mkdir()
    with pytest.raises(DataError, match="4 of the 4 images"):
        cub200.read(small, PART)


def test_an_empty_image_is_named(small: Path) -> None:
    (small / "CUB_200_2011" / "images" / NAMES[1]).write_bytes(b"")
    with pytest.raises(DataError, match=r"001\.Wren/b\.jpg: empty file"):
        cub200.read(small, PART)


def test_a_class_that_lost_all_its_images_leaves_labels_contiguous(small: Path) -> None:
    for name in NAMES[:2]:
        (small / "CUB_200_2011" / "images" / name).unlink()
    records = cub200.read(small, PART)
    validate(records)
    assert records.description["classes"] == ["002.Owl"]
    assert set(records.table["label"]) == {0}
    assert records.table["attribute.wing"].tolist() == [1, -1]  # the labels stay with their images


def test_a_class_without_training_images_is_named(small: Path) -> None:
    write(small / "CUB_200_2011" / "train_test_split.txt", ["1", "0", "0", "0"])
    with pytest.raises(DataError, match=r"without training images: class 1 \(002\.Owl\)"):
        validate(cub200.read(small, PART))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_text_file_is_named_with_its_source(small: Path, name: str) -> None:
    (small / "CUB_200_2011" / name).unlink()
    with pytest.raises(DataError, match=f"{name}.*CaltechDATA"):
        cub200.read(small, PART)


def test_a_missing_attribute_label_file_is_named_or_leaves_no_attributes(small: Path) -> None:
    (small / "CUB_200_2011" / "attributes" / "image_attribute_labels.txt").unlink()
    with pytest.raises(DataError, match=r"image_attribute_labels\.txt: missing.*CUB_200_2011\.tgz.*CaltechDATA"):
        cub200.read(small, MASKED)
    records = cub200.read(small, PART)
    validate(records)
    assert records.description["attributes"] == {}
    assert "no image_attribute_labels.txt: no attributes" in records.description["checks"]


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("images.txt", "3 002.Owl", "image 3: .* does not parse"),
        ("images.txt", "3", "line 3: 1 columns, expected 2"),
        ("images.txt", "3 ../Owl/../c.jpg", "image 3: .* does not parse"),
        ("images.txt", "1 002.Owl/c.jpg", "line 3: 1 is there twice"),
        ("image_class_labels.txt", "3 two", "line 3: could not convert"),
        ("image_class_labels.txt", "3 1.5", "image 3: 1.5 is no class id"),
        ("image_class_labels.txt", "3 1", "image 3: 002.Owl/c.jpg lies in another folder"),
        ("image_class_labels.txt", "9 2", r"lacks image 3 of images\.txt"),
        ("train_test_split.txt", "3 2", "image 3: 2 is neither 0 nor 1"),
        ("bounding_boxes.txt", "3 1 2 3", "line 3: 4 columns, expected 5"),
    ],
)
def test_a_bad_line_is_named(small: Path, name: str, line: str, message: str) -> None:
    path = small / "CUB_200_2011" / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(DataError, match=rf"{name}.*{message}"):
        cub200.read(small, MASKED)


@pytest.mark.parametrize("line", ["2 has_wing:blue", "7 has_wing::blue", "2 has_tail::blue"])
def test_an_attribute_name_that_does_not_parse_is_named(small: Path, line: str) -> None:
    lines = (small / "attributes.txt").read_text().splitlines()
    (small / "attributes.txt").write_text("\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(DataError, match=r"attributes\.txt, entry [23]"):
        cub200.read(small, MASKED)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 x 3 1.0", "line 2 does not parse"),
        ("1 2", "line 2 does not parse"),
        ("1 2 2 3 1.0", "row 2: image 1, attribute 2, present 2"),
        ("1 6 0 3 1.0", "row 2: image 1, attribute 6"),
        ("1 1 0 3 1.0", "attribute 1 is there 2 times"),
        ("9 2 0 3 1.0", r"image 9 is not in images\.txt"),
        ("", "attribute 2 is there 0 times"),
    ],
)
def test_a_bad_attribute_row_is_named(small: Path, line: str, message: str) -> None:
    path = small / "CUB_200_2011" / "attributes" / "image_attribute_labels.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(DataError, match=rf"image_attribute_labels\.txt.*{message}"):
        cub200.read(small, MASKED)


def test_a_cut_off_attribute_file_is_refused(small: Path) -> None:
    path = small / "CUB_200_2011" / "attributes" / "image_attribute_labels.txt"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="image_attribute_labels"):
        cub200.read(small, MASKED)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="image_attribute_labels"):
        cub200.read(small, MASKED)


def test_an_unknown_fold_is_a_settings_error(small: Path) -> None:
    with pytest.raises(SettingsError, match=r"data\.fold=12.*masked and released"):
        cub200.read(small, dataclasses.replace(MASKED, fold="12"))


def test_retrieval_of_a_twin_needs_no_attribute_file_and_checks_images_and_classes(small: Path) -> None:
    shutil.rmtree(small / "CUB_200_2011" / "attributes")
    records = cub200.read(small, RELEASED, "retrieval")
    assert records.description["complete"]
    assert records.table["split"].tolist() == ["train", "train", "test", "test"]  # classes 1 1 2 2
    twin = json.loads((small / "twin.json").read_text())
    twin["counts"]["images"] = 5
    (small / "twin.json").write_text(json.dumps(twin))
    with pytest.raises(DataError, match="images 4 instead of 5"):
        cub200.read(small, RELEASED, "retrieval")


def test_missing_images_are_left_out_up_to_the_stated_share(small: Path) -> None:
    (small / "CUB_200_2011" / "images" / NAMES[3]).unlink()
    limited = dataclasses.replace(MASKED, missing_limit=0.25)
    records = cub200.read(small, limited)
    validate(records)
    assert not records.description["complete"]
    assert records.description["counts"]["images"] == 3
    assert records.table["attribute.wing"].tolist() == [2, -1, 1]
    assert f"1 images listed but not on disk, left out: CUB_200_2011/images/{NAMES[3]}" in records.description["checks"]
    with pytest.raises(DataError, match=r"1 of the 4.*data\.missing_limit=0\.25 or data\.allow_subset=true"):
        cub200.read(small, dataclasses.replace(MASKED, missing_limit=0.24))


def test_missing_images_do_not_move_the_halves_of_retrieval(small: Path) -> None:
    base = small / "CUB_200_2011"
    names = ["001.Wren/a.jpg", "002.Owl/c.jpg", "003.Gull/e.jpg", "004.Tern/f.jpg"]
    write(base / "images.txt", names)
    write(base / "image_class_labels.txt", ["1", "2", "3", "4"])
    write(base / "classes.txt", ["001.Wren", "002.Owl", "003.Gull", "004.Tern"])
    for name in (names[0], names[1], names[3]):
        (base / "images" / name).parent.mkdir(exist_ok=True)
        (base / "images" / name).write_bytes(b"x")
    counts = dict.fromkeys(cub200.PUBLISHED, 0) | {"images": 4, "classes": 4}
    (small / "twin.json").write_text(json.dumps({"counts": counts}))
    records = cub200.read(small, dataclasses.replace(MASKED, missing_limit=0.5), "retrieval")
    assert dict(zip(records.table["label"], records.table["split"], strict=True)) == {0: "train", 1: "train", 3: "test"}


def test_other_tasks_are_a_settings_error(small: Path) -> None:
    with pytest.raises(SettingsError, match=r"dataset\.task=re-identification.*classification and retrieval"):
        cub200.read(small, MASKED, "re-identification")


def test_a_class_id_out_of_range_is_named(small: Path) -> None:
    write(small / "CUB_200_2011" / "image_class_labels.txt", ["1", "1", "2", "201"])
    with pytest.raises(DataError, match=r"image_class_labels\.txt, image 4: .*class 201 \(not in classes\.txt\)"):
        cub200.read(small, MASKED)
