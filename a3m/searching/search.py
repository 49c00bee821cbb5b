"""A search: trials that Optuna suggests and ASHA stops, chosen by the validation part; the winner is retrained and tested once.

Trials of a search are ordinary trials with keys, of train.on=train: no test image is looked at. What was asked for stands in the
search's journal in the state folder, so that a search that was cut off goes on, and one that is done trains nothing. A trial
that ASHA stopped has a run that ends as KILLED with the tag `stopped`; whoever asks for its key goes on from its checkpoint.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from a3m import cost, study
from a3m.cluster import searching
from a3m.errors import SettingsError, UserError
from a3m.plan import TRAINED, Planned, store_exists
from a3m.record import recording, runs
from a3m.searching import evolution, summary
from a3m.searching.distributions import in_order
from a3m.searching.hunt import Hunt, prepare, unmeasured
from a3m.searching.journal import Asked
from a3m.settings import Params
from a3m.state import Lease, holder, lease
from a3m.work import deliver_from_disk, perform


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
        best = (evolution.evolve if params.search.algorithm == "pbt" else _search)(console, hunt, store)
    winner = in_order(best)
    study.run(retrained(params), root, params.search.name, [{}, winner], chosen=winner)
    console.print(
        f"the winner beside the untuned settings, trained on train+val and tested once: results/{params.search.name}.csv"
    )


def retrained(params: Params) -> Params:
    """The settings with which a winner is retrained: on all training data, tested once at the end."""
    params = copy.deepcopy(params)
    params.train.on, params.train.validate_every = "train+val", 0
    return params


# --- searching ----------------------------------------------------------------------------------------------------------


def _search(console: Console, hunt: Hunt, store: runs.Store) -> dict[str, Any]:
    """Train what is missing, end what was stopped or cut off, show the result in the search's own run -> the best settings."""
    search, known = hunt.params.search, hunt.known(store)
    for asked, planned in known:
        if planned.state == "undelivered" and asked.outcome:  # of an earlier call, when MLflow was away
            deliver_from_disk(store, hunt.experiment, hunt.state, asked.key)
    missing = _remaining(hunt, known)
    parent, is_open = store.parent(
        hunt.experiment, search.name, hunt.digest, summary.beginning(hunt.params, hunt.space), reopen=missing > 0
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
                store.tag(planned.found.run_id, "search", search.name)
                store.tag(planned.found.run_id, f"search.{hunt.digest}", str(asked.index))
        if is_open:
            summary.publish(console, store, hunt.experiment, parent, hunt.params, hunt.space, hunt.metric, known)
            store.end(parent, runs.FAILED if lost and status == runs.FINISHED else status)
        else:
            summary.show(console, hunt.params, hunt.space, hunt.metric, known)
    if lost:
        listed = "\n".join(f"  {key}: {reason}" for key, reason in lost.items())
        raise UserError(
            f"{len(lost)} trials of {search.name} were lost:\n{listed}\n(the same command goes on with them)"
        )
    best = summary.winner([asked for asked, _ in known], search.mode)
    if best is None:
        raise UserError(f"no trial of the search {search.name} has finished: {_reasons(known)}")
    return best.values


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
        # What was lost is not asked for once more in this call.
        asked = [replace(one, outcome="failed") if one.key in lost else one for one, _ in known]
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
        if "epoch" in result and hunt.metric not in result:
            raise SettingsError(unmeasured(hunt.metric, result))
        if "outcome" in result:
            assert not [name for name in result if name.startswith("test/")], "a search never looks at test data"
            ended.add(key)
            if result["outcome"] == "lost":
                lost[key] = result["reason"]
            if result["outcome"] == "stopped":
                stopped.add(key)
                end = f"stopped after epoch {result['stopped']}  {summary.percent(hunt.metric, result['value'])}"
            elif result["outcome"] == "finished":
                end = f"finished  {summary.percent(hunt.metric, result.get(hunt.metric))}"
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
    held = Lease(hunt.state / "leases" / f"{key}.json")
    if not held.try_acquire():
        return  # whoever trains it now ends its run
    try:
        recorder = recording.Recorder(store.uri, hunt.experiment, hunt.state, key)
        try:
            if recorder.epochs is None:  # nothing of it is kept here any more
                return
            recorder.end(runs.KILLED, tags)
            recorder.close(forget=not recorder.delivered(hunt.params.store.patience))
        finally:
            recorder.close()
    finally:
        held.release()


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
    pbt = search.algorithm == "pbt"
    how = f"{search.population} members" if pbt else f"{search.trials} trials"
    ways = [search.algorithm, *([search.scheduler] if not pbt and search.scheduler != "none" else [])]
    console.print(
        f"{search.name} on {params.dataset.name} ({source}), profile {params.profile}: {how} ({', '.join(ways)}) by "
        f"{hunt.metric}, the winner with {len(params.seeds or search.seeds)} seeds"
    )
    for path, one in hunt.space.items():
        console.print(f"       {path} = {one}")
    open_ = [planned for asked, planned in known if not asked.outcome]
    if pbt:
        rounds, done = evolution.rounds_of(params), evolution.rounds_done(hunt)
        console.print(f"  {done:4d} of {len(rounds)} rounds are over, the others are trained")
        epochs = rounds[done - 1][1] if done else 0
        left = Planned(hunt.trials.base, {}, search.seed, "", "new", None, epochs)
        planned = [left] * search.population if done < len(rounds) else []
    else:
        for outcome, text in (("finished", "finished"), ("stopped", "stopped early"), ("failed", "failed")):
            number = sum(asked.outcome == outcome for asked, _ in known)
            if number:
                console.print(f"  {number:4d} {text}, known")
        if open_:
            console.print(f"  {len(open_):4d} interrupted, continued first")
        remaining = _remaining(hunt, known)
        console.print(f"  {remaining - min(len(open_), remaining):4d} to be asked for")
        planned = [one for one in open_ if one.state in TRAINED][:remaining]
        planned += [Planned(hunt.trials.base, {}, search.seed, "", "new", None)] * (remaining - len(planned))
    total = cost.cost(params, root, planned, store.find(hunt.experiment).values() if store is not None else ())
    if total.trials:
        text = cost.text(total)
        console.print(f"  at most {text}" if not pbt else f"  {text.replace('trials', 'members', 1)}")
