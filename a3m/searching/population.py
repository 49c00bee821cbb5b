"""Population-based training (Jaderberg et al. 2017): networks trained side by side, of which the worse take over from the better.

Every `search.interval` epochs the members are compared on the validation part: each of the last quarter takes over weights and
settings of a member of the first quarter, and changes the settings a little (by a factor of 0.8 or 1.2, or drawn anew). All members
are at the same epoch then, and every draw is a function of the seed, round and member: a population that was cut off goes on
to the same end. (Tune's own scheduler decides by who comes first, and keeps what it decided in a pickle.)

    <state>/populations/<digest>/population.json      rounds that are over, and each member's line of settings
    <state>/populations/<digest>/<member>/<round>/    checkpoints and measured epochs of a member in a round

A member is no trial: its run has no key, and nothing of it enters a table. What it has found is the winner's schedule of settings.
"""

import itertools
import json
import math
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from a3m.errors import DataError, SettingsError, TrainingError
from a3m.identity import Trial
from a3m.points import CHANGING
from a3m.searching.distributions import Distribution
from a3m.settings import Params
from a3m.state import Checkpoints, lease, write_atomically

QUARTER = 0.25
RESAMPLED = 0.25  # share of the settings that are drawn anew
FACTORS = (0.8, 1.2)


@dataclass
class Member:
    """A line of checkpoints: `line` is its schedule so far, [epochs done, settings] of each part, taken over with the weights."""

    line: list[tuple[int, dict[str, Any]]]
    score: float | None = None  # at the end of the last round; None when its loss was no number
    copied: int | None = None  # the member whose weights it begins the next round with; None: its own

    @property
    def values(self) -> dict[str, Any]:
        """Its settings now."""
        return self.line[-1][1]


@dataclass
class Population:
    """The members after `rounds` rounds; what each had in each of them, and every exchange: epoch, member, from whom, settings."""

    rounds: int
    members: list[Member]
    history: list[dict[str, Any]] = field(default_factory=list)
    exchanges: list[dict[str, Any]] = field(default_factory=list)


def check(params: Params, paths: list[str]) -> None:
    """Refuse what cannot change while a network is trained, and a population without an exchange."""
    for path in paths:
        if path not in CHANGING:
            expected = ", ".join(CHANGING)
            raise SettingsError(
                f"search.space: {path} cannot change while a network is trained: expected some of {expected}"
            )
    if params.search.interval >= params.train.epochs:
        raise SettingsError(
            f"search.interval={params.search.interval}: nothing is exchanged within train.epochs={params.train.epochs}"
        )


def load(folder: Path) -> Population | None:
    """The population as it was saved last."""
    path = folder / "population.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    members = [Member([(epoch, values) for epoch, values in one.pop("line")], **one) for one in content["members"]]
    return Population(**content | {"members": members})


def save(folder: Path, population: Population) -> None:
    """Keep it, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "population.json", json.dumps(asdict(population), indent=1).encode())


def born(space: Mapping[str, Distribution], size: int, seed: int) -> Population:
    """Members with settings at random."""
    rng = random.Random(f"{seed} born")
    return Population(0, [Member([(0, {path: one.draw(rng) for path, one in space.items()})]) for _ in range(size)])


def order(members: Sequence[Member], mode: str) -> list[int]:
    """Members from the best to the worst; whose loss was no number is last, of equal ones the first is better."""
    sign = 1.0 if mode == "max" else -1.0
    return sorted(range(len(members)), key=lambda n: (members[n].score is None, -sign * (members[n].score or 0.0), n))


def exchange(
    population: Population, space: Mapping[str, Distribution], scores: Sequence[float | None], epoch: int, mode: str,
    seed: int, *, last: bool,
) -> Population:  # fmt: skip
    """The population after a round: its scores, and, unless it was the last, who takes over from whom."""
    members = [Member(list(one.line), score) for one, score in zip(population.members, scores, strict=True)]
    exchanges = list(population.exchanges)
    if not last and any(score is not None for score in scores):
        ranked = order(members, mode)
        share = min(max(1, math.ceil(QUARTER * len(members))), len(members) // 2)
        best = [number for number in ranked[:share] if members[number].score is not None]
        for number in ranked[share:]:
            if number not in ranked[-share:] and members[number].score is not None:
                continue
            rng = random.Random(f"{seed} {population.rounds} {number}")
            source = rng.choice(best)
            values = {path: explore(one, members[source].values[path], rng) for path, one in space.items()}
            members[number].line = [*population.members[source].line, (epoch, values)]
            members[number].copied = source
            exchanges.append({"epoch": epoch, "member": number, "from": source, "settings": values})
    now = [
        {"epoch": epoch, "member": number, "score": score, "settings": population.members[number].values}
        for number, score in enumerate(scores)
    ]
    return Population(population.rounds + 1, members, [*population.history, *now], exchanges)


def explore(distribution: Distribution, value: Any, rng: random.Random) -> Any:
    """A value near the one that worked: of numbers a factor, of choices a neighbour; now and then one at random."""
    if rng.random() < RESAMPLED:
        return distribution.draw(rng)
    if distribution.kind == "choice":
        at = distribution.choices.index(distribution.drawn(value)) + rng.choice((-1, 1))
        return distribution.value(distribution.choices[min(max(at, 0), len(distribution.choices) - 1)])
    factor = rng.choice(FACTORS)
    step = distribution.step or (1.0 if distribution.kind == "integer" else 0.0)
    moved = value * factor
    return distribution.inside(moved if abs(moved - value) >= step else value + math.copysign(step, factor - 1))


def changes(line: Sequence[tuple[int, Mapping[str, Any]]]) -> tuple[dict[str, Any], list[list[Any]]]:
    """A line as the settings at the start and `train.changes`: only what differs from before."""
    found: list[list[Any]] = []
    for (_, before), (epoch, values) in itertools.pairwise(line):
        found.append([epoch, {path: value for path, value in values.items() if value != before[path]}])
    return dict(line[0][1]), [change for change in found if change[1]]


# --- in a worker: one member, one round ---------------------------------------------------------------------------------


def perform(job: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Train a member for one round -> {"outcome": finished | failed, "epochs": {epoch: metrics}}. Goes on where it was cut off."""
    from a3m.changes import Boundary, adapt, placed, until
    from a3m.trial import train, verified_inputs

    trial = Trial(**job["trial"])
    folder = Path(job["folder"])
    with lease(Path(trial.state), job["key"]) as held:
        report({"lease": str(held.path), "token": held.token})
        measured = read_epochs(folder)
        if job["until"] in measured:
            return {"outcome": "finished", "epochs": measured}
        try:
            verified_inputs(trial)
        except DataError as error:
            return {"outcome": "lost", "reason": str(error)}
        member = placed(trial, trial.settings, job["key"], folder)
        checkpoints = Checkpoints(member.checkpoints, held.check)
        for path in member.checkpoints.glob("??????-*.pt"):
            epoch = int(path.name.partition("-")[0])
            if epoch > job["begins"] and epoch not in measured:
                path.unlink()  # its metrics were lost with the process: it is trained once more
        if job["source"] is not None and not checkpoints.epochs():
            _take_over(Path(job["source"]), member.checkpoints, job["begins"])
        if job["source"] is not None and checkpoints.epochs() == job["begins"]:
            adapt(checkpoints, trial.settings)  # also when the process died between the two

        def each_epoch(epoch: int, metrics: dict[str, float]) -> None:
            held.check()
            measured[epoch] = {name: float(value) for name, value in metrics.items()}
            _write_epochs(folder, measured)
            report({"epoch": epoch, **metrics})

        try:
            train(member, until(job["until"], each_epoch), held)
        except Boundary:
            return {"outcome": "finished", "epochs": measured}
        except TrainingError as error:
            return {"outcome": "failed", "reason": str(error), "epochs": measured}
    raise AssertionError("a round ends with an epoch")


def _take_over(source: Path, target: Path, epoch: int) -> None:
    """Copy the checkpoint of an epoch, whole or not at all; its name holds its checksum."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob(f"{epoch:06d}-*.pt")):
        write_atomically(target / path.name, path.read_bytes())


def read_epochs(folder: Path) -> dict[int, dict[str, float]]:
    """What a member has measured in a round: epoch -> metrics."""
    try:
        return {int(epoch): metrics for epoch, metrics in json.loads((folder / "epochs.json").read_text()).items()}
    except FileNotFoundError:
        return {}


def _write_epochs(folder: Path, measured: Mapping[int, Mapping[str, float]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "epochs.json", json.dumps(measured).encode())


def place(folder: Path, member: int, round_: int) -> Path:
    """Where a member's files of a round lie."""
    return folder / str(member) / str(round_)


def forget(folder: Path, rounds: int) -> None:
    """Remove the checkpoints that no coming round begins with; what was measured stays."""
    for path in folder.glob("*/*/checkpoints"):
        if int(path.parent.name) < rounds - 1:
            shutil.rmtree(path, ignore_errors=True)
