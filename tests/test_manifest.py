"""A user's own data set: what a CSV may hold, what is told of a bad one, what becomes of a good one."""

import importlib.util
import re
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from a3m import __main__, check
from a3m.data import pack
from a3m.data.folds import cut_validation
from a3m.data.manifest import read
from a3m.data.manifest_find import find
from a3m.data.manifest_rows import ordered
from a3m.data.records import Records, validate
from a3m.errors import DataError, SettingsError
from a3m.settings import Data, Params

ROOT = Path(__file__).parents[1]
CLASSES = """image,label,split,colour
a0.png,apple,train,red
a1.png,apple,train,green
a2.png,apple,test,red
b0.png,banana,train,
b1.png,banana,train,green
b2.png,banana,test,green
"""
PEOPLE = """image,identity,split,camera,hat
t0.png,1,train,1,no
t1.png,1,train,2,yes
t2.png,2,train,1,no
t3.png,2,train,2,yes
t4.png,3,train,1,no
t5.png,3,train,3,
q0.png,7,query,1,no
g0.png,7,gallery,2,no
q1.png,9,query,2,yes
g1.png,9,gallery,1,yes
g2.png,0,gallery,1,
"""
SEARCHED = """image,label,split
a0.png,a,train
a1.png,a,train
b0.png,b,train
b1.png,b,train
c0.png,c,train
c1.png,c,train
d0.png,d,train
d1.png,d,train
e0.png,e,test
e1.png,e,test
f0.png,f,test
f1.png,f,test
"""


def write(folder: Path, text: str | bytes, *, images: bool = True) -> Path:
    """manifest.csv and, for every first cell that looks like a plain path, an image of 20 x 10 pixels, no two alike."""
    path = folder / "manifest.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if images:
        decoded = path.read_bytes().decode("utf-8-sig", errors="replace").splitlines()
        for number, line in enumerate(decoded[1:]):
            name = line.split(",")[0].strip(' "')
            target = folder / name
            if name.endswith(".png") and not name.startswith("/") and ".." not in name and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (20, 10), (number % 256, number // 256, 0)).save(target)
    return path


def told(path: Path) -> set[tuple[str, int]]:
    """(kind, line) of every problem that the reader would refuse."""
    return {(problem.kind, problem.line) for problem in find(path).problems}


def warned(path: Path) -> set[tuple[str, int]]:
    return {(problem.kind, problem.line) for problem in find(path).warnings}


def made(folder: Path, text: str | bytes, **settings: object) -> Records:
    """The records of a good manifest, with its validation part, as stage prepare makes them."""
    write(folder, text)
    records = read(folder, Data(**settings))
    data = Data()
    table = cut_validation(records.table, records.description["task"], data.validation, data.split_seed)
    validate(Records(table, records.description))
    return Records(table, records.description)


# --- good files of the three tasks --------------------------------------------------------------------------------------


def test_a_label_with_trained_test_classes_is_classification(tmp_path: Path) -> None:
    records = made(tmp_path, CLASSES)
    assert records.description["task"] == "classification"
    assert records.description["classes"] == ["apple", "banana"]
    assert records.description["attributes"] == {"colour": ["green", "red"]}
    assert records.description["counts"] == {
        "images": 6, "train": 4, "train_classes": 2, "test": 2, "test_classes": 2,
    }  # fmt: skip
    table = records.table.set_index("image")
    assert table["label"].to_dict() == {"a0.png": 0, "a1.png": 0, "a2.png": 0, "b0.png": 1, "b1.png": 1, "b2.png": 1}
    assert table["attribute.colour"].tolist() == [1, 0, 1, -1, 0, 0]
    assert table["camera"].isna().all()
    assert sorted(table["fold"].dropna()) == ["train", "train", "val", "val"]


def test_an_identity_with_query_and_gallery_is_re_identification_and_keeps_its_numbers(tmp_path: Path) -> None:
    records = made(tmp_path, PEOPLE)
    assert records.description["task"] == "re-identification"
    assert "classes" not in records.description
    table = records.table.set_index("image")
    assert table.loc[["t0.png", "q0.png", "g1.png", "g2.png"], "label"].tolist() == [1, 7, 9, 0]
    assert table.loc[["q0.png", "g0.png"], "camera"].tolist() == [1, 2]
    assert table.loc["g2.png", "attribute.hat"] == -1
    assert records.description["counts"]["gallery"] == 3
    assert records.description["counts"]["gallery_identities"] == 2  # the distractor is nobody


def test_a_label_with_untrained_test_classes_is_retrieval_without_attributes(tmp_path: Path) -> None:
    text = "\n".join(
        f"{line},{'size' if number == 0 else 'small' if number % 2 else 'large'}"
        for number, line in enumerate(SEARCHED.splitlines())
    )
    records = made(tmp_path, text)
    assert records.description["task"] == "retrieval"
    assert records.description["classes"] == list("abcdef")
    assert records.description["attributes"] == {}
    assert any("retrieval trains without" in line for line in records.description["checks"])
    table = records.table
    assert set(table.loc[table["split"] == "test", "label"]) == {4, 5}
    assert table.loc[table["fold"] == "val", "label"].nunique() == 2


def test_the_same_task_may_be_asked_for_and_another_is_refused(tmp_path: Path) -> None:
    write(tmp_path, CLASSES)
    assert read(tmp_path, Data(), "classification").description["task"] == "classification"
    with pytest.raises(SettingsError, match=r"dataset.task=retrieval: .* say classification"):
        read(tmp_path, Data(), "retrieval")


def test_names_of_people_are_numbered_from_one_and_kept(tmp_path: Path) -> None:
    names = {"1": "ann", "2": "bob", "3": "cem", "7": "dev", "9": "eve", "0": "5b"}
    rows = [line.split(",") for line in PEOPLE.splitlines()]
    text = "\n".join(",".join([row[0], names.get(row[1], row[1]), *row[2:]]) for row in rows)
    records = made(tmp_path, text)
    identities = {"1": "5b", "2": "ann", "3": "bob", "4": "cem", "5": "dev", "6": "eve"}
    assert records.description["identities"] == identities
    table = records.table.set_index("image")
    assert table.loc[["g2.png", "q1.png", "t0.png"], "label"].tolist() == [1, 6, 2]


def test_without_cameras_nothing_is_left_out_of_the_gallery_and_validation_is_cut(tmp_path: Path) -> None:
    rows = [line.split(",") for line in PEOPLE.splitlines()]
    records = made(tmp_path, "\n".join(",".join([*row[:3], row[4]]) for row in rows))
    table = records.table
    assert set(table.loc[table["split"] == "query", "camera"]) == {0}
    assert set(table.loc[table["split"] == "gallery", "camera"]) == {1}
    train = table[table["split"] == "train"]
    assert not train.duplicated(["label", "camera"]).any()
    assert {"val_query", "val_gallery"} <= set(table["fold"].dropna())
    assert any("cameras are not known" in line for line in records.description["checks"])


def test_classes_that_are_numbers_are_in_the_order_of_their_size_and_keep_their_writing(tmp_path: Path) -> None:
    text = CLASSES.replace("apple", "10").replace("banana", "9")
    assert made(tmp_path, text).description["classes"] == ["9", "10"]
    assert ordered(["10", "9", "x"]) == ["10", "9", "x"]  # text as soon as one is
    assert ordered(["2.0", "10", "1"]) == ["1", "2.0", "10"]


def test_boxes_and_pixels_are_kept_and_an_empty_box_is_the_whole_image(tmp_path: Path) -> None:
    lines = CLASSES.splitlines()
    text = "\n".join([f"{lines[0]},x,y,w,h", f"{lines[1]},1,2.5,10,7", *(f"{line},,,," for line in lines[2:])])
    table = made(tmp_path, text).table.set_index("image")
    assert table.loc["a0.png", ["x", "y", "w", "h"]].tolist() == [1, 2.5, 10, 7]
    assert table.loc["b0.png", ["x", "y", "w", "h"]].isna().all()


def test_junk_is_left_out_and_counted(tmp_path: Path) -> None:
    records = made(tmp_path, PEOPLE + "j0.png,-1,gallery,3,yes\n")
    assert "j0.png" not in set(records.table["image"])
    assert "1 junk images (identity below 0) left out of the gallery" in records.description["checks"]


def test_a_manifest_in_a_folder_of_its_own_names_images_below_that_folder(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    records = made(tmp_path / "lists", CLASSES)
    assert records.table["image"].iloc[0] == "a0.png"
    below = read(tmp_path, Data(manifest="lists/manifest.csv"))
    assert below.table["image"].iloc[0] == "lists/a0.png"
    assert (tmp_path / below.table["image"].iloc[0]).is_file()
    for outside in ("../lists/manifest.csv", str(tmp_path / "lists" / "manifest.csv")):
        with pytest.raises(SettingsError, match="expected a file below"):
            read(tmp_path / "lists", Data(manifest=outside))


# --- how a CSV may be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_byte_order_mark_and_any_line_ends_are_read(tmp_path: Path, bom: bytes, end: bytes) -> None:
    write(tmp_path, CLASSES)
    write(tmp_path, bom + CLASSES.encode().replace(b"\n", end), images=False)
    assert read(tmp_path, Data()).table["label"].tolist() == [0, 0, 0, 1, 1, 1]


def test_quotes_commas_blanks_and_accents_in_names_are_kept(tmp_path: Path) -> None:
    text = CLASSES.replace("apple", '"Äpfel, ""rot"""').replace("a0.png", "my pictures/rote äpfel 0.png")
    records = made(tmp_path, text.replace("banana", "  banana split "))
    assert records.description["classes"] == ["banana split", 'Äpfel, "rot"']
    assert "my pictures/rote äpfel 0.png" in set(records.table["image"])


def test_blank_lines_and_lines_of_commas_are_not_rows_and_do_not_shift_line_numbers(tmp_path: Path) -> None:
    path = write(
        tmp_path, CLASSES.replace("b0.png", ",,,\n\nb0.png").replace("b1.png,banana,train", "b1.png,banana,trian")
    )
    assert told(path) == {("unknown split", 8)}


def test_a_quote_left_open_does_not_swallow_the_lines_below(tmp_path: Path) -> None:
    path = write(tmp_path, CLASSES.replace("a1.png,apple", 'a1.png,"apple').replace("b2.png,", "b2.png,x,"))
    assert told(path) == {("quotes", 3), ("ragged row", 7)}


def test_equal_rows_in_another_order_give_equal_records(tmp_path: Path) -> None:
    lines = CLASSES.splitlines()
    first = made(tmp_path, CLASSES)
    second = made(tmp_path, "\n".join([lines[0], *reversed(lines[1:])]))
    assert first.table.equals(second.table)
    assert first.description["attributes"] == second.description["attributes"]


# --- bad input, with its line -------------------------------------------------------------------------------------------

BOXED = (
    CLASSES.replace("colour\n", "colour,x,y,w,h\n").replace("red\n", "red,0,0,5,5\n").replace("green\n", "green,,,,\n")
)
BOXED = BOXED.replace("train,\n", "train,,,,,\n")

MORE = "".join(f"u{number}.png,{number},train,1,no\nv{number}.png,{number},train,2,no\n" for number in (4, 5, 6))
NAMED = re.sub(r"png,(\d)", lambda found: f"png,{found[1]}b" if found[1] != "0" else "png,5b", PEOPLE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(CLASSES.replace("b1.png", "a0.png"), {("doubled image", 6)}, id="doubled"),
        pytest.param(CLASSES.replace("b1.png", "./a0.png"), {("doubled image", 6)}, id="doubled by another path"),
        pytest.param(CLASSES.replace("b1.png", "gone.jpg"), {("missing image", 6)}, id="missing image"),
        pytest.param(CLASSES.replace("b1.png", "../b1.png"), {("path outside the folder", 6)}, id="dots"),
        pytest.param(CLASSES.replace("b1.png", "x/../b1.png"), {("path outside the folder", 6)}, id="dots inside"),
        pytest.param(CLASSES.replace("b1.png", "/etc/b1.png"), {("path outside the folder", 6)}, id="absolute"),
        pytest.param(CLASSES.replace("b1.png", "C:/b1.png"), {("path outside the folder", 6)}, id="drive"),
        pytest.param(CLASSES.replace("b1.png", "x\\b1.png"), {("image path", 6)}, id="backslash"),
        pytest.param(CLASSES.replace("b1.png", "."), {("image path", 6)}, id="no name"),
        pytest.param(CLASSES.replace("b1.png", ""), {("missing value", 6)}, id="no image"),
        pytest.param(CLASSES.replace("b1.png,banana", "b1.png,"), {("missing value", 6)}, id="no label"),
        pytest.param(CLASSES.replace("b1.png,banana,train", "b1.png,banana,"), {("missing value", 6)}, id="no split"),
        pytest.param(CLASSES.replace("b1.png,banana,train", "b1.png,banana,Train"), {("unknown split", 6)}, id="split"),
        pytest.param(CLASSES.replace("b1.png,banana,train", "b1.png,banana,query"), {("no task", 6)}, id="mixture"),
        pytest.param(CLASSES.replace("b2.png,banana", "b2.png,pear"), {("test class never trained", 7)}, id="untrained"),
        pytest.param(CLASSES.replace("banana", "apple"), {("one class only", 0)}, id="one class"),
        pytest.param(CLASSES.replace("test", "train"), {("no task", 0)}, id="no test"),
        pytest.param(CLASSES.replace("colour", "label"), {("columns", 1)}, id="doubled column"),
        pytest.param(CLASSES.replace("image,", "images,", 1), {("columns", 1)}, id="no image column"),
        pytest.param(CLASSES.replace(",split,", ",,", 1), {("columns", 1)}, id="unnamed column"),
        pytest.param(CLASSES.replace("colour", "co/lour"), {("columns", 1)}, id="slash in an attribute"),
        pytest.param(CLASSES.replace("colour", "../x"), {("columns", 1)}, id="path as an attribute"),
        pytest.param(CLASSES.replace("colour", "w"), {("columns", 1)}, id="part of a box"),
        pytest.param(CLASSES.replace(",", ";"), {("columns", 1)}, id="semicolons"),
        pytest.param(CLASSES.replace(",", "\t"), {("columns", 1)}, id="tabs"),
        pytest.param(CLASSES.replace("b1.png,banana,train,green", "b1.png,banana,train"), {("ragged row", 6)}, id="short"),
        pytest.param(CLASSES.replace("b1.png,banana,train,green", "b1.png,banana,train,g,h"), {("ragged row", 6)}, id="long"),
        pytest.param(CLASSES.replace("green\nb2", "gr\x1been\nb2"), {("control character", 6)}, id="escape sequence"),
        pytest.param(CLASSES.encode().replace(b"green\nb2", b"gr\xfcn\nb2"), {("encoding", 6)}, id="latin-1"),
        pytest.param(CLASSES.encode("utf-16"), {("encoding", 0)}, id="utf-16"),
        pytest.param(b"", {("columns", 0)}, id="empty file"),
        pytest.param("image,label,split\n", {("no rows", 0)}, id="no rows"),
        pytest.param(CLASSES.replace("banana", "1").replace("b1.png,1", "b1.png,01"), {("one number written two ways", 6)},
                     id="01 and 1"),
        pytest.param(BOXED.replace("red,0,0,5,5\na1", "red,0,x,5,5\na1"), {("text where a number belongs", 2)}, id="text in box"),
        pytest.param(BOXED.replace("red,0,0,5,5\na1", "red,0,nan,5,5\na1"), {("text where a number belongs", 2)}, id="nan in box"),
        pytest.param(BOXED.replace("red,0,0,5,5\na1", "red,0,,5,5\na1"), {("missing value", 2)}, id="part of box"),
        pytest.param(BOXED.replace("red,0,0,5,5\na1", "red,0,0,0,5\na1"), {("box without area", 2)}, id="no area"),
        pytest.param(BOXED.replace("red,0,0,5,5\na1", "red,-1,0,5,5\na1"), {("box outside the image", 2)}, id="negative corner"),
        pytest.param(PEOPLE.replace("g0.png,7", "g0.png,8"), {("query without a match", 8)}, id="no match"),
        pytest.param(PEOPLE.replace("g0.png,7,gallery,2", "g0.png,7,gallery,c2"), {("text where a number belongs", 9)},
                     id="text in camera"),
        pytest.param(PEOPLE.replace("g0.png,7,gallery,2", "g0.png,7,gallery,-2"), {("text where a number belongs", 9)},
                     id="negative camera"),
        pytest.param(PEOPLE.replace("g0.png,7,gallery,2", "g0.png,7,gallery,"), {("missing value", 9)}, id="no camera"),
        pytest.param(PEOPLE.replace("t4.png,3", "t4.png,9"),
                     {("identity in train and test", 10), ("identity in train and test", 11)}, id="trained and searched"),
        pytest.param(PEOPLE.replace("t4.png,3", "t4.png,0"), {("distractor or junk outside the gallery", 6)}, id="distractor"),
        pytest.param(PEOPLE.replace("t4.png,3", "t4.png,12a"), {("text where a number belongs", 6)}, id="text in identity"),
        pytest.param(PEOPLE.replace("t4.png,3", "t4.png,3.5"), {("text where a number belongs", 6)}, id="part of an identity"),
        pytest.param(PEOPLE.replace("g1.png,9", "g1.png,9a").replace("q1.png,9", "q1.png,9a"),
                     {("text where a number belongs", 10), ("text where a number belongs", 11)}, id="text in two rows"),
        pytest.param(PEOPLE.replace("t4.png,3", "t4.png,3a").replace("g2.png,0", "g2.png,-1"),
                     {("text where a number belongs", 6)}, id="text beside junk"),
        pytest.param(PEOPLE.replace("t4.png,3", "t4.png,3a").replace("t0.png,1", "t0.png,0"),
                     {("text where a number belongs", 6), ("distractor or junk outside the gallery", 2)},
                     id="text and a distractor that trains"),
        pytest.param(PEOPLE.replace("g2.png,0", "g2.png,7") + MORE.replace("u5.png,5", "u5.png,5a"),
                     {("text where a number belongs", 15)}, id="rare text without a distractor"),
        pytest.param(NAMED.replace("g2.png,5b", "g2.png,0"), {("distractor or junk among names", 12)}, id="0 among names"),
        pytest.param(NAMED.replace("g2.png,5b", "g2.png,-1"), {("distractor or junk among names", 12)}, id="-1 among names"),
        pytest.param(PEOPLE.replace("query", "test"), {("no task", 8)}, id="identity with test"),
        pytest.param(PEOPLE.replace("hat", "label"), {("no task", 1)}, id="label and identity"),
        pytest.param(SEARCHED.replace("f0.png,f", "f0.png,e").replace("f1.png,f", "f1.png,e"), {("one class only", 0)},
                     id="one class is searched"),
    ],
)  # fmt: skip
def test_bad_input_is_told_with_its_line_and_nothing_else_is(
    tmp_path: Path, text: str | bytes, expected: set[tuple[str, int]]
) -> None:
    path = write(tmp_path, text)
    assert told(path) == expected
    with pytest.raises(DataError, match=r"`a3m check .*manifest.csv` lists all"):
        read(tmp_path, Data())


def test_text_among_identities_says_what_the_others_are_and_leaves_distractors_and_junk_what_they_are(
    tmp_path: Path,
) -> None:
    text = PEOPLE.replace("t4.png,3", "t4.png,12a") + "j0.png,-1,gallery,3,yes\n"
    found = find(write(tmp_path, text))
    (problem,) = found.problems
    assert problem.what.startswith(
        "identity '12a': the other 7 are whole numbers, among them 0 (a distractor) and -1 (junk): write a whole number"
    )
    assert "j0.png" not in set(found.frame["image"])
    said = "\n".join(check.report(check.check(tmp_path / "manifest.csv")))
    assert "gallery      3 images, 2 identities of 1 image, 1 distractor" in said
    assert "1 problem on 1 line: mend it and check again" in said


def test_numbers_and_text_in_equal_parts_are_names_with_a_warning_at_the_fewer(tmp_path: Path) -> None:
    some = NAMED.replace("t0.png,1b", "t0.png,1").replace("t1.png,1b", "t1.png,1")
    path = write(tmp_path, some)
    assert told(path) == set()
    assert warned(path) == {("numbers and text", 2)}
    assert warned(write(tmp_path, some.replace("t5.png,3b", "t5.png,3.5"))) == {
        ("numbers and text", 2), ("numbers and text", 7),
    }  # fmt: skip
    half = PEOPLE.replace("g2.png,0", "g2.png,7").replace("t4.png,3", "t4.png,ann").replace("t5.png,3", "t5.png,ann")
    path = write(tmp_path, half)
    assert told(path) == set()
    assert warned(path) == {("numbers and text", 6)}
    assert read(tmp_path, Data()).description["identities"] == {"1": "1", "2": "2", "3": "7", "4": "9", "5": "ann"}


def test_an_empty_image_and_a_link_that_leads_out_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path = write(folder, CLASSES)
    (folder / "a1.png").write_bytes(b"")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (folder / "b0.png").unlink()
    (folder / "b0.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    path.write_text(path.read_text().replace("b1.png", "linked/b1.png"))
    assert told(path) == {("empty image", 3), ("path outside the folder", 5), ("path outside the folder", 6)}


def test_a_link_to_the_whole_folder_and_links_inside_it_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write(tmp_path / "real", CLASSES)
    (tmp_path / "real" / "b1.png").rename(tmp_path / "real" / "c.png")
    (tmp_path / "real" / "b1.png").symlink_to("c.png")
    (tmp_path / "manifest").symlink_to(tmp_path / "real")
    assert len(read(tmp_path / "manifest", Data()).table) == 6
    (tmp_path / "real" / "manifest.csv").rename(tmp_path / "list.csv")
    (tmp_path / "real" / "manifest.csv").symlink_to(tmp_path / "list.csv")
    assert len(read(tmp_path / "manifest", Data()).table) == 6


def test_every_problem_comes_at_once(tmp_path: Path) -> None:
    text = (
        PEOPLE.replace("t0.png,1,train,1", "t0.png,1,train,one")
        .replace("t1.png", "../t1.png")
        .replace("t3.png", "t2.png")
    )
    text = (
        text.replace("t5.png,3,train", "t5.png,3,tarin").replace("q0.png,7", "q0.png,8").replace("g1.png", "gone.jpg")
    )
    path = write(tmp_path, text + "g3.png,7,gallery\n")
    assert told(path) == {
        ("text where a number belongs", 2), ("path outside the folder", 3), ("doubled image", 5), ("unknown split", 7),
        ("query without a match", 8), ("missing image", 11), ("ragged row", 13),
    }  # fmt: skip
    with pytest.raises(DataError, match="7 problems, the first:\n  line 2, text where"):
        read(tmp_path, Data())


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (CLASSES.replace("label", "lable"), "no column label or identity; did you mean 'lable'?"),
        (CLASSES.replace("image", "Image"), "no column image; did you mean 'Image'?"),
        (CLASSES.replace("image", "filename"), "no column image; did you mean 'filename'?"),
        (CLASSES.replace("split", "subset"), "no column split; did you mean 'subset'?"),
        (CLASSES.replace("label", "what"), "no column label or identity; there are image, what, split, colour"),
        (CLASSES.replace("b1.png,banana,train", "b1.png,banana,val"), "validation is cut from it"),
        (CLASSES.replace("b1.png", "B1.PNG"), "not on disk; there is b1.png"),
        (CLASSES.replace("b2.png,banana", "b2.png,pear"), "1 of 2 test classes are trained"),
    ],
)
def test_a_message_says_what_was_probably_meant(tmp_path: Path, text: str, hint: str) -> None:
    write(tmp_path, CLASSES)
    (problem,) = find(write(tmp_path, text, images=False)).problems
    assert hint in problem.what


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CLASSES.replace("a1.png,apple,train", "a1.png,banana,train"), ("one training image", 2)),
        (CLASSES + "c0.png,cherry,train,red\nc1.png,cherry,train,red\n", ("class never tested", 8)),
        (CLASSES.replace("test,red", "test,blue"), ("value never trained", 4)),
        (CLASSES.replace("train,red", "train,Green"), ("nearly the same value", 3)),
        (CLASSES.replace("banana,train,\n", "banana,train,NA\n"), ("a value like an empty cell", 5)),
        (CLASSES.replace("colour", "Camera"), ("columns", 1)),
        (PEOPLE.replace("g0.png,7,gallery,2", "g0.png,7,gallery,1"), ("query without another camera", 8)),
        (SEARCHED.replace("f1.png,f", "f1.png,e"), ("query without a match", 12)),
    ],
)
def test_what_is_doubtful_is_a_warning_and_not_refused(tmp_path: Path, text: str, expected: tuple[str, int]) -> None:
    path = write(tmp_path, text)
    assert expected in warned(path)
    assert told(path) == set()


def with_column(name: str, values: list[str]) -> str:
    lines = CLASSES.splitlines()
    return "\n".join(f"{line},{value}" for line, value in zip(lines, [name, *values], strict=True))


def test_constant_and_empty_columns_are_left_out_with_a_note(tmp_path: Path) -> None:
    records = made(tmp_path, with_column("same", ["x"] * 5 + [""]))
    assert list(records.description["attributes"]) == ["colour"]
    assert "attribute same has one value, x: left out" in records.description["checks"]
    records = made(tmp_path, with_column("none", [""] * 6))
    assert "attribute none is empty: left out" in records.description["checks"]
    records = made(tmp_path, with_column("late", ["", "", "x", "", "", "y"]))
    assert "attribute late: no training image has a value, left out" in records.description["checks"]


def test_many_different_numbers_are_refused_with_a_hint_and_few_are_values(tmp_path: Path) -> None:
    rows = [f"i{n}.png,{'ab'[n % 2]},{'train' if n < 20 else 'test'},{1.5 * n},{n % 10}" for n in range(40)]
    path = write(tmp_path, "\n".join(["image,label,split,weight,grade", *rows]))
    (problem,) = find(path).problems
    assert problem.kind == "too many values"
    assert "attribute weight has 40 different values" in problem.what
    assert "bins" in problem.what
    assert find(path).attributes["grade"] == [str(n) for n in range(10)]


def test_text_among_an_attributes_numbers_is_a_warning_with_its_line(tmp_path: Path) -> None:
    ages = ["1", "2", "3", "3O", "", *"12312", "NA"]

    def table(ages: list[str]) -> str:
        rows = [f"i{n}.png,{'ab'[n % 2]},{'train' if n < 30 else 'test'},{age}" for n, age in enumerate(ages)]
        return "\n".join(["image,label,split,age", *rows])

    many = [*ages, *("123" * 9)]  # 37 labelled cells, 2 of them text
    path = write(tmp_path, table(many))
    found = [(one.kind, one.line) for one in find(path).warnings]
    assert found == [("text among numbers", 5), ("a value like an empty cell", 12)]
    assert "'3O' among numbers counts as one more value" in find(path).warnings[0].what
    assert told(path) == set()
    nine = ["1", "2", "3", "x", "", *"123123"]  # 9 of 10 labelled cells
    assert ("text among numbers", 5) in warned(write(tmp_path, table(nine)))
    assert ("text among numbers", 5) not in warned(write(tmp_path, table(nine[:-1])))


def test_text_among_too_many_numbers_is_named_and_does_not_make_them_fewer(tmp_path: Path) -> None:
    rows = [f"i{n}.png,{'ab'[n % 2]},{'train' if n < 20 else 'test'},{n if n != 7 else '3O'}" for n in range(40)]
    (problem,) = find(write(tmp_path, "\n".join(["image,label,split,age", *rows]))).problems
    assert problem.kind == "too many values"
    assert "attribute age has 40 different values" in problem.what
    assert "bins" in problem.what
    assert problem.what.endswith("text among its numbers: '3O' (line 9)")


def test_few_missing_images_are_left_out_and_named_where_that_is_allowed(tmp_path: Path) -> None:
    extra = "a3.png,apple,train,red\nb3.png,banana,train,red\n"
    write(tmp_path, CLASSES + extra)
    (tmp_path / "a3.png").unlink()
    with pytest.raises(DataError, match=r"line 8, missing image: a3\.png"):
        read(tmp_path, Data(missing_limit=0.1))
    records = read(tmp_path, Data(missing_limit=0.2))
    assert len(records.table) == 7
    assert records.description["complete"] is False
    assert any("1 images are not on disk" in line and "a3.png" in line for line in records.description["checks"])


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest.csv: cannot be read .*own-data.md"):
        read(tmp_path, Data())
    with pytest.raises(DataError, match="a folder; give the CSV"):
        find(tmp_path)


# --- a3m check ----------------------------------------------------------------------------------------------------------


def run(path: Path | str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["a3m", "check", str(path)])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    captured = capsys.readouterr()
    return int(str(ended.value.code)), captured.out + captured.err


def test_check_says_what_it_understood_and_exits_with_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, CLASSES)
    Image.new("L", (30, 40), 7).save(tmp_path / "a0.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (8, 4), (9, 9, 9)).save(tmp_path / "a1.png", exif=turned)
    code, said = run(path, monkeypatch, capsys)
    assert code == 0
    for line in (
        "6 images, classification",
        "train        4 images, 2 classes of 2 images",
        "classes      2: apple, banana",
        "colour: green 3, red 2; unlabelled 16.7%",
        "8 x 4 to 30 x 40 pixels",
        "grey         1 image;",
        "EXIF turned  1 image; they are used as stored",
        "a share of every class of the training images: val 2 (data.validation=0.2",
        "metrics      test/accuracy",
        "study        ablation;",
        "fine: no problems",
    ):
        assert line in said


def test_check_names_metrics_and_a_study_only_of_a_complete_task(tmp_path: Path) -> None:
    said = "\n".join(check.report(check.check(write(tmp_path, SEARCHED))))
    assert "metrics      test/recall1" in said
    assert "study        cub200_retrieval; its table and Figure 4 (docs/own-data.md)" in said
    for bad in (PEOPLE.replace("query", "gallery"), CLASSES.replace("test", "train"), CLASSES.replace("test", "query")):
        said = "\n".join(check.report(check.check(write(tmp_path, bad))))
        assert "problem: no task (1)" in said
        assert "metrics  " not in said
        assert "study  " not in said


def test_check_counts_no_lines_where_a_problem_has_none_and_one_in_the_singular(tmp_path: Path) -> None:
    said = check.report(check.check(write(tmp_path, CLASSES.replace("banana", "apple"))))
    assert said[-1] == "2 problems: mend them and check again"
    assert "  train        4 images, 1 class of 4 images" in said
    said = check.report(check.check(write(tmp_path, CLASSES.replace("test", "train"))))
    assert said[-1] == "1 problem: mend it and check again"


def test_check_opens_the_images_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = BOXED.replace("red,0,0,5,5\na1", "red,16,0,5.5,5\na1").replace("test,red,0,0,5,5", "test,red,0,0,20.9,5")
    path = write(tmp_path, text + "gone.jpg,apple,trian,,,,,\n")
    (tmp_path / "a1.png").write_text("no image")
    whole = (tmp_path / "b0.png").read_bytes()
    (tmp_path / "b0.png").write_bytes(whole[: len(whole) // 2])
    code, said = run(path, monkeypatch, capsys)
    assert code == 1
    assert "problem: box outside the image (1)\n  line 2     x 16 y 0 w 5.5 h 5, the image has 20 x 10 pixels" in said
    assert "line 3     a1.png: not an image" in said
    assert "line 5     b0.png: " in said
    assert "problem: missing image (1)" in said
    assert "problem: unknown split (1)" in said
    assert "5 problems on 4 lines" in said


def test_check_takes_and_refuses_the_images_that_pack_does(tmp_path: Path) -> None:
    path = write(tmp_path, BOXED.replace("red,0,0,5,5\na1", "red,19.5,0,1,5\na1"))
    Image.fromarray(np.full((10, 20), 40_000, np.uint16)).save(tmp_path / "a1.png")
    Image.new("CMYK", (20, 10)).save(tmp_path / "a2.png", format="TIFF")
    (tmp_path / "b0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    checked = check.check(path)
    assert [(one.kind, one.line) for one in checked.problems] == [
        ("box without area", 2), ("image that cannot be decoded", 5),
    ]  # fmt: skip
    for row, image in enumerate(checked.found.frame["image"]):
        if checked.seen[row].wrong:
            with pytest.raises(DataError):
                pack.decode(tmp_path / image, image, np.full(4, np.nan), (8, 8))
        else:
            pack.decode(tmp_path / image, image, np.full(4, np.nan), (8, 8))


def test_check_warns_of_a_copy_of_a_training_image_in_the_test_part(tmp_path: Path) -> None:
    path = write(tmp_path, CLASSES)
    (tmp_path / "b2.png").write_bytes((tmp_path / "a0.png").read_bytes())
    checked = check.check(path)
    assert checked.problems == []
    assert [(one.kind, one.line) for one in checked.warnings] == [("copy of an image", 7)]
    assert "the same file as that of line 2 (train)" in checked.warnings[0].what


def test_check_lists_fifty_of_a_kind_and_counts_the_rest(tmp_path: Path) -> None:
    rows = "".join(f"gone{number}.jpg,apple,train,red\n" for number in range(60))
    said = check.report(check.check(write(tmp_path, CLASSES + rows)))
    assert "problem: missing image (60)" in said
    assert "  and 10 more" in said
    assert sum("gone" in line for line in said) == 50


def test_check_says_when_no_validation_can_be_cut(tmp_path: Path) -> None:
    checked = check.check(write(tmp_path, SEARCHED.replace("c0.png,c", "c0.png,a").replace("c1.png,c", "c1.png,b")))
    assert checked.problems == []
    assert [one.kind for one in checked.warnings] == ["no validation part"]
    assert "set data.validation=0" in checked.warnings[0].what


def test_check_shows_nothing_that_a_terminal_would_obey(tmp_path: Path) -> None:
    text = CLASSES.replace("apple", "ap\u202eple").replace("b1.png,banana,train", "b1.png,banana,\u200btrain")
    said = "\n".join(check.report(check.check(write(tmp_path, text))))
    assert "\u202e" not in said
    assert "\u200b" not in said
    assert "ap\\u202eple" in said


def test_check_has_a_help_and_refuses_other_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["a3m", "check", "--help"])
    __main__.main()
    assert capsys.readouterr().out.startswith("usage: a3m check <file.csv>")
    monkeypatch.setattr(sys, "argv", ["a3m", "check"])
    with pytest.raises(SystemExit, match="2"):
        __main__.main()
    assert "expected one CSV file" in capsys.readouterr().err


def test_check_of_a_file_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(tmp_path / "x.csv", monkeypatch, capsys)
    assert code == 1
    assert said.startswith("error: ")
    assert said.count("\n") == 1


# --- the guide ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classification", "re-identification", "retrieval"])
def test_the_example_of_the_guide_runs_through_reader_records_and_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    spec = importlib.util.spec_from_file_location("make_example", ROOT / "docs/examples/own-data/make_example.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(sys, "argv", ["make_example.py", str(tmp_path), task])
    example.main()
    checked = check.check(tmp_path / "manifest.csv")
    assert checked.found.task == task
    assert checked.problems == []
    assert checked.warnings == []
    records = read(tmp_path, Data())
    table = cut_validation(records.table, task, 0.2, 0)
    validate(Records(table, records.description))
    if task != "retrieval":
        assert records.description["attributes"] == {
            "sail": ["red", "white", "yellow"], "hull": ["black", "blue", "brown", "green"],
        }  # fmt: skip
        shares = (records.table[["attribute.sail", "attribute.hull"]] == -1).to_numpy().mean(axis=0)
        assert np.all((shares > 0.05) & (shares < 0.2))
    assert all((tmp_path / image).is_file() for image in records.table["image"])


def test_the_guide_names_files_commands_and_settings_that_exist() -> None:
    guide = (ROOT / "docs/own-data.md").read_text()
    assert "python docs/examples/own-data/make_example.py data/raw/manifest" in guide
    assert "a3m check data/raw/manifest/manifest.csv" in guide
    assert (ROOT / "data/raw/manifest/README.md").is_file()
    written = yaml.safe_load(guide.split("```yaml")[1].split("```")[0])
    assert set(written) <= {field.name for field in fields(Params)}
    assert all((ROOT / "sweeps" / f"{study}.py").is_file() for study in written["studies"])
    for name in re.findall(r"`(data|train|head|test|dataset)\.(\w+)[=`]", guide):
        assert hasattr(getattr(Params(), name[0]), name[1]), name
