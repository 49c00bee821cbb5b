"""A study: the trials of a space, which of them are done, training the rest, and the results as a file.

`run` is what every file in sweeps/ calls. It looks the keys of its trials up in MLflow first: finished ones are reused,
interrupted ones continued from their last checkpoint in the same run, the rest trained; it prints that plan.
"""

import functools
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from a3m import cluster, config, identity, runs
from a3m.data import pack
from a3m.errors import DataError, SettingsError, StoreError, TrainingError, UserError
from a3m.identity import Trial
from a3m.settings import Params, get, trial_settings, varied
from a3m.state import Checkpoints, LeaseLost, holder, lease

Point = Mapping[str, Any]  # setting paths and their values; `method` names a method
STATES = {
    "finished": "finished, reused",
    "older": "finished by older code, reused (reuse.code=any)",
    "elsewhere": "being trained by another process, waited for",
    "interrupted": "interrupted, continued",
    "failed": "failed before, left alone (retry_failed=true trains them again)",
    "new": "to be trained",
}
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


def run(params: Params, root: Path, study: str, space: Sequence[Point]) -> None:
    """Bring a study to completion and write results/<study>.csv and results/<study>.runs.csv.

    Exits with code 1 and the list when trials failed, unless params.partial. Raises UserError on what stops everything.
    """
    console = Console(soft_wrap=True, highlight=False)
    trials = expand(params, root, study, space)
    store = None if params.plan and not _exists(params, root) else runs.open_store(params.store.uri, root)
    experiment = store.experiment(params.dataset.name, root) if store is not None else ""
    planned = plan(params, trials, store, experiment)
    _print_plan(console, params, study, planned)
    if params.plan:
        return
    assert store is not None
    missing = [one for one in planned if one.state in TRAINED]
    digest = hashlib.sha256(json.dumps(sorted(one.trial.key for one in planned)).encode()).hexdigest()[:16]
    note = f"{study} on {params.dataset.name} ({params.data.source}): {len(planned)} trials, {len(missing)} of them to be trained."
    parent = store.parent(experiment, study, digest, note)
    status = runs.KILLED
    try:
        if missing:
            jobs = [_job(params, root, one, store.uri, experiment, study, parent) for one in missing]
            _train(console, params, root, planned, jobs)
        status = runs.FINISHED
    finally:
        found = plan(params, [(one.trial, one.point, one.seed, one.name) for one in planned], store, experiment)
        rows = write_results(params, root, study, found, store.uri, parent)
        for one in found:
            if one.state == "interrupted" and one.found is not None and one.found.status == runs.RUNNING:
                store.end(one.found.run_id, runs.KILLED)
        store.join((one.found for one in found if one.found is not None and one.found.status == runs.FINISHED), study)
        bad = [one for one in found if one.state not in ("finished", "older")]
        store.end(parent, runs.FAILED if status == runs.FINISHED and bad else status)
    if bad:
        reasons = dict(zip(rows["key"], rows["reason"], strict=True))
        listed = "\n".join(f"  {one.trial.key}  {one.name}: {reasons[one.trial.key]}" for one in bad)
        message = f"{len(bad)} of {len(found)} trials of {study} did not finish:\n{listed}"
        if not params.partial:
            raise UserError(f"{message}\n(retry_failed=true trains them again, partial=true goes on without them)")
        console.print(message)
    console.print(f"results/{study}.csv: {len(found) - len(bad)} finished trials of {len(found)}")


# --- from a space to trials ---------------------------------------------------------------------------------------------


def expand(
    params: Params, root: Path, study: str, space: Sequence[Point]
) -> list[tuple[Trial, dict[str, Any], int, str]]:
    """Every point of the space with every seed of the study, each key once -> (trial, point, seed, name)."""
    seeds = params.seeds if params.seeds is not None else get(params, f"{study}.seeds")
    trials: dict[str, tuple[Trial, dict[str, Any], int, str]] = {}
    for seed in seeds:
        for point in space:
            trial = make_trial(varied(params, point, config.methods()), root, seed)
            trials.setdefault(trial.key, (trial, dict(point), seed, trial_name(trial, point, seed)))
    return list(trials.values())


def make_trial(params: Params, root: Path, seed: int) -> Trial:
    """The trial that these settings name on the data set as it is packed now.

    While nothing is packed a plan can still be made: the trial then has no data digest and cannot be trained.
    """
    folder = root / "data" / "prepared" / params.dataset.name
    try:
        digest = pack.read_summary(folder)["digest"]
    except DataError:
        if not params.plan:
            raise
        digest = "not packed"
    settings = trial_settings(params, seed)
    weights = ""
    if params.backbone.weights not in ("none", "pretrained"):
        # The key names what the file holds, not where it lies.
        weights = str((root / params.backbone.weights).resolve())
        settings["backbone"]["weights"] = _weights_digest(weights)
    return Trial(
        settings=settings,
        data=digest,
        code=identity.code_digest(),
        pack=str(folder / pack.FILE),
        state=str((root / params.store.state).resolve()),
        weights=weights,
        workers=params.train.workers,
        checkpoint_every=params.train.checkpoint_every,
        validate_every=params.train.validate_every,
    )


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
    rest = [f"{path.rpartition('.')[2]}={value}" for path, value in point.items() if path != "method"]
    return " ".join([method, *rest, f"seed={seed}"])


# --- what is done and what is not ---------------------------------------------------------------------------------------


def plan(
    params: Params, trials: Sequence[tuple[Trial, dict[str, Any], int, str]], store: runs.Store | None, experiment: str
) -> list[Planned]:
    """Look every trial up in the store and in the state folder."""
    by_key = store.find(experiment) if store is not None else {}
    by_any = store.find(experiment, "key.any_code") if store is not None and params.reuse.code == "any" else {}
    planned = []
    for trial, point, seed, name in trials:
        found = by_key.get(trial.key)
        older = by_any.get(trial.key_of_any_code)
        done = Checkpoints(trial.checkpoints).epochs()
        if found is not None and found.status == runs.FINISHED:
            state = "finished"
        elif older is not None and older.status == runs.FINISHED:
            state, found = "older", older
        elif holder(Path(trial.state) / "leases" / f"{trial.key}.json") is not None:
            state = "elsewhere"
        elif found is not None and found.failed is not None and not params.retry_failed:
            state = "failed"
        elif found is not None or done:
            state = "interrupted"
        else:
            state = "new"
        planned.append(Planned(trial, point, seed, name, state, found, done))
    return planned


def _exists(params: Params, root: Path) -> bool:
    """Whether there is a store to look into: a plan creates none."""
    return bool(params.store.uri) or (root / "mlflow.db").exists()


def _print_plan(console: Console, params: Params, study: str, planned: Sequence[Planned]) -> None:
    source = "synthetic twin" if params.data.source == "twins" else "real data"
    console.print(f"{study} on {params.dataset.name} ({source}), profile {params.profile}: {len(planned)} trials")
    for state, text in STATES.items():
        chosen = [one for one in planned if one.state == state]
        if not chosen:
            continue
        console.print(f"  {len(chosen):4d} {text}")
        if params.plan or state in ("interrupted", "failed", "elsewhere"):
            for one in chosen:
                epochs = one.trial.settings["train"]["epochs"]
                more = f"  from epoch {one.epochs_done} of {epochs}" if state == "interrupted" else ""
                reason = f"  {one.found.failed}" if state == "failed" and one.found is not None else ""
                console.print(f"       {one.trial.key}  {one.name}{more}{reason}")
    if planned and planned[0].trial.data == "not packed":
        console.print(
            f"  {params.dataset.name} is not packed yet (`dvc repro pack@{params.dataset.name}`): nothing can be reused"
        )


# --- training -----------------------------------------------------------------------------------------------------------


def _job(
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
    from a3m.trial import train  # here: torch and timm take seconds that a plan does not need

    trial = Trial(**job["trial"])
    store = runs.Store(job["store"])
    last: dict[str, float] = {}
    with lease(
        Path(trial.state), trial.key, lambda owner: report({"waiting": f"{owner['host']} pid {owner['pid']}"})
    ) as held:
        found = store.find(job["experiment"]).get(trial.key)
        if found is not None and found.status == runs.FINISHED:
            return {"outcome": "finished", "reason": "another process trained it", **found.metrics}
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


def _train(
    console: Console, params: Params, root: Path, planned: Sequence[Planned], jobs: list[dict[str, Any]]
) -> None:
    """Run the jobs on the cluster with a bar on a terminal, a line a finished trial everywhere."""
    names = {one.trial.key: one.name for one in planned}
    epochs = {one.trial.key: one.trial.settings["train"]["epochs"] for one in planned}
    started: dict[str, float] = {}
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    done = {job["key"]: Checkpoints(Trial(**job["trial"]).checkpoints).epochs() for job in jobs}
    with bar:
        task = bar.add_task("training", total=sum(epochs[key] for key in done), completed=sum(done.values()))

        def event(key: str, result: dict[str, Any]) -> None:
            started.setdefault(key, time.monotonic())
            if "epoch" in result:
                done[key] = result["epoch"]
            if "waiting" in result:
                bar.console.print(f"  {names[key]}: being trained by {result['waiting']}, waited for")
            if "outcome" in result:
                if result["outcome"] == "finished":
                    done[key] = epochs[key]
                finished = sum(done[other] == epochs[other] for other in done)
                text = result.get("reason") or _headline(result)
                bar.console.print(f"  [{finished}/{len(jobs)}] {names[key]}: {result['outcome']}  {text}")
            bar.update(task, completed=sum(done.values()))

        cluster.run(jobs, perform, params.cluster, params.train, (root / params.store.state).resolve(), event)


def _headline(metrics: Mapping[str, Any]) -> str:
    """The one or two numbers that a line on the terminal shows."""
    for prefix in ("test", "val"):
        shown = [name for name in (f"{prefix}/rank1", f"{prefix}/mAP", f"{prefix}/accuracy") if name in metrics]
        if shown:
            return "  ".join(f"{name} {100 * metrics[name]:.1f} %" for name in shown)
    return ""


def train_one(params: Params, root: Path) -> dict[str, Any]:
    """`a3m train`: one trial in this process, without Ray: same code, same key, same run -> its outcome."""
    console = Console(soft_wrap=True, highlight=False)
    trial = make_trial(params, root, params.seed)
    store = runs.open_store(params.store.uri, root)
    experiment = store.experiment(params.dataset.name, root)
    one = plan(params, [(trial, {}, params.seed, trial_name(trial, {}, params.seed))], store, experiment)[0]
    console.print(f"{one.name} on {params.dataset.name}, key {trial.key}: {STATES[one.state]}")
    if params.plan:
        return {"outcome": one.state}
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
        return perform(_job(params, root, one, store.uri, experiment, None, None), show)
    except KeyboardInterrupt:
        found = store.find(experiment).get(trial.key)
        if found is not None and found.status == runs.RUNNING:
            store.end(found.run_id, runs.KILLED)
        raise cluster.Interrupted("interrupted: the same command goes on after the last whole epoch") from None
    except LeaseLost as error:
        raise UserError(str(error)) from error


# --- results ------------------------------------------------------------------------------------------------------------


def write_results(
    params: Params, root: Path, study: str, planned: Sequence[Planned], uri: str, parent: str
) -> pd.DataFrame:
    """results/<study>.csv (equal bytes for equal results) and results/<study>.runs.csv (where each came from)."""
    varying = sorted({path for one in planned for path in one.point if path != "method"})
    rows, records = [], []
    for one in planned:
        found = one.found if one.state in ("finished", "older") else None
        settings = runs.flat(one.trial.settings)
        reason = {"failed": one.found.failed if one.found else "", "interrupted": "interrupted", "new": "not trained"}
        rows.append(
            {
                "key": one.trial.key,
                "study": study,
                "dataset": params.dataset.name,
                "source": source_label(Path(one.trial.pack).parent),
                "method": settings["method.name"],
                "seed": one.seed,
                **{path: settings.get(path, one.point.get(path)) for path in varying},
                "train.on": settings["train.on"],
                "train.epochs": settings["train.epochs"],
                "data": one.trial.data,
                "code": found.tags["code"] if found else one.trial.code,
                "versions": ", ".join(f"{name} {found.tags[f'version.{name}']}" for name in runs.VERSIONS)
                if found
                else "",
                "status": "finished" if found else ("failed" if one.state == "failed" else "missing"),
                "reason": "" if found else reason.get(one.state, one.state),
                **({name: value for name, value in sorted(found.metrics.items()) if _tested(name)} if found else {}),
            }
        )
        if one.found is not None:
            records.append(
                {
                    "key": one.trial.key,
                    "run_id": one.found.run_id,
                    "study_run": parent,
                    "name": one.name,
                    "status": one.found.status,
                    "store": uri.rpartition("@")[2],
                    "host": one.found.tags.get("host", ""),
                    "started": pd.Timestamp(one.found.started, unit="s").isoformat(timespec="seconds"),
                    "seconds": round(one.found.ended - one.found.started, 1) if one.found.ended else "",
                    "commit": one.found.tags.get("mlflow.source.git.commit", ""),
                }
            )
    table = pd.DataFrame(rows).sort_values(["method", *varying, "seed"], kind="stable", na_position="first")
    folder = root / "results"
    try:
        folder.mkdir(exist_ok=True)
        for name, frame in ((f"{study}.csv", table), (f"{study}.runs.csv", pd.DataFrame(records))):
            temporary = folder / f".{name}.tmp"
            frame.to_csv(temporary, index=False, lineterminator="\n")
            temporary.replace(folder / name)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror})") from error
    return table


def _tested(metric: str) -> bool:
    return metric.startswith(("test/", "val/"))


def source_label(prepared: Path) -> str:
    """How results call their data: twins, raw, or raw subset."""
    try:
        summary = pack.read_summary(prepared)
    except DataError:
        return ""
    return "twins" if summary["source"] == "twins" else ("raw" if summary["complete"] else "raw subset")


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


def publish(params: Params, root: Path, study: str, files: Sequence[Path]) -> None:
    """Upload tables and figures to the study's run; a store that is away is a warning, since the files are there all the same."""
    try:
        parent = str(pd.read_csv(root / "results" / f"{study}.runs.csv")["study_run"].iloc[0])
        store = runs.open_store(params.store.uri, root)
        for path in files:
            store.upload(parent, path, f"report/{path.parent.name}")
    except (StoreError, OSError, ValueError, KeyError, IndexError) as error:
        print(f"warning: {study}: tables and figures were not uploaded to MLflow: {error}", file=sys.stderr)
