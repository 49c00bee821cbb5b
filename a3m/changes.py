"""A trial whose settings change while it is trained: `train.changes`, a list of [epochs done, {setting path: value}].

So is the winner of a population retrained: its line back through the exchanges is such a schedule. What may change is what
neither the network nor the shape of the optimiser's state depends on.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from a3m import identity
from a3m.fit import Report
from a3m.identity import Trial
from a3m.state import Checkpoints, Lease
from a3m.trial import train


@dataclass(frozen=True)
class Placed(Trial):
    """A trial under another name and with its files elsewhere: a part of a whole one, or a member of a population."""

    name: str = ""
    checkpoint_folder: str = ""
    output_folder: str = ""

    @property
    def key(self) -> str:
        """The name in place of the key of its settings: checkpoints and lease go by it."""
        return self.name

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return Path(self.checkpoint_folder)

    @property
    def outputs(self) -> Path:
        """The folder of what it leaves."""
        return Path(self.output_folder)


class Boundary(Exception):
    """The last epoch of a part is over; its checkpoint is written and its metrics are reported."""


def train_changing(trial: Trial, report: Report | None = None, held: Lease | None = None) -> dict[str, float]:
    """As `a3m.trial.train`, part by part: each continues from the checkpoint of the one before with its own settings."""
    metrics: dict[str, float] = {}
    for start, end, settings in parts(trial.settings):
        done = Checkpoints(trial.checkpoints).epochs()
        last = end == trial.settings["train"]["epochs"]
        if done >= end and not last:
            continue
        if start and done == start:
            adapt(Checkpoints(trial.checkpoints, held.check if held is not None else None), settings)
        try:
            metrics = train(placed(trial, settings, trial.key), until(None if last else end, report), held)
        except Boundary:
            continue
    if held is not None:
        held.check()
    _name_outputs(trial)
    return metrics


def parts(settings: Mapping[str, Any]) -> list[tuple[int, int, dict[str, Any]]]:
    """(epochs done at the start, at the end, settings) of each part of a trial's settings."""
    now = copy.deepcopy(dict(settings))
    epochs, changes = now["train"]["epochs"], sorted(now["train"].pop("changes"), key=lambda change: change[0])
    starts = [0, *(epoch for epoch, _ in changes)]
    found = []
    for number, start in enumerate(starts):
        for path, value in (changes[number - 1][1] if number else {}).items():
            section, name = path.split(".")
            now[section][name] = value
        found.append((start, starts[number + 1] if number + 1 < len(starts) else epochs, copy.deepcopy(now)))
    return found


def until(end: int | None, report: Report | None) -> Report:
    """A report that goes on to `report` and raises Boundary after the epoch `end`."""

    def reported(epoch: int, metrics: dict[str, float]) -> None:
        if report is not None:
            report(epoch, metrics)
        if epoch == end:
            raise Boundary

    return reported


def placed(trial: Trial, settings: dict[str, Any], name: str, folder: Path | None = None) -> Placed:
    """The trial with other settings, under `name`; its files lie in `folder`, or where they lay."""
    own = {field.name: getattr(trial, field.name) for field in fields(Trial)} | {
        "settings": settings,
        "checkpoint_every": 1,
    }
    checkpoints = trial.checkpoints if folder is None else folder / "checkpoints"
    outputs = trial.outputs if folder is None else folder / "outputs"
    return Placed(**own, name=name, checkpoint_folder=str(checkpoints), output_folder=str(outputs))


def adapt(checkpoints: Checkpoints, settings: Mapping[str, Any]) -> None:
    """Write the settings into the newest checkpoint's optimiser, which would bring back those that it was saved with.

    The learning rate is set at every step, so it needs nothing. Done twice it changes nothing.
    """
    found = checkpoints.latest()
    assert found is not None, "a part begins where another has ended"
    epoch, state = found
    groups, train_settings = state["optimiser"]["param_groups"], settings["train"]
    for group in groups:
        for name in ("weight_decay", "momentum"):
            if name in group and name in train_settings:
                group[name] = train_settings[name]
    groups[1]["factor"] = train_settings["backbone_factor"]  # a3m.fit.make_optimiser: new layers, backbone, criterion
    before = set(checkpoints.folder.glob(f"{epoch:06d}-*.pt"))
    checkpoints.save(epoch, state)
    if len(set(checkpoints.folder.glob(f"{epoch:06d}-*.pt"))) > len(before):
        for path in before:
            path.unlink(missing_ok=True)


def _name_outputs(trial: Trial) -> None:
    """What the last part has left says the settings of the whole."""
    path, digests = trial.outputs / "settings.json", trial.outputs / "digests.json"
    content = json.loads(path.read_text()) | {"key": trial.key, "settings": trial.settings}
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    named = json.loads(digests.read_text()) | {path.name: identity.file_digest(path)}
    digests.write_text(json.dumps(named, indent=1) + "\n")
