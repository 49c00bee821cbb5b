"""A user's own data set: one CSV (`a3m.data.manifest_rows` says how it is written) and the images that it names.

`a3m.data.manifest_find` tells the task and finds every problem, here and for `a3m check`; no image is opened here.

Re-identification: where all identities are whole numbers they stay (0 = a distractor, below 0 = junk; both in the gallery
only), else they are names and numbered from 1. Without cameras nothing is known about who was seen twice, and nothing is left out:
all queries get camera 0, the gallery camera 1, and every training image of an identity a camera of its own.
"""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from a3m.data.manifest_find import DISTRACTOR, Found, find
from a3m.data.manifest_rows import WHOLE, whole
from a3m.data.records import Records, arrange
from a3m.errors import DataError, SettingsError

if TYPE_CHECKING:
    from a3m.settings import Data


def read(root: Path, settings: "Data", task: str = "") -> Records:
    """Read `root`/`settings.manifest`. `task`, if given, must be the one that the columns say.

    Raises DataError with the first problems and the command that lists all; `settings.missing_limit` admits that share of
    images that are not on disk. No image is opened.
    """
    below = PurePosixPath(settings.manifest)
    path = root / below
    if below.is_absolute() or ".." in below.parts:
        raise SettingsError(f"data.manifest={settings.manifest}: expected a file below {root}")
    found = find(path, missing_limit=settings.missing_limit)
    if found.problems:
        some = "\n".join(f"  {problem.where()}{problem.kind}: {problem.what}" for problem in found.problems[:5])
        number = len(found.problems)
        raise DataError(
            f"{path}: {number} problem{'s' * (number > 1)}, the first:\n{some}\n`a3m check {path}` lists all of them"
        )
    if task and task != found.task:
        raise SettingsError(f"dataset.task={task}: the columns and splits of {path} say {found.task}; leave it empty")
    return records(found, str(below.parent))


def records(found: Found, below: str = "") -> Records:
    """The records of a manifest without problems; `below`: where its folder lies below the data set's root."""
    frame, task = found.frame, found.task
    reid = task == "re-identification"
    numbers = reid and all(map(WHOLE.fullmatch, found.names))
    label = {name: whole(name) if numbers else index + reid for index, name in enumerate(found.names)}
    table = frame.assign(label=frame["name"].map(label).astype(np.int64))
    checks = [f"read from {found.path.name}", *found.notes]
    checks.extend(f"{one.where()}{one.kind}: {one.what}" for one in found.warnings[:20])
    if len(found.warnings) > 20:
        checks.append(f"and {len(found.warnings) - 20} more warnings (a3m check)")
    if not reid:
        table = table.drop(columns="camera")
    elif table["camera"].isna().all():
        table["camera"] = cameras(table)
        checks.append("cameras are not known: no gallery image is left out (queries have camera 0, the gallery 1)")
    table["image"] = [str(PurePosixPath(below) / image) for image in table["image"]]
    description: dict[str, Any] = {
        "dataset": "manifest",
        "task": task,
        "source": "raw",
        "complete": not found.absent,
        "attributes": found.attributes,
        **({} if reid else {"classes": found.names}),
        **({"identities": {str(label[name]): name for name in found.names}} if reid and not numbers else {}),
        "counts": counts(table),
        "origin": f"own data ({found.path.name})",
        "checks": checks,
    }
    return Records(arrange(table, found.columns), description)


def cameras(table: pd.DataFrame) -> pd.Series:
    """Cameras of people whose cameras are not known, such that no gallery image counts as seen by its query's camera."""
    fixed = table["split"].map({"query": 0, "gallery": 1})
    return fixed.fillna(table.groupby(["split", "label"]).cumcount()).astype("Int64")


def counts(table: pd.DataFrame) -> dict[str, int]:
    """Images, and classes or identities other than distractors, of every split."""
    result = {"images": len(table)}
    reid = "camera" in table
    for split, part in table.groupby("split", sort=False):
        result[str(split)] = len(part)
        labels = part["label"][part["label"] != DISTRACTOR] if reid else part["label"]
        result[f"{split}_{'identities' if reid else 'classes'}"] = int(labels.nunique())
    return result
