"""What a bootstrap over test data needs: results/<study>.predictions.npz, how every finished trial did on every test image.

One matrix a measure, a row a trial and a column a test image or query, since all trials of a study are tested on the same
images; 1,000 trials of 3,368 queries are 13 MB a measure in memory. Equal trials give equal bytes. Trials that the file holds
already are not fetched again: a key names what a trial answered. In classification every attribute is a measure too.

Shape suffixes: R trials in the order of their keys, N test images or queries.
"""

import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from a3m.data.pack import Pack
from a3m.plan import Planned
from a3m.record import runs
from a3m.state import write_atomically

FILE = "predictions.parquet"
FIRST_MATCH = ("first_match", "reranked.first_match")  # ranks from 1, 0 = none or skipped
AVERAGE_PRECISION = tuple(
    f"{lists}average_precision{formula}" for lists in ("", "reranked.") for formula in ("", "_trapezoid")
)
UNITS = {"classification": "images", "re-identification": "identities", "retrieval": "classes"}  # what is resampled
ABSENT = -1  # a trial that has no such measure; an image that has no label for an attribute
KEPT = "correct, attributes"  # what is kept of a classification; a file that says otherwise is asked for anew
FEW = 1000  # trials up to which attributes are kept: those of 10,000 would not fit into a driver's memory

Measures = dict[str, npt.NDArray[Any]]  # name -> (N,)


@dataclass
class Gathered:
    """The file's content: what its trials were tested on, and what each answered."""

    about: dict[str, str] = field(default_factory=dict)  # task, unit, data, images (a digest of their names, in order)
    labels: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))  # (N,) identity or class
    trials: dict[str, Measures] = field(default_factory=dict)  # key -> measures


def gather(store: runs.Store, finished: Sequence[Planned], path: Path) -> None:
    """Write the file for these trials; one whose run has its predictions no longer is left out."""
    known = read(path)
    if any(one.trial.data != known.about.get("data") for one in finished):
        known = Gathered()
    kept = KEPT if len(finished) <= FEW else "correct"
    if kept != KEPT:
        known.trials = {key: _without_attributes(measures) for key, measures in known.trials.items()}
    same = known.about.get("task") != "classification" or kept in known.about.get("kept", "correct")
    found = Gathered(known.about | {"kept": kept} if known.about else {}, known.labels)
    with tempfile.TemporaryDirectory() as folder:
        for one in sorted(finished, key=lambda one: one.trial.key):
            key = one.trial.key
            measures = known.trials.get(key)
            if (measures is None or not same) and one.found is not None:
                file = store.fetch(one.found.run_id, FILE, Path(folder))
                measures = _add(found, one, pd.read_parquet(file), kept) if file is not None else measures
            if measures is not None:
                found.trials[key] = measures
    write_atomically(path, _bytes(found))


def read(path: Path) -> Gathered:
    """What the file holds; nothing where there is none, or where it is no such file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            named = {name: arrays[name] for name in arrays.files}
        about = json.loads(str(named.pop("about")))
        keys, labels = named.pop("keys"), named.pop("labels")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return Gathered()
    trials = {
        str(key): {name: rows[place] for name, rows in named.items() if not _is_absent(rows[place])}
        for place, key in enumerate(keys)
    }
    return Gathered(about, labels, trials)


def _add(found: Gathered, one: Planned, frame: pd.DataFrame, kept: str) -> Measures | None:
    """The measures of one trial; None for a trial that was tested on other images than the first."""
    images = hashlib.sha256("\n".join(map(str, frame["id"])).encode()).hexdigest()[:16]
    if not found.about:
        task = Pack(Path(one.trial.pack)).description["task"]
        found.about |= {"task": task, "unit": UNITS[task], "data": one.trial.data, "images": images, "kept": kept}
        found.labels = frame["label"].to_numpy(np.int32)
    if images != found.about["images"]:
        return None
    if found.about["task"] == "classification":
        correct = {"correct": _equal(frame["prediction"], frame["label"])}
        return correct | _attributes(frame) if kept == KEPT else correct
    ranks = {name: frame[name].to_numpy(np.int32) for name in FIRST_MATCH if name in frame}
    # Half the bytes of float64; a mean of thousands is then right to seven digits, and is compared with the run's own.
    return ranks | {name: frame[name].to_numpy(np.float32) for name in AVERAGE_PRECISION if name in frame}


def _attributes(frame: pd.DataFrame) -> Measures:
    """attribute.<name>: 1 where it was recognised, 0 where not, ABSENT where the image has no label."""
    names = [column.removeprefix("predicted.") for column in map(str, frame) if column.startswith("predicted.")]
    return {
        f"attribute.{name}": np.where(
            frame[f"attribute.{name}"] < 0,
            np.int8(ABSENT),
            _equal(frame[f"predicted.{name}"], frame[f"attribute.{name}"]),
        )
        for name in names
    }


def _without_attributes(measures: Measures) -> Measures:
    return {name: values for name, values in measures.items() if not name.startswith("attribute.")}


def _equal(said: pd.Series, true: pd.Series) -> npt.NDArray[np.int8]:
    return (said == true).to_numpy().astype(np.int8)


def _bytes(found: Gathered) -> bytes:
    names = sorted({name for measures in found.trials.values() for name in measures})
    arrays: dict[str, Any] = {
        "about": np.array(json.dumps(found.about, sort_keys=True)),
        "keys": np.array(list(found.trials), dtype=np.str_),
        "labels": found.labels,
    }
    for name in names:
        like = next(measures[name] for measures in found.trials.values() if name in measures)
        absent = np.full(like.shape, np.nan if like.dtype.kind == "f" else ABSENT, like.dtype)
        arrays[name] = np.stack([measures.get(name, absent) for measures in found.trials.values()])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _is_absent(values_N: npt.NDArray[Any]) -> bool:
    return bool(np.isnan(values_N).all() if values_N.dtype.kind == "f" else (values_N == ABSENT).all())
