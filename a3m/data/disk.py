"""What readers ask of a data set's folder: text lists, which files there are, which listed images are not, the counts."""

import gzip
import json
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from a3m.errors import DataError

if TYPE_CHECKING:
    from a3m.settings import Data


def file_sizes(folder: Path) -> dict[str, int]:
    """Name -> bytes of everything in a folder, from one listing. A broken link does not count as being there.

    Raises DataError when the folder cannot be listed.
    """
    sizes = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    sizes[entry.name] = entry.stat().st_size
                except FileNotFoundError:
                    continue
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from error
    return sizes


def read_lines(path: Path, origin: str) -> list[tuple[int, str]]:
    """(line number, line without blanks around it) of a text file, plain or gzipped, with any line ends; no empty lines.

    `origin` says where the file is to be had. Raises DataError when it is missing, empty or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path}: missing; it is part of {origin}")
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it again from {origin}") from error
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    kept = [(number, line) for number, line in lines if line]
    if not kept:
        raise DataError(f"{path}: empty; fetch it again from {origin}")
    return kept


def keyed_rows(path: Path, tokens: int, origin: str, *, numeric: bool = True) -> dict[int, list]:
    """First column of a text file (a whole number, each once) -> the others; as floats where `numeric`.

    `tokens` is the number of columns; the last takes the rest of the line. Raises DataError naming the line.
    """
    table: dict[int, list] = {}
    for number, line in read_lines(path, origin):
        parts = line.split(maxsplit=tokens - 1)
        if len(parts) != tokens:
            raise DataError(f"{path}, line {number}: {len(parts)} columns, expected {tokens}: {line[:80]!r}")
        try:
            key = int(parts[0])
            values: list = [float(part) for part in parts[1:]] if numeric else parts[1:]
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        if key in table:
            raise DataError(f"{path}, line {number}: {key} is there twice")
        table[key] = values
    return table


def on_disk(
    root: Path, frame: pd.DataFrame, *, lists: str, origin: str, settings: "Data", checks: list[str]
) -> pd.DataFrame:
    """The rows whose `image`, a path below `root`, is a file: one listing a folder, no image is opened.

    `lists` names the file that lists the images, `origin` where they are to be had. What is missing is counted and the
    first few named in `checks`. Raises DataError on an empty file, when all are missing, or when more than the share
    `settings.missing_limit` is (`settings.allow_subset` admits any share but all).
    """
    sizes: dict[str, int] = {}
    for folder in sorted({image.rpartition("/")[0] for image in frame["image"]}):
        if (root / folder).is_dir():
            prefix = f"{folder}/" if folder else ""
            sizes |= {prefix + name: size for name, size in file_sizes(root / folder).items()}
    found = frame["image"].map(sizes)
    empty = frame.loc[found == 0, "image"].tolist()
    if empty:
        raise DataError(f"{root / empty[0]}: empty file ({len(empty)} in all); copy it again from {origin}")
    missing = frame.loc[found.isna(), "image"].tolist()
    some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    what = f"{root}: {len(missing)} of the {len(frame)} images of {lists} are not on disk: {some}; they are in {origin}"
    if missing and len(missing) == len(frame):
        raise DataError(what)
    if len(missing) > settings.missing_limit * len(frame) and not settings.allow_subset:
        limit = math.ceil(1000 * len(missing) / len(frame)) / 1000
        raise DataError(f"{what}; data.missing_limit={limit} or data.allow_subset=true leaves them out")
    if missing:
        checks.append(f"{len(missing)} images listed but not on disk, left out: {some}")
    others = len(sizes.keys() - set(frame["image"]))
    if others:
        checks.append(f"{others} files in the image folders that are not in {lists}, ignored")
    return frame[found.notna()].reset_index(drop=True)


def expected_counts(
    root: Path, base: Path, published: dict[str, int], twin_keys: Sequence[str] | None = None
) -> tuple[str, dict[str, int]]:
    """Source of a data set and the counts that it must have: a twin's own (`twin.json`), else the published ones.

    `base` is the data set's own folder in or at `root`. A link to a twin's folder does not pass for real data.
    `twin_keys`: which counts a twin states for this task; all that are published when it is None.
    """
    path = next((path for path in (root / "twin.json", base.resolve().parent / "twin.json") if path.is_file()), None)
    if path is None:
        return "raw", published
    try:
        counts = json.loads(path.read_text(encoding="utf-8"))["counts"]
        counts = {key: int(counts[key]) for key in (published if twin_keys is None else twin_keys)}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not the description of a whole twin ({error!r}); delete {path.parent} and draw it again"
        ) from error
    return "twins", counts


def check_counts(root: Path, counts: dict[str, int], expected: dict[str, int], allow_subset: bool) -> bool:
    """True when all expected counts are met. Otherwise DataError, or False where a part is allowed."""
    differ = [f"{key} {counts[key]} instead of {number}" for key, number in expected.items() if counts[key] != number]
    if differ and not allow_subset:
        raise DataError(f"{root}: not the complete data set: {', '.join(differ)}; data.allow_subset=true admits a part")
    return not differ
