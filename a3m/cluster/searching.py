"""Ray Tune: search. Optuna suggests trials, ASHA stops those that fall behind, and both know what an earlier call has seen.

Tune's own records are not used: what was asked for and heard is in the search's journal, from which searcher and scheduler are
made anew whenever the search begins or goes on.
"""

import functools
import math
import os
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from a3m.cluster import jobs
from a3m.cluster.tuning import Job, Perform
from a3m.errors import InterruptedByUser, UserError
from a3m.searching.distributions import Distribution
from a3m.searching.journal import Asked, Journal

if TYPE_CHECKING:
    from a3m.settings import Cluster, Search, Train

TRAINED = ("finished", "undelivered")  # to MLflow, which the next call of the search does
DUPLICATES = 50  # suggestions in a row that name trials which are known: then the space is taken to be exhausted


@dataclass(frozen=True)
class Begun:
    """Where a search stands when Tune takes it up."""

    search: "Search"
    metric: str
    epochs: int
    space: dict[str, Distribution]
    journal: Journal
    ended: list[Asked]  # finished, stopped or failed: nothing of these is trained again
    pending: list[Asked]  # asked for, and cut off: they go on first
    remaining: int  # trials that may still be asked for, the pending ones among them
    job: Callable[[Mapping[str, Any]], Job]  # values -> what a worker needs


def run(
    begun: Callable[[], Begun | None], perform: Perform, settings: "Cluster", train: "Train",
    event: Callable[[str, dict[str, Any]], None],
) -> None:  # fmt: skip
    """Search until `begun` has nothing left; it is asked again after a crash of Tune itself.

    `event` hears of each report and each outcome: finished, failed, lost, or stopped. Raises InterruptedByUser after Ctrl-C,
    UserError when the cluster was lost.
    """
    heard = 0

    def counted(key: str, result: dict[str, Any]) -> None:
        nonlocal heard
        heard += "outcome" in result
        event(key, result)

    def decide(tune: jobs.Tune, stopped: Callable[[], bool]) -> None:
        concurrent, crashes = settings.max_concurrent, 0
        while not stopped() and (start := begun()) is not None:
            before = heard
            ended = tune([], concurrent, functools.partial(search_and_schedule, start), start.job({}))
            if ended.memory and not stopped():
                # Who needs too much also when alone is lost: the search goes on without it.
                for key in ended.suspects if concurrent == 1 else ():
                    counted(key, {"outcome": "lost", "reason": ended.crash})
                concurrent = 1  # Ray's memory monitor ends everything: no two trials side by side after that
            crashes = crashes + 1 if ended.crash and heard == before else 0
            if crashes == jobs.CRASHES:
                raise UserError(f"Ray Tune stopped {crashes} times: {ended.crash}")
            if not ended.crash:
                break

    if jobs.scheduled(settings, train, perform, counted, decide):
        raise InterruptedByUser("interrupted: nothing is lost; the same command goes on with the same search")


def search_and_schedule(start: Begun) -> dict[str, Any]:
    """The arguments of tune.TuneConfig, where Tune runs: on the head of a cluster, when the driver is elsewhere."""
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a report of waiting or of an outcome carries no metric
    scheduler = _halving(start) if start.search.scheduler == "asha" else _listening(start)
    return {"search_alg": _suggestions(start, scheduler), "scheduler": scheduler, "num_samples": start.remaining}


# --- what is tried next -------------------------------------------------------------------------------------------------


def optuna_space(space: Mapping[str, Distribution]) -> dict[str, Any]:
    """The space as Optuna's distributions."""
    from optuna import distributions as d

    made: dict[str, Any] = {}
    for path, one in space.items():
        if one.kind == "choice":
            made[path] = d.CategoricalDistribution(one.choices)
        elif one.kind == "integer":
            made[path] = d.IntDistribution(int(one.low), int(one.high), step=int(one.step or 1))
        else:
            made[path] = d.FloatDistribution(one.low, one.high, log=one.kind == "loguniform", step=one.step)
    return made


def _suggestions(start: Begun, scheduler: Any) -> Any:
    """Ray's OptunaSearch, which asks for no trial twice and writes down what it asks for before it starts."""
    import optuna
    from ray.tune.search import Searcher
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    known = len(start.ended) + len(start.pending)
    seed = zlib.crc32(f"{start.search.seed} {known}".encode())  # going on must not suggest the same again
    sampler: Any = optuna.samplers.RandomSampler(seed=seed)
    if start.search.algorithm == "tpe":
        first = max(4, min(10, start.search.trials // 4))  # random ones, before there is anything to learn from
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=first, constant_liar=True)

    def drawn(asked: Asked) -> dict[str, Any]:
        return {path: one.drawn(asked.values[path]) for path, one in start.space.items()}

    class Suggestions(OptunaSearch):
        def __init__(self) -> None:
            super().__init__(
                optuna_space(start.space), metric=start.metric, mode=start.search.mode, sampler=sampler,
                points_to_evaluate=[drawn(one) for one in start.pending],
            )  # fmt: skip
            self.known = {one.key for one in start.ended}
            self.next = max((one.index for one in [*start.ended, *start.pending]), default=-1) + 1
            self.pending = {one.key for one in start.pending}
            self.asked: dict[str, str] = {}  # Tune's id of a trial -> the id that Optuna's side knows it by
            self.keys: dict[str, str] = {}
            self.exhausted = False
            for one in start.ended:
                history = [value for _, value in sorted(one.history.items())]
                failed, stopped = one.outcome == "failed", one.outcome == "stopped"
                self.add_evaluated_point(
                    drawn(one), one.value or 0.0, error=failed, pruned=stopped, intermediate_values=history
                )

        def suggest(self, trial_id: str) -> Any:
            if not self.exhausted:
                for attempt in range(DUPLICATES):
                    name = f"{trial_id}.{self.next}.{attempt}"
                    config: Any = super().suggest(name)
                    values = {path: one.value(config[path]) for path, one in start.space.items()}
                    job = start.job(values)
                    if job["key"] not in self.known:
                        self.asked[trial_id], self.keys[trial_id] = name, job["key"]
                        self._write_down(job["key"], values)
                        return {"job": job}
                    super().on_trial_complete(name, None, error=True)  # of no worth to it: the values are known
                self.exhausted = True
            return None if self.asked else Searcher.FINISHED

        def _write_down(self, key: str, values: dict[str, Any]) -> None:
            self.known.add(key)
            if key not in self.pending:
                start.journal.append({"asked": self.next, "key": key, "values": values})
                self.next += 1

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            if start.metric in result and "epoch" in result and math.isfinite(result[start.metric]):
                told = {start.metric: result[start.metric], "training_iteration": result["epoch"] - 1}
                super().on_trial_result(self.asked[trial_id], told)

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            name, result = self.asked.pop(trial_id), result or {}
            self.exhausted = False  # what has become known may change what is suggested
            if self.keys[trial_id] in scheduler.stopped:
                super().on_trial_complete(name, None)  # pruned: with what it reported
            elif result.get("outcome") in TRAINED and math.isfinite(result.get(start.metric, math.nan)):
                super().on_trial_complete(name, {start.metric: result[start.metric]})
            else:
                super().on_trial_complete(name, None, error=True)

    return Suggestions()


# --- which go on --------------------------------------------------------------------------------------------------------


def _listening(start: Begun) -> Any:
    """Tune's usual scheduler, which stops nothing; what is reported is written down."""
    from ray.tune.schedulers import FIFOScheduler

    class Listening(FIFOScheduler):
        stopped: Mapping[str, dict[str, Any]] = {}

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            _write(start, trial.config["job"]["key"], result)
            return super().on_trial_result(controller, trial, result)

    return Listening()


def _halving(start: Begun) -> Any:
    """Tune's ASHA by trial keys and epochs, its rungs filled with what is known."""
    from ray.tune.schedulers import ASHAScheduler

    class Halving(ASHAScheduler):
        def __init__(self) -> None:
            super().__init__(
                time_attr="epoch", metric=start.metric, mode=start.search.mode, max_t=max(start.epochs, 1),
                grace_period=min(start.search.grace, start.epochs), reduction_factor=start.search.reduction,
                stop_last_trials=False,  # a trial ends by itself, with its outputs
            )  # fmt: skip
            self.stopped: dict[str, dict[str, Any]] = {}
            self.known: set[str] = set()
            for key, epoch, value in start.journal.epochs():
                self.decide(None, key, {"epoch": epoch, start.metric: value})

        def decide(self, controller: Any, key: str, result: dict[str, Any]) -> str:
            named: Any = SimpleNamespace(trial_id=key)  # Tune gives a trial that goes on another id
            if key not in self.known:
                self.known.add(key)
                super().on_trial_add(controller, named)
            if result.get("epoch", start.epochs) >= start.epochs:
                return self.CONTINUE  # what is trained to its end is not stopped
            return super().on_trial_result(controller, named, result)

        def on_trial_add(self, controller: Any, trial: Any) -> None:
            pass

        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            key = trial.config["job"]["key"]
            _write(start, key, result)
            decision = self.decide(controller, key, result)
            if decision == self.STOP:
                self.stopped[key] = {"stopped": result["epoch"], "value": result[start.metric]}
                start.journal.append({"key": key, **self.stopped[key]})
            return decision

        def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
            pass

        def on_trial_remove(self, controller: Any, trial: Any) -> None:
            pass

    return Halving()


def _write(start: Begun, key: str, result: Mapping[str, Any]) -> None:
    """Write down what was measured after an epoch, and how a trial ended."""
    value = result.get(start.metric)
    value = float(value) if value is not None and math.isfinite(value) else None
    if "epoch" in result and value is not None:
        start.journal.append({"key": key, "epoch": int(result["epoch"]), "value": value})
    outcome, reason = result.get("outcome"), str(result.get("reason", ""))
    if outcome in TRAINED and value is None:
        outcome, reason = "failed", reason or f"{start.metric} is no number"
    if outcome in TRAINED:
        start.journal.append({"key": key, "outcome": "finished", "value": value})
    elif outcome == "failed":
        start.journal.append({"key": key, "outcome": outcome, "reason": reason})


def importances(
    space: Mapping[str, Distribution], points: Sequence[tuple[Mapping[str, Any], float]]
) -> dict[str, float]:
    """How much of the spread of the values each setting explains by itself (fANOVA, Hutter et al. 2014), the greatest first.

    Shares of what the settings explain together. Raises ValueError where nothing differs.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    made = optuna_space(space)
    for values, value in points:
        params = {path: one.drawn(values[path]) for path, one in space.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=made, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
