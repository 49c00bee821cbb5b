"""How many seeds a difference needs, from the spread of the trials that are there: what a plan says beside its costs.

The differences are those that the tables show: every row of a study minus its reference (Baseline-2, else Baseline-1) with the
same recipe, paired by seed, in the one metric that its task is judged by.
"""

from collections.abc import Mapping, Sequence

from a3m.plan import Planned
from a3m.report.names import METHODS, RECIPE, SHUFFLED
from a3m.report.statistics import PAIRS_TO_RANK, least_p, pooled_spread, seeds_needed

METRICS = {"mAP_trapezoid": "mAP (trapezoid)", "accuracy": "accuracy", "recall1": "R@1"}  # the first that was measured
REFERENCES = ("baseline2", "baseline1")
POINTS = (1.0, 2.0)  # differences in percent that seeds are counted for
FINISHED = ("finished", "older")


def lines(planned: Sequence[Planned]) -> list[str]:
    """Three lines for the terminal; one, when nothing is known of the spread."""
    measured = [one for one in planned if one.state in FINISHED and one.found is not None]
    for metric, name in METRICS.items():
        for part in ("test", "val"):
            rows = _rows(measured, f"{part}/{metric}")
            if rows:
                return _said(name, *_differences(rows))
    return ["seeds needed: not known before trials have finished"]


def _rows(measured: Sequence[Planned], metric: str) -> dict[tuple[tuple[str, str], ...], dict[int, float]]:
    """Point -> seed -> percent."""
    rows: dict[tuple[tuple[str, str], ...], dict[int, float]] = {}
    for one in measured:
        if one.found is not None and metric in one.found.metrics:
            point = tuple((path, str(value)) for path, value in one.point.items())
            rows.setdefault(point, {})[one.seed] = 100 * one.found.metrics[metric]
    return rows


def _differences(
    rows: Mapping[tuple[tuple[str, str], ...], Mapping[int, float]],
) -> tuple[str, list[list[float]]]:
    """The reference's name, and each other row of its recipe minus it, by seed. In a grid of one method it is the first row."""
    points = {point: dict(point) for point in rows}
    methods = {settings.get("method", "") for settings in points.values()}
    method = next((one for one in REFERENCES if one in methods), "")
    if not method or len(methods) == 1:
        method, name = next(iter(points.values())).get("method", ""), "its first row"
    else:
        name = METHODS[method]
    found = []
    for recipe in dict.fromkeys(settings.get(RECIPE, "") for settings in points.values()):
        of_recipe = [point for point, settings in points.items() if settings.get(RECIPE, "") == recipe]
        reference = next(
            (
                point
                for point in of_recipe
                if points[point].get("method", "") == method and points[point].get(SHUFFLED, "").lower() != "true"
            ),
            None,
        )
        for point in of_recipe:
            if reference is not None and point != reference:
                common = sorted(set(rows[point]) & set(rows[reference]))
                found.append([rows[point][seed] - rows[reference][seed] for seed in common])
    return name, found


def _said(metric: str, reference: str, differences: list[list[float]]) -> list[str]:
    spread = pooled_spread(differences)
    if spread is None:
        return [
            f"seeds needed: not known, no row has two seeds in common with {reference} (one seed has no spread: try "
            "seeds=[0,1,2])"
        ]
    rows = sum(len(one) > 1 for one in differences)
    low, high = spread.limits()
    needed = [
        f"{points:g} point{'s' * (points != 1)} {_count(spread.sd, points)} ({_count(low, points)} to {_count(high, points)})"
        for points in POINTS
    ]
    return [
        f"seeds needed, {metric}: paired differences to {reference} have a standard deviation of {spread.sd:.2f} points over "
        f"seeds ({rows} row{'s' * (rows != 1)}, up to {spread.seeds} seeds; it may be {low:.2f} to {high:.2f})",
        f"  for a difference of {', of '.join(needed)} seeds; power 0.8 at 5 %, two-sided",
        f"  least attainable p: {least_p(spread.seeds):.3g} with {spread.seeds} seeds, {least_p(PAIRS_TO_RANK):.3g} with "
        f"{PAIRS_TO_RANK}; with fewer than {PAIRS_TO_RANK} a pair cannot be ranked",
    ]


def _count(sd: float, points: float) -> str:
    needed = seeds_needed(sd, points)
    return str(needed) if needed is not None else "over 1000"
