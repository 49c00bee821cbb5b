"""Which settings a trial, a data set and a study depend on: what their keys, packs and DVC files are made of.

Two trials that could not differ get equal settings, so that they share one key; a change of a setting that a data set or a
study does not read reruns nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from a3m.errors import SettingsError
from a3m.settings import Cluster, Method, Params, Train, resolved_head

HOW = ("workers", "checkpoint_every", "validate_every")  # settings of `train` that do not change the weights
# Sections that a study of methods reads besides its own.
OF_A_STUDY = (
    "dataset", "backbone", "method", "baseline1", "loss", "train", "test", "modern", "seeds", "reuse", "partial",
    "retry_failed",
)  # fmt: skip
WITH_CLASSIFIER = ("equation11", "apr", "verification")  # the other losses compare embeddings
READ_OF_HEAD = {
    "category": ("d", "branch", "dropout", "neck"),
    "apr": ("d", "branch", "dropout"),
    "bilinear": ("d",),
    "hdc": ("d",),
    "bier": ("d", "branch"),
}
UNREAD_BY_SCHEDULE = {
    "step": ("warmup_epochs", "stages", "update_decay"),
    "cosine": ("last_epochs", "stages", "update_decay"),
    "stages": ("last_epochs", "warmup_epochs", "learning_rate"),
}


def trial_settings(params: Params, seed: int) -> dict[str, Any]:
    """What the result of one trial depends on besides data and code: the settings that its method reads, and nothing else.

    Baseline-1 has no alpha, A3M without attribute labels no beta, equal weights no normalised scores. `data` and `twin` are
    left out: the data digest covers them.
    """
    settings: dict[str, Any] = {
        "dataset": params.dataset.name,
        "seed": seed,
        "method": asdict(params.method),
        "backbone": asdict(params.backbone),
        "head": _head(params),
        "loss": _loss(params),
        "train": _train(params),
    }
    if params.method.network == "category":
        settings["baseline1"] = asdict(params.baseline1)
    if params.test.rerank and params.dataset.task in ("re-identification", ""):  # of own data the pack knows the task
        settings["test"] = asdict(params.test)
    return settings


def _head(params: Params) -> dict[str, Any]:
    head, method = resolved_head(params.head), params.method
    del head["form"]  # it has decided the others
    if method.attribute_labels:
        del head["attributes"]  # the data set's own
    if method.network != "a3m":
        if method.network == "category" and params.baseline1.feature == "wide":
            return head  # as many parameters as A3M has with these
        names = READ_OF_HEAD[method.network]
        if method.network == "category" and params.baseline1.feature == "pooled":
            names = ("neck",)
        return {name: head[name] for name in names if name != "dropout" or method.loss in WITH_CLASSIFIER}
    if (method.region, method.attribute) == ("equal", "equal"):
        del head["normalise_scores"]
    if method.region == "equal":
        del head["merge"]
    if head["dropout"] == 0:
        del head["attend"]
    return head


def _loss(params: Params) -> dict[str, Any]:
    loss = asdict(params.loss)
    if params.method.loss not in WITH_CLASSIFIER:
        del loss["label_smoothing"]
    if params.method.network != "a3m":
        del loss["alpha"], loss["beta"]
    elif not params.method.attribute_labels:
        del loss["beta"]
    return loss


def _train(params: Params) -> dict[str, Any]:
    train = asdict(params.train)
    unread: tuple[str, ...] = (*HOW, *UNREAD_BY_SCHEDULE[params.train.schedule])
    if params.train.optimiser == "adamw":
        unread += ("momentum", "nesterov")
    if not params.method.attribute_labels:
        unread += ("shuffle_attributes",)
    if not params.train.changes:
        unread += ("changes",)
    for name in unread:
        del train[name]
    if params.method.images_per_class:
        train["images_per_class"] = params.method.images_per_class
    if train["device"] == "auto":
        train["device"] = device(params.train, params.cluster)
    return train


def device(train: Train, cluster: Cluster) -> str:
    """cpu or cuda; `auto` is cuda where torch finds a GPU on this machine, which says nothing of the nodes of a cluster.

    Torch, which takes seconds to import, is asked only where a GPU's device file exists. Raises SettingsError.
    """
    if train.device != "auto":
        return train.device
    if cluster.address != "local":
        raise SettingsError(
            f"train.device=auto looks at this machine alone: with cluster.address={cluster.address} set train.device=cuda or "
            "train.device=cpu"
        )
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def for_dataset(params: Params) -> dict[str, Any]:
    """What preparing a data set reads: the content of settings/dataset/<data set>.yaml."""
    sections: dict[str, Any] = {"dataset": asdict(params.dataset), "data": asdict(params.data)}
    if params.data.source == "twins":
        sections["twin"] = asdict(params.twin)
    return sections


def dataset_digest(params: Params) -> str:
    """Digest of what preparing the data set reads: a pack is used only under the settings that it was made with."""
    text = json.dumps(for_dataset(params), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def for_study(params: Params, study: str, methods: Mapping[str, Method]) -> dict[str, Any]:
    """What a study's results depend on: the content of settings/study/<study>.yaml. Where and how fast it runs is left out."""
    content = asdict(params)
    kept = {name: content[name] for name in (*OF_A_STUDY, study)}
    for name in HOW if params.train.changes else (*HOW, "changes"):
        del kept["train"][name]
    kept["head"] = {"form": params.head.form, **resolved_head(params.head)}
    kept["methods"] = {name: asdict(method) for name, method in methods.items()}
    return kept
