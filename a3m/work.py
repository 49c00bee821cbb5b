"""Training one trial under its lease and recording it: what a worker of a sweep does, and `a3m train` without Ray."""

import contextlib
import functools
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from a3m import node
from a3m.data import pack
from a3m.errors import DataError, InterruptedByUser, SettingsError, StoreError, TrainingError, UserError
from a3m.identity import Trial
from a3m.plan import STATES, Planned, look_up, make_trial, store_exists, trial_name
from a3m.record import recording, runs, spool
from a3m.record.patience import StoreAway
from a3m.settings import Params
from a3m.state import Checkpoints, Lease, lease


def job_of(
    params: Params, root: Path, one: Planned, uri: str, experiment: str, study: str | None, parent: str | None
) -> dict[str, Any]:
    """Everything a worker needs, as plain values."""
    return {
        "key": one.trial.key,
        "trial": asdict(one.trial),
        "name": one.name,
        "store": uri,
        "experiment": experiment,
        "study": study,
        "parent": parent,
        "source": source_label(Path(one.trial.pack).parent),
        "commit": commit(root),
        "retry_failed": params.retry_failed,
        "patience": params.store.patience,
        "node": node.expected(params, root, one.trial),
    }


Say = Callable[[dict[str, Any]], None]


def perform(job: dict[str, Any], report: Say) -> dict[str, Any]:
    """Train one trial under its lease and record it -> {"outcome": finished | failed | undelivered | lost, "reason"}.

    Runs in any process. A failure that would come again (a loss that is no number, bad data, a bug) ends the run as FAILED and
    is an outcome; being killed or running out of memory is none: whoever schedules tries again. Training neither stops nor waits
    for an MLflow that is away; before it begins, and when it has ended, job["patience"] seconds are waited. What is trained but
    could not be delivered is `undelivered`: it stays on disk, and the next call delivers it.
    """
    trial = Trial(**job["trial"])
    state = Path(trial.state)
    with lease(state, trial.key, _naming(report)) as held:
        report(held_as(held))
        known = _known(job, report, held)
        if known is not None:
            return known
        from a3m.trial import verified_inputs  # here: torch and timm take seconds that a plan does not need

        try:
            verified_inputs(trial)
        except DataError as error:
            # Can be mended without another key: not recorded as failed.
            return {"outcome": "lost", "reason": str(error)}
        recorder = recording.Recorder(job["store"], job["experiment"], state, trial.key, held.check)
        try:
            return _trained(job, trial, recorder, held, report)
        finally:
            recorder.close()


def deliver(job: dict[str, Any], report: Say) -> dict[str, Any]:
    """Deliver to MLflow what a trial that has ended had to say; trains nothing -> an outcome as of `perform`."""
    trial = Trial(**job["trial"])
    with lease(Path(trial.state), trial.key, _naming(report)) as held:
        known = _known(job, report, held)
    return known or {"outcome": "lost", "reason": "what it left is not there any more; it has to be trained again"}


def _naming(report: Say) -> Callable[[dict[str, Any]], None]:
    """What tells whoever called which process holds the lease that is waited for."""
    return lambda owner: report({"waiting": f"{owner['host']} pid {owner['pid']}"})


def held_as(held: Lease) -> dict[str, Any]:
    """What whoever scheduled a job needs to end its lease when its process is killed."""
    return {"lease": str(held.path), "token": held.token}


def pending(state: Path) -> dict[str, str]:
    """Trials in a state folder that have ended and may not be in MLflow yet: key -> data set."""
    found = {}
    for key in sorted(spool.keys(state)):
        begins = [record for record in spool.records(recording.spool_of(state, key)) if record["kind"] == "begin"]
        if begins and recording.undelivered(state, key) is not None:
            found[key] = begins[-1]["tags"]["dataset"]
    return found


def deliver_from_disk(store: runs.Store, experiment: str, state: Path, key: str) -> str:
    """Deliver what a trial had to say from its spool alone, whatever the settings are now -> why it was not, or ''."""
    held = Lease(state / "leases" / f"{key}.json")
    if not held.try_acquire():
        return "another process has it in hand"
    try:
        recorder = recording.Recorder(store.uri, experiment, state, key, held.check)
        try:
            away = recorder.delivered(store.patience)
            recorder.close(forget=not away)
            return away
        finally:
            recorder.close()
    finally:
        held.release()


def _known(job: dict[str, Any], report: Say, held: Lease) -> dict[str, Any] | None:
    """How the trial ended, by the store or by its spool, which is then delivered; None where it has to be trained."""
    trial = Trial(**job["trial"])
    state = Path(trial.state)
    ended = recording.undelivered(state, trial.key)
    store = runs.Store(job["store"], job["patience"], lambda text: report({"away": text}))
    try:
        found = store.find(job["experiment"], value=trial.key).get(trial.key)
    except StoreAway as error:
        # Another process may have finished the trial: without having looked, nothing is trained.
        return {
            "outcome": "lost" if ended is None else "undelivered",
            "reason": str(error).splitlines()[0],
        }
    if found is not None and found.status == runs.FINISHED:
        spool.remove(recording.spool_of(state, trial.key))
        trial.clear()
        return {"outcome": "finished", "reason": "another process trained it", **found.metrics}
    if ended is not None and not (ended["status"] == runs.FAILED and job["retry_failed"]):
        recorder = recording.Recorder(job["store"], job["experiment"], state, trial.key, held.check)
        try:
            return _handed_over(job, trial, recorder, ended)
        finally:
            recorder.close()
    if found is not None and found.failed is not None and not job["retry_failed"]:
        return {"outcome": "failed", "reason": found.failed}
    return None


def _trained(
    job: dict[str, Any], trial: Trial, recorder: recording.Recorder, held: Lease, report: Say
) -> dict[str, Any]:
    """Train from the newest checkpoint and hand over what came out."""
    from a3m import machine
    from a3m.changes import train_changing
    from a3m.record import inputs, notes, shown
    from a3m.serve import package
    from a3m.trial import train, verified_inputs

    pack = verified_inputs(trial)
    _drop_unreported(trial, recorder.epochs)
    recorder.begin(
        trial, job["name"], Checkpoints(trial.checkpoints).epochs(),
        parent=job["parent"], study=job["study"], source=job["source"], commit=job["commit"],
        inputs=inputs.describe(pack, trial.data, trial.settings["train"]["on"]),
        note=notes.trial(job["name"], trial.settings, job["source"], {}),
    )  # fmt: skip

    def each_epoch(epoch: int, metrics: dict[str, float]) -> None:
        held.check()
        recorder.report(epoch, metrics)
        report({"epoch": epoch, **{name: value for name, value in metrics.items() if name != recording.SPEED}})

    try:
        method = train_changing if trial.settings["train"].get("changes") else train
        metrics = method(trial, each_epoch, held)
        tags = {
            runs.NOTE: notes.trial(job["name"], trial.settings, job["source"], metrics),
            "device": machine.device(trial.settings["train"]["device"], trial.settings["train"]["threads"]),
        }
        held.check()  # each of these writes into the trial's outputs
        if undrawn := shown.write(trial.outputs, pack, metrics):
            tags["shown"] = f"not drawn: {undrawn}"[:500]
        held.check()
        package.write(trial.outputs, pack)
    except (StoreError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        if _transient(error):
            raise
        if isinstance(error, UserError) and not isinstance(error, DataError | SettingsError | TrainingError):
            return {"outcome": "lost", "reason": str(error)}  # such as weights that a hub did not give
        reason = str(error) if isinstance(error, DataError | TrainingError) else f"{type(error).__name__}: {error}"
        recorder.fail(reason)
    else:
        recorder.finish(trial.settings["train"]["epochs"], metrics, tags)
    return _handed_over(job, trial, recorder, recorder.spool.records[-1])


def _handed_over(
    job: dict[str, Any], trial: Trial, recorder: recording.Recorder, ended: spool.Record
) -> dict[str, Any]:
    """Wait until the store has all of a trial that has ended; then nothing of it is kept on disk."""
    away = recorder.delivered(job["patience"])
    if away:
        return {"outcome": "undelivered", "reason": away, **ended["metrics"]}
    recorder.close(forget=True)
    if ended["status"] == runs.FAILED:
        return {"outcome": "failed", "reason": ended["tags"]["failure"]}
    trial.clear()
    return {"outcome": "finished", "run": recorder.run_id, **ended["metrics"]}


def _drop_unreported(trial: Trial, reported: int | None) -> None:
    """A checkpoint is written before its epoch is reported: after a kill between the two, that epoch is trained once more, or
    the run would lack it for good.
    """
    for path in trial.checkpoints.glob("??????-*.pt"):
        if reported is not None and int(path.name.partition("-")[0]) > reported:
            path.unlink()


def _transient(error: Exception) -> bool:
    """Whether trying again may help: no memory on the device, a full or lost disk."""
    return isinstance(error, OSError) or "out of memory" in str(error).lower()


def train_one(params: Params, root: Path) -> dict[str, Any]:
    """`a3m train`: one trial in this process, without Ray: same code, same key, same run -> its outcome."""
    console = Console(soft_wrap=True, highlight=False)
    trial = make_trial(params, root, params.seed)
    store = None
    if not params.plan or store_exists(params, root):
        store = runs.open_store(params.store.uri, root, params.store.patience, lambda text: console.print(f"  {text}"))
    experiment = store.experiment(params.dataset.name, root, create=not params.plan) if store is not None else ""
    one = look_up(params, [(trial, {}, params.seed, trial_name(trial, {}, params.seed))], store, experiment)[0]
    console.print(f"{one.name} on {params.dataset.name}, key {trial.key}: {STATES[one.state]}")
    if params.plan:
        return {"outcome": "planned"}
    assert store is not None
    if one.state in ("finished", "older"):
        assert one.found is not None
        return {"outcome": "finished", "run": one.found.run_id, **one.found.metrics}
    if one.state == "failed":
        assert one.found is not None
        return {"outcome": "failed", "reason": one.found.failed}

    def show(values: dict[str, Any]) -> None:
        if "waiting" in values:
            console.print(f"  being trained by {values['waiting']}, waited for")
        elif "away" in values:
            console.print(f"  {values['away']}")
        elif "epoch" in values:
            shown = "  ".join(
                f"{name} {value:.4g}" for name, value in values.items() if name.endswith(("loss", "accuracy", "mean"))
            )
            console.print(f"  epoch {values['epoch']}/{params.train.epochs}  {shown}")

    try:
        return perform(job_of(params, root, one, store.uri, experiment, None, None), show)
    except KeyboardInterrupt:
        store.patience = 0.0
        with contextlib.suppress(StoreError):
            found = store.find(experiment, value=trial.key).get(trial.key)
            if found is not None and found.status == runs.RUNNING:
                store.end(found.run_id, runs.KILLED)
        raise InterruptedByUser("interrupted: the same command goes on after the last whole epoch") from None
    except OSError as error:
        raise StoreError(
            f"{error.filename or trial.state}: {error.strerror or error}: make room or set store.state"
        ) from error


def source_label(prepared: Path) -> str:
    """How results call their data: twins, raw, or raw subset: a part, or another split than the published one."""
    try:
        summary = pack.read_summary(prepared)
    except DataError:
        return ""
    return (
        "twins"
        if summary["source"] == "twins"
        else ("raw" if summary["complete"] and summary["comparable"] else "raw subset")
    )


@functools.cache  # a study asks for each of its trials
def commit(root: Path) -> str:
    """The project's git commit, with `-dirty` when tracked files differ from it; empty outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
