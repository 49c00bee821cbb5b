"""One memory-mapped file a data set and input size: what trials read instead of images. Its digest is the data version.

The file has the layout of safetensors (8 bytes of header length, a JSON header, then raw arrays), so that it can be inspected
with that library. a3m.data.packing writes it; here it is read.

Arrays, N rows in the order of the records:
  images (N, H, W, 3) uint8      cropped to the box where the settings say so, resized; H, W = network size x margin
  encoded (bytes,) + offsets (N+1,)   instead of images above `data.pack_limit`: the files as they are, decoded at every use
  label (N,) int64   camera (N,) int64, -1 = none   split, fold (N,) int8, see SPLITS and FOLDS   box (N, 4) float64, NaN = none
  attributes (N, K) int64, -1 = unlabelled   regions (N, K, 4) float32, x0 y0 x1 y1 as shares of the packed image, NaN = not known

EXIF orientation is ignored: the boxes of the data sets refer to the pixels as they are stored.
"""

import hashlib
import io
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from a3m.errors import DataError
from a3m.identity import file_digest

FILE, SUMMARY = "pack.safetensors", "pack.json"
SPLITS = ("train", "test", "query", "gallery")
FOLDS = ("train", "val", "val_query", "val_gallery")  # -1 where a row is not training data
VERSION = 1
DTYPES = {"uint8": "U8", "int8": "I8", "int64": "I64", "float32": "F32", "float64": "F64"}
MAX_PIXELS = 89_478_485  # of one image: a quarter of a gigabyte decoded, where Pillow warns of a decompression bomb


class Pack:
    """A pack opened for reading. Arrays are memory-mapped, so that the trials of one machine share the page cache."""

    def __init__(self, path: Path):
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if not 0 < length < 1 << 30:
                    raise ValueError("no header")
                self.header: dict[str, Any] = json.loads(file.read(length))
            self.description: dict[str, Any] = json.loads(self.header.pop("__metadata__")["description"])
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path}: not a pack ({error}): run `dvc repro pack`") from error
        self.path, self._start = path, 8 + length
        whole = self._start + max(entry["data_offsets"][1] for entry in self.header.values())
        if path.stat().st_size != whole:
            raise DataError(f"{path}: cut off, {path.stat().st_size} of {whole} bytes: run `dvc repro --force pack`")
        self.input_size: tuple[int, int] = tuple(self.description["input_size"])
        self.packed_size: tuple[int, int] = tuple(self.description["packed_size"])
        self.names: list[str] = self.description["images"]
        self.attribute_names = list(self.description["attributes"])
        self.attribute_sizes = [len(values) for values in self.description["attributes"].values()]

    def __len__(self) -> int:
        return len(self.names)

    def array(self, name: str) -> np.ndarray:
        """The named array, read-only and memory-mapped."""
        entry = self.header[name]
        dtype = next(numpy for numpy, tensor in DTYPES.items() if tensor == entry["dtype"])
        if 0 in entry["shape"]:
            return np.empty(entry["shape"], dtype)
        return np.memmap(self.path, dtype, "r", self._start + entry["data_offsets"][0], tuple(entry["shape"]))

    label = cached_property(lambda self: np.asarray(self.array("label")))
    camera = cached_property(lambda self: np.asarray(self.array("camera")))
    split = cached_property(lambda self: np.asarray(self.array("split")))
    fold = cached_property(lambda self: np.asarray(self.array("fold")))
    attributes = cached_property(lambda self: np.asarray(self.array("attributes")))
    regions = cached_property(lambda self: np.asarray(self.array("regions")) if "regions" in self.header else None)
    _images = cached_property(lambda self: self.array("images") if "images" in self.header else None)
    _offsets = cached_property(lambda self: self.array("offsets"))
    _encoded = cached_property(lambda self: self.array("encoded"))
    _box = cached_property(lambda self: np.asarray(self.array("box")))

    def image(self, row: int) -> np.ndarray:
        """Pixels of one row, (H, W, 3) uint8 at the packed size; not to be written to."""
        if self._images is not None:
            return self._images[row]
        data = io.BytesIO(self._encoded[self._offsets[row] : self._offsets[row + 1]].tobytes())
        return decode(data, self.names[row], self._box[row], self.packed_size)[0]


def decode(source: Path | io.BytesIO, name: str, box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Decode, crop to `box` (x y w h; NaN = whole image) and resize to `size` (height, width) -> (H, W, 3) uint8.

    The second is whether the box was degenerate, so that the whole image stands instead. Raises DataError.
    """
    try:
        with Image.open(source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}: make it smaller")
            rgb = _as_rgb(image)
    except (
        Exception
    ) as error:  # Pillow's parsers raise whatever they stumble over: struct.error, KeyError, EOFError, ...
        raise DataError(f"{name}: {str(error).replace(str(source), '').strip() or 'not an image'}") from error
    region = frame(box, rgb.width, rgb.height)
    resized = rgb.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=region)
    return np.asarray(resized), region is None and not np.isnan(box).any()


def frame(box: np.ndarray, width: int, height: int) -> tuple[float, float, float, float] | None:
    """The part x0 y0 x1 y1 of an image that `box` (x y w h) cuts out; None = all of it, without a box or a degenerate one."""
    if np.isnan(box).any():
        return None
    x, y, w, h = (float(value) for value in box)
    x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
    return None if x1 - x0 < 1 or y1 - y0 < 1 else (x0, y0, x1, y1)


def _as_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB. Grey of 16 bits keeps its upper byte, which `convert` would not: it cuts off at 255."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")


# --- data version -------------------------------------------------------------------------------------------------------


def read_summary(folder: Path) -> dict[str, Any]:
    """pack.json of a prepared data set. Raises DataError with the remedy when the data set has not been packed."""
    try:
        return json.loads((folder / SUMMARY).read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder / SUMMARY}: not there or not readable: run `dvc repro pack@{folder.name}` first"
        ) from error


def open_verified(path: Path, digest: str, cache: Path) -> Pack:
    """Open a pack whose digest must be `digest`; computed once a file (kept in `cache` by path, size, mtime and inode).

    Raises DataError when it differs: a trial never trains on data that its record does not name.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: not there: run `dvc repro pack`") from error
    identity = [str(path), status.st_size, status.st_mtime_ns, status.st_ino]
    name = cache / "packs" / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}.json"
    try:
        found = json.loads(name.read_text())["digest"]
    except (OSError, ValueError, KeyError):
        found = file_digest(path)
        name.parent.mkdir(parents=True, exist_ok=True)
        temporary = name.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"digest": found, "identity": identity}))
        temporary.replace(name)
    if found != digest:
        raise DataError(
            f"{path}: its digest is {found[:12]}, the trial was planned for {digest[:12]}: "
            "the file was changed or replaced; run `dvc repro` so that plan and data agree"
        )
    return Pack(path)
