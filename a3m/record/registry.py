"""A study's best model in MLflow's registry: the model of its best run, chosen on validation and never by the test.

Rows of a table train on all training data and have no validation part: nothing tells which of them is best before they are tested,
and none is registered. A study with train.on=train has (`python sweeps/ablation.py train.on=train`), and so have searches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from a3m.plan import Planned
from a3m.record import runs
from a3m.space import Point

ALIAS = "best"
CHOOSING = ("val/mAP", "val/accuracy", "val/recall1")  # by the task's own measure


@dataclass(frozen=True)
class Choice:
    """The run whose model is registered, and by what it was chosen."""

    one: Planned
    metric: str
    value: float
    mean: float  # over the seeds of its settings
    seeds: int
    candidates: int  # settings that were compared


def best(planned: Sequence[Planned]) -> Choice | None:
    """The settings with the highest mean of the validation metric over their seeds; of their runs the one with the highest value.

    Ties go to what comes first in the study. None where no finished trial has such a metric. The control whose attribute labels are
    shuffled is no candidate.
    """
    for metric in CHOOSING:
        settings: dict[str, list[tuple[float, Planned]]] = {}
        for one in planned:
            done = one.state in ("finished", "older") and one.found is not None
            if not done or one.trial.settings["train"].get("shuffle_attributes"):
                continue
            assert one.found is not None
            if metric in one.found.metrics:
                settings.setdefault(repr(sorted(one.point.items(), key=str)), []).append(
                    (one.found.metrics[metric], one)
                )
        if settings:
            chosen = max(settings.values(), key=lambda several: sum(value for value, _ in several) / len(several))
            value, one = max(chosen, key=lambda pair: pair[0])
            mean = sum(value for value, _ in chosen) / len(chosen)
            return Choice(one, metric, value, mean, len(chosen), len(settings))
    return None


def register(store: runs.Store, study: str, planned: Sequence[Planned], chosen: Point | None = None) -> str:
    """Register the study's best model under its name with the alias `best` -> what was done, in one line.

    `chosen` is the point that a search has chosen on validation before; its runs have no validation part any more. The same run
    is registered once. Raises StoreError as the store does.
    """
    if chosen is not None:
        return _register_chosen(store, study, planned, chosen)
    choice = best(planned)
    if choice is None:
        return (
            "no model registered: these trials train on all training data, so that only the test could choose; "
            "train.on=train measures on a validation part"
        )
    found = choice.one.found
    assert found is not None
    why = (
        f"{choice.one.name}: {choice.metric} {choice.value:.4f}, mean {choice.mean:.4f} over {choice.seeds} seed(s), "
        f"the highest of {choice.candidates} settings. Chosen on the validation part, not by the test."
    )
    version = store.register(study, found.run_id, ALIAS, why, {"key": found.key, "study": study})
    if version is None:
        return f"no model registered: run {found.run_id} was recorded before runs held a model"
    return f"model {study} version {version}, alias {ALIAS}: {why}"


def _register_chosen(store: runs.Store, study: str, planned: Sequence[Planned], chosen: Point) -> str:
    """The model of the chosen point's first seed: the best of them by the test would be chosen by the test."""
    # Where the search has found the untuned settings, both are one trial, which stands under the empty point.
    of_it = [one for one in planned if one.point == chosen] or [one for one in planned if not one.point]
    done = [one for one in of_it if one.state in ("finished", "older") and one.found is not None]
    if not done:
        return "no model registered: no trial of the settings that were chosen has finished"
    first = min(done, key=lambda one: one.seed)
    assert first.found is not None
    why = (
        f"{first.name}: the settings that the search chose on the validation part, retrained on all training data. Of "
        f"{len(done)} seed(s) the first, not the best by the test."
    )
    version = store.register(study, first.found.run_id, ALIAS, why, {"key": first.found.key, "study": study})
    if version is None:
        return f"no model registered: run {first.found.run_id} was recorded before runs held a model"
    return f"model {study} version {version}, alias {ALIAS}: {why}"
