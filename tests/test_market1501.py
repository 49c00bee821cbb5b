"""The Market-1501 reader, held against the real name lists, the real attribute file and 96 real images.

Expected numbers: the data set's own readme, the paper and counts of the real files; people were checked by eye.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from stubs import stub_images

from a3m.data import market1501, twins
from a3m.data.records import Records, validate
from a3m.errors import DataError, SettingsError
from a3m.settings import Data, Twin

FOLDER = "Market-1501-v15.09.15"
WHOLE = Data(source="raw", fold="12")
PART = Data(source="raw", fold="12", allow_subset=True)


def touch(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


@pytest.fixture(scope="module")
def real_names(shared_annotations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The complete set under its real names, every image a single byte, with the real attribute file."""
    root = tmp_path_factory.mktemp("market1501")
    lists = shared_annotations / "market1501"
    for folder in ("bounding_box_train", "bounding_box_test", "query"):
        stub_images(root / FOLDER / folder, (lists / f"{folder}.names.txt").read_text().split())
    touch(root / FOLDER / "bounding_box_test", ["Thumbs.db"])
    (root / FOLDER / "attribute").mkdir()
    shutil.copy(lists / "market_attribute.mat", root / FOLDER / "attribute")
    return root


@pytest.fixture(scope="module")
def complete(real_names: Path) -> Records:
    return market1501.read(real_names, WHOLE)


def person(records: Records, identity: int) -> dict[str, str | None]:
    row = records.table[records.table["label"] == identity].iloc[0]
    names = records.description["attributes"]
    return {
        name: values[row[f"attribute.{name}"]] if row[f"attribute.{name}"] >= 0 else None
        for name, values in names.items()
    }


def test_the_complete_set_has_the_published_counts(complete: Records) -> None:
    assert complete.description["complete"]
    assert complete.description["source"] == "raw"
    assert complete.description["counts"] == {
        "train": 12936,
        "train_identities": 751,
        "query": 3368,
        "query_identities": 750,
        "gallery": 15913,
        "gallery_identities": 750,
        "distractors": 2798,
        "junk": 3819,
    }
    assert len(complete.table) == 12936 + 3368 + 15913
    validate(complete)


def test_distractors_stay_in_the_gallery_and_junk_does_not(complete: Records) -> None:
    table = complete.table
    assert set(table.loc[table["label"] == 0, "split"]) == {"gallery"}
    assert (table["label"] >= 0).all()
    distractors = table[table["label"] == 0].filter(like="attribute.")
    assert (distractors.to_numpy() == -1).all()


def test_names_that_end_in_jpg_jpg_are_images(complete: Records) -> None:
    doubled = complete.table[complete.table["image"].str.endswith(".jpg.jpg")]
    # 24 in all, of which two are junk; all six of the query are of identity 1488
    assert doubled["split"].value_counts().to_dict() == {"gallery": 16, "query": 6}
    assert set(doubled.loc[doubled["split"] == "query", "label"]) == {1488}


def test_cameras_are_one_to_six_and_identities_the_original_ones(complete: Records) -> None:
    table = complete.table
    assert sorted(table["camera"].unique()) == [1, 2, 3, 4, 5, 6]
    row = table[table["image"] == f"{FOLDER}/bounding_box_train/0002_c1s1_000451_03.jpg"].iloc[0]
    assert (row["label"], row["camera"], row["split"], row["fold"]) == (2, 1, "train", "train")
    assert table.loc[table["split"] == "train", "label"].max() == 1500
    assert table.loc[table["split"] == "query", "label"].max() == 1501


# What one sees on the photographs of these people.
SEEN = {
    4: "male, short hair, short up, short down, backpack, red upper_colour, black lower_colour",
    18: "female, long hair, short up, long down, no backpack, handbag, purple upper_colour, blue lower_colour",
    23: "male, adult age, long down, pants clothes, white lower_colour",
    37: "male, hat, backpack, long down, black lower_colour",
    42: "male, no hat, backpack, short down, yellow upper_colour, blue lower_colour",
    43: "female, long hair, handbag, black upper_colour, black lower_colour",
    8: "female, white upper_colour, None lower_colour",  # stripes
    13: "male, None upper_colour, black lower_colour",  # stripes
}


@pytest.mark.parametrize("identity", SEEN)
def test_attributes_are_those_seen_on_the_photographs(complete: Records, identity: int) -> None:
    found = person(complete, identity)
    for phrase in SEEN[identity].split(", "):
        value, _, name = phrase.rpartition(" ")
        if name in ("male", "female"):
            assert found["gender"] == name
        else:
            assert str(found[name]) == (value or "yes"), name


def test_the_twelve_attributes_come_in_the_order_of_the_authors(complete: Records) -> None:
    attributes = complete.description["attributes"]
    assert " ".join(attributes) == "gender hair age up down clothes hat backpack bag handbag upper_colour lower_colour"
    assert " ".join(attributes["upper_colour"]) == "black white red purple gray blue green yellow"
    assert " ".join(attributes["lower_colour"]) == "black white pink gray blue green brown yellow purple"
    assert [len(values) for values in attributes.values()] == [2, 2, 4, 2, 2, 2, 2, 2, 2, 2, 8, 9]


def test_value_counts_of_people_are_those_of_the_file(complete: Records) -> None:
    people = complete.table[complete.table["label"] > 0].drop_duplicates("label")
    train, test = people[people["split"] == "train"], people[people["split"] != "train"]
    assert (len(train), len(test)) == (751, 750)
    assert [(part["attribute.upper_colour"] == -1).sum() for part in (train, test)] == [78, 69]
    assert [(part["attribute.lower_colour"] == -1).sum() for part in (train, test)] == [30, 44]
    assert train["attribute.gender"].value_counts().to_dict() == {0: 431, 1: 320}
    assert test["attribute.gender"].value_counts().to_dict() == {0: 414, 1: 336}
    assert train["attribute.age"].value_counts().to_dict() == {0: 14, 1: 569, 2: 160, 3: 8}
    assert test["attribute.hat"].value_counts().to_dict() == {0: 727, 1: 23}
    purple = complete.description["attributes"]["lower_colour"].index("purple")
    assert [(part["attribute.lower_colour"] == purple).sum() for part in (train, test)] == [2, 0]


def test_every_column_equals_the_file_field_by_field(complete: Records, shared_annotations: Path) -> None:
    """Brute force, one person after the other: the order of fields differs between train and test."""
    file = scipy.io.loadmat(shared_annotations / "market1501" / "market_attribute.mat")["market_attribute"][0, 0]
    rows = complete.table.drop_duplicates("label").set_index("label")
    for part in ("train", "test"):
        struct = file[part][0, 0]
        for column, cell in enumerate(struct["image_index"].ravel()):
            row = rows.loc[int(cell[0])]
            for name in market1501.ATTRIBUTES:
                assert row[f"attribute.{name}"] == int(struct[name][0, column]) - 1
            for name, (stem, colours) in market1501.COLOURS.items():
                chosen = [index for index, colour in enumerate(colours) if struct[stem + colour][0, column] == 2]
                assert row[f"attribute.{name}"] == (chosen[0] if chosen else -1)


def test_fold_27_keeps_every_field_of_the_file(real_names: Path) -> None:
    records = market1501.read(real_names, dataclasses.replace(WHOLE, fold="27"))
    validate(records)
    attributes = records.description["attributes"]
    assert len(attributes) == 27
    other = [name for name, values in attributes.items() if values != ["no", "yes"]]
    assert other == ["gender", "hair", "age", "up", "down", "clothes"]
    people = records.table[records.table["label"] > 0]
    assert (people.filter(like="attribute.").to_numpy() >= 0).all()  # no colour is "no" to every colour, not unlabelled
    assert person(records, 42)["upper_colour_yellow"] == "yes"
    assert person(records, 42)["upper_colour_red"] == "no"


def test_the_order_of_rows_is_that_of_the_paths(complete: Records) -> None:
    assert complete.table["image"].tolist() == sorted(complete.table["image"])


def test_the_folder_itself_may_be_the_root(real_names: Path) -> None:
    records = market1501.read(real_names / FOLDER, WHOLE)
    assert records.table["image"].iloc[0].startswith("bounding_box_test/")
    assert records.description["complete"]


def test_the_real_images_are_a_part_and_say_so(shared_data: Path) -> None:
    root = shared_data / "market1501_mini"
    records = market1501.read(root, PART)
    validate(records)
    assert not records.description["complete"]
    assert records.table["split"].value_counts().to_dict() == {"train": 32, "query": 32, "gallery": 32}
    assert (root / records.table["image"].iloc[0]).is_file()
    with pytest.raises(DataError, match=r"train 32 instead of 12936.*allow_subset"):
        market1501.read(root, WHOLE)


# --- small made-up copies, for bad input


def write_attributes(path: Path, people: dict[str, list[int]], drop: str = "", **changes: int) -> None:
    """A market_attribute.mat of like people: every field 1 (no, male, short ...), black above and below."""
    parts = {}
    for part, identities in people.items():
        values = dict.fromkeys(market1501.FIELDS, 1) | {"upblack": 2, "downblack": 2} | changes
        struct = {name: np.full((1, len(identities)), value, np.uint8) for name, value in values.items()}
        index = np.empty((1, len(identities)), dtype=object)
        index[0, :] = [f"{identity:04d}" for identity in identities]
        parts[part] = {name: value for name, value in (struct | {"image_index": index}).items() if name != drop}
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"market_attribute": parts})


PEOPLE = {"test": [1, 3], "train": [2, 7]}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two training and two test people, one distractor, one junk; its twin.json says so."""
    base = tmp_path / FOLDER
    touch(base / "bounding_box_train", [f"{i:04d}_c{c}s1_00000{i}_0{c}.jpg" for i in (2, 7) for c in (1, 2)])
    touch(base / "query", [f"{i:04d}_c1s1_000001_00.jpg" for i in (1, 3)])
    gallery = [f"{i:04d}_c2s1_000002_01.jpg" for i in (1, 3)]
    touch(base / "bounding_box_test", [*gallery, "0000_c3s2_000003_01.jpg", "-1_c3s2_000004_01.jpg"])
    write_attributes(base / "attribute" / "market_attribute.mat", PEOPLE)
    counts = [4, 2, 2, 2, 3, 2, 1, 1]
    twin = {"dataset": "market1501", "counts": dict(zip(market1501.PUBLISHED, counts, strict=True))}
    (tmp_path / "twin.json").write_text(json.dumps(twin))
    return tmp_path


def test_a_twin_is_counted_by_its_own_description(small: Path) -> None:
    records = market1501.read(small, WHOLE)
    validate(records)
    assert records.description["source"] == "twins"
    assert records.description["complete"]
    (small / FOLDER / "query" / "0001_c1s1_000001_00.jpg").unlink()
    with pytest.raises(DataError, match="query 1 instead of 2"):
        market1501.read(small, WHOLE)


def test_a_drawn_twin_is_read_like_the_original(tmp_path: Path) -> None:
    size = Twin(train_identities=6, test_identities=3, images_per_identity=4, distractors=2, junk=2)
    drawn = twins.draw_market1501(tmp_path / "twin", size, workers=1)
    records = market1501.read(tmp_path / "twin", dataclasses.replace(WHOLE, source="twins"))
    validate(records)
    assert records.description["source"] == "twins"
    assert records.description["counts"] == drawn["counts"]


def test_a_link_to_a_twin_does_not_pass_for_real_data(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("raw")
    (elsewhere / FOLDER).symlink_to(small / FOLDER)
    assert market1501.read(elsewhere, WHOLE).description["source"] == "twins"
    assert market1501.read(small / FOLDER, WHOLE).description["source"] == "twins"


def test_a_broken_twin_description_is_refused(small: Path) -> None:
    (small / "twin.json").write_text('{"counts": {')
    with pytest.raises(DataError, match=r"twin\.json"):
        market1501.read(small, WHOLE)


@pytest.mark.parametrize(
    "name",
    ["0002_c7s1_000451_03.jpg", "2_c1s1_000451_03.jpg", "0002_c1s1_000451_03.png", "copy of 0002_c1s1_000451_03.jpg"],
)
def test_a_name_that_does_not_parse_is_named(small: Path, name: str) -> None:
    touch(small / FOLDER / "bounding_box_train", [name])
    with pytest.raises(DataError, match=f"{name}: not a Market-1501 file name"):
        market1501.read(small, WHOLE)


def test_an_empty_image_is_named(small: Path) -> None:
    (small / FOLDER / "query" / "0003_c1s1_000001_00.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"query/0003_c1s1_000001_00\.jpg: empty"):
        market1501.read(small, PART)


def test_a_distractor_or_junk_in_training_is_refused(small: Path) -> None:
    touch(small / FOLDER / "bounding_box_train", ["-1_c1s1_000451_03.jpg"])
    with pytest.raises(DataError, match="belongs into bounding_box_test"):
        market1501.read(small, PART)


def test_an_image_under_both_endings_is_refused(small: Path) -> None:
    touch(small / FOLDER / "query", ["0003_c1s1_000001_00.jpg.jpg"])
    with pytest.raises(DataError, match="twice"):
        market1501.read(small, PART)


@pytest.mark.parametrize("folder", ["query", "bounding_box_test"])
def test_a_missing_folder_is_named_with_its_source(small: Path, folder: str) -> None:
    shutil.rmtree(small / FOLDER / folder)
    with pytest.raises(DataError, match=f"{folder}: missing.*archive.*Liang Zheng"):
        market1501.read(small, PART)


def test_an_empty_folder_is_named(small: Path) -> None:
    shutil.rmtree(small / FOLDER / "query")
    touch(small / FOLDER / "query", ["Thumbs.db"])
    with pytest.raises(DataError, match="query: no images"):
        market1501.read(small, PART)


def test_a_root_without_the_layout_says_what_is_to_be_put_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"holds no {FOLDER}/"):
        market1501.read(tmp_path, WHOLE)


def test_a_missing_attribute_file_is_named_with_its_source(small: Path) -> None:
    shutil.rmtree(small / FOLDER / "attribute")
    with pytest.raises(DataError, match=r"market_attribute\.mat: missing.*vana77/Market-1501_Attribute"):
        market1501.read(small, WHOLE)
    records = market1501.read(small, PART)
    validate(records)
    assert records.description["attributes"] == {}
    assert "no market_attribute.mat: no attributes" in records.description["checks"]


def test_the_attribute_file_may_lie_beside_the_images(small: Path) -> None:
    shutil.move(small / FOLDER / "attribute" / "market_attribute.mat", small / "market_attribute.mat")
    assert len(market1501.read(small, WHOLE).description["attributes"]) == 12


def test_an_attribute_file_of_2017_is_refused_by_its_missing_image_index(small: Path) -> None:
    write_attributes(small / FOLDER / "attribute" / "market_attribute.mat", PEOPLE, drop="image_index")
    with pytest.raises(DataError, match=r"image_index.*2017.*wanted is github\.com/vana77"):
        market1501.read(small, PART)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": "hat"}, "lacks the fields hat"),
        ({"age": 5}, r"\.age must be 2 values from 1 to 4"),
        ({"hat": 0}, r"\.hat must be 2 values from 1 to 2"),
        ({"upred": 2}, "more than one upper_colour"),
    ],
)
def test_an_attribute_file_with_other_codes_is_refused(small: Path, changes: dict, message: str) -> None:
    write_attributes(small / FOLDER / "attribute" / "market_attribute.mat", PEOPLE, **changes)
    with pytest.raises(DataError, match=message):
        market1501.read(small, PART)


def test_an_unreadable_attribute_file_is_named(small: Path) -> None:
    (small / FOLDER / "attribute" / "market_attribute.mat").write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match=r"not a readable market_attribute\.mat"):
        market1501.read(small, PART)


def test_a_person_without_attributes_is_refused_in_a_complete_set(small: Path) -> None:
    path = small / FOLDER / "attribute" / "market_attribute.mat"
    write_attributes(path, {"test": [1, 3], "train": [2]})
    with pytest.raises(DataError, match="train lacks identity 0007"):
        market1501.read(small, WHOLE)
    records = market1501.read(small, PART)
    assert set(records.table.loc[records.table["label"] == 7, "attribute.gender"]) == {-1}
    write_attributes(path, {"test": [1, 3, 9], "train": [2, 7]})
    with pytest.raises(DataError, match="test describes identity 0009"):
        market1501.read(small, WHOLE)


def test_test_attributes_do_not_serve_a_training_person(small: Path) -> None:
    write_attributes(small / FOLDER / "attribute" / "market_attribute.mat", {"test": [1, 3, 7], "train": [2]})
    records = market1501.read(small, PART)
    assert set(records.table.loc[records.table["label"] == 7, "attribute.gender"]) == {-1}


def test_an_unknown_fold_is_a_settings_error(small: Path) -> None:
    with pytest.raises(SettingsError, match=r"data\.fold=masked.*12 and 27"):
        market1501.read(small, dataclasses.replace(WHOLE, fold="masked"))


def test_other_tasks_are_a_settings_error(small: Path) -> None:
    with pytest.raises(SettingsError, match=r"dataset\.task=retrieval.*re-identification"):
        market1501.read(small, WHOLE, "retrieval")
