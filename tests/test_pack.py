"""The pack: what goes in comes out, damage is named, nothing half-written stays."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors import safe_open

from a3m.data import pack
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
    return pack.write(records(), DESCRIPTION, REGIONS, root, settings, out)


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
    assert json.loads((tmp_path / "out" / pack.SUMMARY).read_text()) == summary


def test_regions_are_shares_of_the_packed_image(root: Path, tmp_path: Path) -> None:
    write(root, tmp_path / "out")
    regions = pack.Pack(tmp_path / "out" / pack.FILE).regions
    assert np.allclose(regions[0, 0], [(4 - 2) / 10, 0, (9 - 2) / 10, 6 / 12])
    assert np.isnan(regions[1]).all()
    assert np.isnan(regions[3, 0]).all()


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
    with pytest.raises(DataError, match=rf"(?s)1 of 4 images.*1\.png.*({message})|1\.png: missing"):
        write(root, tmp_path / "out", Data(height=14, width=7, crop_box=True, pack_limit=limit))
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


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
    monkeypatch.setattr(pack.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(DataError, match="GB are free"):
        write(root, tmp_path / "out")
