"""What a trial leaves on disk between attempts: checkpoints, and the lease that says who trains it.

Both lie in the state folder (`store.state`), below the trial's key, and must be reachable from every worker.
"""

import fcntl
import hashlib
import io
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from a3m.errors import StoreError

KEEP = 2  # checkpoints of a trial: when the newest is damaged, the one before is used
EXPIRY_SECONDS = 60.0


class Checkpoints:
    """The checkpoints of one trial, named `<epoch>-<checksum>.pt`; a damaged one is passed over.

    `guard` is called before each is written and raises when the trial has lost its lease.
    """

    def __init__(self, folder: Path, guard: Callable[[], None] | None = None):
        self.folder, self.guard = folder, guard

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Write the state after `epoch` epochs under a temporary name, rename it, drop all but the last two.

        `state` holds tensors, numbers, strings, lists and dicts of these: it is loaded with weights_only=True.
        """
        import torch

        if self.guard is not None:
            self.guard()
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / f"{epoch:06d}-{_checksum(data)}.pt", data)
            for old in self._files()[:-KEEP]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.folder}: cannot write a checkpoint ({error.strerror}): make room or set store.state"
            ) from error

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """The newest whole checkpoint as (epochs done, state), or None."""
        import torch

        for path in reversed(self._files()):
            epoch, checksum = path.stem.split("-")
            data = path.read_bytes()
            if _checksum(data) == checksum:
                return int(epoch), torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        return None

    def epochs(self) -> int:
        """Epochs done by the newest checkpoint, by its name alone; 0 when there is none."""
        files = self._files()
        return int(files[-1].stem.split("-")[0]) if files else 0

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("??????-*.pt"))


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def write_atomically(path: Path, data: bytes) -> None:
    """Write under a temporary name, flush to the disk, rename: the file is whole or not there."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# --- leases -------------------------------------------------------------------------------------------------------------


class LeaseLost(StoreError):
    """Another process trains this key now: what this one still has to say is refused."""


class Lease:
    """The right to train one key: a record with owner, token and expiry, renewed by a thread while it is held."""

    def __init__(self, path: Path):
        self.path, self.token = path, uuid.uuid4().hex
        self._stop = threading.Event()

    def try_acquire(self) -> bool:
        """Take the lease unless somebody alive holds it."""
        with _locked(self.path.parent):
            if holder(self.path) is not None:
                return False
            self._write()
        threading.Thread(target=self._renew, daemon=True).start()
        return True

    def check(self) -> None:
        """Raise LeaseLost unless the record still carries our token. Raises StoreError where it cannot be read."""
        for pause in (1, 4, None):
            try:
                if self._is_ours():
                    return
                raise LeaseLost(f"{self.path.stem}: another process has taken this trial over")
            except OSError as error:
                if pause is None:
                    raise StoreError(
                        f"{self.path}: cannot be read ({error.strerror}): is store.state there?"
                    ) from error
                time.sleep(pause)

    def release(self) -> None:
        """Give the lease back; somebody else's stays."""
        self._stop.set()
        with _locked(self.path.parent), suppress(OSError):  # it runs out by itself
            if self._is_ours():
                self.path.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        """Whether the record carries our token. Raises OSError where it is there and cannot be read: it may be ours."""
        try:
            return bool(json.loads(self.path.read_text()).get("token") == self.token)
        except (FileNotFoundError, ValueError):
            return False

    def _renew(self) -> None:
        while not self._stop.wait(EXPIRY_SECONDS / 6):
            try:
                with _locked(self.path.parent):
                    if self._stop.is_set() or not self._is_ours():
                        return
                    self._write()
            except (OSError, StoreError):
                continue  # a full disk, a share that is away for a moment: there are more chances before the record expires

    def _write(self) -> None:
        process = psutil.Process()
        record = {
            "token": self.token,
            "host": socket.gethostname(),
            "pid": process.pid,
            "born": process.create_time(),
            "expires": time.time() + EXPIRY_SECONDS,
        }
        write_atomically(self.path, json.dumps(record).encode())


@contextmanager
def lease(state: Path, key: str, waiting: Callable[[dict[str, Any]], None] | None = None) -> Iterator[Lease]:
    """Hold the lease of a key; while somebody alive has it, wait (`waiting` is told once who)."""
    held = Lease(state / "leases" / f"{key}.json")
    told = False
    while not held.try_acquire():
        owner = holder(held.path)
        if waiting is not None and owner is not None and not told:
            waiting(owner)
            told = True
        time.sleep(0.5)
    try:
        yield held
    finally:
        held.release()


def holder(path: Path) -> dict[str, Any] | None:
    """The record of the living process that holds a lease, or None: expired, or of a process of this host that is gone."""
    record = _read(path)
    if record is None or record["expires"] < time.time():
        return None
    if record["host"] == socket.gethostname():
        try:
            # Processes do not agree on the time of the boot to the second, so neither on when another one was born.
            if abs(psutil.Process(record["pid"]).create_time() - record["born"]) > 5:
                return None
        except psutil.NoSuchProcess:
            return None
    return record


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time changes the leases of a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise StoreError(f"{folder}: not writable ({error.strerror}): set store.state to a folder that is") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
