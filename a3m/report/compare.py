"""Rows against a reference: which row it is, the paired differences in their columns, and the sentence that says what they show.

A row is compared with the row of the reference method that has the same recipe and the same settings; a setting that one of
the two does not read is no difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from a3m.report import names as n
from a3m.report.describe import NAN, Draft, add_interval, signed, span
from a3m.report.predictions import Predictions
from a3m.report.rows import Row
from a3m.report.statistics import PAIRS_TO_RANK, RESAMPLES, Difference, Range, paired_difference
from a3m.report.table import DASH, Pair

WHERE = {"twins": " on the twins", "raw subset": " on part of the real data set", "raw": ""}
IGNORED = (n.FEATURE, n.SHUFFLED)  # a control is compared with what it controls: these two are what differs


ONE_BY_ONE = 3  # so many p of McNemar's test are written out; of more, the least and the greatest


@dataclass(frozen=True)
class Compared:
    """Two rows in one metric. What the seeds say and what the test data say stand apart: neither is part of the other."""

    seeds: Difference
    sampling: Range | None  # bootstrap over test data, of the trials of `seeds`
    mcnemar: tuple[float, ...]  # p of each pair of networks; classification only


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


def compare(
    row: Row | None, reference: Reference | None, metrics: tuple[str, ...], predictions: Predictions | None = None
) -> dict[str, Compared | None]:
    """Metric -> row minus reference, paired by seed; None where there is no pair."""
    if row is None or reference is None:
        return dict.fromkeys(metrics)
    return {metric: _compare(row, reference.row, metric, predictions) for metric in metrics}


def _compare(row: Row, other: Row, metric: str, predictions: Predictions | None) -> Compared | None:
    difference = paired_difference(row.values(metric), other.values(metric))
    if difference is None or predictions is None:
        return Compared(difference, None, ()) if difference else None
    keys = row.keys(difference.seeds), other.keys(difference.seeds)
    sampling = predictions.difference(*keys, metric, reranked=row.is_reranked)
    return Compared(difference, sampling, tuple(predictions.mcnemar(*keys)))


def add_differences(
    draft: Draft,
    i: int,
    row: Row | None,
    reference: Reference | None,
    compared: Mapping[str, Compared | None],
    heads: Mapping[str, str],
) -> None:
    """Adds the columns of a comparison to row i: differences, p, least p, and whether it can rank; where the draft has
    predictions, apart from these, what sampling of the test data leaves open. Bold is what the seeds show.
    """
    cells, values, ours = draft.shown[i], draft.numbers[i], draft.ours
    for metric, found in compared.items():
        column = f"{ours} Δ {heads[metric]}"
        difference = found.seeds if found else None
        cells[column] = signed(difference.interval) if difference else DASH
        add_interval(values, column, difference.interval if difference else None)
        values[f"{column} sign-flip p"] = difference.p if difference else NAN
        if difference and difference.shown:
            draft.bold.add((i, column))
        if found and row and reference:
            values_of = row.values(metric), reference.row.values(metric)
            draft.pairs[i, column] = pair(row, reference.row, heads[metric], found, values_of)
    differences = [found.seeds for found in compared.values() if found]
    either = differences[0] if differences else None
    cells[f"{ours} sign-flip p"] = ", ".join(f"{difference.p:.3g}" for difference in differences) or DASH
    cells[f"{ours} least p"] = f"{either.least_p:.3g}" if either else DASH
    cells[f"{ours} ranking"] = ("can rank" if either.can_rank else "cannot rank") if either else DASH
    values[f"{ours} pairs"] = len(either.seeds) if either else 0
    values[f"{ours} least p"] = either.least_p if either else NAN
    values[f"{ours} ranking"] = cells[f"{ours} ranking"] if either else ""
    if draft.unit:
        _add_sampling(draft, i, compared, heads)


def _add_sampling(draft: Draft, i: int, compared: Mapping[str, Compared | None], heads: Mapping[str, str]) -> None:
    cells, values, ours = draft.shown[i], draft.numbers[i], draft.ours
    for metric, found in compared.items():
        column = f"{ours} Δ {heads[metric]}, test {draft.unit}"
        sampling = found.sampling if found else None
        cells[column] = span(sampling) if sampling else DASH
        values[f"{column} from"] = 100 * sampling.low if sampling else NAN
        values[f"{column} to"] = 100 * sampling.high if sampling else NAN
    if draft.unit == "images":
        p: tuple[float, ...] = next((found.mcnemar for found in compared.values() if found), ())
        cells[f"{ours} McNemar p"] = _several(p) or DASH
        values[f"{ours} McNemar p least"] = min(p) if p else NAN
        values[f"{ours} McNemar p greatest"] = max(p) if p else NAN


def _several(p: Sequence[float]) -> str:
    """'0.02, 0.31' or, of many, '0.02 to 0.9'."""
    return ", ".join(f"{one:.2g}" for one in p) if len(p) <= ONE_BY_ONE else f"{min(p):.2g} to {max(p):.2g}"


def pair(
    row: Row, other: Row, head: str, found: Compared, values: tuple[Mapping[int, float], Mapping[int, float]]
) -> Pair:
    """What the page says of a difference: seed by seed, then in words. `values` are seed -> value of either row."""
    difference = found.seeds
    pairs = len(difference.seeds)
    words = [
        f"Over seeds: {signed(difference.interval)} points ({pairs} pair{'s' * (pairs > 1)}; sign-flip p {difference.p:.3g}, "
        f"least attainable p {difference.least_p:.3g}): {'can rank' if difference.can_rank else 'cannot rank'}."
    ]
    if found.sampling:
        words.append(
            f"Over test data alone, the networks held fixed: {span(found.sampling)} points (95 % bootstrap interval)."
        )
    if found.mcnemar:
        words.append(f"McNemar's test over test images, a p each pair of networks: {_several(found.mcnemar)}.")
    listed = tuple((seed, values[0][seed], values[1][seed]) for seed in difference.seeds)
    return Pair(row.name, other.name, head, listed, (row.all_keys, other.all_keys), tuple(words))


def verdict(
    row: Row,
    reference: Reference | None,
    to: str,
    compared: Mapping[str, Compared | None],
    heads: Mapping[str, str],
    source: str,
    block: str = "",
    unit: str = "",
) -> str:
    """What was measured between a row and its reference, whether it can say which is better, and whether the row is not.

    `to` names the reference, also where there is none; `block` is the part of the table that both stand in, if several; `unit` is
    what of the test data was resampled, if it was.
    """
    where = (f", {block[0].lower() + block[1:]},"[: None if WHERE[source] else -1] if block else "") + WHERE[source]
    name = reference.row.label if reference and reference.several else to
    differences = {heads[metric]: found.seeds for metric, found in compared.items() if found}
    if len(differences) < len(compared):
        why = f"{to} has no trial with the same settings" if reference is None else "no seed finished in both"
        return f"{row.label} is not compared with {name}{where}: {why}."
    pairs = min(len(difference.seeds) for difference in differences.values())
    plural = f"pair{'s' * (pairs > 1)}"
    measured = ", ".join(f"{head} {signed(difference.interval)}" for head, difference in differences.items())
    text = f"{row.label} minus {name}{where}, {pairs} {plural} of seeds: {measured} points. "
    sampled = {heads[metric]: found.sampling for metric, found in compared.items() if found and found.sampling}
    if sampled:
        spans = ", ".join(f"{head} {span(sampling)}" for head, sampling in sampled.items())
        text += f"Apart from that, of other test {unit} these networks would give {spans} (95 % bootstrap interval). "
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


def how_compared(to: str, heads: list[str], unit: str = "") -> list[str]:
    """The remarks under every table that has differences; `unit` is what of the test data was resampled, if it was."""
    over_seeds = (
        f"Δ is the difference to {to} in points, paired by seed, between rows of one recipe and the same settings. The sign-flip "
        f"test is exact and two-sided, given for {', '.join(heads)}; with n pairs it cannot go below 2/2^n, the least p; below "
        f"{PAIRS_TO_RANK} pairs a comparison cannot rank. Bold: the pair can rank and its interval excludes 0. No correction for "
        "several comparisons."
    )
    if not unit:
        return [
            over_seeds,
            "Test data were not resampled: no predictions of these trials are stored beside the results.",
        ]
    test = (
        f"Columns headed 'test {unit}': 95 % percentile interval of the same difference in {RESAMPLES:,} paired resamples of the "
        f"test {unit}, the trained networks held fixed and averaged over the seeds. It covers the sampling of test data and no "
        "training noise, as ± over seeds covers training noise and no sampling; the two are not combined."
    )
    if unit == "images":
        test += (
            " McNemar p: exact and two-sided, of the test images that one network gets right and the other wrong, one p a pair "
            f"of seeds (of more than {ONE_BY_ONE}, the least and the greatest)."
        )
    return [over_seeds, test]
