"""The images that a manifest names: where they lie, and what is in them."""

import hashlib
import io
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from a3m.data.manifest_rows import shown
from a3m.data.pack import decode
from a3m.errors import DataError

ORIENTATION = 0x0112  # the EXIF tag; 1 = as stored
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "F"}  # Pillow's modes
WHOLE_IMAGE = np.full(4, np.nan)


@dataclass
class Folder:
    """The folder that all images must lie in; it remembers what it has looked up."""

    path: Path
    _root: str = ""
    _parents: dict[PurePosixPath, str] = field(default_factory=dict)
    _listings: dict[str, dict[str, str]] = field(default_factory=dict)

    def look(self, written: str) -> tuple[str | None, tuple[str, str] | None]:
        """(the path in its plain form, or None where it may not be followed; kind and text of what is wrong, or None)."""
        path = PurePosixPath(written)
        if "\\" in written:
            return None, ("image path", f"{shown(written)}: write / instead of \\")
        if path.is_absolute() or re.match("[A-Za-z]:", written):
            return None, ("path outside the folder", f"{shown(written)}: write it relative to the folder of the CSV")
        if ".." in path.parts:
            return None, ("path outside the folder", f"{shown(written)}: .. leads out of the folder of the CSV")
        if not path.parts:
            return None, ("image path", f"{shown(written)}: no file name")
        try:
            if path.parent not in self._parents:
                self._parents[path.parent] = os.path.realpath(self.path / path.parent)
            place = f"{self._parents[path.parent]}/{path.name}"
            real = os.path.realpath(place) if os.path.islink(place) else place  # noqa: PTH114
            if not self._root:
                self._root = os.path.realpath(self.path)
            if os.path.commonpath([self._root, real]) != self._root:
                what = "a link leads out of the folder of the CSV; copy the images, or link to the whole folder"
                return None, ("path outside the folder", f"{shown(written)}: {what}")
            size = os.stat(real).st_size if os.path.isfile(real) else None  # noqa: PTH113, PTH116
        except OSError as error:
            return str(path), ("missing image", f"{shown(written)}: {error.strerror}")
        if size is None:
            return str(path), ("missing image", f"{shown(written)}: {self._absent(real)}")
        return str(path), ("empty image", f"{shown(written)}: 0 bytes") if size == 0 else None

    def _absent(self, real: str) -> str:
        """Why there is no such file: often only the case of a letter, or the coding of an accent, differs."""
        parent, name = os.path.split(real)
        if os.path.isdir(real):  # noqa: PTH112
            return "a folder, not a file"
        if parent not in self._listings:
            there = os.listdir(parent) if os.path.isdir(parent) else []  # noqa: PTH112, PTH208
            self._listings[parent] = {_plain(one): one for one in there}
        near = self._listings[parent].get(_plain(name))
        return f"not on disk; there is {shown(near)}" if near else "not on disk"


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


@dataclass(frozen=True)
class Seen:
    """What is in one image file. `wrong` says why it cannot be decoded; then nothing else is known."""

    width: int = 0
    height: int = 0
    rotated: bool = False  # it carries an EXIF orientation, which the product does not follow
    grey: bool = False
    digest: bytes = b""
    wrong: str = ""


def look_at(path: Path) -> Seen:
    """Decode one image as `pack` will, so that what passes here passes there."""
    try:
        data = path.read_bytes()
        decode(io.BytesIO(data), "", WHOLE_IMAGE, (1, 1))
    except OSError as error:
        return Seen(wrong=error.strerror or str(error))
    except DataError as error:
        why = str(error).removeprefix(": ")
        return Seen(wrong="not an image" if "cannot identify" in why else shown(why, 120))
    with Image.open(io.BytesIO(data)) as image:
        try:
            rotated = image.getexif().get(ORIENTATION, 1) in range(2, 9)
        except Exception:  # broken EXIF data, which decoding does not read
            rotated = False
        digest = hashlib.blake2b(data, digest_size=16).digest()
        return Seen(image.width, image.height, rotated, image.mode in GREY, digest)


def look_at_all(paths: Sequence[Path], progress: Callable[[int, int], None] | None = None) -> list[Seen]:
    """Decode all images on all cores (decoding releases the interpreter lock); `progress` is told (done, total)."""
    seen: list[Seen] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        warnings.simplefilter("ignore")  # Pillow's, of broken EXIF data and large images
        for done, one in enumerate(threads.map(look_at, paths), start=1):
            seen.append(one)
            if progress is not None:
                progress(done, len(paths))
    return seen
