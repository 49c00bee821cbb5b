"""Writing a pack (a3m.data.pack): records and images -> one file. A stage's work: no trial imports it.

Images are decoded on all cores and written into their places, a row at a time, so that they need never be in memory. Stopped
by whatever, the work goes on where it was (a3m.data.partial), and the finished file is the same, byte for byte.
"""

import json
import math
import os
import shutil
import stat
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import PIL
from PIL import Image

from a3m.data.pack import DTYPES, FILE, FOLDS, SPLITS, SUMMARY, VERSION, decode, frame
from a3m.data.partial import MARK, Fingerprints, Partial, fingerprints, opened
from a3m.errors import DataError

if TYPE_CHECKING:
    from a3m.settings import Data

PARTIAL = ".pack.partial"  # beside the pack: no output of the stage, so that DVC leaves it
BATCH = 512  # rows between two entries in the journal
TASK = 16  # neighbouring rows that a thread is given at once and writes at once
Progress = Callable[[int, int], None]
Tasks = list[tuple[np.ndarray, Future[Fingerprints]]]  # rows, and what becomes of them


def write(
    records: pd.DataFrame, description: dict[str, Any], regions: pd.DataFrame | None, root: Path, settings: "Data", out: Path,
    progress: Progress | None = None, made_with: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Pack the images below `root` that `records` names into `out`/pack.safetensors and describe it in `out`/pack.json.

    Returns that description (digest, bytes, images, sizes, degenerate_boxes: how many have the whole image instead) and
    beside it `taken_over`: how many rows an interrupted attempt had left. The file appears under its name when it is whole.
    Raises DataError naming every image that is missing or empty, or every one that is truncated or not an image (the
    others are kept for the next attempt), or the space that lacks.
    """
    count = len(records)
    names = list(records["image"])
    files = [root / name for name in names]
    found = _found(files)
    size = (math.ceil(settings.height * settings.margin), math.ceil(settings.width * settings.margin))
    boxes = (
        records[["x", "y", "w", "h"]].astype("float64").to_numpy() if settings.crop_box else np.full((count, 4), np.nan)
    )
    arrays: dict[str, np.ndarray] = {
        "label": records["label"].to_numpy(np.int64),
        "camera": records["camera"].astype("Int64").fillna(-1).to_numpy(np.int64),
        "split": _codes(records["split"], SPLITS),
        "fold": _codes(records["fold"], FOLDS),
        "box": boxes,
        "attributes": records[[c for c in records.columns if c.startswith("attribute.")]].to_numpy(np.int64),
    }
    bytes_a_row = size[0] * size[1] * 3
    encoded = count * bytes_a_row > settings.pack_limit
    if encoded:
        ends = np.cumsum([status.st_size for status in found])
        arrays["offsets"] = offsets = np.concatenate([[0], ends]).astype(np.int64)
        big, shape = "encoded", [int(offsets[-1])]
    else:
        offsets = np.arange(count + 1, dtype=np.int64) * bytes_a_row
        big, shape = "images", [count, *size, 3]
    if regions is not None:
        arrays["regions"] = _packed_regions(regions, records, description, files, boxes)
    metadata = {
        **description,
        "version": VERSION,
        "input_size": [settings.height, settings.width],
        "packed_size": list(size),
        "images": names,
    }
    header, start = _header(big, shape, arrays, metadata)
    tail = b"".join(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays))
    total = start + math.prod(shape) + len(tail)
    out.mkdir(parents=True, exist_ok=True)
    _check_space(out, total)
    rows = [
        f"{name} {status.st_size} {status.st_mtime_ns} {box.tolist()} {offset}".encode()
        for name, status, box, offset in zip(names, found, boxes, offsets[:-1], strict=True)
    ]
    expected = fingerprints(header + PIL.__version__.encode(), rows)
    try:
        with opened(out / PARTIAL, total, count) as partial:
            taken_over = int(partial.whole(expected).sum())
            _fill(partial, expected, files, boxes, size, start + offsets, encoded, progress)
            partial.write(header, 0)
            partial.write(tail, start + math.prod(shape))
            degenerate = partial.marked
            digest = partial.finish(out / FILE)
    except OSError as error:
        raise DataError(f"{out}: {error.strerror}; rows that are packed are kept for the next attempt") from error
    summary = {
        "dataset": description["dataset"],
        "source": description["source"],
        "complete": description["complete"],
        "comparable": description.get("comparable", True),  # False: another split than the published one
        "digest": digest,
        "bytes": total,
        "images": count,
        "stored": big,
        "input_size": metadata["input_size"],
        "packed_size": metadata["packed_size"],
        "degenerate_boxes": degenerate,
        "made_with": made_with,  # digest of the settings; not in the pack itself, whose digest is of what it holds
    }
    (out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    return summary | {"taken_over": taken_over}


def _found(files: list[Path]) -> list[os.stat_result]:
    """Size and time of every file. Raises DataError naming those that are missing or empty."""
    found, bad = [], []
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            bad.append(f"{file}: {'missing' if isinstance(error, FileNotFoundError) else error.strerror}")
            continue
        if not stat.S_ISREG(status.st_mode):
            bad.append(f"{file}: not a file")
        elif status.st_size == 0:
            bad.append(f"{file}: empty")
        found.append(status)
    _refuse(bad, len(files))
    return found


def _refuse(bad: list[str], count: int) -> None:
    if bad:
        listed = "\n  ".join(sorted(bad)[:10])
        raise DataError(
            f"{len(bad)} of {count} images cannot be packed; replace them and run the stage again:\n  {listed}"
            + ("\n  ..." if len(bad) > 10 else "")
        )


def _check_space(out: Path, total: int) -> None:
    partial = out / PARTIAL
    there = partial.stat().st_blocks * 512 if partial.exists() else 0
    free = shutil.disk_usage(out).free + there
    if total > free:
        raise DataError(
            f"{out}: the pack needs {total / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: make room or use a smaller size"
        )


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


def _fill(
    partial: Partial, expected: Fingerprints, files: list[Path], boxes: np.ndarray, size: tuple[int, int],
    offsets: np.ndarray, encoded: bool, progress: Progress | None,
) -> None:  # fmt: skip
    """Write every image that is not there yet into its place, on all cores (decoding and resizing release the interpreter lock).

    Two batches are under way at a time: one is decoded while the other is flushed, and a stop waits for no more than the
    tasks that have begun.
    """
    bad: list[str] = []

    def several(rows: np.ndarray) -> Fingerprints:
        entries = np.zeros(len(rows), np.uint64)  # 0 = not packed
        parts: list[bytes | memoryview] = []
        for place, row in enumerate(rows):
            part: bytes | memoryview = bytes(offsets[row + 1] - offsets[row])
            try:
                if encoded:
                    data = files[row].read_bytes()
                    if len(data) != len(part):
                        raise DataError(f"{files[row]}: it changed while it was packed")
                    degenerate = decode(BytesIO(data), str(files[row]), boxes[row], size)[
                        1
                    ]  # refuse it now, not in a trial
                    part = data
                else:
                    pixels, degenerate = decode(files[row], str(files[row]), boxes[row], size)
                    part = pixels.data.cast("B")
                entries[place] = expected[row] | MARK if degenerate else expected[row]
            except DataError as error:
                bad.append(str(error))
            parts.append(part)
        partial.write(b"".join(parts), int(offsets[rows[0]]))
        return entries

    waiting = np.flatnonzero(~partial.whole(expected))
    done = len(files) - len(waiting)
    if progress is not None:
        progress(done, len(files))
    workers = os.cpu_count() or 1
    batch = max(BATCH, 2 * TASK * workers)
    under_way: deque[Tasks] = deque()
    threads = ThreadPoolExecutor(workers)
    try:
        for start in range(0, len(waiting), batch):
            under_way.append([(rows, threads.submit(several, rows)) for rows in _runs(waiting[start : start + batch])])
            while len(under_way) > (0 if start + batch >= len(waiting) else 1):
                for rows, task in under_way[0]:
                    task.result()
                    done += len(rows)
                    if progress is not None:
                        progress(done, len(files))
                _record(partial, under_way[0])
                under_way.popleft()
    finally:
        threads.shutdown(cancel_futures=True)
        for tasks in under_way:
            _record(partial, tasks)
    _refuse(bad, len(files))


def _runs(rows: np.ndarray) -> list[np.ndarray]:
    """Cut ascending rows into runs without a gap, of at most TASK rows: what a thread decodes and writes at once."""
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return [run[at : at + TASK] for run in runs for at in range(0, len(run), TASK)]


def _record(partial: Partial, tasks: Tasks) -> None:
    """Enter into the journal what these tasks have packed, those of them that came to an end."""
    ended = [(rows, task.result()) for rows, task in tasks if not task.cancelled() and task.exception() is None]
    if ended:
        rows, entries = (np.concatenate(parts) for parts in zip(*ended, strict=True))
        partial.commit(rows[entries > 0], entries[entries > 0])


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
    frames = np.full((len(records), 4), np.nan)
    for index in np.unique(row):
        try:
            with Image.open(files[index]) as image:
                frames[index] = frame(boxes[index], *image.size) or (0, 0, *image.size)
        except Exception:
            continue  # told when it is decoded
    x, y, w, h = (known[c].to_numpy(np.float64) for c in "xywh")
    corners = np.stack([x, y, x + w, y + h], axis=1)
    origin, extent = frames[row][:, [0, 1, 0, 1]], (frames[:, 2:] - frames[:, :2])[row][:, [0, 1, 0, 1]]
    shares = np.clip((corners - origin) / extent, 0, 1)
    seen = (shares[:, 2] > shares[:, 0]) & (shares[:, 3] > shares[:, 1])
    packed[row[seen], column[seen]] = shares[seen]
    return packed
