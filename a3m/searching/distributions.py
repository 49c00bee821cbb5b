"""The space of a search: for each setting path the values that may be tried, written as text.

    loss.alpha=uniform(0, 1)                 real numbers; a third number is the step
    train.learning_rate=loguniform(1e-4, 1e-2)
    head.attributes=integer(4, 28)           both ends included; a third number is the step
    head.merge=choice(max, mean)             anything that YAML can write: numbers, names, true, null, [crop, flip]

The same text stands in a YAML file, in a sweep file and on the command line.
"""

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from a3m.errors import SettingsError
from a3m.points import varied
from a3m.relevance import trial_settings
from a3m.settings import Method, Params

KINDS = ("uniform", "loguniform", "integer", "choice")
LINE = re.compile(r"\s*([\w.]+)\s*=\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)
EXAMPLE = "expected <setting>=<distribution>, such as loss.alpha=uniform(0,1)"


@dataclass(frozen=True)
class Distribution:
    """The values that one setting may take. `choices` are of kind choice alone, the numbers of the others."""

    kind: str
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    choices: tuple[str, ...] = ()  # as JSON: a searcher sees names, also of lists

    def value(self, drawn: Any) -> Any:
        """The setting's value for what a searcher has drawn: the number itself; of a choice what its JSON says."""
        if self.kind == "choice":
            return json.loads(drawn)
        return int(drawn) if self.kind == "integer" else float(drawn)

    def drawn(self, value: Any) -> Any:
        """The inverse of `value`."""
        return json.dumps(value) if self.kind == "choice" else value

    def draw(self, rng: random.Random) -> Any:
        """A value at random."""
        if self.kind == "choice":
            return self.value(rng.choice(self.choices))
        if self.kind == "loguniform":
            return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return self.inside(rng.uniform(self.low, self.high + (self.step or 0.0)))

    def inside(self, number: float) -> Any:
        """The nearest value of the distribution to a number: within the ends, on a step, whole where it must be."""
        step = self.step or (1.0 if self.kind == "integer" else None)
        if step is not None:
            number = self.low + step * round((number - self.low) / step)
            number -= step * (number > self.high)
        return self.value(min(max(number, self.low), self.high))

    def ends(self) -> list[Any]:
        """Values that stand for all when the setting's type is checked: every choice, or both ends."""
        return [self.value(one) for one in (self.choices or (self.low, self.high))]

    def __str__(self) -> str:
        if self.kind == "choice":
            return f"choice({', '.join(self.choices)})"
        step = "" if self.step is None else f", {self.step:g}"
        return f"{self.kind}({self.low:g}, {self.high:g}{step})"


Space = Mapping[str, Distribution]


def parse(lines: Sequence[str]) -> dict[str, Distribution]:
    """Setting path -> distribution. Raises SettingsError naming the line and what was expected."""
    space: dict[str, Distribution] = {}
    for line in lines:
        match = LINE.fullmatch(line)
        if match is None:
            raise SettingsError(f"search.space: {line}: {EXAMPLE}")
        path, kind, inner = match.groups()
        if path in space:
            raise SettingsError(f"search.space: {path} stands there twice")
        space[path] = _distribution(line, kind, inner)
    return space


def _distribution(line: str, kind: str, inner: str) -> Distribution:
    try:
        given = yaml.safe_load(f"[{inner}]")
    except yaml.YAMLError:
        raise SettingsError(f"search.space: {line}: {inner} is no list of values") from None
    if kind not in KINDS:
        raise SettingsError(f"search.space: {line}: {kind}: expected one of {', '.join(KINDS)}")
    values = [_number(value) for value in given]
    if kind == "choice":
        try:
            names = tuple(json.dumps(value, allow_nan=False) for value in values)
        except (TypeError, ValueError):
            raise SettingsError(
                f"search.space: {line}: choices are numbers, names, true, false, null or lists"
            ) from None
        if len(names) < 2 or len(set(names)) < len(names):
            raise SettingsError(f"search.space: {line}: at least two choices, each once")
        return Distribution(kind, choices=names)
    wanted = 2 if kind == "loguniform" else 3
    if not 2 <= len(values) <= wanted or not all(_is_number(value) for value in values):
        further = "" if kind == "loguniform" else " and, if you like, a step"
        raise SettingsError(f"search.space: {line}: {kind} takes two numbers, the least and the greatest{further}")
    if kind == "integer" and not all(float(value).is_integer() for value in values):
        raise SettingsError(f"search.space: {line}: integer takes whole numbers")
    low, high = float(values[0]), float(values[1])
    step = float(values[2]) if len(values) == 3 else None
    if not low < high:
        raise SettingsError(f"search.space: {line}: the least value comes first: {low:g} is not less than {high:g}")
    if kind == "loguniform" and low <= 0:
        raise SettingsError(f"search.space: {line}: loguniform needs numbers greater than 0")
    if step is not None and not 0 < step <= high - low:
        raise SettingsError(f"search.space: {line}: the step {step:g} must be greater than 0 and fit between the ends")
    return Distribution(kind, low, high, step)


def _number(value: Any) -> Any:
    """YAML takes 1e-4 for a name, since it has no point."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return [_number(one) for one in value] if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# --- what may be searched -----------------------------------------------------------------------------------------------

SECTIONS = ("backbone", "baseline1", "head", "loss", "method", "recipe", "train")
FIXED = {
    "train.on": "a search trains on the training part alone and looks at the validation part",
    "train.epochs": "trials are compared after equal numbers of epochs",
    "train.device": "it says where a trial runs",
    "backbone.weights": "give it as a setting of the search",
}
DRAWS = 32


def check_space(params: Params, space: Space, methods: Mapping[str, Method]) -> None:
    """Refuse what is no setting of a trial, values of a wrong type, and settings that no trial of the space would read."""
    if not space:
        raise SettingsError(f"search.space is empty: {EXAMPLE}")
    for path, one in space.items():
        if path in FIXED:
            raise SettingsError(f"search.space: {path} cannot be searched: {FIXED[path]}")
        if path.partition(".")[0] not in SECTIONS:
            raise SettingsError(f"search.space: {path} cannot be searched: expected a setting of {', '.join(SECTIONS)}")
        for value in one.ends():
            try:
                varied(params, {path: value}, methods)
            except SettingsError as error:
                raise SettingsError(f"search.space: {path}={one}: {error}") from None
    rng = random.Random(0)
    unread = set(space)
    for _ in range(DRAWS):
        values = {path: one.draw(rng) for path, one in space.items()}
        settings = trial_settings(varied(params, in_order(values), methods), 0)
        for path in sorted(unread):
            other = values | {path: space[path].draw(rng)}
            if trial_settings(varied(params, in_order(other), methods), 0) != settings:
                unread.discard(path)
    if unread:
        raise SettingsError(
            f"search.space: {', '.join(sorted(unread))}: no trial of this search reads it (method={params.method.name})"
        )


def in_order(values: Mapping[str, Any]) -> dict[str, Any]:
    """The method first: it brings settings of its own, which the others may change."""
    return {path: values[path] for path in sorted(values, key=lambda path: (path != "method", path))}
