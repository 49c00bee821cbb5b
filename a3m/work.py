"""Training one trial under its lease and recording it: what a worker of a sweep does, and `a3m train` without Ray."""

import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from a3m import runs
from a3m.data import pack
from a3m.errors import DataError, InterruptedByUser, SettingsError, StoreError, TrainingError, UserError
from a3m.identity import Trial
from a3m.plan import STATES, Planned, look_up, make_trial, store_exists, trial_name
from a3m.settings import Params
from a3m.state import lease


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
    }


def perform(job: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Train one trial under its lease and record it -> {"outcome": finished | failed, "reason"}. Runs in any process.

    A failure that would come again (a loss that is no number, bad data, a bug) ends the run as FAILED and is an outcome; being
    killed or running out of memory is none: whoever schedules tries again.
    """
    from a3m.trial import train, verified_inputs  # here: torch and timm take seconds that a plan does not need

    trial = Trial(**job["trial"])
    store = runs.Store(job["store"])
    last: dict[str, float] = {}
    with lease(
        Path(trial.state), trial.key, lambda owner: report({"waiting": f"{owner['host']} pid {owner['pid']}"})
    ) as held:
        found = store.find(job["experiment"], value=trial.key).get(trial.key)
        if found is not None and found.status == runs.FINISHED:
            return {"outcome": "finished", "reason": "another process trained it", **found.metrics}
        if found is not None and found.failed is not None and not job["retry_failed"]:
            return {"outcome": "failed", "reason": found.failed}
        try:
            verified_inputs(trial)
        except DataError as error:
            return {
                "outcome": "lost",
                "reason": str(error),
            }  # can be mended without another key: not recorded as failed
        recorder = runs.Recorder.begin(
            store, job["experiment"], trial, job["name"], existing=found.run_id if found else None,
            parent=job["parent"], study=job["study"], source=job["source"], commit=job["commit"],
        )  # fmt: skip

        def each_epoch(epoch: int, metrics: dict[str, float]) -> None:
            held.check()
            # A speed differs each time it is measured: an epoch that is trained again must stay one point.
            last["images_per_second"] = metrics.pop("train/images_per_second")
            recorder.report(epoch, metrics)
            report({"epoch": epoch, **metrics})

        try:
            metrics = train(trial, each_epoch, held)
        except (StoreError, MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:
            if _transient(error):
                raise
            if isinstance(error, UserError) and not isinstance(error, DataError | SettingsError | TrainingError):
                return {"outcome": "lost", "reason": str(error)}  # such as weights that a hub did not give
            reason = str(error) if isinstance(error, DataError | TrainingError) else f"{type(error).__name__}: {error}"
            recorder.fail(reason)
            return {"outcome": "failed", "reason": reason}
        held.check()
        recorder.finish(trial.settings["train"]["epochs"], metrics, trial.outputs, last)
        trial.clear()
    return {"outcome": "finished", **metrics}


def _transient(error: Exception) -> bool:
    """Whether trying again may help: no memory on the device, a full or lost disk."""
    return isinstance(error, OSError) or "out of memory" in str(error).lower()


def train_one(params: Params, root: Path) -> dict[str, Any]:
    """`a3m train`: one trial in this process, without Ray: same code, same key, same run -> its outcome."""
    console = Console(soft_wrap=True, highlight=False)
    trial = make_trial(params, root, params.seed)
    store = None if params.plan and not store_exists(params, root) else runs.open_store(params.store.uri, root)
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
        else:
            shown = "  ".join(
                f"{name} {value:.4g}" for name, value in values.items() if name.endswith(("loss", "accuracy", "mean"))
            )
            console.print(f"  epoch {values['epoch']}/{params.train.epochs}  {shown}")

    try:
        return perform(job_of(params, root, one, store.uri, experiment, None, None), show)
    except KeyboardInterrupt:
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
