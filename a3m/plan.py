"""From a space to trials, and what is known of each: finished, interrupted, failed, or new."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from a3m import config, identity
from a3m.data import pack
from a3m.errors import DataError, SettingsError
from a3m.identity import Trial
from a3m.points import get, varied
from a3m.record import address, recording, runs, spool
from a3m.relevance import dataset_digest, trial_settings
from a3m.settings import Params
from a3m.space import Point
from a3m.state import Checkpoints, holder
from a3m.weights_source import weights_file

STATES = {
    "finished": "finished, reused",
    "older": "finished by older code, reused (reuse.code=any)",
    "undelivered": "trained, not yet delivered to MLflow: delivered now",
    "elsewhere": "being trained by another process, waited for",
    "interrupted": "interrupted, continued",
    "failed": "failed before, left alone (retry_failed=true trains them again)",
    "new": "to be trained",
}
LISTED = 200  # trials of one state that a plan names
TRAINED = ("elsewhere", "interrupted", "new")


@dataclass(frozen=True)
class Planned:
    """One trial of a study and what is known of it."""

    trial: Trial
    point: dict[str, Any]
    seed: int
    name: str
    state: str  # one of STATES
    found: runs.Found | None
    epochs_done: int = 0


# --- from a space to trials ---------------------------------------------------------------------------------------------


def expand(
    params: Params, root: Path, study: str, space: Sequence[Point]
) -> list[tuple[Trial, dict[str, Any], int, str]]:
    """Every point of the space with every seed of its own or of the study, each key once -> (trial, point, seed, name).

    `seeds` at the top of the settings overrides both. What the study's section says of a method (`own`) is set, but is no part of
    the point: it belongs to the method and not to what the study varies.
    """
    section = get(params, study) if hasattr(params, study) else params.search  # a search may have any name
    usual, own = section.seeds, getattr(section, "own", {})
    points = [
        ({k: v for k, v in point.items() if k != "seeds"}, params.seeds or point.get("seeds", usual)) for point in space
    ]
    trials: dict[str, tuple[Trial, dict[str, Any], int, str]] = {}
    for seed in sorted({seed for _, seeds in points for seed in seeds}):
        for point, seeds in points:
            if seed in seeds:
                besides = own.get(str(point.get("method")), {}) if point.get("recipe", "paper") == "paper" else {}
                # The method first: what it sets itself may be set otherwise after it.
                settings = {"method": point["method"], **besides, **point} if besides else point
                trial = make_trial(varied(params, settings, config.methods()), root, seed)
                trials.setdefault(trial.key, (trial, point, seed, trial_name(trial, point, seed)))
    return list(trials.values())


def make_trial(params: Params, root: Path, seed: int) -> Trial:
    """The trial that these settings name on the data set as it is packed now.

    While nothing is packed a plan can still be made: the trial then has no data digest and cannot be trained.
    """
    folder = root / "data" / "prepared" / params.dataset.name
    try:
        summary = pack.read_summary(folder)
        digest = summary["digest"]
        if summary.get("made_with") != dataset_digest(params):
            raise SettingsError(
                f"{folder / pack.FILE} was made with other settings of dataset, data or twin than these (a profile brings "
                f"its own): put yours into params.yaml and run `dvc repro pack@{folder.name}`"
            )
    except (DataError, SettingsError):
        if not params.plan:
            raise
        digest = "not packed"
    settings = trial_settings(params, seed)
    weights = ""
    file = _weights_file(params, root)
    if file is not None:
        # The key names what the file holds, not where it lies.
        weights = str(file)
        settings["backbone"]["weights"] = _weights_digest(weights)
    return Trial(
        settings=settings,
        data=digest,
        code=identity.code_digest("a3m.changes" if params.train.changes else identity.ENTRY),
        pack=str(folder / pack.FILE),
        state=str((root / params.store.state).resolve()),
        weights=weights,
        workers=params.train.workers,
        checkpoint_every=params.train.checkpoint_every,
        validate_every=params.train.validate_every,
    )


def lacking(params: Params, root: Path) -> str:
    """What a plan must say is not there yet: the file of the backbone's initial weights; '' when nothing lacks."""
    try:
        weights_file(params.backbone.weights, root)
    except SettingsError as error:
        return str(error)
    return ""


def _weights_file(params: Params, root: Path) -> Path | None:
    """The file of initial weights; a plan is made also where it is not there yet."""
    try:
        return weights_file(params.backbone.weights, root)
    except SettingsError:
        if not params.plan:
            raise
        return None


@functools.cache
def _weights_digest(path: str) -> str:
    try:
        return identity.file_digest(Path(path))
    except OSError as error:
        message = (
            f"backbone.weights={path}: {error.strerror}; expected none, pretrained, or a .safetensors or .pth file"
        )
        raise SettingsError(message) from error


def trial_name(trial: Trial, point: Point, seed: int) -> str:
    """What a run is called: `a3m alpha=0.5 beta=0.5 seed=1`."""
    method = trial.settings["method"]["name"]
    shown = {path: len(value) if path == "train.changes" else value for path, value in point.items()}
    rest = [f"{path.rpartition('.')[2]}={value}" for path, value in shown.items() if path != "method"]
    return " ".join([method, *rest, f"seed={seed}"])


# --- what is done and what is not ---------------------------------------------------------------------------------------


def look_up(
    params: Params, trials: Sequence[tuple[Trial, dict[str, Any], int, str]], store: runs.Store | None, experiment: str
) -> list[Planned]:
    """Look every trial up in the store and in the state folder."""
    by_key = store.find(experiment) if store is not None else {}
    by_any = store.find(experiment, "key.any_code") if store is not None and params.reuse.code == "any" else {}
    planned = []
    spools = {state: spool.keys(Path(state)) for state in {trial.state for trial, *_ in trials}}
    for trial, point, seed, name in trials:
        said = recording.undelivered(Path(trial.state), trial.key) if trial.key in spools[trial.state] else None
        found = by_key.get(trial.key)
        older = by_any.get(trial.key_of_any_code)
        done = Checkpoints(trial.checkpoints).epochs()
        if found is not None and found.status == runs.FINISHED:
            state = "finished"
        elif older is not None and older.status == runs.FINISHED:
            state, found = "older", older
        elif holder(Path(trial.state) / "leases" / f"{trial.key}.json") is not None:
            state = "elsewhere"
        elif said is not None and not (said["status"] == runs.FAILED and params.retry_failed):
            state = "undelivered"
        elif found is not None and found.failed is not None and not params.retry_failed:
            state = "failed"
        elif found is not None or done:
            state = "interrupted"
        else:
            state = "new"
        planned.append(Planned(trial, point, seed, name, state, found, done))
    return planned


def store_exists(params: Params, root: Path) -> bool:
    """Whether there is a store to look into: a plan creates none."""
    uri = address.full_uri(params.store.uri, root)
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).exists()


def print_plan(console: Console, params: Params, study: str, planned: Sequence[Planned]) -> None:
    """Print how many trials of a study are in which state; with plan=true, and for what needs attention, which."""
    source = "synthetic twin" if params.data.source == "twins" else "real data"
    console.print(f"{study} on {params.dataset.name} ({source}), profile {params.profile}: {len(planned)} trials")
    for state, text in STATES.items():
        chosen = [one for one in planned if one.state == state]
        if not chosen:
            continue
        console.print(f"  {len(chosen):4d} {text}")
        if params.plan or state in ("undelivered", "interrupted", "failed", "elsewhere"):
            for one in chosen[:LISTED]:
                epochs = one.trial.settings["train"]["epochs"]
                more = f"  from epoch {one.epochs_done} of {epochs}" if state == "interrupted" else ""
                reason = f"  {one.found.failed}" if state == "failed" and one.found is not None else ""
                console.print(f"       {one.trial.key}  {one.name}{more}{reason}")
            if len(chosen) > LISTED:
                console.print(f"       ... and {len(chosen) - LISTED} more, to {chosen[-1].name}")
    if planned and planned[0].trial.data == "not packed":
        name = params.dataset.name
        console.print(f"  {name} is not packed with these settings (`dvc repro pack@{name}`): nothing can be reused")
