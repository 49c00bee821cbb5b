"""A study: the trials of a space, which of them are done, training the rest, and the results as files.

`run` is what every file in sweeps/ calls. It looks the keys of its trials up in MLflow first: finished ones are reused,
interrupted ones continued from their last checkpoint in the same run, the rest trained; it prints that plan.
"""

import hashlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from a3m import config, cost, power, results, samples
from a3m.cluster import jobs as cluster_jobs
from a3m.driver import deliver_kept, driving, lease_of, waiting
from a3m.errors import SettingsError, StoreError, UserError
from a3m.identity import Trial
from a3m.plan import TRAINED, Planned, expand, lacking, look_up, print_plan, store_exists
from a3m.record import notes, registry, runs
from a3m.settings import Params
from a3m.space import Point
from a3m.state import Checkpoints, holder, lease
from a3m.work import job_of, perform

MANY = 500  # trials whose predictions take a while to fetch


def run(params: Params, root: Path, study: str, space: Sequence[Point], chosen: Point | None = None) -> None:
    """Bring a study to completion and write results/<study>.csv, results/<study>.runs.csv and results/<study>.samples.npz.

    `chosen` is the point whose model is registered, where a search has chosen it on validation (a3m.record.registry).
    Raises UserError with the list when trials did not finish, unless params.partial. Raises UserError on what stops everything.
    """
    console = Console(soft_wrap=True, highlight=False)
    trials = expand(params, root, study, space)
    store = None
    if not params.plan or store_exists(params, root):
        store = runs.open_store(params.store.uri, root, params.store.patience, lambda text: console.print(f"  {text}"))
    experiment = store.experiment(params.dataset.name, root, create=not params.plan) if store is not None else ""
    planned = look_up(params, trials, store, experiment)
    print_plan(console, params, study, planned)
    if note := lacking(params, root):
        console.print(f"  cannot start yet: {note}")
    known = store.find(experiment).values() if store is not None else ()
    total = cost.cost(params, root, planned, known)
    if total.trials:
        console.print(f"  {cost.text(total)}")
    if params.plan:
        for line in power.lines(planned):
            console.print(f"  {line}")
        return
    assert store is not None
    missing = [one for one in planned if one.state in TRAINED]
    kept = [one for one in planned if one.state == "undelivered"]
    digest = hashlib.sha256(json.dumps(sorted(one.trial.key for one in planned)).encode()).hexdigest()[:16]
    note = notes.study(params, study, planned, experiment, status=f"{len(missing)} to be trained")
    state = (root / params.store.state).resolve()
    with driving(store, experiment, state, study, digest):
        with lease(state, f"{study}.{digest}.run"):  # two drivers that look at once would both create it
            parent = store.parent(
                experiment, study, digest, note, reopen=bool(missing or kept), lease=lease_of(state, study, digest)[1]
            )
        call = _Call(console, params, root, study, store, experiment, *parent)
        if call.is_open:
            store.write(call.parent, notes.plan_table(planned), "plan.csv")
        if about := notes.experiment(params, root):
            store.describe(experiment, about)
        lost: dict[str, str] = {}
        try:
            lost |= deliver_kept(console, kept, call.job)
            if missing:
                lost |= _train(console, params, root, planned, [call.job(one) for one in missing])
        except BaseException:
            store.patience = 0.0  # what stopped it is to be told now
            try:
                call.conclude(planned, runs.KILLED, lost)
            except StoreError as error:
                console.print(f"  the results are not written: {str(error).splitlines()[0]}")
            raise
        found, rows = call.conclude(planned, runs.FINISHED, lost)
        try:
            registered = registry.register(store, study, found, chosen)
            console.print(f"  {registered}")
            call.describe(found, registered=registered)
        except StoreError as error:  # the results stand all the same
            console.print(f"  the study's run has no description, or no model: {str(error).splitlines()[0]}")
    bad = [one for one in found if one.state not in ("finished", "older")]
    if bad:
        reasons = dict(zip(rows["key"], rows["reason"], strict=True)) | lost
        listed = "\n".join(f"  {one.trial.key}  {one.name}: {reasons[one.trial.key]}" for one in bad)
        unforgiven = [one for one in bad if one.state != "failed"]
        message = f"{len(bad)} of {len(found)} trials of {study} did not finish:\n{listed}"
        if unforgiven or not params.partial:
            raise UserError(f"{message}\n(retry_failed=true trains them again, partial=true goes on without them)")
        console.print(message)
    console.print(f"results/{study}.csv: {len(found) - len(bad)} finished trials of {len(found)}")


@dataclass(frozen=True)
class _Call:
    """One call of a study, after its plan."""

    console: Console
    params: Params
    root: Path
    study: str
    store: runs.Store
    experiment: str
    parent: str
    is_open: bool

    def job(self, one: Planned) -> dict[str, Any]:
        """What a worker needs to train or to deliver one trial."""
        return job_of(self.params, self.root, one, self.store.uri, self.experiment, self.study, self.parent)

    def conclude(
        self, planned: Sequence[Planned], status: str, lost: dict[str, str]
    ) -> tuple[list[Planned], pd.DataFrame]:
        """Write the results and close every run that nobody trains -> (the trials as they are now, rows of the results)."""
        store = self.store
        found = _settled(self.params, planned, store, self.experiment)
        kept = [one for one in found if one.state == "undelivered"]
        if kept and status == runs.FINISHED:  # the store answers again
            lost |= deliver_kept(self.console, kept, self.job)
            found = _settled(self.params, planned, store, self.experiment)
        for one in found:  # first: what follows needs room on a disk, and artifacts
            cut_off = one.state in ("interrupted", "undelivered")
            if cut_off and one.found is not None and one.found.status == runs.RUNNING:
                store.end(one.found.run_id, runs.KILLED)
        done = {
            one.trial.key: one.found for one in found if one.found is not None and one.found.status == runs.FINISHED
        }
        rows = results.write(self.params, self.root, self.study, found, store.uri, self.parent)
        try:
            own = {key: run.run_id for key, run in done.items() if run.key == key}  # not those of older code
            store.drop_doubles(self.experiment, own, self._is_free)
        except StoreError as error:  # such as a user who may not delete
            self.console.print(f"  a run that was made twice stays: {str(error).splitlines()[0]}")
        if status == runs.FINISHED:  # after Ctrl-C nobody waits for the artifacts of a thousand trials
            if len(done) >= MANY:
                self.console.print(
                    f"  {len(done)} trials: their predictions are fetched, for intervals over the test data"
                )
            samples.gather(store, found, rows["source"].iloc[0], self.root / "results" / f"{self.study}.samples.npz")
        store.join(done.values(), self.study)
        if status != runs.FINISHED:
            self.describe(found, status="interrupted")
        if self.is_open:
            complete = all(one.state in ("finished", "older") for one in found)
            store.end(self.parent, runs.FAILED if status == runs.FINISHED and not complete else status)
        return found, rows

    def _is_free(self, key: str) -> bool:
        """Whether nobody trains the trial now."""
        return holder((self.root / self.params.store.state).resolve() / "leases" / f"{key}.json") is None

    def describe(self, found: Sequence[Planned], *, registered: str = "", status: str = "") -> None:
        """Write into the study's run what came out, and give it the inputs of its trials."""
        note = notes.study(self.params, self.study, found, self.experiment, status=status, model=registered)
        self.store.tag(self.parent, runs.NOTE, note)
        first = next((one.found for one in found if one.state == "finished" and one.found is not None), None)
        if first is not None:
            self.store.same_inputs(self.parent, first.run_id)


def plan_all(params: Params, root: Path, overrides: Sequence[str]) -> None:
    """Print a line a study of params.yaml and the sum; a trial that several studies share counts once."""
    console = Console(soft_wrap=True, highlight=False)
    given = [override for override in overrides if not override.startswith("dataset=")]
    counted: set[str] = set()
    totals: list[cost.Cost] = []
    console.print(f"profile {params.profile}")
    for study in params.studies:
        chosen = config.load_study(study, [*given, "plan=true"], root=root)
        store = runs.open_store(chosen.store.uri, root, chosen.store.patience) if store_exists(chosen, root) else None
        experiment = store.experiment(chosen.dataset.name, root, create=False) if store is not None else ""
        planned = look_up(chosen, expand(chosen, root, study, space_of(study, root)(chosen)), store, experiment)
        new = [one for one in planned if one.trial.key not in counted]
        counted |= {one.trial.key for one in new}
        if note := lacking(chosen, root):
            console.print(f"  {study} cannot start yet: {note}")
        totals.append(cost.cost(chosen, root, new, store.find(experiment).values() if store is not None else ()))
        done = len(new) - totals[-1].trials
        shared = f", {len(planned) - len(new)} of them counted above" if len(new) < len(planned) else ""
        console.print(
            f"  {study} on {chosen.dataset.name}: {len(planned)} trials{shared}, {done} done; {cost.text(totals[-1])}"
        )
    hours = [total.hours for total in totals]
    known = [value for value in hours if value is not None]
    summed = f", {sum(known):.1f} device-hours" if len(known) == len(hours) else ""
    console.print(
        f"  in all: {sum(t.trials for t in totals)} trials to train, {sum(t.images for t in totals):,} images to be seen{summed}"
    )


def space_of(study: str, root: Path) -> Callable[[Params], Sequence[Point]]:
    """The function `space` of sweeps/<study>.py: its rows under given settings. Raises SettingsError when there is no such file."""
    path = root / "sweeps" / f"{study}.py"
    spec = importlib.util.spec_from_file_location(f"sweep_{study}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SettingsError(f"params.yaml: studies names {study}, but {path} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.space


def _settled(params: Params, planned: Sequence[Planned], store: runs.Store, experiment: str) -> list[Planned]:
    """Look the trials up once more, when the workers that Ray has just stopped are gone and hold no lease any more."""
    trials = [(one.trial, one.point, one.seed, one.name) for one in planned]
    found = look_up(params, trials, store, experiment)
    deadline = time.monotonic() + 10
    while any(one.state == "elsewhere" for one in found) and time.monotonic() < deadline:
        time.sleep(0.5)
        found = look_up(params, trials, store, experiment)
    return found


# --- training ---------------------------------------------------------------------------------------------------------


def _train(
    console: Console, params: Params, root: Path, planned: Sequence[Planned], jobs: list[dict[str, Any]]
) -> dict[str, str]:
    """Run the jobs on the cluster with a bar on a terminal, a line a finished trial everywhere.

    Returns {key: why} of the trials whose process died more often than cluster.retries allows, or
    whose run could not be delivered.
    """
    lost: dict[str, str] = {}
    names = {one.trial.key: one.name for one in planned}
    epochs = {one.trial.key: one.trial.settings["train"]["epochs"] for one in planned}
    ended: set[str] = set()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    done = {job["key"]: Checkpoints(Trial(**job["trial"]).checkpoints).epochs() for job in jobs}
    with bar:
        task = bar.add_task("training", total=sum(epochs[key] for key in done), completed=sum(done.values()))

        def event(key: str, result: dict[str, Any]) -> None:
            if "epoch" in result:
                done[key] = result["epoch"]
            if "waiting" in result or "away" in result:
                bar.console.print(f"  {names[key]}: {waiting(result)}")
            if "retried" in result:
                bar.console.print(f"  {names[key]}: again after its last whole epoch: {result['retried']}")
            if "outcome" in result:
                if result["outcome"] in ("finished", "undelivered"):
                    done[key] = epochs[key]
                if result["outcome"] in ("lost", "undelivered"):
                    lost[key] = result["reason"]
                ended.add(key)
                text = result.get("reason") or _headline(result)
                bar.console.print(f"  [{len(ended)}/{len(jobs)}] {names[key]}: {result['outcome']}  {text}")
            bar.update(task, completed=sum(done.values()))

        cluster_jobs.run(jobs, perform, params.cluster, params.train, event)
    return lost


HEADLINE = ("rank1", "mAP", "accuracy", "recall1", "nmi")


def _headline(metrics: Mapping[str, Any]) -> str:
    """The one or two numbers that a line on the terminal shows."""
    for prefix in ("test", "val"):
        shown = [name for name in (f"{prefix}/{short}" for short in HEADLINE) if name in metrics]
        if shown:
            return "  ".join(f"{name} {100 * metrics[name]:.1f} %" for name in shown)
    return ""


# --- the study's run -----------------------------------------------------------------------------------------------------


def publish(params: Params, root: Path, study: str, files: Sequence[Path]) -> None:
    """Upload tables and figures to the study's run; a store that is away is a warning, since the files are there all the same."""
    try:
        parent = str(pd.read_csv(root / "results" / f"{study}.runs.csv")["study_run"].iloc[0])
        store = runs.open_store(params.store.uri, root, params.store.patience)
        for path in files:
            store.upload(parent, path, f"report/{path.parent.name}")
    except (StoreError, OSError, ValueError, KeyError, IndexError) as error:
        print(f"warning: {study}: tables and figures were not uploaded to MLflow: {error}", file=sys.stderr)
