"""What a search found: its best trial, the settings of it, which settings mattered; for the terminal and for the search's run."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from a3m.plan import Planned
from a3m.record import runs
from a3m.searching.distributions import Distribution
from a3m.searching.journal import Asked
from a3m.settings import Params

Known = Sequence[tuple[Asked, Planned]]
Space = Mapping[str, Distribution]
ENOUGH = 10  # trials below which an importance is mostly noise; and twice as many as settings


def short(value: Any) -> str:
    """A value with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def percent(metric: str, value: float | None) -> str:
    """A metric's fraction as text, 'val/accuracy 50.0 %'; empty where nothing was measured."""
    return f"{metric} {100 * value:.1f} %" if value is not None else ""


def beginning(params: Params, space: Space) -> str:
    """The note of the search's run while it is under way."""
    listed = "\n".join(f"* `{path}` = {one}" for path, one in space.items())
    return f"Search on {params.dataset.name} ({params.data.source}), under way.\n\n{listed}"


def winner(asked: Sequence[Asked], mode: str) -> Asked | None:
    """The finished trial with the best last value; of equal ones the one that was asked for first."""
    sign = 1.0 if mode == "max" else -1.0
    finished = [one for one in asked if one.outcome == "finished" and one.value is not None]
    return max(finished, key=lambda one: (sign * (one.value or 0.0), -one.index), default=None)


# --- which settings mattered --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Importance:
    """The share of the spread of the values that each setting explains, the greatest first; empty where it cannot be said."""

    shares: dict[str, float]
    trials: int = 0  # that it was computed from
    measured: str = ""  # when in their training

    def frame(self) -> pd.DataFrame:
        """One row a setting."""
        named = pd.DataFrame(list(self.shares.items()), columns=["setting", "share"])
        return named.assign(trials=self.trials, measured=self.measured)

    def sentence(self, wanted: int) -> str:
        """Which settings mattered, or that it cannot be said."""
        if not self.shares:
            return f"Which settings mattered cannot be said: it takes {wanted} trials that differ."
        shares = ", ".join(f"{path} {100 * share:.0f} %" for path, share in self.shares.items())
        return f"Which settings mattered (fANOVA, {self.trials} trials {self.measured}): {shares}."

    def draw(self, path: Path) -> None:
        """A bar a setting."""
        from matplotlib.figure import Figure

        drawing = Figure(figsize=(6.0, 0.8 + 0.4 * len(self.shares)), layout="constrained")
        axes = drawing.subplots()
        names = list(self.shares)[::-1]
        axes.barh(names, [100 * self.shares[name] for name in names], color="#3b6fb6")
        axes.set_xlabel(f"share of the spread in percent (fANOVA, {self.trials} trials {self.measured})")
        axes.spines[["top", "right"]].set_visible(False)
        drawing.savefig(path, dpi=150)


def enough(space: Space) -> int:
    """Trials from which on an importance is told."""
    return max(ENOUGH, 2 * len(space))


def importance(params: Params, space: Space, known: Known) -> Importance:
    """Which settings mattered, by the trials that were trained to the end; where these are too few, by what all of them had
    reached after the first epoch at which some were stopped.
    """
    from a3m.cluster.searching import importances

    finished = [(one.values, one.value) for one, _ in known if one.outcome == "finished" and one.value is not None]
    grace = min(params.search.grace, params.train.epochs)
    early = [(one.values, one.history[grace]) for one, _ in known if grace in one.history]
    for points, measured in ((finished, "at the end"), (early, f"after epoch {grace}")):
        if len(points) >= enough(space) and len({value for _, value in points}) > 1:
            return Importance(importances(space, points), len(points), measured)
    return Importance({})


# --- the trials ---------------------------------------------------------------------------------------------------------


def table(metric: str, known: Known) -> pd.DataFrame:
    """One row a trial in the order in which they were asked for."""
    rows = []
    for asked, planned in sorted(known, key=lambda one: one[0].index):
        rows.append(
            {
                "trial": asked.index,
                "key": asked.key,
                "run_id": planned.found.run_id if planned.found is not None else "",
                "outcome": asked.outcome or "interrupted",
                "epochs": asked.stopped if asked.outcome == "stopped" else max(asked.history, default=0),
                metric: asked.value,
                **{
                    path: json.dumps(value) if isinstance(value, list) else value
                    for path, value in asked.values.items()
                },
                "reason": asked.reason,
            }
        )
    return pd.DataFrame(rows)


def counts(known: Known) -> dict[str, int]:
    """Trials by outcome."""
    outcomes = [asked.outcome or "interrupted" for asked, _ in known]
    return {name: outcomes.count(name) for name in ("finished", "stopped", "failed", "interrupted")}


def sentences(params: Params, space: Space, metric: str, known: Known, found: Importance) -> tuple[str, str, str]:
    """What is said on the terminal and in the run: how many trials, the best, what mattered."""
    counted = ", ".join(f"{number} {name}" for name, number in counts(known).items() if number)
    best = winner([asked for asked, _ in known], params.search.mode)
    told = "No trial has finished."
    if best is not None:
        settings = ", ".join(f"{path} = {short(value)}" for path, value in best.values.items())
        told = f"Best by {metric} ({100 * (best.value or 0.0):.2f} %): trial {best.index}, key {best.key}: {settings}."
    return f"{len(known)} trials: {counted}.", told, found.sentence(enough(space))


def show(console: Console, params: Params, space: Space, metric: str, known: Known) -> None:
    """Print the result."""
    for line in sentences(params, space, metric, known, importance(params, space, known)):
        console.print(f"  {line}")


def publish(
    console: Console,
    store: runs.Store,
    experiment: str,
    run_id: str,
    params: Params,
    space: Space,
    metric: str,
    known: Known,
) -> None:
    """Put the result into the search's run: a note, tags, and the folder `search` with the trials and what mattered; print it."""
    found = importance(params, space, known)
    said = sentences(params, space, metric, known, found)
    best = winner([asked for asked, _ in known], params.search.mode)
    run_of = {asked.key: planned.found.run_id for asked, planned in known if planned.found is not None}
    how = ", ".join(one for one in (params.search.algorithm, params.search.scheduler) if one != "none")
    tags = {f"trials.{name}": str(number) for name, number in counts(known).items()}
    tags["mlflow.runName"] = f"{params.search.name} ({how})"  # the study of the winner is called by the name alone
    if best is not None:
        tags |= best_tags(run_of.get(best.key, ""), metric, best.value, best.values) | {"best.key": best.key}
    note = written(said, params, space, experiment, tags.get("best.run", ""))
    put(store, run_id, note, tags, {"trials.csv": table(metric, known)}, found)
    for line in said:
        console.print(f"  {line}")


def best_tags(run_id: str, metric: str, value: float | None, values: Mapping[str, Any]) -> dict[str, str]:
    """Tags of a search's run that say what is best."""
    settings = {f"best.{path}": json.dumps(value) for path, value in values.items()}
    return {"best.run": run_id, f"best.{metric}": f"{value:.6g}", **settings}


def written(said: Sequence[str], params: Params, space: Space, experiment: str, best_run: str) -> str:
    """The note of a search's run, in Markdown; the second sentence tells the best."""
    link = f"\n\n[run of the best](#/experiments/{experiment}/runs/{best_run})" if best_run else ""
    listed = "\n".join(f"* `{path}` = {one}" for path, one in space.items())
    where = f"Searched on {params.dataset.name} ({params.data.source}):"
    return "\n\n".join([said[0], f"**{said[1]}**{link}", *said[2:], where, listed])


def put(
    store: runs.Store,
    run_id: str,
    note: str,
    tags: Mapping[str, str],
    tables: Mapping[str, pd.DataFrame],
    found: Importance,
) -> None:
    """Write note, tags, tables and what mattered into the run of a search."""
    shares = {f"importance.{path}": f"{share:.4f}" for path, share in found.shares.items()}
    named = {"mlflow.note.content": note, "mlflow.source.name": "sweeps/search.py"}
    for name, value in (dict(tags) | shares | named).items():
        store.tag(run_id, name, value)
    with tempfile.TemporaryDirectory() as folder:
        for name, frame in (dict(tables) | {"importance.csv": found.frame()}).items():
            frame.to_csv(Path(folder) / name, index=False, lineterminator="\n")
            store.upload(run_id, Path(folder) / name, "search")
        if found.shares:
            found.draw(Path(folder) / "importance.png")
            store.upload(run_id, Path(folder) / "importance.png", "search")
