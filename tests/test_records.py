"""The table that every reader returns: what `validate` refuses, the validation cut, the files, and stage prepare."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from a3m.data import prepare as stage
from a3m.data.folds import cut_validation
from a3m.data.records import Records, arrange, read, validate, write
from a3m.errors import DataError, SettingsError
from a3m.settings import Data


def description(task: str, **more: Any) -> dict[str, Any]:
    known = {
        "dataset": "made_up",
        "task": task,
        "source": "raw",
        "complete": False,
        "attributes": {"size": ["s", "m", "l"]},
    }
    return known | {"counts": {}, "origin": "a test", "checks": []} | more


def classification(classes: int = 3, train: int = 10, test: int = 4) -> Records:
    rows = [
        (f"images/{label:03d}/{split}{number:02d}.jpg", split, label, 1.0, 2.0, 30.0, 40.0)
        for label in range(classes)
        for split, amount in (("train", train), ("test", test))
        for number in range(amount)
    ]
    frame = pd.DataFrame(rows, columns=["image", "split", "label", "x", "y", "w", "h"])
    size = np.arange(len(frame)) % 4 - 1
    names = [f"class {label}" for label in range(classes)]
    return Records(arrange(frame, {"size": size}), description("classification", classes=names))


def people(train: dict[int, dict[int, int]]) -> Records:
    """`train` maps identity -> camera -> images; two test people and a distractor come with it."""
    rows = [
        (f"train/{identity:04d}_c{camera}_{number}.jpg", "train", identity, camera)
        for identity, cameras in train.items()
        for camera, amount in cameras.items()
        for number in range(amount)
    ]
    rows += [(f"query/{identity}.jpg", "query", identity, 1) for identity in (901, 902)]
    rows += [(f"gallery/{identity}.jpg", "gallery", identity, 2) for identity in (901, 902, 0)]
    frame = pd.DataFrame(rows, columns=["image", "split", "label", "camera"])
    return Records(arrange(frame, {"size": np.zeros(len(frame), dtype=int)}), description("re-identification"))


CROWD = {identity: {1: 3, 2: 2, 5: 1} for identity in range(1, 21)} | {30: {4: 6}, 31: {6: 9}}


def changed(records: Records, row: int, **values: Any) -> Records:
    table = records.table.copy()
    for column, value in values.items():
        table.loc[row, column] = value
    return dataclasses.replace(records, table=table)


def test_good_records_pass() -> None:
    validate(classification())
    validate(people(CROWD))


@pytest.mark.parametrize(
    ("row", "values", "message"),
    [
        (1, {"image": "images/000/test00.jpg"}, "listed twice"),
        (0, {"image": "/images/000/test00.jpg"}, "not a path below"),
        (0, {"image": "images/../000/test00.jpg"}, "not a path below"),
        (0, {"image": "images\\000.jpg"}, "not a path below"),
        (5, {"split": "query"}, "split is not one of train, test"),
        (5, {"fold": None}, "fold of a train row"),
        (5, {"fold": "val_query"}, "fold of a train row"),
        (0, {"fold": "train"}, "does not train"),
        (5, {"label": 3}, r"label is outside 0\.\.2"),
        (5, {"label": -1}, r"label is outside 0\.\.2"),
        (5, {"x": None}, "only a part of the box"),
        (5, {"w": 0.0}, "no area"),
        (5, {"y": -1.0}, "starts outside"),
        (5, {"h": np.inf}, "no area"),
        (5, {"attribute.size": 3}, r"size is outside -1\.\.2"),
        (5, {"attribute.size": -2}, r"size is outside -1\.\.2"),
    ],
)
def test_a_bad_row_is_refused_by_number_and_image(row: int, values: dict[str, Any], message: str) -> None:
    records = changed(classification(), row, **values)
    with pytest.raises(DataError, match=rf"made_up, row {row}, .*: .*{message}"):
        validate(records)


@pytest.mark.parametrize(
    ("image", "values", "message"),
    [
        ("train/0001_c1_0.jpg", {"camera": None}, "no camera"),
        ("gallery/901.jpg", {"label": -1}, "junk"),
        ("query/901.jpg", {"label": 0}, "a distractor .* outside the gallery"),
        ("train/0001_c1_0.jpg", {"label": 901}, "of the test part that also trains"),
        ("train/0001_c1_0.jpg", {"fold": "val_query"}, "both in training and in validation"),
        ("train/0001_c1_0.jpg", {"fold": "val"}, "fold of a train row"),
    ],
)
def test_a_bad_identity_is_refused(image: str, values: dict[str, Any], message: str) -> None:
    records = people(CROWD)
    row = int(np.flatnonzero(records.table["image"] == image)[0])
    with pytest.raises(DataError, match=message):
        validate(changed(records, row, **values))


def test_a_query_without_its_identity_in_the_gallery_is_refused_in_a_complete_set_only() -> None:
    records = people(CROWD)
    row = int(np.flatnonzero(records.table["image"] == "gallery/901.jpg")[0])
    lonely = changed(records, row, label=0)
    validate(lonely)  # of a part, it is skipped and counted at evaluation
    whole = dataclasses.replace(lonely, description=lonely.description | {"complete": True})
    with pytest.raises(DataError, match=r"query/901\.jpg: a query whose identity is not in the gallery"):
        validate(whole)
    nobody = changed(lonely, int(np.flatnonzero(records.table["image"] == "gallery/902.jpg")[0]), label=0)
    with pytest.raises(DataError, match="not in the gallery"):
        validate(nobody)


def test_a_class_without_training_images_is_named() -> None:
    records = classification()
    table = records.table[~((records.table["label"] == 1) & (records.table["split"] == "train"))]
    with pytest.raises(DataError, match=r"without training images: class 1 \(class 1\)"):
        validate(dataclasses.replace(records, table=table.reset_index(drop=True)))
    fold = records.table["fold"].where((records.table["label"] != 1) | records.table["fold"].isna(), "val")
    with pytest.raises(DataError, match="without training images: class 1"):  # all of them cut away
        validate(dataclasses.replace(records, table=records.table.assign(fold=fold)))


def test_columns_dtypes_order_and_description_are_checked() -> None:
    records = classification()
    table = records.table
    for bad, message in (
        (table.drop(columns="camera"), "columns are"),
        (table.rename(columns={"attribute.size": "attribute.height"}), "columns are"),
        (table.astype({"label": "int32"}), "column label is int32"),
        (table.astype({"attribute.size": "float64"}), r"column attribute\.size is float64"),
        (table.iloc[::-1].reset_index(drop=True), "not sorted"),
        (table.iloc[1:], "not sorted"),
        (table[table["split"] == "train"].reset_index(drop=True), "no test images"),
        (table[table["split"] == "test"].reset_index(drop=True), "no train images"),
    ):
        with pytest.raises(DataError, match=message):
            validate(dataclasses.replace(records, table=bad))
    for change, message in (
        ({"task": "ranking"}, "task 'ranking'"),
        ({"classes": []}, "no class names"),
        ({"attributes": {"size": ["s", "s", "l"]}}, "different values"),
    ):
        with pytest.raises(DataError, match=message):
            validate(dataclasses.replace(records, description=records.description | change))
    with pytest.raises(DataError, match="lacks counts"):
        validate(Records(table, {key: value for key, value in records.description.items() if key != "counts"}))


def test_records_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    for records in (classification(), people(CROWD)):
        write(records, tmp_path)
        back = read(tmp_path)
        validate(back)
        pd.testing.assert_frame_equal(back.table, records.table)
        assert back.description == records.description
    assert sorted(path.name for path in tmp_path.iterdir()) == ["description.json", "records.parquet"]


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(people(CROWD), tmp_path / name)
    for file in ("records.parquet", "description.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_write_that_fails_leaves_nothing_that_passes_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(classification(), tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        write(people(CROWD), tmp_path)
    monkeypatch.undo()
    with pytest.raises(DataError, match="no whole records"):
        read(tmp_path)


def test_reading_a_cut_off_file_is_a_data_error(tmp_path: Path) -> None:
    write(classification(), tmp_path)
    path = tmp_path / "records.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="no whole records"):
        read(tmp_path)


# --- the validation cut


def test_a_share_of_every_class_is_cut() -> None:
    records = classification(classes=4, train=10)
    table = cut_validation(records.table, "classification", 0.2, seed=0)
    validate(dataclasses.replace(records, table=table))
    per_class = table[table["fold"] == "val"].groupby("label").size()
    assert per_class.to_dict() == dict.fromkeys(range(4), 2)
    assert table.loc[table["split"] == "test", "fold"].isna().all()


def test_a_class_keeps_a_training_image_and_gives_one_where_it_can() -> None:
    for train, share, number in ((2, 0.1, 1), (2, 0.9, 1), (3, 0.99, 2)):
        table = cut_validation(classification(train=train).table, "classification", share, seed=0)
        assert (table[table["fold"] == "val"].groupby("label").size() == number).all()
    with pytest.raises(DataError, match="no class has two training images"):
        cut_validation(classification(train=1).table, "classification", 0.2, seed=0)


@pytest.mark.parametrize("task", ["classification", "re-identification", "retrieval"])
def test_the_cut_depends_on_the_seed_and_not_on_the_order_of_rows(task: str) -> None:
    records = {"classification": classification(), "re-identification": people(CROWD), "retrieval": birds(FLOCK, 10)}
    table = records[task].table
    first = cut_validation(table, task, 0.3, seed=1)
    shuffled = cut_validation(table.sample(frac=1, random_state=3), task, 0.3, seed=1)
    pd.testing.assert_frame_equal(shuffled.sort_values("image").reset_index(drop=True), first)
    pd.testing.assert_frame_equal(cut_validation(first, task, 0.3, seed=1), first)  # cut anew, not further
    assert not cut_validation(table, task, 0.3, seed=2)["fold"].equals(first["fold"])


def test_whole_identities_are_cut_with_one_query_an_identity_and_camera() -> None:
    records = people(CROWD)
    table = cut_validation(records.table, "re-identification", 0.25, seed=0)
    validate(dataclasses.replace(records, table=table))
    validation = table[table["fold"].isin(["val_query", "val_gallery"])]
    assert validation["label"].nunique() == round(0.25 * 22)
    assert not set(validation["label"]) & set(table.loc[table["fold"] == "train", "label"])
    for _, own in validation.groupby("label"):
        queries = own[own["fold"] == "val_query"]
        assert sorted(queries["camera"]) == [1, 2, 5]
        assert len(own) - len(queries) == 3


def test_identities_of_one_camera_stay_in_training() -> None:
    table = cut_validation(people(CROWD).table, "re-identification", 0.95, seed=0)
    assert set(table.loc[table["fold"] == "train", "label"]) >= {30, 31}


def test_an_identity_with_one_image_a_camera_keeps_one_for_the_gallery() -> None:
    records = people({identity: {1: 1, 2: 1} for identity in range(1, 11)})
    table = cut_validation(records.table, "re-identification", 0.5, seed=0)
    validate(dataclasses.replace(records, table=table))
    assert table["fold"].value_counts().to_dict() == {"train": 10, "val_query": 5, "val_gallery": 5}
    galleries = [
        set(cut_validation(records.table, "re-identification", 0.5, seed=s).query("fold == 'val_gallery'")["camera"])
        for s in range(5)
    ]
    assert set().union(*galleries) == {1, 2}


def test_nothing_to_cut_is_an_error_and_share_zero_cuts_nothing() -> None:
    records = people({1: {1: 5}, 2: {3: 5}})
    with pytest.raises(DataError, match=r"two cameras.*data\.validation=0"):
        cut_validation(records.table, "re-identification", 0.2, seed=0)
    assert cut_validation(records.table, "re-identification", 0.0, seed=0).equals(records.table)
    for share in (1.0, -0.1, float("nan")):
        with pytest.raises(SettingsError, match=r"data\.validation"):
            cut_validation(records.table, "re-identification", share, seed=0)
    with pytest.raises(DataError, match="ranking"):
        cut_validation(records.table, "ranking", 0.2, seed=0)


# --- retrieval


def birds(sizes: dict[int, int], train: int) -> Records:
    """`sizes`: class -> images; the first `train` classes train, the others are searched."""
    rows = [
        (f"images/{label:03d}/{number:02d}.jpg", "train" if label < train else "test", label)
        for label, size in sizes.items()
        for number in range(size)
    ]
    frame = pd.DataFrame(rows, columns=["image", "split", "label"])
    names = [f"class {label}" for label in sizes]
    return Records(arrange(frame, {}), description("retrieval", classes=names, attributes={}))


FLOCK = dict.fromkeys(range(16), 3)


def test_good_records_of_retrieval_pass() -> None:
    validate(birds(FLOCK, train=8))


@pytest.mark.parametrize(
    ("row", "values", "message"),
    [
        (30, {"label": 2}, "a test class that also trains"),
        (2, {"fold": "val"}, "a class in training and validation"),
        (2, {"fold": "val_query"}, "fold of a train row"),
        (30, {"label": 16}, r"label is outside 0\.\.15"),
    ],
)
def test_a_class_on_both_sides_of_retrieval_is_refused(row: int, values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        validate(changed(birds(FLOCK, train=8), row, **values))


def test_retrieval_needs_two_test_classes_and_something_to_find() -> None:
    with pytest.raises(DataError, match="test needs two or more classes"):
        validate(birds(FLOCK, train=15))
    with pytest.raises(DataError, match="one of them with two or more images"):
        validate(birds(FLOCK | {14: 1, 15: 1}, train=14))


def test_whole_classes_are_cut_for_retrieval_and_only_such_as_can_be_searched() -> None:
    records = birds(FLOCK | {0: 1, 1: 1}, train=10)
    table = cut_validation(records.table, "retrieval", 0.3, seed=0)
    validate(dataclasses.replace(records, table=table))
    validated = table[table["fold"] == "val"]
    assert validated["label"].nunique() == 3
    assert (validated.groupby("label").size() == 3).all()
    assert table.loc[table["split"] == "test", "fold"].isna().all()
    assert not table["fold"].equals(cut_validation(records.table, "retrieval", 0.3, seed=1)["fold"])
    many = cut_validation(records.table, "retrieval", 0.99, seed=0)
    assert many.loc[many["fold"] == "val", "label"].nunique() == 8  # not the two of one image


def test_two_classes_are_cut_and_two_stay_or_nothing_is() -> None:
    table = cut_validation(birds(FLOCK, train=4).table, "retrieval", 0.01, seed=0)
    assert table.groupby("fold")["label"].nunique().to_dict() == {"train": 2, "val": 2}
    for records in (birds(FLOCK, train=3), birds(FLOCK | dict.fromkeys(range(7), 1), train=8)):
        with pytest.raises(DataError, match=r"two whole ones.*data\.validation=0"):
            cut_validation(records.table, "retrieval", 0.2, seed=0)


# --- stage prepare


def test_retrieval_takes_no_regions_from_a_twin_with_attributes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(stage.READERS, "made_up", lambda root, settings, task: birds(FLOCK, train=8))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "regions.csv").write_text("image,attribute,x,y,w,h\nimages/000/00.jpg,bill,1,2,3,4\n")
    found = stage.prepare("birds", "made_up", "retrieval", tmp_path / "root", Data(), tmp_path / "out")
    assert found["dataset"] == "birds"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["description.json", "records.parquet"]


@pytest.mark.parametrize("source", ["raw", "twins"])
def test_a_missing_or_empty_root_says_what_is_to_be_put_there(tmp_path: Path, source: str) -> None:
    settings, out = Data(source=source), tmp_path / "out"
    remedy = "put there: Market-1501-v15.09.15/.*Liang Zheng.*vana77" if source == "raw" else "draw the twin"
    with pytest.raises(DataError, match=f"nowhere: is missing; {remedy}"):
        stage.prepare("market1501", "market1501", "re-identification", tmp_path / "nowhere", settings, out)
    root = tmp_path / "root"
    root.mkdir()
    (root / "README.md").write_text("what belongs here")
    (root / ".gitignore").write_text("*")
    with pytest.raises(DataError, match=f"root: is empty; {remedy}"):
        stage.prepare("market1501", "market1501", "re-identification", root, settings, out)
    assert not out.exists()
    with pytest.raises(SettingsError, match=r"dataset\.reader=sop.*market1501, cub200, compcars, cars196, manifest"):
        stage.prepare("sop", "sop", "retrieval", root, settings, out)


@pytest.mark.parametrize("reader", sorted(stage.READERS))
def test_every_reader_says_what_is_to_be_put_there(tmp_path: Path, reader: str) -> None:
    with pytest.raises(DataError, match=f"nowhere: is missing; put there: {re.escape(stage.LAYOUT[reader])}"):
        stage.prepare("mine", reader, "", tmp_path / "nowhere", Data(source="raw"), tmp_path / "out")
    if reader == "manifest":
        return
    root = tmp_path / "root"
    (root / "something").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"dataset\.task=ranking"):
        stage.prepare("mine", reader, "ranking", root, Data(source="raw"), tmp_path / "out")


@pytest.mark.parametrize(
    ("reader", "task", "folder", "fold"),
    [
        ("market1501", "re-identification", "market1501_mini", "12"),
        ("cub200", "classification", "cub200_2011_classes_1_25", "masked"),
        ("cub200", "retrieval", "cub200_2011_classes_1_25", "masked"),
    ],
)
def test_real_images_are_prepared_with_a_validation_part(
    shared_data: Path, tmp_path: Path, reader: str, task: str, folder: str, fold: str
) -> None:
    settings = Data(source="raw", allow_subset=True, fold=fold, validation=0.2)
    found = stage.prepare("mine", reader, task, shared_data / folder, settings, tmp_path)
    records = read(tmp_path)
    validate(records)
    assert records.description == found
    assert (
        found["validation"] == {"share": 0.2, "seed": 0} | records.table["fold"].value_counts().sort_index().to_dict()
    )
    assert (found["dataset"], found["task"], found["attribute_fold"]) == ("mine", task, fold)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["description.json", "records.parquet"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A root with regions.csv whose reader returns the made-up people."""
    attributes = {"size_s": ["no", "yes"], "size_m": ["no", "yes"], "hat": ["no", "yes"]}
    records = people(CROWD)
    values = {name: np.zeros(len(records.table), dtype=int) for name in attributes}
    frame = records.table[["image", "split", "label", "camera"]]
    made = Records(arrange(frame, values), records.description | {"attributes": attributes})
    monkeypatch.setitem(stage.READERS, "made_up", lambda root, settings, task: made)
    root = tmp_path / "root"
    root.mkdir()
    (root / "regions.csv").write_text(
        "image,attribute,x,y,w,h\n"
        "query/902.jpg,hat,1,2,3,4\nquery/901.jpg,hat,5,6,7,8\nquery/901.jpg,size,1.5,2,3,4\njunk/1.jpg,hat,0,0,1,1\n"
    )
    return root


def test_regions_are_kept_for_images_of_the_records_and_passed_on_to_split_attributes(
    drawn: Path, tmp_path: Path
) -> None:
    stage.prepare("made_up", "made_up", "re-identification", drawn, Data(), tmp_path / "out")
    regions = pd.read_parquet(tmp_path / "out" / "regions.parquet")
    assert list(regions.columns) == ["image", "attribute", "x", "y", "w", "h"]
    assert regions[["image", "attribute", "x"]].to_numpy().tolist() == [
        ["query/901.jpg", "size_s", 1.5],
        ["query/901.jpg", "size_m", 1.5],
        ["query/901.jpg", "hat", 5.0],
        ["query/902.jpg", "hat", 1.0],
    ]
    (drawn / "regions.csv").unlink()
    (drawn / "images").mkdir()
    stage.prepare("made_up", "made_up", "re-identification", drawn, Data(), tmp_path / "out")
    assert not (tmp_path / "out" / "regions.parquet").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,attribute,x,y,w\nquery/901.jpg,hat,1,2,3\n", "columns are"),
        ("image,attribute,x,y,w,h\nquery/901.jpg,tail,1,2,3,4\n", "attribute 'tail'"),
        ("image,attribute,x,y,w,h\nquery/901.jpg,hat,1,2,0,4\n", "line 2: the region has no area"),
        ("image,attribute,x,y,w,h\nquery/901.jpg,hat,1,2,x,4\n", "cannot be read"),
        ("image,attribute,x,y,w,h\nquery/901.jpg,hat,1,2,3,4\nquery/901.jpg,hat,1,2,3,4\n", "there twice"),
        ("", "cannot be read"),
    ],
)
def test_bad_regions_are_refused_and_leave_no_description(drawn: Path, tmp_path: Path, text: str, message: str) -> None:
    stage.prepare("made_up", "made_up", "re-identification", drawn, Data(), tmp_path / "out")
    (drawn / "regions.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        stage.prepare("made_up", "made_up", "re-identification", drawn, Data(), tmp_path / "out")
    with pytest.raises(DataError, match="no whole records"):
        read(tmp_path / "out")


def test_the_description_is_plain_json_with_attributes_in_column_order(tmp_path: Path, shared_data: Path) -> None:
    settings = Data(source="raw", allow_subset=True, fold="12")
    stage.prepare("market1501", "market1501", "re-identification", shared_data / "market1501_mini", settings, tmp_path)
    text = json.loads((tmp_path / "description.json").read_text())
    columns = [name for name in read(tmp_path).table.columns if name.startswith("attribute.")]
    assert [f"attribute.{name}" for name in text["attributes"]] == columns
