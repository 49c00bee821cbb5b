"""The rows of a table: all trials of one method with one choice of settings, over its seeds; their labels and their order."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from a3m.errors import DataError
from a3m.report import names as n

SPELLED = {  # setting -> how a label says a value that most rows do not have
    n.ATTRIBUTES: "K = {}",
    n.DIMENSION: "d = {}",
    n.BACKBONE: "{}",
}
RERANKED = "test/reranked/"
LEARNED = {"region": n.LEARNED_REGION, "attribute": n.LEARNED_ATTRIBUTE}
SATURATED_PARTS = {"region": "m", "attribute": "s"}  # the weights that can become constant, as the paper calls them
# The weights lie in [0, 1]: a mean this close to 1, or so small a deviation, leaves no room for them to differ.
SATURATED_MEAN, SATURATED_DEVIATION = 0.99, 0.005


@dataclass(frozen=True)
class Row:
    """All trials of one method with one choice of settings."""

    method: str
    label: str  # without the recipe, which a block of a table says
    settings: dict[str, str]  # setting path -> value, without those the method does not read
    finished: pd.DataFrame  # indexed by seed
    unfinished: pd.DataFrame  # indexed by seed
    distinct: tuple[str, ...] = ()  # the settings that tell it from other rows of its method
    main: bool = True  # whether it has the settings that most rows have: the others are sensitivity rows
    usual: bool = True  # whether it has the form of the scores that most rows have, too
    is_reranked: bool = False

    @property
    def recipe(self) -> str:
        return self.settings.get(n.RECIPE, "")

    @property
    def name(self) -> str:
        """The label with its recipe, for where no block says it."""
        return self.label + (f", {self.recipe} recipe" if self.recipe else "")

    @property
    def control(self) -> str:
        """'shuffled' | 'wide', or '' for a row that is no control."""
        if self.settings.get(n.SHUFFLED) == "true":
            return "shuffled"
        return "wide" if self.settings.get(n.FEATURE) == "wide" else ""

    def values(self, metric: str) -> dict[int, float]:
        """Seed -> value, of the finished trials that measured it."""
        if metric not in self.finished:
            return {}
        return {int(str(seed)): float(value) for seed, value in self.finished[metric].dropna().items()}

    @cached_property
    def all_keys(self) -> tuple[str, ...]:
        """Of the finished trials, then of the others."""
        return tuple(str(key) for key in (*self.finished["key"], *self.unfinished["key"]))

    def keys(self, seeds: Iterable[int] | None = None) -> tuple[str, ...]:
        """Of the finished trials, all or those of some seeds, in the order of seeds."""
        chosen = self.finished if seeds is None else self.finished.loc[list(seeds)]
        return tuple(str(key) for key in chosen["key"])

    def saturated(self, part: str) -> list[int]:
        """Seeds whose learned weights of a part, 'region' or 'attribute', have become constant."""
        means, deviations = (self.values(f"test/attention/{part}_{what}") for what in ("mean", "std"))
        return [
            seed
            for seed, mean in means.items()
            if constant(self.method, part, mean, deviations.get(seed, float("nan")))
        ]

    def reranked(self) -> "Row | None":
        """The same trials scored after k-reciprocal re-ranking; None where none was. Metrics without such a score are gone."""
        columns = [str(column) for column in self.finished if str(column).startswith(RERANKED)]
        measured = self.finished[columns].dropna(how="all")
        if measured.empty:
            return None
        plain = self.finished.loc[measured.index].drop(columns=[c for c in self.finished if str(c).startswith("test/")])
        scores = measured.rename(columns={column: "test/" + column.removeprefix(RERANKED) for column in columns})
        frame = pd.concat([plain, scores], axis=1)
        return replace(self, label=f"{self.label} + re-ranking", finished=frame, is_reranked=True)


def constant(method: str, part: str, mean: float, deviation: float) -> bool:
    """Whether the weights of a part, 'region' or 'attribute', are learned and have become constant; NaN: not measured."""
    return method in LEARNED[part] and (mean > SATURATED_MEAN or deviation < SATURATED_DEVIATION)


def settings_of(results: pd.DataFrame) -> list[str]:
    """The columns that are setting paths: neither identity, nor provenance, nor a metric (metrics have a slash)."""
    return [str(column) for column in results if column not in n.NOT_SETTINGS and "/" not in str(column)]


def rows(results: pd.DataFrame) -> list[Row]:
    """The rows of a checked frame: by recipe, then in the order of methods; within one, as written before normalised scores,
    then what differs from most rows, controls last.
    """
    settings = settings_of(results)
    points = [tuple(str(value) for value in point) for point in results[["method", *settings]].itertuples(index=False)]
    trials = [dict(zip(["method", *settings], point, strict=True)) for point in points]
    usual: dict[str, dict[str, str]] = {}
    varying: dict[tuple[str, str], tuple[str, ...]] = {}
    for recipe in {trial.get(n.RECIPE, "") for trial in trials}:
        of_recipe = [trial for trial in trials if trial.get(n.RECIPE, "") == recipe]
        usual[recipe] = {path: _usual([trial[path] for trial in of_recipe]) for path in settings}
        for method in {trial["method"] for trial in of_recipe}:
            own = [trial for trial in of_recipe if trial["method"] == method]
            varying[recipe, method] = tuple(path for path in settings if len({trial[path] for trial in own}) > 1)
    indexed = results.set_index("seed")
    done = (indexed["status"] == "finished").to_numpy()
    grouped = []
    for point in dict.fromkeys(points):
        method, *chosen = point
        read = {path: value for path, value in zip(settings, chosen, strict=True) if value}
        recipe = read.get(n.RECIPE, "")
        distinct = varying[recipe, method]
        main = all(read[path] == usual[recipe][path] for path in SPELLED if path in read and path in distinct)
        like_most = main and all(read[path] == usual[recipe][path] for path in (n.FORM, n.NORMALISED) if path in read)
        label = _label(method, read, distinct, usual[recipe])
        places = [i for i, other in enumerate(points) if other == point]
        finished = indexed.iloc[[i for i in places if done[i]]].sort_index()
        unfinished = indexed.iloc[[i for i in places if not done[i]]].sort_index()
        grouped.append(Row(method, label, read, finished, unfinished, distinct, main, like_most))
    return sorted(grouped, key=_order)


def need_methods(results: pd.DataFrame, methods: Mapping[str, tuple[str, ...]], name: str) -> None:
    """Refuses a study without any trial of a method, or of one that will do. A trial that failed or is missing is a row, and is
    said, not refused.
    """
    there = set(results["method"])
    absent = [method for method, accepted in methods.items() if not there & set(accepted)]
    if absent:
        study = name.removeprefix("results/").removesuffix(".csv")
        raise DataError(f"{name}: no trial of {', '.join(absent)}: run python sweeps/{study}.py with all methods")


def _usual(values: list[str]) -> str:
    """What most trials have; of equally many, the largest: so K = 28 stands before 12 and 5."""
    counts = Counter(value for value in values if value)
    return max(counts, key=lambda value: (counts[value], _numeric(value)), default="")


def _numeric(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("-inf"), value


def _label(method: str, settings: dict[str, str], distinct: tuple[str, ...], usual: Mapping[str, str]) -> str:
    label = n.METHODS[method]
    form = settings.get(n.FORM, "paper")
    feature = settings.get(n.FEATURE, "category")
    normalised = settings.get(n.NORMALISED, "")
    if form != "paper":
        label += f", {form} form"
    if feature != "category":
        label += ", as many parameters as A3M" if feature == "wide" else f", {feature} feature"
    if method in n.LEARNED_ATTENTION and normalised and form == "paper":
        label += " (normalised scores)" if normalised == "true" else " (as written)"
    if settings.get(n.SHUFFLED) == "true":
        label += ", shuffled attribute labels"
    said = (n.FORM, n.FEATURE, n.NORMALISED, n.SHUFFLED)
    rest = {path: settings[path] for path in distinct if path in settings and path not in said}
    spelled = [
        SPELLED[path].format(n.BACKBONES.get(value, value) if path == n.BACKBONE else value)
        for path, value in rest.items()
        if path in SPELLED and value != usual[path]
    ]
    label += "".join(f", {text}" for text in spelled)
    others = {path: value for path, value in rest.items() if path not in SPELLED}
    if others:
        label += f" [{', '.join(f'{path}={value}' for path, value in sorted(others.items()))}]"
    return label


def _order(row: Row) -> tuple[bool, str, int, bool, bool, int, bool, bool, tuple[float, ...], str]:
    known = (n.FEATURE, n.NORMALISED, n.SHUFFLED, n.RECIPE, *SPELLED)
    others = sum(path not in known for path in row.settings)
    pooled = row.settings.get(n.FEATURE) == "pooled"
    normalised = row.settings.get(n.NORMALISED) == "true"
    sizes = tuple(-_numeric(row.settings.get(path, ""))[0] for path in (n.ATTRIBUTES, n.DIMENSION))
    place = list(n.METHODS).index(row.method)
    return (
        row.recipe != "",
        row.recipe,
        place,
        bool(row.control),
        not row.main,
        others,
        pooled,
        normalised,
        sizes,
        row.label,
    )
