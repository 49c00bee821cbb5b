"""The pack: what goes in comes out, damage is named, nothing half-written is taken for whole, an interruption loses little."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors import safe_open

from a3m.data import pack, packing, partial
from a3m.errors import DataError
from a3m.settings import Data

SIZES = [(20, 30), (40, 25), (32, 32), (28, 44)]  # width, height
BOXES = [(2, 3, 10, 12), (5, 0, 35, 25), (4, 4, 0, 0), (-5, 10, 20, 100)]
SETTINGS = Data(height=14, width=7, margin=8 / 7, crop_box=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for row, (width, height) in enumerate(SIZES):
        mode = "L" if row == 1 else "RGB"
        shape = (height, width) if mode == "L" else (height, width, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode).save(tmp_path / f"{row}.png")
    return tmp_path


def records() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": [f"{row}.png" for row in range(4)],
            "split": ["train", "train", "train", "test"],
            "fold": ["train", "train", "val", None],
            "label": [0, 1, 0, 1],
            "camera": pd.array([1, 2, None, 3], dtype="Int64"),
            **{name: pd.array([box[i] for box in BOXES], dtype="Float64") for i, name in enumerate("xywh")},
            "attribute.hat": [0, 1, -1, 1],
            "attribute.colour": [2, -1, 0, 1],
        }
    )


DESCRIPTION = {
    "dataset": "tiny", "task": "classification", "source": "twins", "complete": True,
    "attributes": {"hat": ["no", "yes"], "colour": ["r", "g", "b"]},
}  # fmt: skip
REGIONS = pd.DataFrame(
    {"image": ["0.png", "3.png"], "attribute": ["hat", "colour"], "x": [4, 0], "y": [3, 20], "w": [5, 10], "h": [6, 12]}
)


def write(root: Path, out: Path, settings: Data = SETTINGS) -> dict[str, object]:
    return packing.write(records(), DESCRIPTION, REGIONS, root, settings, out)


def test_what_is_packed_is_the_cropped_and_resized_image(root: Path, tmp_path: Path) -> None:
    summary = write(root, tmp_path / "out")
    opened = pack.Pack(tmp_path / "out" / pack.FILE)
    assert (len(opened), opened.packed_size, opened.input_size) == (4, (16, 8), (14, 7))
    with Image.open(root / "0.png") as image:
        expected = image.resize((8, 16), Image.Resampling.BILINEAR, box=(2, 3, 12, 15))
    assert np.array_equal(opened.image(0), np.asarray(expected))
    with Image.open(root / "2.png") as image:  # a degenerate box: the whole image
        assert np.array_equal(opened.image(2), np.asarray(image.resize((8, 16), Image.Resampling.BILINEAR)))
    with Image.open(root / "3.png") as image:  # a box that leaves the image is clipped to it
        expected = image.resize((8, 16), Image.Resampling.BILINEAR, box=(0, 10, 15, 44))
    assert np.array_equal(opened.image(3), np.asarray(expected))
    assert opened.image(1).shape == (16, 8, 3)  # a grey image has three channels
    assert opened.label.tolist() == [0, 1, 0, 1]
    assert opened.camera.tolist() == [1, 2, -1, 3]
    assert [pack.SPLITS[code] for code in opened.split] == ["train", "train", "train", "test"]
    assert opened.fold.tolist() == [0, 0, 1, -1]
    assert opened.attributes.tolist() == [[0, 2], [1, -1], [-1, 0], [1, 1]]
    assert opened.attribute_sizes == [2, 3]
    assert summary["images"] == 4
    assert summary["degenerate_boxes"] == 1
    assert json.loads((tmp_path / "out" / pack.SUMMARY).read_text()) | {"taken_over": 0} == summary


def test_regions_are_shares_of_the_packed_image(root: Path, tmp_path: Path) -> None:
    write(root, tmp_path / "out")
    regions = pack.Pack(tmp_path / "out" / pack.FILE).regions
    assert np.allclose(regions[0, 0], [(4 - 2) / 10, 0, (9 - 2) / 10, 6 / 12])
    assert np.isnan(regions[1]).all()
    assert np.isnan(regions[3, 0]).all()
    assert np.allclose(regions[3, 1], [0, (20 - 10) / 34, 10 / 15, (32 - 10) / 34])  # of what the image has of its box


def test_encoded_storage_yields_the_same_pixels(root: Path, tmp_path: Path) -> None:
    write(root, tmp_path / "plain")
    assert write(root, tmp_path / "small", Data(height=14, width=7, crop_box=True, pack_limit=1))["stored"] == "encoded"
    plain, encoded = (pack.Pack(tmp_path / name / pack.FILE) for name in ("plain", "small"))
    for row in range(4):
        assert np.array_equal(plain.image(row), encoded.image(row))


def test_the_file_is_whole_safetensors_and_its_digest_is_stable(root: Path, tmp_path: Path) -> None:
    first, second = write(root, tmp_path / "a"), write(root, tmp_path / "b")
    assert first["digest"] == second["digest"] == pack.file_digest(tmp_path / "a" / pack.FILE)
    with safe_open(tmp_path / "a" / pack.FILE, framework="numpy") as file:
        assert file.get_tensor("images").shape == (4, 16, 8, 3)
        assert file.get_tensor("label").tolist() == [0, 1, 0, 1]
    assert write(root, tmp_path / "c", Data(height=7, width=7, crop_box=True))["digest"] != first["digest"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "truncated|broken|cannot"),
        (lambda path: path.write_text("no image"), "cannot identify"),
    ],
)
@pytest.mark.parametrize("limit", [10**9, 1])
def test_a_bad_image_is_named_and_leaves_no_pack(root: Path, tmp_path: Path, damage, message: str, limit: int) -> None:
    damage(root / "1.png")
    with pytest.raises(DataError, match=rf"(?s)1 of 4 images.*1\.png: .*({message})"):
        write(root, tmp_path / "out", Data(height=14, width=7, crop_box=True, pack_limit=limit))
    assert not (tmp_path / "out" / pack.FILE).exists()
    assert not (tmp_path / "out" / pack.SUMMARY).exists()


def test_every_missing_and_every_damaged_image_is_named(root: Path, tmp_path: Path) -> None:
    (root / "1.png").write_text("no image")
    (root / "2.png").write_bytes((root / "2.png").read_bytes()[:100])
    with pytest.raises(DataError, match=r"(?s)2 of 4 images.*1\.png.*2\.png"):
        write(root, tmp_path / "out")
    (root / "0.png").unlink()
    (root / "3.png").unlink()
    (root / "3.png").mkdir()
    with pytest.raises(DataError, match=r"(?s)2 of 4 images.*0\.png: missing.*3\.png: not a file"):
        write(root, tmp_path / "out")


def test_a_pack_with_another_digest_is_refused(root: Path, tmp_path: Path) -> None:
    digest = str(write(root, tmp_path / "out")["digest"])
    path = tmp_path / "out" / pack.FILE
    assert len(pack.open_verified(path, digest, tmp_path / "cache")) == 4
    assert len(pack.open_verified(path, digest, tmp_path / "cache")) == 4  # from the cache
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="dvc repro"):
        pack.open_verified(path, digest, tmp_path / "cache")
    path.write_bytes(data[:-10])
    with pytest.raises(DataError, match="cut off"):
        pack.Pack(path)
    path.write_bytes(b"abc")
    with pytest.raises(DataError, match="not a pack"):
        pack.Pack(path)
    path.unlink()
    with pytest.raises(DataError, match="not there"):
        pack.open_verified(path, digest, tmp_path / "cache")


def test_a_data_set_that_is_not_packed_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dvc repro pack@market1501"):
        pack.read_summary(tmp_path / "market1501")


def test_lack_of_space_is_said_beforehand(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(DataError, match="GB are free"):
        write(root, tmp_path / "out")


# --- images of every kind -----------------------------------------------------------------------------------------------

WHOLE = np.full(4, np.nan)


def test_every_mode_of_image_is_packed_as_what_it_shows(tmp_path: Path) -> None:
    grey = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    palette = Image.fromarray(grey)
    palette.putpalette([value for value in range(256) for _ in range(3)])
    pictures = {
        "grey.png": Image.fromarray(grey),
        "rgba.png": Image.merge("RGBA", [Image.fromarray(grey)] * 4),
        "palette.png": palette,
        "grey.gif": palette,
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 256 + 77),  # `convert` alone makes it white
        "deep.tif": Image.fromarray(grey.astype(np.uint16) * 256 + 77),
        "long.tif": Image.fromarray(grey.astype(np.int32) * 256 + 77),
        "cmyk.tif": Image.merge("CMYK", [*[Image.fromarray(255 - grey)] * 3, Image.new("L", (20, 12), 0)]),
        "bilevel.png": Image.fromarray(grey > 120),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        pixels, degenerate = pack.decode(tmp_path / name, name, WHOLE, (12, 20))
        assert pixels.dtype == np.uint8
        assert not degenerate
        shown = np.where(expected > 120, 255, 0) if name == "bilevel.png" else expected
        np.testing.assert_array_equal(pixels, shown, err_msg=name)
    Image.merge("CMYK", [Image.fromarray(grey)] * 4).save(tmp_path / "cmyk.jpg")
    assert pack.decode(tmp_path / "cmyk.jpg", "", WHOLE, (12, 20))[0].shape == (12, 20, 3)


def test_rotation_in_the_exif_data_is_ignored_since_boxes_refer_to_stored_pixels(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    pixels, _ = pack.decode(tmp_path / "turned.png", "", np.array([2.0, 1.0, 10.0, 8.0]), (8, 10))
    np.testing.assert_array_equal(pixels, np.asarray(picture)[1:9, 2:12])


@pytest.mark.parametrize(
    ("box", "part"),
    [
        ((2, 1, 10, 8), (2, 1, 12, 9)),
        ((-3, -3, 10, 8), (0, 0, 7, 5)),
        ((15, 10, 99, 99), (15, 10, 20, 12)),
        ((2, 1, 0, 8), None),
        ((2, 1, -4, 8), None),
        ((25, 1, 4, 8), None),
        ((-9, 1, 4, 8), None),
        ((np.nan, 1, 4, 8), None),
    ],
)
def test_a_box_is_clipped_to_the_image_and_one_without_area_in_it_is_none(box, part) -> None:
    assert pack.frame(np.array(box, float), 20, 12) == part


def test_a_decompression_bomb_is_refused_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (9500, 9500)).save(tmp_path / "bomb.png")
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DataError, match=r"bomb.png: 9500 x 9500 pixels"):
        pack.decode(tmp_path / "bomb.png", str(tmp_path / "bomb.png"), WHOLE, (8, 8))
    Image.new("1", (14000, 14000)).save(tmp_path / "worse.png")
    with pytest.raises(DataError, match=r"worse.png: Image size .* exceeds limit"):
        pack.decode(tmp_path / "worse.png", str(tmp_path / "worse.png"), WHOLE, (8, 8))


# --- interruptions ------------------------------------------------------------------------------------------------------


def many(folder: Path, count: int = 100) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for row in range(count):
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(folder / f"{row:03d}.png")
    table = pd.DataFrame({"image": [f"{row:03d}.png" for row in range(count)], "split": "train", "fold": "train"})
    table["label"], table["camera"] = np.arange(count) % 5, pd.array([None] * count, "Int64")
    for name in "xywh":
        table[name] = pd.array([0 if name == "w" and row % 10 == 0 else 5 for row in range(count)], "Float64")
    return table


def write_many(table: pd.DataFrame, root: Path, out: Path, progress: packing.Progress | None = None, **settings: int):
    data = Data(height=8, width=8, margin=1.0, crop_box=True, **settings)
    return packing.write(table, DESCRIPTION | {"attributes": {}}, None, root, data, out, progress)


class Stop(BaseException):
    """Like Ctrl-C, at a known moment."""


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is decoded, in batches of 16 by one thread."""
    names: list[str] = []

    def counted(source, name, box, size):
        names.append(Path(name).name)
        return pack.decode(source, name, box, size)

    monkeypatch.setattr(packing, "decode", counted)
    monkeypatch.setattr(packing, "BATCH", 16)
    monkeypatch.setattr(packing, "TASK", 4)
    monkeypatch.setattr(packing.os, "cpu_count", lambda: 1)
    return names


def stop_at(count: int) -> packing.Progress:
    def progress(done: int, total: int) -> None:
        if done >= count:
            raise Stop

    return progress


@pytest.mark.parametrize("limit", [10**9, 1])
def test_what_was_packed_before_an_interruption_is_not_decoded_again(
    tmp_path: Path, decoded: list[str], limit: int
) -> None:
    table = many(tmp_path / "images")
    whole = write_many(table, tmp_path / "images", tmp_path / "a", pack_limit=limit)
    decoded.clear()
    with pytest.raises(Stop):
        write_many(table, tmp_path / "images", tmp_path / "b", stop_at(40), pack_limit=limit)
    assert not (tmp_path / "b" / pack.FILE).exists()
    first = list(decoded)
    assert 40 <= len(first) < 100
    told: list[int] = []
    summary = write_many(
        table, tmp_path / "images", tmp_path / "b", lambda done, total: told.append(done), pack_limit=limit
    )
    assert sorted(decoded) == list(table["image"])  # each once
    assert summary == whole | {"taken_over": len(first)}
    assert (told[0], told[-1]) == (len(first), 100)
    assert summary["degenerate_boxes"] == 10
    for name in (pack.FILE, pack.SUMMARY):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [pack.SUMMARY, pack.FILE]


def test_a_replaced_image_alone_is_packed_again(tmp_path: Path, decoded: list[str]) -> None:
    table, images = many(tmp_path / "images"), tmp_path / "images"
    good = (images / "050.png").read_bytes()
    (images / "050.png").write_bytes(good[:-30])
    with pytest.raises(DataError, match=r"050.png"):
        write_many(table, images, tmp_path / "out")
    (images / "050.png").write_bytes(good)
    status = (images / "007.png").stat()
    os.utime(images / "007.png", ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    decoded.clear()
    assert write_many(table, images, tmp_path / "out")["taken_over"] == 98
    assert sorted(decoded) == ["007.png", "050.png"]


@pytest.mark.parametrize("limit", [10**9, 1])
def test_gaps_are_filled_without_touching_what_is_there(tmp_path: Path, decoded: list[str], limit: int) -> None:
    table, images = many(tmp_path / "images"), tmp_path / "images"
    fresh = write_many(table, images, tmp_path / "fresh", pack_limit=limit)
    good = {row: (images / f"{row:03d}.png").read_bytes() for row in (0, 1, 7, 40, 41, 42, 43, 44, 45, 99)}
    for row, data in good.items():
        (images / f"{row:03d}.png").write_bytes(data[:-30] + bytes(30))  # damaged, of the same length
    with pytest.raises(DataError, match="10 of 100"):
        write_many(table, images, tmp_path / "out", pack_limit=limit)
    for row, data in good.items():
        (images / f"{row:03d}.png").write_bytes(data)
    decoded.clear()
    summary = write_many(table, images, tmp_path / "out", pack_limit=limit)
    assert (summary["taken_over"], summary["digest"]) == (90, fresh["digest"])
    assert sorted(decoded) == [f"{row:03d}.png" for row in good]


@pytest.mark.parametrize("change", ["size", "margin", "order", "names", "box", "pillow", "storage"])
def test_nothing_is_taken_over_when_something_else_has_changed(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    table, images = many(tmp_path / "images"), tmp_path / "images"
    with pytest.raises(Stop):
        write_many(table, images, tmp_path / "out", stop_at(60))
    data = Data(height=8, width=8, margin=1.0, crop_box=True)
    if change == "size":
        data.height, data.width = 4, 16  # of as many bytes
    elif change == "margin":
        data.margin = 2.0
    elif change == "order":
        table = table[::-1].reset_index(drop=True)
    elif change == "names":
        table.loc[99, "image"] = "000.png"
    elif change == "box":
        table["y"] = table["y"] - 1
    elif change == "pillow":
        monkeypatch.setattr(packing.PIL, "__version__", "0.0")
    else:
        data.pack_limit = 1
    description = DESCRIPTION | {"attributes": {}}
    again = packing.write(table, description, None, images, data, tmp_path / "out")
    fresh = packing.write(table, description, None, images, data, tmp_path / "fresh")
    assert again == fresh
    assert again["taken_over"] == 0


def test_the_journal_says_done_after_the_data_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    with partial.opened(tmp_path / "part", 100, 5) as file:
        fsync, pwrite = os.fsync, os.pwrite
        monkeypatch.setattr(partial.os, "fsync", lambda fd: (calls.append("flush"), fsync(fd)))
        monkeypatch.setattr(
            partial.os, "pwrite", lambda fd, data, at: (calls.append(f"at {at}"), pwrite(fd, data, at))[1]
        )
        expected = partial.fingerprints(b"", [b"a", b"b", b"c", b"d", b"e"])
        file.write(b"0123456789", 20)
        file.commit(np.array([1, 3]), expected[[1, 3]] | np.array([0, 1], np.uint64))
    assert calls == ["at 20", "flush", "at 108"]
    with partial.opened(tmp_path / "part", 100, 5) as file:
        assert file.whole(expected).tolist() == [False, True, False, True, False]
        assert file.marked == 1
        assert not file.whole(partial.fingerprints(b"else", [b"a", b"b", b"c", b"d", b"e"])).any()
    assert (tmp_path / "part").read_bytes()[20:30] == b"0123456789"
    with partial.opened(tmp_path / "part", 104, 5) as file:  # of another length: another pack
        assert not file.whole(expected).any()


def test_two_processes_do_not_pack_one_data_set(tmp_path: Path) -> None:
    table = many(tmp_path / "images", 5)
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / packing.PARTIAL).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is packing"):
            write_many(table, tmp_path / "images", tmp_path / "out")
    assert write_many(table, tmp_path / "images", tmp_path / "out")["taken_over"] == 0


SCRIPT = """
import sys, time
from pathlib import Path
import test_pack
from a3m.data import packing
root = Path(sys.argv[1])
decode = packing.decode
def slowly(*arguments):
    time.sleep(0.01)
    return decode(*arguments)
packing.decode, packing.BATCH = slowly, 32
packing.os.cpu_count = lambda: 2
table = test_pack.pd.read_pickle(root / "table")
test_pack.write_many(table, root / "images", root / "out", lambda done, total: print(done, flush=True))
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_or_interrupted_process_leaves_what_it_packed_and_ends_at_once(tmp_path: Path, sent: int) -> None:
    table = many(tmp_path / "images", 900)
    table.to_pickle(tmp_path / "table")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=Path(__file__).parent, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if int(line) >= 160:
            break
    process.send_signal(sent)
    error = process.communicate()[1]
    assert process.returncode != 0, error
    assert ("KeyboardInterrupt" in error) == (sent == signal.SIGINT)
    assert not (tmp_path / "out" / pack.FILE).exists()
    again = write_many(table, tmp_path / "images", tmp_path / "out")
    assert 64 <= again["taken_over"] < 900  # it did not pack all before it stopped
    fresh = write_many(table, tmp_path / "images", tmp_path / "fresh")
    assert again["digest"] == fresh["digest"] == pack.file_digest(tmp_path / "out" / pack.FILE)
