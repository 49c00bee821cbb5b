"""The CARS196 reader, held against the real annotation files in both layouts, and against small made-up ones.

Expected numbers: the paper and counts of the real files.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from stubs import stub_images

from a3m.data import cars196
from a3m.data.folds import cut_validation
from a3m.data.records import Records, validate
from a3m.errors import DataError, SettingsError
from a3m.settings import Data

WHOLE = Data(source="raw")
PART = Data(source="raw", allow_subset=True)


@pytest.fixture(scope="module")
def real_files(shared_annotations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cars_annos.mat and every image of it as a single byte."""
    root = tmp_path_factory.mktemp("cars196")
    shutil.copyfile(shared_annotations / "cars196" / "cars_annos.mat", root / "cars_annos.mat")
    stub_images(root / "car_ims", [f"{number:06d}.jpg" for number in range(1, 16186)])
    return root


@pytest.fixture(scope="module")
def complete(real_files: Path) -> Records:
    return cars196.read(real_files, WHOLE, "retrieval")


@pytest.fixture(scope="module")
def file(shared_annotations: Path) -> np.ndarray:
    """The annotations, one struct an image, read once more by other means."""
    path = shared_annotations / "cars196" / "cars_annos.mat"
    return scipy.io.loadmat(path, squeeze_me=True)["annotations"]


def test_retrieval_has_the_published_counts_in_disjoint_halves(complete: Records) -> None:
    validate(complete)
    assert complete.description["complete"]
    assert complete.description["counts"] == {
        "images": 16185,
        "classes": 196,
        "train": 8054,
        "test": 8131,
        "train_classes": 98,
        "test_classes": 98,
    }
    labels = complete.table.groupby("split")["label"].agg(["min", "max"])
    assert labels.loc["train"].tolist() == [0, 97]
    assert labels.loc["test"].tolist() == [98, 195]
    assert complete.table[["x", "y", "w", "h", "camera"]].isna().all(axis=None)  # not cropped
    assert complete.description["attributes"] == {}


def test_classification_follows_the_official_split(real_files: Path, file: np.ndarray) -> None:
    records = cars196.read(real_files, WHOLE, "classification")
    validate(records)
    assert records.description["complete"]
    assert records.description["counts"] == {"images": 16185, "classes": 196, "train": 8144, "test": 8041}
    table = records.table.set_index("image").loc[[str(row["relative_im_path"]) for row in file]]
    np.testing.assert_array_equal(table["split"] == "test", file["test"].astype(int) == 1)


def test_a_class_in_two_runs_is_one_class(complete: Records, file: np.ndarray) -> None:
    labels = complete.table.set_index("image").loc[[str(row["relative_im_path"]) for row in file], "label"].to_numpy()
    np.testing.assert_array_equal(labels, file["class"].astype(int) - 1)
    runs = np.flatnonzero(np.diff(np.flatnonzero(labels == 118)) > 1)
    assert len(runs) == 1  # class 119 has a gap: the file is not sorted
    assert complete.description["classes"][118] == complete.description["classes"][labels[9707]]


def test_boxes_are_cast_before_arithmetic_and_count_from_0(real_files: Path, file: np.ndarray) -> None:
    records = cars196.read(real_files, WHOLE, "classification")
    corners = np.array([[int(row[f"bbox_{c}"]) for c in ("x1", "y1", "x2", "y2")] for row in file])
    table = records.table.set_index("image").loc[[str(row["relative_im_path"]) for row in file]]
    boxes = table[["x", "y", "w", "h"]].to_numpy(dtype=float)
    np.testing.assert_array_equal(boxes[:, :2], corners[:, :2] - 1)
    np.testing.assert_array_equal(boxes[:, :2] + boxes[:, 2:], corners[:, 2:])
    assert boxes[0].tolist() == [111, 6, 742, 711]  # 112 7 853 717: uint8, uint8, uint16, uint16
    assert (corners.max(axis=0)[2:] == [7224, 3835]).all()


def test_class_names_are_those_of_the_file_slash_and_all(complete: Records) -> None:
    classes = complete.description["classes"]
    assert classes[173] == "Ram C/V Cargo Van Minivan 2012"
    assert (classes[0], classes[195]) == ("AM General Hummer SUV 2000", "smart fortwo Convertible 2012")


def test_validation_is_whole_classes_of_the_training_half(complete: Records) -> None:
    table = cut_validation(complete.table, "retrieval", 0.2, seed=0)
    validate(dataclasses.replace(complete, table=table))
    validated = set(table.loc[table["fold"] == "val", "label"])
    assert len(validated) == round(0.2 * 98)
    assert max(validated) < 98


@pytest.mark.slow
def test_the_devkits_layout_holds_the_same_cars(shared_annotations: Path, tmp_path: Path, complete: Records) -> None:
    source = shared_annotations / "cars196"
    shutil.copytree(source / "devkit", tmp_path / "devkit", copy_function=shutil.copyfile)
    (tmp_path / "devkit").chmod(0o755)
    with pytest.raises(
        DataError, match=r"cars_test_annos_withlabels\.mat: missing; devkit/cars_test_annos\.mat has no"
    ):
        cars196.read(tmp_path, WHOLE)
    shutil.copyfile(source / "cars_test_annos_withlabels.mat", tmp_path / "cars_test_annos_withlabels.mat")
    stub_images(tmp_path / "cars_train", [f"{number:05d}.jpg" for number in range(1, 8145)])
    stub_images(tmp_path / "cars_test", [f"{number:05d}.jpg" for number in range(1, 8042)])
    for task in ("retrieval", "classification"):
        records = cars196.read(tmp_path, WHOLE, task)
        validate(records)
        assert records.description["complete"]
        assert records.description["counts"] == cars196.PUBLISHED[task]
        assert records.description["classes"] == complete.description["classes"]
    own = records.table["image"].str.partition("/")[0]
    assert ((own == "cars_test") == (records.table["split"] == "test")).all()
    sizes = records.table["label"].value_counts().sort_index()
    assert sizes.equals(complete.table["label"].value_counts().sort_index())


# --- a small made-up copy, for bad input


def annotate(path: Path, rows: list[dict[str, Any]], names: list[str]) -> None:
    """cars_annos.mat of these rows; every number in the smallest type that holds it, as the original has it."""
    fields = ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    struct = np.empty((1, len(rows)), dtype=[(name, object) for name in fields if name in rows[0]])
    for place, row in enumerate(rows):
        for name, value in row.items():
            small = np.uint8 if isinstance(value, int) and 0 <= value < 256 else None
            struct[name][0, place] = value if isinstance(value, str) else np.array([[value]], dtype=small)
    cells = np.empty((1, len(names)), dtype=object)
    cells[0, :] = names
    scipy.io.savemat(path, {"annotations": struct, "class_names": cells})


def small_rows() -> list[dict[str, Any]]:
    box = {"bbox_x1": 11, "bbox_y1": 6, "bbox_x2": 250, "bbox_y2": 300}
    return [
        {"relative_im_path": f"car_ims/{n:06d}.jpg", **box, "class": 1 + n % 4, "test": int(n > 8)}
        for n in range(1, 17)
    ]


NAMES = ["Audi A/B 2010", "BMW X 2011", "Fiat 500 2012", "Kia C 2009"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Four classes of four images; its twin.json says so."""
    annotate(tmp_path / "cars_annos.mat", small_rows(), NAMES)
    stub_images(tmp_path / "car_ims", [f"{number:06d}.jpg" for number in range(1, 17)])
    counts = {"images": 16, "classes": 4, "train": 8, "test": 8}
    (tmp_path / "twin.json").write_text(json.dumps({"dataset": "cars196", "counts": counts}))
    return tmp_path


def test_a_twin_is_halved_by_its_own_number_of_classes(small: Path) -> None:
    records = cars196.read(small, WHOLE)
    validate(records)
    assert records.description["source"] == "twins"
    assert records.description["complete"]
    assert set(records.table.loc[records.table["split"] == "train", "label"]) == {0, 1}
    assert cars196.read(small, WHOLE, "classification").table["w"].tolist() == [240.0] * 16  # 250 - 11 + 1


def test_a_box_of_no_area_is_the_whole_image_and_counted(small: Path) -> None:
    rows = small_rows()
    rows[2]["bbox_x2"] = 11
    annotate(small / "cars_annos.mat", rows, NAMES)
    records = cars196.read(small, WHOLE, "classification")
    validate(records)
    assert records.table["w"].isna().sum() == 1
    assert "1 images with a box of no area: the whole image is used" in records.description["checks"]


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (4, {"class": 5}, r"annotation 5: class 5 is outside 1\.\.4"),
        (4, {"class": 0}, r"annotation 5: class 0 is outside 1\.\.4"),
        (4, {"class": 1.5}, "annotation 5: class is .* no whole number"),
        (4, {"bbox_y2": float("nan")}, "annotation 5: bbox_y2 is .* no whole number"),
        (4, {"test": 2}, "test is neither 0 nor 1"),
        (4, {"relative_im_path": "car_ims/000001.jpg"}, r"annotation 5: car_ims/000001\.jpg is there twice"),
        (4, {"relative_im_path": "../car_ims/000005.jpg"}, "annotation 5: .* no image path"),
    ],
)
def test_a_bad_annotation_is_named_with_file_number_and_source(
    small: Path, row: int, change: dict[str, Any], message: str
) -> None:
    rows = small_rows()
    rows[row] |= change
    annotate(small / "cars_annos.mat", rows, NAMES)
    with pytest.raises(DataError, match=rf"cars_annos\.mat.*{message}.*Stanford Cars"):
        cars196.read(small, PART)


def test_missing_lists_fields_and_broken_files_are_named(small: Path) -> None:
    annotate(small / "cars_annos.mat", [{k: v for k, v in row.items() if k != "class"} for row in small_rows()], NAMES)
    with pytest.raises(DataError, match="no field class"):
        cars196.read(small, PART)
    annotate(small / "cars_annos.mat", small_rows(), ["Audi", "Audi", "Fiat", "Kia"])
    with pytest.raises(DataError, match="class names are empty or there twice"):
        cars196.read(small, PART)
    (small / "cars_annos.mat").write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match="not a readable MATLAB file"):
        cars196.read(small, PART)
    (small / "cars_annos.mat").unlink()
    with pytest.raises(DataError, match=r"neither cars_annos\.mat.*Stanford Cars"):
        cars196.read(small, PART)


def test_listed_images_that_are_not_on_disk_are_an_error_above_the_stated_share(small: Path) -> None:
    (small / "car_ims" / "000003.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of the 16 images of cars_annos\.mat are not on disk: car_ims/000003\.jpg"):
        cars196.read(small, WHOLE)
    for settings in (dataclasses.replace(WHOLE, missing_limit=0.1), PART):
        records = cars196.read(small, settings)
        validate(records)
        assert records.description["counts"]["images"] == 15
        assert not records.description["complete"]
        assert "1 images listed but not on disk, left out: car_ims/000003.jpg" in records.description["checks"]
    with pytest.raises(DataError, match="1 of the 16"):
        cars196.read(small, dataclasses.replace(WHOLE, missing_limit=0.05))


def test_other_tasks_are_a_settings_error(small: Path) -> None:
    with pytest.raises(SettingsError, match=r"dataset\.task=re-identification.*retrieval and classification"):
        cars196.read(small, WHOLE, "re-identification")
