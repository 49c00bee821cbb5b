"""The memory of a search: <state>/searches/<digest>.jsonl, one record a line, on the disk before anything goes on.

    {"asked": 3, "key": "...", "values": {"loss.alpha": 0.31}}     before the trial starts
    {"key": "...", "epoch": 2, "value": 0.61}                      what was measured after an epoch, in the order it was heard
    {"key": "...", "stopped": 2, "value": 0.61}                    the scheduler's decision
    {"key": "...", "outcome": "finished", "value": 0.74}           or failed, with a reason

A search that goes on, on any host that shares the state folder, reads from here what its searcher and its scheduler knew.
Only the process that runs the search appends; it holds the lease `search-<digest>`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from a3m.errors import StoreError


@dataclass
class Asked:
    """A trial that the search has asked for, and what it heard of it."""

    index: int
    key: str
    values: dict[str, Any]  # setting path -> value
    history: dict[int, float] = field(default_factory=dict)  # epoch -> value
    stopped: int | None = None  # epoch after which the scheduler stopped it
    outcome: str = ""  # finished | failed; empty: none yet
    value: float | None = None  # the last one that was measured
    reason: str = ""


class Journal:
    """Appends records, each whole on the disk before `append` returns."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; behind a line that a kill has torn it begins a new one. Raises StoreError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                size = file.seek(0, os.SEEK_END)
                torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
                file.write(b"\n" * torn + json.dumps(record).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be written ({error.strerror}): make room or set store.state"
            ) from error

    def read(self) -> dict[str, Asked]:
        """Key -> what is known of that trial, in the order in which they were asked for. A torn line is passed over."""
        asked: dict[str, Asked] = {}
        for record in self._records():
            key = record["key"]
            if "asked" in record:
                asked.setdefault(key, Asked(record["asked"], key, record["values"]))
            elif key in asked:
                _note(asked[key], record)
        return asked

    def epochs(self) -> list[tuple[str, int, float]]:
        """(key, epoch, value) in the order in which they were heard."""
        return [(record["key"], record["epoch"], record["value"]) for record in self._records() if "epoch" in record]

    def _records(self) -> list[dict[str, Any]]:
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found


def _note(asked: Asked, record: Mapping[str, Any]) -> None:
    if "epoch" in record:
        asked.history[record["epoch"]] = record["value"]
    if record.get("value") is not None:
        asked.value = record["value"]
    if "stopped" in record:
        asked.stopped = record["stopped"]
    if "outcome" in record:
        asked.outcome, asked.reason = record["outcome"], record.get("reason", "")
