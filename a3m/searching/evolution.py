"""A population (a3m.searching.population) that searches a schedule of settings: its rounds on the cluster, its exchanges, its runs.

The best member of the last round stands for its line back through the exchanges; that schedule is retrained as a trial of
its own (`train.changes`).
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from a3m.cluster import jobs as cluster_jobs
from a3m.cluster.searching import importances
from a3m.errors import SettingsError, UserError
from a3m.record import runs
from a3m.searching import population, summary
from a3m.searching.hunt import Hunt, unmeasured
from a3m.searching.population import Member, Population
from a3m.settings import Params


def folder_of(hunt: Hunt) -> Path:
    """Where the population lies."""
    return hunt.state / "populations" / hunt.digest


def rounds_of(params: Params) -> list[tuple[int, int]]:
    """(epochs done at the start, at the end) of each round."""
    epochs, interval = params.train.epochs, params.search.interval
    return [(start, min(start + interval, epochs)) for start in range(0, epochs, interval)]


def rounds_done(hunt: Hunt) -> int:
    """How many rounds are over."""
    now = population.load(folder_of(hunt))
    return now.rounds if now is not None else 0


def evolve(console: Console, hunt: Hunt, store: runs.Store) -> dict[str, Any]:
    """Train the population to its end -> the winner's settings, with `train.changes` where they change. Raises UserError."""
    params, search, folder = hunt.params, hunt.params.search, folder_of(hunt)
    now = population.load(folder) or population.born(hunt.space, search.population, search.seed)
    rounds = rounds_of(params)
    begun = summary.beginning(params, hunt.space)
    parent, is_open = store.parent(hunt.experiment, search.name, hunt.digest, begun, reopen=now.rounds < len(rounds))
    status = runs.KILLED
    members: list[tuple[str, int]] = []
    try:
        if is_open:
            named = (hunt.experiment, search.name, hunt.digest)
            members = [store.member(*named, number, parent) for number in range(search.population)]
        while now.rounds < len(rounds):
            now = _round(console, hunt, store, now, rounds[now.rounds], members, last=now.rounds + 1 == len(rounds))
        status = runs.FINISHED
    finally:
        if is_open:
            if status == runs.FINISHED:
                _publish(store, hunt, parent, now, [run_id for run_id, _ in members])
            for run_id in [*(run_id for run_id, _ in members), parent]:
                store.end(run_id, status)
    for line in _sentences(hunt, now):
        console.print(f"  {line}")
    best = now.members[population.order(now.members, search.mode)[0]]
    if best.score is None:
        raise UserError(f"the loss of every member of {search.name} was no number: a narrower search.space may help")
    first, later = population.changes(best.line)
    return first | ({"train.changes": later} if later else {})


def _round(
    console: Console, hunt: Hunt, store: runs.Store, now: Population, epochs: tuple[int, int],
    members: list[tuple[str, int]], *, last: bool,
) -> Population:  # fmt: skip
    """Train every member for a round, record it, and exchange."""
    search, folder, (begins, until) = hunt.params.search, folder_of(hunt), epochs
    failed: dict[str, str] = {}
    lost: dict[str, str] = {}
    jobs = [_job(hunt, number, one, now.rounds, begins, until) for number, one in enumerate(now.members)]
    waiting = [job for job in jobs if until not in population.read_epochs(Path(job["folder"]))]

    def event(key: str, result: dict[str, Any]) -> None:
        if result.get("outcome") == "failed":
            failed[key] = result["reason"]
        if result.get("outcome") == "lost":
            lost[key] = result["reason"]
        for word in ("waiting", "away", "retried"):
            if word in result:
                console.print(f"  {key}: {result[word]}")

    if waiting:
        cluster_jobs.run(waiting, population.perform, hunt.params.cluster, hunt.params.train, event)
    if lost:
        listed = "\n".join(f"  {key}: {reason}" for key, reason in lost.items())
        raise UserError(
            f"{len(lost)} members of {search.name} were lost:\n{listed}\n(the same command goes on with them)"
        )
    scores: list[float | None] = []
    for number, (job, run) in enumerate(zip(jobs, members, strict=True)):
        measured = population.read_epochs(Path(job["folder"]))
        settings = {f"setting/{path}": value for path, value in now.members[number].values.items()}
        for epoch, metrics in measured.items():
            store.log(run, epoch, {name: value for name, value in metrics.items() if _steady(name)} | settings)
        assert not [name for metrics in measured.values() for name in metrics if name.startswith("test/")]
        if until in measured and hunt.metric not in measured[until]:
            raise SettingsError(unmeasured(hunt.metric, measured[until]))
        score = measured[until][hunt.metric] if until in measured and job["key"] not in failed else math.nan
        scores.append(score if math.isfinite(score) else None)
    after = population.exchange(now, hunt.space, scores, until, search.mode, search.seed, last=last)
    population.save(folder, after)
    population.forget(folder, after.rounds)
    best = population.order(after.members, search.mode)[0]
    moved = sum(one["epoch"] == until for one in after.exchanges)
    shown = summary.percent(hunt.metric, after.members[best].score)
    console.print(
        f"  epoch {until}/{hunt.params.train.epochs}: best member {best}  {shown}; {moved} took over from a better one"
    )
    return after


def _steady(name: str) -> bool:
    """A speed differs each time that it is measured: an epoch that is recorded again must stay one point."""
    return name != "train/images_per_second"


def _job(hunt: Hunt, number: int, member: Member, round_: int, begins: int, until: int) -> dict[str, Any]:
    folder = folder_of(hunt)
    source = number if member.copied is None else member.copied
    trial = hunt.trials.trial(member.values)
    return hunt.trials.job | {
        "key": f"{hunt.digest}-{number}",
        "trial": asdict(trial),
        "name": f"member {number}",
        "folder": str(population.place(folder, number, round_)),
        "source": str(population.place(folder, source, round_ - 1) / "checkpoints") if round_ else None,
        "begins": begins,
        "until": until,
    }


# --- what is said -------------------------------------------------------------------------------------------------------


def _importance(now: Population, hunt: Hunt) -> summary.Importance:
    """By the rank of a member within its round: scores of different rounds differ by their epoch above all."""
    points = []
    for epoch in sorted({one["epoch"] for one in now.history}):
        same = [one for one in now.history if one["epoch"] == epoch and one["score"] is not None]
        same.sort(key=lambda one: one["score"])
        points += [(one["settings"], rank / max(1, len(same) - 1)) for rank, one in enumerate(same)]
    if len(points) < summary.enough(hunt.space) or len({value for _, value in points}) < 2:
        return summary.Importance({})
    return summary.Importance(importances(hunt.space, points), len(points), "by rank within a round")


def _sentences(hunt: Hunt, now: Population) -> tuple[str, str, str]:
    best = population.order(now.members, hunt.params.search.mode)[0]
    member = now.members[best]
    parts = "; ".join(
        f"from epoch {epoch + 1}: " + ", ".join(f"{path} = {summary.short(value)}" for path, value in values.items())
        for epoch, values in member.line
    )
    told = f"Best by {hunt.metric} ({100 * (member.score or 0.0):.2f} %): member {best}, {parts}."
    counted = f"{len(now.members)} members, {now.rounds} rounds, {len(now.exchanges)} exchanges."
    return counted, told, _importance(now, hunt).sentence(summary.enough(hunt.space))


def _publish(store: runs.Store, hunt: Hunt, parent: str, now: Population, members: list[str]) -> None:
    best = population.order(now.members, hunt.params.search.mode)[0]
    first, later = population.changes(now.members[best].line)
    tags = summary.best_tags(members[best], hunt.metric, now.members[best].score or 0.0, first)
    tags |= {
        "best.member": str(best),
        "best.changes": json.dumps(later)[:5000],
        "exchanges": str(len(now.exchanges)),
        "mlflow.runName": f"{hunt.params.search.name} (pbt)",
    }
    note = summary.written(_sentences(hunt, now), hunt.params, hunt.space, hunt.experiment, members[best])
    history = pd.DataFrame([{**one, **one["settings"]} for one in now.history]).drop(columns="settings")
    lineage = pd.DataFrame([{**one, **one["settings"]} for one in now.exchanges])
    tables = {
        "history.csv": history,
        "lineage.csv": lineage.drop(columns="settings", errors="ignore"),
        "schedule.csv": pd.DataFrame([{"epochs done": epoch, **values} for epoch, values in now.members[best].line]),
    }
    summary.put(store, parent, note, tags, tables, _importance(now, hunt))
