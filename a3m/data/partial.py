"""An unfinished pack, which an interruption does not lose: rows in their places, and behind them a journal of what is whole.

The journal has 8 bytes a row, 0 or the row's fingerprint: of everything that its pixels depend on. A row is taken over by a later
attempt only where the fingerprint is still the same, so that no change of settings, records, Pillow or image goes unseen. Data
are flushed to the disk before the journal says that they are there; both are one file, so that they cannot be parted.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from a3m.errors import DataError

Fingerprints = npt.NDArray[np.uint64]  # even and not 0; + 1 in the journal marks a row
MARK = np.uint64(1)
CHUNK = 2**24


class Partial:
    """An open partial file of a pack of `total` bytes and `rows` rows."""

    def __init__(self, path: Path, file: int, total: int, rows: int):
        self.path, self._file, self._total = path, file, total
        if os.fstat(file).st_size != total + 8 * rows:  # of another pack, or new
            os.ftruncate(file, 0)
            os.ftruncate(file, total + 8 * rows)
        self._journal = np.frombuffer(bytearray(os.pread(file, 8 * rows, total)), np.uint64)

    def whole(self, fingerprints: Fingerprints) -> npt.NDArray[np.bool_]:
        """Which rows are there and were made from the same."""
        return (self._journal & ~MARK) == fingerprints

    @property
    def marked(self) -> int:
        """How many rows carry the mark."""
        return int((self._journal & MARK).sum())

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Put bytes into their place. Any thread may."""
        rest = memoryview(data).cast("B")
        while rest:
            done = os.pwrite(self._file, rest, offset)
            rest, offset = rest[done:], offset + done

    def commit(self, rows: npt.NDArray[np.int64], entries: Fingerprints) -> None:
        """Record that these rows are written: fingerprints, + MARK where so wished."""
        if len(rows) == 0:
            return
        os.fsync(self._file)
        self._journal[rows] = entries
        first, last = int(rows.min()), int(rows.max())
        self.write(self._journal[first : last + 1].data, self._total + 8 * first)

    def finish(self, path: Path) -> str:
        """Cut off the journal and give the file its name; returns its sha256, taken first: the journal counts until then."""
        sha = hashlib.sha256()
        for offset in range(0, self._total, CHUNK):
            sha.update(os.pread(self._file, min(CHUNK, self._total - offset), offset))
        os.ftruncate(self._file, self._total)
        os.fsync(self._file)
        self.path.replace(path)
        return sha.hexdigest()


@contextmanager
def opened(path: Path, total: int, rows: int) -> Iterator[Partial]:
    """The partial file at `path`, new or found there. Raises DataError when another process is at it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = path.exists() and path.stat().st_ino == os.fstat(file).st_ino  # else finished since by another
        except BlockingIOError:
            ours = False
        if not ours:
            raise DataError(f"{path}: another process is packing this data set: wait for it and give the command again")
        yield Partial(path, file, total, rows)
    finally:
        os.close(file)


def fingerprints(common: bytes, rows: list[bytes]) -> Fingerprints:
    """One a row, of what all rows share, of its place and of what is its own."""
    key = hashlib.sha256(common).digest()
    values = [
        int.from_bytes(hashlib.blake2b(b"%d " % place + own, digest_size=8, key=key).digest(), "little")
        for place, own in enumerate(rows)
    ]
    return np.array(values, np.uint64) & ~MARK | np.uint64(2)
