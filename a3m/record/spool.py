"""The spool of a trial: what it has to say to the store, kept on disk first and delivered from there in order.

`<state>/spool/<key>.jsonl` holds one record a line, flushed to the disk before anything goes on; `<key>.cursor` beside it says
up to which byte it was delivered, and to whom. The cursor may lag, never lead: delivering a record twice must change nothing.
A later attempt of the trial, on any host, goes on where the last one stopped. Knows no MLflow: it is given `deliver`.
"""

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from a3m.errors import StoreError
from a3m.record.patience import StoreAway, delays
from a3m.state import LeaseLost

CLOSING = 2.0  # seconds that a delivery under way is given when the spool closes
Record = dict[str, Any]  # "kind": begin | epoch | end, and what belongs to it


class Spool:
    """The spool of the attempt that holds the trial's lease; a thread delivers while the trial goes on.

    `deliver` is called with one record after the other, in order; StoreAway makes it wait and try again, another error stops
    delivering (`refused`). `guard` is called before every append and every delivery, and raises LeaseLost when another attempt
    has taken the trial over. `address` names whom is delivered to: for another one everything is delivered anew.
    """

    def __init__(
        self, path: Path, deliver: Callable[[Record], None], *, address: str, guard: Callable[[], None] | None = None
    ):
        self.path, self.address, self.guard = path, address, guard or (lambda: None)
        self.refused: Exception | None = None
        self._deliver = deliver
        self._lock = threading.Condition()
        self._closed = self._away = False
        self.guard()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            lines, size = _whole(path.read_bytes())
            # Behind a line that was torn nothing can be trusted, and the next one must not be glued to it.
            os.truncate(self._file.fileno(), size)
        except OSError as error:
            raise _unwritable(path, error) from error
        self.records = [record for record, _ in lines]
        delivered = _cursor(path, address)
        if delivered not in {end for _, end in lines}:
            delivered = 0
        self._waiting = deque((record, end) for record, end in lines if end > delivered)
        self._thread: threading.Thread | None = None

    def append(self, record: Mapping[str, Any]) -> None:
        """Keep a record on disk; returns when it is safe there. Raises LeaseLost, or StoreError when it cannot be written."""
        self.guard()
        line = memoryview(json.dumps(record).encode() + b"\n")
        size = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # a disk that is full takes a part of a line
                os.truncate(self._file.fileno(), size)
            raise _unwritable(self.path, error) from error
        with self._lock:
            self.records.append(dict(record))
            self._waiting.append((dict(record), os.fstat(self._file.fileno()).st_size))
            self._lock.notify_all()
        self._start()

    def flush(self, seconds: float) -> bool:
        """Wait until all is delivered -> whether it is. Raises LeaseLost.

        A store that is away is given up after `seconds`; one that takes long over what it was given, such as weights, is not.
        """
        self._start()
        deadline = time.monotonic() + seconds
        with self._lock:
            while self._waiting and self.refused is None:
                left = deadline - time.monotonic()
                if left <= 0 and self._away:
                    break
                self._lock.wait(left if left > 0 else None)
            if isinstance(self.refused, LeaseLost):
                raise self.refused
            return not self._waiting

    def close(self) -> None:
        """Stop delivering after the record that is under way; what is left stays on disk."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSING)
        self._file.close()

    def remove(self) -> None:
        """Forget everything: it is delivered, or worth nothing."""
        self.close()
        remove(self.path)

    # --- the delivering thread ---

    def _start(self) -> None:
        """Not before the first call: whoever delivers may need this very object."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name=f"spool {self.path.stem}")
            self._thread.start()

    def _run(self) -> None:
        waits = delays()
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                record, end = self._waiting[0]
            try:
                self.guard()
                self._deliver(record)
                _write_cursor(self.path, self.address, end)
            except StoreAway:
                with self._lock:
                    self._away = True
                    self._lock.notify_all()
                    if self._lock.wait_for(lambda: self._closed, next(waits)):
                        return
                continue
            except Exception as error:
                with self._lock:
                    self.refused = error
                    self._lock.notify_all()
                return
            waits = delays()
            with self._lock:
                self._waiting.popleft()
                self._away = False
                self._lock.notify_all()


def records(path: Path) -> list[Record]:
    """What a spool holds, delivered or not, up to a line that was torn; nothing when there is none. Changes nothing."""
    try:
        return [record for record, _ in _whole(path.read_bytes())[0]]
    except OSError:
        return []


def keys(state: Path) -> set[str]:
    """The keys of the trials that have a spool in a state folder."""
    return {path.stem for path in (state / "spool").glob("*.jsonl")}


def ended(found: Sequence[Record]) -> Record | None:
    """The record with which a trial ended; None while it has none, or has begun once more since."""
    return found[-1] if found and found[-1]["kind"] == "end" else None


def remove(path: Path) -> None:
    """Remove a spool and its cursor, the cursor first: without its spool it would speak of the next one."""
    path.with_suffix(".cursor").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _whole(data: bytes) -> tuple[list[tuple[Record, int]], int]:
    """The readable lines from the beginning, each with the byte behind it, and how many bytes they are."""
    found: list[tuple[Record, int]] = []
    end = 0
    while (newline := data.find(b"\n", end)) >= 0:
        try:
            record = json.loads(data[end:newline])
        except ValueError:
            break
        if not isinstance(record, dict) or "kind" not in record:
            break
        end = newline + 1
        found.append((record, end))
    return found, end


def _cursor(path: Path, address: str) -> int:
    try:
        found = json.loads(path.with_suffix(".cursor").read_text())
        return int(found["delivered"]) if found["to"] == address else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _write_cursor(path: Path, address: str, delivered: int) -> None:
    """Not flushed to the disk: a cursor that is lost costs one more delivery that changes nothing."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps({"to": address, "delivered": delivered}))
        temporary.replace(path.with_suffix(".cursor"))
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk: the records before it were delivered all the same


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: cannot be written ({error.strerror}): make room or set store.state")
