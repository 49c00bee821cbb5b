"""A search: its space, how its trials are made, where its memory lies, and what became of the trials that it asked for."""

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from a3m import config
from a3m.data.pack import Pack
from a3m.errors import SettingsError
from a3m.identity import Trial
from a3m.plan import Planned, look_up, make_trial
from a3m.points import varied
from a3m.record import runs
from a3m.relevance import trial_settings
from a3m.searching import population, summary
from a3m.searching.distributions import Distribution, check_space, in_order, parse
from a3m.searching.journal import Asked, Journal
from a3m.settings import Method, Params
from a3m.work import job_of

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
        shown = (f"{path.rpartition('.')[2]}={summary.short(value)}" for path, value in values.items())
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


def searched(params: Params) -> Params:
    """The settings of a search's trials: on the training part alone, validated after each epoch."""
    params = copy.deepcopy(params)
    params.train.on, params.train.validate_every, params.train.checkpoint_every = "train", 1, 1
    return params


def metric_of(params: Params, packed: Path) -> str:
    """What trials are compared by. Raises SettingsError where neither the settings nor the packed data name a task."""
    task = Pack(packed).description["task"] if packed.exists() else params.dataset.task
    metric = params.search.metric or HEADLINE.get(task, "")
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
    if own.search.algorithm == "pbt":
        population.check(own, list(space))
    base = make_trial(own, root, own.search.seed)
    metric = metric_of(params, Path(base.pack))
    search = asdict(params.search)
    of_algorithm = ("population", "interval") if own.search.algorithm == "pbt" else ("scheduler", "grace", "reduction")
    kept = {name: search[name] for name in ("name", "algorithm", "mode", "seed", *of_algorithm)}
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


def unmeasured(metric: str, metrics: Mapping[str, Any]) -> str:
    """That a trial does not measure what it is to be compared by."""
    measured = ", ".join(sorted(name for name in metrics if name.startswith("val/") and name.count("/") == 1))
    return f"search.metric={metric} is not measured: expected one of {measured}"
