"""A search: trials that Optuna suggests and ASHA stops, chosen by the validation part; the winner is retrained and tested once.

Trials of a search are ordinary trials with keys, of train.on=train: no test image is looked at. What was asked for stands in the
search's journal in the state folder, so that a search that was cut off goes on, and one that is done trains nothing. A trial
that ASHA stopped has a run that ends as KILLED with the tag `stopped`; whoever asks for its key goes on from its checkpoint.
"""

import copy
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from a3m import config, cost, runs, search_summary, study
from a3m.cluster import searching
from a3m.distributions import Distribution, check_space, in_order, parse
from a3m.errors import SettingsError, UserError
from a3m.identity import Trial
from a3m.journal import Asked, Journal
from a3m.plan import TRAINED, Planned, look_up, make_trial, store_exists
from a3m.points import varied
from a3m.relevance import trial_settings
from a3m.settings import Method, Params
from a3m.state import holder, lease
from a3m.work import job_of, perform

HEADLINE = {"classification": "val/accuracy", "re-identification": "val/mAP", "retrieval": "val/recall1"}


@dataclass(frozen=True)
class Trials:
    """Makes trials of values. Plain, so that it can go to where Ray Tune runs."""

    params: Params
    methods: dict[str, Method]
    base: Trial
    job: dict[str, Any]

    def trial(self, values: Mapping[str, Any]) -> Trial:
        """The trial of these values; everything else is as in the untuned settings."""
        settings = trial_settings(varied(self.params, in_order(values), self.methods), self.params.search.seed)
        settings["backbone"]["weights"] = self.base.settings["backbone"]["weights"]  # of a file the key has the digest
        return replace(self.base, settings=settings)

    def name(self, trial: Trial, values: Mapping[str, Any]) -> str:
        """What its run is called."""
        shown = (f"{path.rpartition('.')[2]}={search_summary.short(value)}" for path, value in values.items())
        return " ".join([trial.settings["method"]["name"], *(one for one in shown if not one.startswith("method="))])

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a worker needs to train it."""
        trial = self.trial(values)
        return self.job | {"key": trial.key, "trial": asdict(trial), "name": self.name(trial, values)}


@dataclass(frozen=True)
class Hunt:
    """A search and where it lies."""

    params: Params  # as its trials have them: train.on=train, measured after each epoch
    space: dict[str, Distribution]
    metric: str
    digest: str
    journal: Journal
    trials: Trials
    state: Path
    experiment: str

    def known(self, store: runs.Store | None) -> list[tuple[Asked, Planned]]:
        """Every trial that was asked for, with its outcome: finished | stopped | failed, or '' where it has none yet."""
        asked = list(self.journal.read().values())
        wanted = []
        for one in asked:
            trial = self.trials.trial(one.values)
            wanted.append((trial, one.values, self.params.search.seed, self.trials.name(trial, one.values)))
        planned = look_up(self.params, wanted, store, self.experiment)
        return [(_settled(one, found, self.metric), found) for one, found in zip(asked, planned, strict=True)]


def _settled(asked: Asked, planned: Planned, metric: str) -> Asked:
    """What became of a trial: the store knows what has ended, the journal what was stopped."""
    outcome, value, reason = "", asked.value, asked.reason
    if planned.state in ("finished", "older") and planned.found is not None:
        outcome, value = "finished", planned.found.metrics.get(metric, asked.value)
    elif planned.state == "undelivered":
        outcome = asked.outcome  # without one, the worker that delivers it says so
    elif planned.state == "failed" and planned.found is not None:
        outcome, reason = "failed", planned.found.failed or ""
    elif planned.state in ("interrupted", "new") and asked.stopped is not None:
        outcome = "stopped"
    if outcome == "finished" and (value is None or not math.isfinite(value)):
        outcome, reason = "failed", f"{metric} is no number"
    return replace(asked, outcome=outcome, value=value, reason=reason)


def run(params: Params, root: Path, default: Sequence[str]) -> None:
    """Bring a search to its end, retrain the winner over search.seeds, and say what was found.

    `default` is the space where the settings name none. Raises UserError when trials were lost, or none has finished.
    """
    console = Console(soft_wrap=True, highlight=False)
    store = None
    if not params.plan or store_exists(params, root):
        store = runs.open_store(params.store.uri, root, params.store.patience, lambda text: console.print(f"  {text}"))
    hunt = prepare(params, root, default, store)
    known = hunt.known(store)
    _print_plan(console, hunt, root, store, known)
    if params.plan:
        return
    assert store is not None
    with lease(hunt.state, f"search-{hunt.digest}", lambda owner: _waiting(console, owner)):
        known = _search(console, hunt, root, store)
    best = search_summary.winner([asked for asked, _ in known], params.search.mode)
    if best is None:
        raise UserError(f"no trial of the search {params.search.name} has finished: {_reasons(known)}")
    study.run(retrained(params), root, params.search.name, [{}, in_order(best.values)])
    console.print(
        f"the winner beside the untuned settings, trained on train+val and tested once: results/{params.search.name}.csv"
    )


def retrained(params: Params) -> Params:
    """The settings with which a winner is retrained: on all training data, tested once at the end."""
    params = copy.deepcopy(params)
    params.train.on, params.train.validate_every = "train+val", 0
    return params


def searched(params: Params) -> Params:
    """The settings of a search's trials: on the training part alone, validated after each epoch."""
    params = copy.deepcopy(params)
    params.train.on, params.train.validate_every, params.train.checkpoint_every = "train", 1, 1
    return params


def metric_of(params: Params) -> str:
    """What trials are compared by. Raises SettingsError where the task of own data does not say."""
    metric = params.search.metric or HEADLINE.get(params.dataset.task, "")
    if not metric:
        raise SettingsError(f"search.metric is empty: expected one of {', '.join(HEADLINE.values())}")
    assert metric.startswith("val/"), "a search never looks at test data"
    return metric


def prepare(params: Params, root: Path, default: Sequence[str], store: runs.Store | None) -> Hunt:
    """Check the space and name the search: by all that its trials and decisions depend on, but not by how many trials it has."""
    own = searched(params)
    methods = config.methods()
    space = parse(params.search.space or default)
    check_space(own, space, methods)
    base = make_trial(own, root, own.search.seed)
    metric = metric_of(params)
    search = asdict(params.search)
    kept = {name: search[name] for name in ("name", "algorithm", "scheduler", "mode", "seed", "grace", "reduction")}
    content = kept | {
        "base": base.key,
        "metric": metric,
        "space": {path: str(one) for path, one in sorted(space.items())},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    state = (root / params.store.state).resolve()
    experiment = store.experiment(params.dataset.name, root, create=not params.plan) if store is not None else ""
    planned = Planned(base, {}, own.search.seed, "", "new", None)
    job = job_of(own, root, planned, store.uri if store is not None else "", experiment, None, None)
    trials = Trials(own, methods, base, job)
    return Hunt(own, space, metric, digest, Journal(state / "searches" / f"{digest}.jsonl"), trials, state, experiment)


# --- searching ----------------------------------------------------------------------------------------------------------


def _search(console: Console, hunt: Hunt, root: Path, store: runs.Store) -> list[tuple[Asked, Planned]]:
    """Train what is missing, end what was stopped or cut off, and show the result in the search's own run."""
    search, known = hunt.params.search, hunt.known(store)
    missing = _remaining(hunt, known)
    parent, is_open = store.parent(
        hunt.experiment, search.name, hunt.digest, search_summary.beginning(hunt.params, hunt.space), reopen=missing > 0
    )
    lost: dict[str, str] = {}
    status = runs.KILLED
    try:
        if missing:
            _train(
                console,
                replace(hunt, trials=replace(hunt.trials, job=hunt.trials.job | {"parent": parent})),
                store,
                lost,
            )
        status = runs.FINISHED
    finally:
        known = _wound_up(hunt, store)
        for asked, planned in known:
            if planned.found is not None and planned.found.tags.get(f"search.{hunt.digest}") is None:
                store.tag(planned.found.run_id, f"search.{hunt.digest}", str(asked.index))
        if is_open:
            search_summary.publish(console, store, hunt.experiment, parent, hunt.params, hunt.space, hunt.metric, known)
            store.end(parent, runs.FAILED if lost and status == runs.FINISHED else status)
        else:
            search_summary.show(console, hunt.params, hunt.space, hunt.metric, known)
    if lost:
        listed = "\n".join(f"  {key}: {reason}" for key, reason in lost.items())
        raise UserError(
            f"{len(lost)} trials of {search.name} were lost:\n{listed}\n(the same command goes on with them)"
        )
    return known


def _remaining(hunt: Hunt, known: Sequence[tuple[Asked, Planned]], lost: Mapping[str, str] | None = None) -> int:
    ended = sum(bool(asked.outcome) or asked.key in (lost or {}) for asked, _ in known)
    return max(0, hunt.params.search.trials - ended)


def _train(console: Console, hunt: Hunt, store: runs.Store, lost: dict[str, str]) -> None:
    """Search on the cluster; a line a trial that has ended. What was lost is told in `lost`, and left for the next call."""
    search = hunt.params.search
    ended: set[str] = set()
    stopped: set[str] = set()

    def begun() -> searching.Begun | None:
        known = hunt.known(store)
        remaining = _remaining(hunt, known, lost)
        if not remaining:
            return None
        asked = [one for one, _ in known if one.key not in lost]
        done, pending = [one for one in asked if one.outcome], [one for one in asked if not one.outcome]
        ended.update(one.key for one in done)
        return searching.Begun(
            search,
            hunt.metric,
            hunt.params.train.epochs,
            hunt.space,
            hunt.journal,
            done,
            pending[:remaining],
            remaining,
            hunt.trials,
        )

    def event(key: str, result: dict[str, Any]) -> None:
        for word in ("waiting", "away", "retried"):
            if word in result:
                console.print(f"  {key}: {result[word]}")
        if "outcome" in result:
            assert not [name for name in result if name.startswith("test/")], "a search never looks at test data"
            ended.add(key)
            if result["outcome"] == "lost":
                lost[key] = result["reason"]
            if result["outcome"] == "stopped":
                stopped.add(key)
                end = f"stopped after epoch {result['stopped']}  {search_summary.percent(hunt.metric, result['value'])}"
            elif result["outcome"] == "finished":
                end = f"finished  {search_summary.percent(hunt.metric, result.get(hunt.metric))}"
            else:
                end = f"{result['outcome']}  {result.get('reason', '')}"
            one = hunt.journal.read()[key]
            name = hunt.trials.name(hunt.trials.trial(one.values), one.values)
            console.print(f"  [{len(ended)}/{search.trials}] {name}: {end}")
        for other in [other for other in stopped if holder(hunt.state / "leases" / f"{other}.json") is None]:
            stopped.discard(other)
            end_stopped(hunt, store, other)

    searching.run(begun, perform, hunt.params.cluster, hunt.params.train, event)


def end_stopped(hunt: Hunt, store: runs.Store, key: str) -> None:
    """End the run of a trial that the scheduler stopped, with where; its checkpoint stays for whoever asks for its key."""
    asked = hunt.journal.read()[key]
    tags = {
        "stopped": str(asked.stopped), "search": hunt.params.search.name, f"search.{hunt.digest}": str(asked.index),
    }  # fmt: skip
    with lease(hunt.state, key):
        recorder = runs.Recorder(store.uri, hunt.experiment, hunt.state, key)
        try:
            if recorder.epochs is None:  # nothing of it is kept here any more
                return
            recorder.end(runs.KILLED, tags)
            recorder.close(forget=not recorder.delivered(hunt.params.store.patience))
        finally:
            recorder.close()


def _wound_up(hunt: Hunt, store: runs.Store) -> list[tuple[Asked, Planned]]:
    """What is known when the workers are gone: no run of the search is left RUNNING."""
    deadline = time.monotonic() + 10
    while any(planned.state == "elsewhere" for _, planned in hunt.known(store)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for asked, planned in hunt.known(store):
        running = planned.found is not None and planned.found.status == runs.RUNNING
        if planned.state != "interrupted" or not (running or asked.outcome == "stopped"):
            continue
        if asked.outcome == "stopped" and (planned.found is None or "stopped" not in planned.found.tags):
            end_stopped(hunt, store, asked.key)
        elif running and planned.found is not None:
            store.end(planned.found.run_id, runs.KILLED)
    return hunt.known(store)


# --- what is said -------------------------------------------------------------------------------------------------------


def _waiting(console: Console, owner: Mapping[str, Any]) -> None:
    console.print(f"  this search is run by {owner['host']} pid {owner['pid']}, waited for")


def _reasons(known: Sequence[tuple[Asked, Planned]]) -> str:
    reasons = {asked.reason for asked, _ in known if asked.outcome == "failed"}
    return "; ".join(sorted(reasons)) or "all were stopped; a greater search.trials goes on"


def _print_plan(
    console: Console, hunt: Hunt, root: Path, store: runs.Store | None, known: Sequence[tuple[Asked, Planned]]
) -> None:
    params, search = hunt.params, hunt.params.search
    source = "synthetic twin" if params.data.source == "twins" else "real data"
    how = search.algorithm + (f", {search.scheduler}" if search.scheduler != "none" else "")
    console.print(
        f"{search.name} on {params.dataset.name} ({source}), profile {params.profile}: {search.trials} trials ({how}) by "
        f"{hunt.metric}, the winner with {len(params.seeds or search.seeds)} seeds"
    )
    for path, one in hunt.space.items():
        console.print(f"       {path} = {one}")
    for outcome, text in (
        ("finished", "finished, known"),
        ("stopped", "stopped early, known"),
        ("failed", "failed, known"),
    ):
        number = sum(asked.outcome == outcome for asked, _ in known)
        if number:
            console.print(f"  {number:4d} {text}")
    open_ = [planned for asked, planned in known if not asked.outcome]
    if open_:
        console.print(f"  {len(open_):4d} interrupted, continued first")
    remaining = _remaining(hunt, known)
    console.print(f"  {remaining - min(len(open_), remaining):4d} to be asked for")
    planned = [one for one in open_ if one.state in TRAINED][:remaining]
    planned += [Planned(hunt.trials.base, {}, search.seed, "", "new", None)] * (remaining - len(planned))
    total = cost.cost(params, root, planned, store.find(hunt.experiment).values() if store is not None else ())
    if total.trials:
        console.print(f"  at most {cost.text(total)}")
