"""Settings by their paths, such as `loss.alpha`: reading and setting them, refusing values, and a point of a study's space."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from a3m.errors import SettingsError
from a3m.settings import FORMS, AlphaBeta, Method, Params, Rows, Search

# What a setting may be, where its type does not say it.
CHOICES: dict[str, tuple[str, ...]] = {
    "dataset.task": ("classification", "re-identification", "retrieval", ""),
    "data.source": ("twins", "raw"),
    "data.split": ("paper", "released", "random"),
    "head.form": ("paper", "released"),
    "head.branch": ("linear", "bn_relu"),
    "head.attend": ("before_dropout", "after_dropout"),
    "head.merge": ("max", "mean"),
    "head.fuse": ("sum", "concat"),
    "head.fusion": ("corrected", "interleaved"),
    "method.network": ("category", "a3m", "apr", "bilinear", "hdc", "bier"),
    "method.loss": ("equation11", "apr", "npair", "lifted", "proxy_anchor", "verification", "hdc", "bier"),
    "method.region": ("learned", "equal"),
    "method.attribute": ("learned", "equal"),
    "baseline1.feature": ("category", "pooled", "wide"),
    "train.on": ("train", "train+val"),
    "train.optimiser": ("sgd", "adamw"),
    "train.schedule": ("step", "cosine", "stages"),
    "train.precision": ("float32", "bfloat16", "float16"),
    "train.memory_format": ("contiguous", "channels_last"),
    "reuse.code": ("same", "any"),
    "search.algorithm": ("tpe", "random", "pbt"),
    "search.scheduler": ("asha", "none"),
    "search.mode": ("max", "min"),
    "train.device": ("auto", "cpu", "cuda"),
}
POSITIVE = (
    "data.height", "data.width", "head.d", "train.epochs", "train.batch_size", "train.learning_rate", "train.threads",
    "train.checkpoint_every", "cluster.cpus_per_trial", "test.k1", "test.k2",
    "search.trials", "search.grace", "search.interval",
)  # fmt: skip
# From the first number on, up to the second one, or less than that.
RANGES: dict[str, tuple[float, float, bool]] = {
    "seed": (0, math.inf, False),
    "loss.alpha": (0, math.inf, False),
    "loss.beta": (0, math.inf, False),
    "loss.label_smoothing": (0, 1, False),
    "head.dropout": (0, 1, False),
    "train.momentum": (0, 1, False),
    "train.weight_decay": (0, math.inf, False),
    "test.lambda_": (0, 1, True),
}
# Of `train.changes`: neither the network nor the shape of the optimiser's state depends on these.
CHANGING = (
    "loss.alpha", "loss.beta", "loss.label_smoothing", "train.learning_rate", "train.weight_decay", "train.momentum",
    "train.backbone_factor",
)  # fmt: skip
AUGMENTATIONS = ("crop", "flip", "affine", "erase")
RECIPES = ("paper", "modern")
GROUPS = ("comparators", "controls", "modern")


def check(params: Params) -> Params:
    """Refuse values that the types let through. Raises SettingsError naming the setting."""
    for path, allowed in CHOICES.items():
        value = get(params, path)
        if value is not None and value not in allowed:
            raise SettingsError(f"{path}={value}: expected one of {', '.join(allowed)}")
    for path in POSITIVE:
        if get(params, path) <= 0:
            raise SettingsError(f"{path}={get(params, path)}: must be greater than 0")
    for path, (least, most, inclusive) in RANGES.items():
        value = get(params, path)
        if value is not None and not (least <= value < most or (inclusive and value == most)):
            upper = "" if most == math.inf else f" and {'at most' if inclusive else 'less than'} {most:g}"
            raise SettingsError(f"{path}={value:g}: must be at least {least:g}{upper}")
    for section in fields(params):
        for name, value in (
            vars(getattr(params, section.name)).items() if is_dataclass(getattr(params, section.name)) else ()
        ):
            if isinstance(value, float) and not math.isfinite(value):
                raise SettingsError(f"{section.name}.{name}={value}: must be a finite number")
    for name in params.train.augment:
        if name not in AUGMENTATIONS:
            raise SettingsError(f"train.augment: {name}: expected some of {', '.join(AUGMENTATIONS)}")
    if not 0 < params.data.validation < 1:
        raise SettingsError(f"data.validation={params.data.validation}: a share between 0 and 1")
    if params.data.margin < 1:
        raise SettingsError(f"data.margin={params.data.margin}: at least 1 (packed size / network size)")
    if params.train.schedule == "stages" and not params.train.stages:
        raise SettingsError("train.stages is empty: train.schedule=stages needs one learning rate a stage")
    if params.cluster.cpus_per_trial < params.train.threads:
        raise SettingsError(
            f"cluster.cpus_per_trial={params.cluster.cpus_per_trial} is less than train.threads={params.train.threads}"
        )
    for name, section in vars(params).items():
        for group in section.groups if isinstance(section, Rows) else ():
            if group not in GROUPS:
                raise SettingsError(f"{name}.groups: {group}: expected some of {', '.join(GROUPS)}")
    for name, seeds in seeds_of_studies(params).items():
        if not seeds or len(set(seeds)) < len(seeds):
            raise SettingsError(f"{name}={seeds}: at least one, each once")
        if min(seeds) < 0:
            raise SettingsError(f"{name}={seeds}: a seed is not negative")
    if not 0 <= params.data.missing_limit <= 1:
        raise SettingsError(f"data.missing_limit={params.data.missing_limit}: a share from 0 to 1")
    gpus = params.cluster.gpus_per_trial
    if gpus != -1 and (gpus < 0 or (gpus > 1 and gpus % 1)):
        raise SettingsError(
            f"cluster.gpus_per_trial={gpus:g}: -1, 0, a share below 1, or whole numbers: a trial that shares one GPU cannot have "
            "another besides"
        )
    _check_search(params)
    if wrong := _wrong_changes(params.train.changes, params.train.epochs):
        raise SettingsError(f"train.changes: {wrong}")
    return params


def _check_search(params: Params) -> None:
    search = params.search
    if search.metric and not search.metric.startswith("val/"):
        raise SettingsError(f"search.metric={search.metric}: a search looks at validation alone: expected val/...")
    for name, least in (("reduction", 2), ("population", 2)):
        if getattr(search, name) < least:
            raise SettingsError(f"search.{name}={getattr(search, name)}: at least {least}")
    taken = search.name in {field_.name for field_ in fields(params)} - {"search"}
    if taken or not search.name.replace("_", "a").isalnum():
        raise SettingsError(
            f"search.name={search.name}: letters, digits and _, and no name of a section of the settings"
        )


def _wrong_changes(changes: Sequence[Any], epochs: int) -> str:
    """What is wrong with `train.changes`; '' when nothing is."""
    before = 0
    for change in changes:
        whole = isinstance(change, list | tuple) and len(change) == 2 and isinstance(change[0], int)
        if not whole or not isinstance(change[1], Mapping):
            return f"{change}: expected [epochs done, {{setting: value}}]"
        if not before < change[0] < epochs:
            return f"epoch {change[0]}: expected rising numbers between 0 and train.epochs={epochs}"
        before = change[0]
        for path in change[1]:
            if path not in CHANGING:
                return f"{path} cannot change while a network is trained: expected some of {', '.join(CHANGING)}"
    return ""


def seeds_of_studies(params: Params) -> dict[str, list[int]]:
    """Setting path -> seeds, for every place where seeds are given."""
    sections = {field_.name: getattr(params, field_.name) for field_ in fields(params)}
    studies = {name: section for name, section in sections.items() if isinstance(section, Rows | AlphaBeta | Search)}
    found = {f"{name}.seeds": section.seeds for name, section in studies.items()}
    for name, section in studies.items():
        if isinstance(section, Rows) and section.beside_seeds is not None:
            found[f"{name}.beside_seeds"] = section.beside_seeds
    return found | ({"seeds": params.seeds} if params.seeds is not None else {})


def get(params: Params, path: str) -> Any:
    """The value of a setting path such as `loss.alpha`. Raises SettingsError when there is none."""
    value: Any = params
    for name in path.split("."):
        inner = value if isinstance(value, Mapping) else vars(value) if is_dataclass(value) else {}
        if name not in inner:
            raise SettingsError(f"{path}: no such setting")
        value = inner[name]
    return value


def put(params: Params, path: str, value: Any) -> None:
    """Set a setting path in place. Raises SettingsError for an unknown path or a value of another type."""
    *sections, name = path.split(".")
    target = get(params, ".".join(sections)) if sections else params
    if isinstance(target, dict):  # such as method.loss_arguments, whose names the loss checks
        target[name] = value
        return
    present = get(params, path)
    if is_dataclass(present):
        raise SettingsError(
            f"{path}: a section, not a setting; name one of {', '.join(f.name for f in fields(present))}"
        )
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if present is None and path.startswith("head."):
        present = FORMS["paper"].get(name, 0)  # a null is decided by the form, which knows the type; K is a number
    if present is not None and value is not None and type(present) is not type(value):
        raise SettingsError(f"{path}={value!r}: expected {type(present).__name__}")
    setattr(target, name, value)


def varied(params: Params, point: Mapping[str, Any], methods: Mapping[str, Method]) -> Params:
    """A copy of `params` at one point of a study's space: setting paths and their values.

    `method` names a method; `recipe: modern` stands for what the section `modern` says, which the point's other settings override.
    """
    copied = copy.deepcopy(params)
    recipe = point.get("recipe", "paper")
    if recipe not in RECIPES:
        raise SettingsError(f"recipe={recipe}: expected one of {', '.join(RECIPES)}")
    settings = {path: value for path, value in point.items() if path != "recipe"}
    for path, value in ((params.modern | settings) if recipe == "modern" else settings).items():
        if path == "method":
            if value not in methods:
                raise SettingsError(f"method={value}: expected one of {', '.join(sorted(methods))}")
            copied.method = copy.deepcopy(methods[value])
        else:
            put(copied, path, value)
    return check(copied)
