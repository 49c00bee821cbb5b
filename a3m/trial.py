"""One trial: its identity, and its training from pack to tested weights. Knows neither Ray nor MLflow.

A trial is its settings plus its data version plus the code that trains it; `Trial.key` names the three. What it leaves is
in `Trial.outputs`: weights, settings, predictions and embeddings, from which every later figure is made.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from a3m import identity, loss, randomness
from a3m.data.loaders import Parts, TrainBatches, evaluation_batches, evaluation_regions, parts
from a3m.data.pack import Pack, open_verified
from a3m.evaluate import Collected, attributes, classify, collect, localise_attributes, re_identify
from a3m.fit import Report, fit
from a3m.model import build
from a3m.state import Checkpoints, Lease


@dataclass(frozen=True)
class Trial:
    """What identifies one training, and where its data and its state lie on this machine."""

    settings: dict[str, Any]  # a3m.settings.trial_settings
    data: str  # digest of the pack
    code: str  # digest of the code
    pack: str  # absolute path
    state: str  # absolute path of the state folder
    workers: int = 0
    checkpoint_every: int = 1

    @cached_property
    def key(self) -> str:
        """The trial's name: 16 hexadecimal digits."""
        return identity.key(self.settings, self.data, self.code)

    @cached_property
    def key_of_any_code(self) -> str:
        """The same for trials that differ in code alone."""
        return identity.key(self.settings, self.data, None)

    @property
    def checkpoints(self) -> Path:
        return Path(self.state) / "checkpoints" / self.key

    @property
    def outputs(self) -> Path:
        return Path(self.state) / "outputs" / self.key


def train(trial: Trial, report: Report | None = None, held: Lease | None = None) -> dict[str, float]:
    """Train and test one trial in this process; returns its test (or validation) metrics and writes `trial.outputs`.

    Continues from the trial's newest checkpoint. Raises DataError when the pack is not the one that the trial names,
    TrainingError when the loss is not a number, LeaseLost when another process has taken the trial over.
    """
    settings = namespace(trial.settings)
    settings.train.workers, settings.train.checkpoint_every = trial.workers, trial.checkpoint_every
    if not hasattr(settings.train, "validate_every"):
        settings.train.validate_every = 0
    pack = open_verified(Path(trial.pack), trial.data, Path(trial.state).parent / "cache")
    rows = parts(pack, settings.train.on)
    _prepare_process(settings)

    model = build(_model_settings(settings, pack), len(rows.classes), pack.attribute_sizes)
    mean, std = model.backbone.mean, model.backbone.std
    batches = TrainBatches(pack, rows.train, rows.classes, settings.train, settings.seed, mean, std)

    def criterion(output: Any, labels: torch.Tensor, attribute_labels: torch.Tensor) -> loss.Losses:
        alpha, beta = getattr(settings.loss, "alpha", 0.0), getattr(settings.loss, "beta", 0.0)
        return loss.total(
            output, labels, attribute_labels, alpha=alpha, beta=beta, label_smoothing=settings.loss.label_smoothing
        )

    def validate(tested: torch.nn.Module) -> dict[str, float]:
        return test(tested, pack, rows, settings)[0]

    checkpoints = Checkpoints(trial.checkpoints, held.check if held is not None else None)
    tested = fit(
        model, batches, criterion, settings.train, settings.seed,
        checkpoints=checkpoints, report=report, validate=validate if settings.train.on == "train" else None,
    )  # fmt: skip
    metrics, predictions, arrays = test(tested, pack, rows, settings)
    _write_outputs(trial, tested, predictions, arrays)
    return metrics


def test(
    model: torch.nn.Module, pack: Pack, rows: Parts, settings: Any
) -> tuple[dict[str, float], Any, dict[str, np.ndarray]]:
    """Test on the rows that `train.on` leaves for it -> (metrics named test/... or val/..., predictions, embeddings)."""
    mean, std = model.backbone.mean, model.backbone.std
    order = np.concatenate(list(rows.test.values()))
    collected = collect(
        model,
        evaluation_batches(pack, order, mean, std),
        torch.device(settings.train.device),
        regions=evaluation_regions(pack, order),
    )
    protocol = _re_identify if "query" in rows.test else _classify
    metrics, predictions, arrays = protocol(pack, rows, collected)
    names = pack.attribute_names
    if collected.attribute_predictions is not None:
        tested = _attribute_rows(pack, rows, order)
        metrics |= attributes(
            collected.attribute_predictions[tested], pack.attributes[order[tested]], names, pack.attributes[rows.train]
        )
        metrics |= _localisation(pack, rows, order, collected)
    metrics |= collected.attention
    arrays |= {"rows": order, "category": collected.category_embedding}
    if collected.attribute_embedding is not None:
        arrays["attribute"] = collected.attribute_embedding
    return {f"{rows.prefix}/{name}": value for name, value in metrics.items()}, predictions, arrays
