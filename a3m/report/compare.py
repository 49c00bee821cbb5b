"""Rows against a reference: which row it is, the paired differences in their columns, and the sentence that says what they show.

A row is compared with the row of the reference method that has the same recipe and the same settings; a setting that one of
the two does not read is no difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from a3m.report import names as n
from a3m.report.describe import NAN, Draft, add_interval, signed
from a3m.report.rows import Row
from a3m.report.statistics import PAIRS_TO_RANK, Difference, paired_difference
from a3m.report.table import DASH

WHERE = {"twins": " on the twins", "raw subset": " on part of the real data set", "raw": ""}
IGNORED = (n.FEATURE, n.SHUFFLED)  # a control is compared with what it controls: these two are what differs


@dataclass(frozen=True)
class Reference:
    """The row that another is compared with; `several` when others would have fitted as well."""

    row: Row
    several: bool


def reference_of(row: Row, grouped: list[Row], method: str) -> Reference | None:
    """The row of `method` that differs in nothing but the method; None for the method itself, and where there is none.

    The form of the head is a difference also where it is left out. Of several that fit, since the row does not read the
    setting in which they differ, one stands for them: with the settings that most rows have.
    """
    if row.method == method:
        return None
    return _first_fitting(row, [other for other in grouped if other.method == method])


def controlled(row: Row, grouped: list[Row]) -> Reference | None:
    """What a control is compared with: the same row with its attribute labels; A3M for the Baseline-1 with its parameters."""
    if row.control == "shuffled":
        return _first_fitting(row, [other for other in grouped if other.method == row.method])
    if row.control == "wide":
        for method in ("a3m", "a3m_unlabelled"):
            found = _first_fitting(row, [other for other in grouped if other.method == method])
            if found:
                return found
    return None


def _first_fitting(row: Row, others: list[Row]) -> Reference | None:
    fitting = [
        other
        for other in others
        if not other.control
        and other.recipe == row.recipe
        and other.is_reranked == row.is_reranked
        and other.settings.get(n.FORM, "paper") == row.settings.get(n.FORM, "paper")
        and all(row.settings.get(path, value) == value for path, value in other.settings.items() if path not in IGNORED)
    ]
    if not fitting:
        return None
    return Reference(next((other for other in fitting if other.usual), fitting[0]), len(fitting) > 1)


def compare(row: Row | None, reference: Reference | None, metrics: tuple[str, ...]) -> dict[str, Difference | None]:
    """Metric -> row minus reference, paired by seed; None where there is no pair."""
    if row is None or reference is None:
        return dict.fromkeys(metrics)
    return {metric: paired_difference(row.values(metric), reference.row.values(metric)) for metric in metrics}


def add_differences(draft: Draft, i: int, compared: Mapping[str, Difference | None], heads: Mapping[str, str]) -> None:
    """Adds the columns of a comparison to row i: differences, p, least p, and whether it can rank. Bold is what it shows."""
    cells, values, ours = draft.shown[i], draft.numbers[i], draft.ours
    for metric, difference in compared.items():
        column = f"{ours} Δ {heads[metric]}"
        cells[column] = signed(difference.interval) if difference else DASH
        add_interval(values, column, difference.interval if difference else None)
        values[f"{column} sign-flip p"] = difference.p if difference else NAN
        if difference and difference.shown:
            draft.bold.add((i, column))
    either = next((difference for difference in compared.values() if difference), None)
    cells[f"{ours} sign-flip p"] = ", ".join(f"{d.p:.3g}" for d in compared.values() if d) or DASH
    cells[f"{ours} least p"] = f"{either.least_p:.3g}" if either else DASH
    cells[f"{ours} ranking"] = ("can rank" if either.can_rank else "cannot rank") if either else DASH
    values[f"{ours} pairs"] = len(either.seeds) if either else 0
    values[f"{ours} least p"] = either.least_p if either else NAN
    values[f"{ours} ranking"] = cells[f"{ours} ranking"] if either else ""


def verdict(
    row: Row,
    reference: Reference | None,
    to: str,
    compared: Mapping[str, Difference | None],
    heads: Mapping[str, str],
    source: str,
    block: str = "",
) -> str:
    """What was measured between a row and its reference, whether it can say which is better, and whether the row is not.

    `to` names the reference, also where there is none; `block` is the part of the table that both stand in, if several.
    """
    where = (f", {block[0].lower() + block[1:]},"[: None if WHERE[source] else -1] if block else "") + WHERE[source]
    name = reference.row.label if reference and reference.several else to
    differences = {heads[metric]: difference for metric, difference in compared.items() if difference}
    if len(differences) < len(compared):
        why = f"{to} has no trial with the same settings" if reference is None else "no seed finished in both"
        return f"{row.label} is not compared with {name}{where}: {why}."
    pairs = min(len(difference.seeds) for difference in differences.values())
    plural = f"pair{'s' * (pairs > 1)}"
    measured = ", ".join(f"{head} {signed(difference.interval)}" for head, difference in differences.items())
    text = f"{row.label} minus {name}{where}, {pairs} {plural} of seeds: {measured} points. "
    first = next(iter(differences.values()))
    if not first.can_rank:
        least = f"the sign-flip test cannot go below p = {first.least_p:.3g}"
        text += f"With {pairs} {plural} {least}: this cannot rank the two."
        behind = [head for head, difference in differences.items() if difference.interval.mean <= 0]
        return text + (
            f" In {' and '.join(behind)} the mean of {row.label} is not above that of {name}." if behind else ""
        )
    outcomes = []
    for head, difference in differences.items():
        side = "above" if difference.interval.mean > 0 else "below"
        outcome = (
            f"{row.label} is {side} {name}" if difference.shown else "no difference is shown, the interval holds 0"
        )
        outcomes.append(f"{head}: {outcome} (p = {difference.p:.3g})")
    return text + "; ".join(outcomes) + "."


def how_compared(to: str, heads: list[str]) -> str:
    """The remark under every table that has differences."""
    return (
        f"Δ is the difference to {to} in points, paired by seed, between rows of one recipe and the same settings. The sign-flip "
        f"test is exact and two-sided, given for {', '.join(heads)}; with n pairs it cannot go below 2/2^n, the least p; below "
        f"{PAIRS_TO_RANK} pairs a comparison cannot rank. Bold: the pair can rank and its interval excludes 0. No correction for "
        "several comparisons."
    )
