"""One memory-mapped file a data set and input size: what trials read instead of images. Its digest is the data version.

The file has the layout of safetensors (8 bytes of header length, a JSON header, then raw arrays), so that it can be inspected
with that library; it is written here because the images are written in place, a row at a time, and need never be in memory.

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
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from a3m.errors import DataError
from a3m.identity import file_digest

if TYPE_CHECKING:
    from a3m.settings import Data

FILE, SUMMARY = "pack.safetensors", "pack.json"
SPLITS = ("train", "test", "query", "gallery")
FOLDS = ("train", "val", "val_query", "val_gallery")  # -1 where a row is not training data
VERSION = 1
DTYPES = {"uint8": "U8", "int8": "I8", "int64": "I64", "float32": "F32", "float64": "F64"}
Progress = Callable[[int, int], None]


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
        return pixels(data, self.names[row], self._box[row], self.packed_size)


def pixels(source: Path | io.BytesIO, name: str, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Decode, crop to `box` (x y w h; NaN = whole image) and resize to `size` (height, width) -> (H, W, 3) uint8."""
    try:
        with Image.open(source) as image:
            rgb = image.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DataError(f"{name}: {str(error).replace(str(source), '').strip() or 'not an image'}") from error
    region = None
    if not np.isnan(box).any():
        x, y, w, h = box
        region = (max(x, 0.0), max(y, 0.0), min(x + w, float(rgb.width)), min(y + h, float(rgb.height)))
        if region[2] - region[0] < 1 or region[3] - region[1] < 1:
            region = None  # a degenerate box: the whole image; the reader has counted it
    return np.asarray(rgb.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=region))


def write(
    records: pd.DataFrame, description: dict[str, Any], regions: pd.DataFrame | None, root: Path, settings: "Data", out: Path,
    progress: Progress | None = None, made_with: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Pack the images below `root` that `records` names into `out`/pack.safetensors and describe it in `out`/pack.json.

    Returns that description (digest, bytes, images, sizes). The file appears under its name when it is whole.
    Raises DataError naming every image that is missing, empty, truncated or not an image, or the space that lacks.
    """
    count = len(records)
    size = (math.ceil(settings.height * settings.margin), math.ceil(settings.width * settings.margin))
    attributes = records[[c for c in records.columns if c.startswith("attribute.")]].to_numpy(np.int64)
    boxes = (
        records[["x", "y", "w", "h"]].astype("float64").to_numpy() if settings.crop_box else np.full((count, 4), np.nan)
    )
    arrays: dict[str, np.ndarray] = {
        "label": records["label"].to_numpy(np.int64),
        "camera": records["camera"].astype("Int64").fillna(-1).to_numpy(np.int64),
        "split": _codes(records["split"], SPLITS),
        "fold": _codes(records["fold"], FOLDS),
        "box": boxes,
        "attributes": attributes,
    }
    files = [root / name for name in records["image"]]
    encoded = count * size[0] * size[1] * 3 > settings.pack_limit
    if encoded:
        lengths = _sizes(files)
        arrays["offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        big, shape = "encoded", [int(arrays["offsets"][-1])]
    else:
        big, shape = "images", [count, *size, 3]
    if regions is not None:
        arrays["regions"] = _packed_regions(regions, records, description, files, boxes)
    metadata = {
        **description,
        "version": VERSION,
        "input_size": [settings.height, settings.width],
        "packed_size": list(size),
        "images": list(records["image"]),
    }
    header, start = _header(big, shape, arrays, metadata)
    total = start + math.prod(shape) + sum(array.nbytes for array in arrays.values())
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if total > free:
        raise DataError(
            f"{out}: the pack needs {total / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: make room or use a smaller size"
        )

    temporary = out / f"{FILE}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(header)
            file.truncate(start + math.prod(shape))
        target = np.memmap(temporary, np.uint8, "r+", start, tuple(shape))
        _fill(target, files, list(records["image"]), boxes, size, arrays.get("offsets"), progress)
        target.flush()
        with temporary.open("ab") as file:
            for name in sorted(arrays):
                file.write(np.ascontiguousarray(arrays[name]).tobytes())
            file.flush()
            os.fsync(file.fileno())
        digest = file_digest(temporary)
        temporary.replace(out / FILE)
    finally:
        temporary.unlink(missing_ok=True)
    summary = {
        "dataset": description["dataset"],
        "source": description["source"],
        "complete": description["complete"],
        "digest": digest,
        "bytes": total,
        "images": count,
        "stored": big,
        "input_size": metadata["input_size"],
        "packed_size": metadata["packed_size"],
        "made_with": made_with,  # digest of the settings; not in the pack itself, whose digest is of what it holds
    }
    (out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _codes(column: pd.Series, names: tuple[str, ...]) -> np.ndarray:
    return column.map({name: code for code, name in enumerate(names)}).fillna(-1).to_numpy(np.int8)


def _header(big: str, shape: list[int], arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> tuple[bytes, int]:
    """The safetensors header, padded so that the arrays start on a multiple of 64 bytes -> (bytes, where they start)."""
    entries: dict[str, Any] = {"__metadata__": {"description": json.dumps(metadata)}}
    end = math.prod(shape)
    entries[big] = {"dtype": "U8", "shape": shape, "data_offsets": [0, end]}
    for name in sorted(arrays):
        begin, end = end, end + arrays[name].nbytes
        entries[name] = {
            "dtype": DTYPES[str(arrays[name].dtype)],
            "shape": list(arrays[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return len(text).to_bytes(8, "little") + text, len(text) + 8


def _sizes(files: list[Path]) -> list[int]:
    try:
        return [file.stat().st_size for file in files]
    except OSError as error:
        raise DataError(f"{error.filename}: missing; the records name it") from error


def _fill(
    target: np.ndarray, files: list[Path], names: list[str], boxes: np.ndarray, size: tuple[int, int],
    offsets: np.ndarray | None, progress: Progress | None,
) -> None:  # fmt: skip
    """Write every image into its place, on all cores (decoding and resizing release the interpreter lock)."""
    bad: list[str] = []

    def one(row: int) -> None:
        try:
            if not files[row].is_file():
                raise DataError(f"{files[row]}: missing; the records name it")
            if files[row].stat().st_size == 0:
                raise DataError(f"{files[row]}: empty")
            if offsets is None:
                target[row] = pixels(files[row], str(files[row]), boxes[row], size)
            else:
                data = files[row].read_bytes()
                pixels(io.BytesIO(data), str(files[row]), boxes[row], size)  # refuse now what no trial could decode
                target[offsets[row] : offsets[row + 1]] = np.frombuffer(data, np.uint8)
        except DataError as error:
            bad.append(str(error))

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for done, _ in enumerate(threads.map(one, range(len(files))), start=1):
            if progress is not None:
                progress(done, len(files))
    if bad:
        listed = "\n  ".join(sorted(bad)[:10])
        raise DataError(
            f"{len(bad)} of {len(files)} images cannot be packed; replace them and run the stage again:\n  {listed}"
        )


def _packed_regions(
    regions: pd.DataFrame, records: pd.DataFrame, description: dict[str, Any], files: list[Path], boxes: np.ndarray
) -> np.ndarray:
    """Regions in pixels of the files -> (N, K, 4) float32 shares of the packed image, clipped to it; NaN = not visible."""
    rows = {name: row for row, name in enumerate(records["image"])}
    columns = {name: column for column, name in enumerate(description["attributes"])}
    packed = np.full((len(records), len(columns), 4), np.nan, np.float32)
    known = regions[regions["image"].isin(rows) & regions["attribute"].isin(columns)]
    row = known["image"].map(rows).to_numpy(np.int64)
    column = known["attribute"].map(columns).to_numpy(np.int64)
    frames = boxes.copy()
    for index in np.unique(row[np.isnan(frames[row]).any(axis=1)]):
        with Image.open(files[index]) as image:
            frames[index] = (0, 0, image.width, image.height)
    frame = frames[row]
    x, y, w, h = (known[c].to_numpy(np.float64) for c in "xywh")
    corners = np.stack([x, y, x + w, y + h], axis=1)
    shares = np.clip((corners - frame[:, [0, 1, 0, 1]]) / frame[:, [2, 3, 2, 3]], 0, 1)
    seen = (shares[:, 2] > shares[:, 0]) & (shares[:, 3] > shares[:, 1])
    packed[row[seen], column[seen]] = shares[seen]
    return packed


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
