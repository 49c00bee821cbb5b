"""The tables, as pure functions of what the studies measured and what the paper published.

Shares are fractions in the results and percent in every table. The published numbers stand in published/*.csv, never here;
ours never stand in a published column, and each of our columns says in its head what it was measured on.
"""

from collections.abc import Mapping
from importlib import resources

import pandas as pd

from a3m.errors import DataError
from a3m.report import results as r
from a3m.report.describe import NAN, Draft, add_interval, dataset_name, signed
from a3m.report.statistics import PAIRS_TO_RANK, Difference, mean_interval, paired_difference
from a3m.report.studies import ACCURACY, RANKING, alpha_beta_line, check_ablation, check_alpha_beta
from a3m.report.table import DASH, Table

NAMES = ("table1", "figure5", "attributes", "figure7")
COMPARED = ("test/rank1", "test/mAP_trapezoid")
PUBLISHED_COLUMNS = {"rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10", "rank20": "rank-20", "mAP": "mAP"}
ATTRIBUTE_COLUMNS = {
    "test/attribute_mean": "attribute accuracy",
    "test/attribute_majority": "majority class",
    "test/localisation_mean": "localisation",
    "test/localisation_chance": "chance (area)",
    "test/localisation_prior": "fixed place",
}
FIGURE5_METHODS = ["baseline2", "att1", "att2", "a3m"]
POOLED_NOTE = (
    "Plain backbone: its own pooled feature is compared and classified, without the d-wide layer of the category branch. "
    "Not a row of the paper."
)
FIGURE5_NOTE = "A row of Figure 5; the paper gives no number for it in Table 1."


def published(name: str) -> pd.DataFrame:
    """A table of the paper (`table1_market1501`, `table2_cub200`) as text, '' where it gives no number. Shares in percent."""
    with (resources.files("a3m.report") / "published" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)


def all_tables(studies: Mapping[str, pd.DataFrame]) -> dict[str, Table]:
    """File name -> table, for the studies that have results."""
    tables = {}
    if "ablation" in studies:
        tables["table1"] = table1(studies["ablation"], published("table1_market1501"))
        tables["figure5"] = figure5(studies["ablation"])
        tables["attributes"] = attributes(studies["ablation"])
    if "alpha_beta" in studies:
        tables["figure7"] = figure7(studies["alpha_beta"])
    return tables


def table1(results: pd.DataFrame, published: pd.DataFrame) -> Table:
    """Market-1501: the paper's Table 1, and ours beside it with the difference to Baseline-2.

    Args:
        results: results/ablation.csv, all six methods.
        published: published/table1_market1501.csv.
    """
    draft = Draft(check_ablation(results))
    ours = draft.ours
    grouped = r.rows(draft.results)
    for label, cited, row in _placed(grouped, published):
        source = "" if cited is None else r.cell_text(cited["source"])
        cells = {"method": f"{label} ({source})" if source and row is None else label}
        values: dict[str, object] = {"method": label, "published source": source}
        for column, head in PUBLISHED_COLUMNS.items():
            text = "" if cited is None else r.cell_text(cited[column])
            cells[f"published {head}"] = text or DASH
            values[f"published {head}"] = float(text) if text else NAN
        i = draft.add(cells, values, row, RANKING)
        reference = _reference(row, grouped) if row else None
        compared = {metric: _compare(row, reference, metric) for metric in COMPARED}
        for metric, difference in compared.items():
            column = f"{ours} Δ {RANKING[metric]}"
            cells[column] = signed(difference.interval) if difference else DASH
            add_interval(values, column, difference.interval if difference else None)
            values[f"{column} sign-flip p"] = difference.p if difference else NAN
            if difference and difference.shown:
                draft.bold.add((i, column))
        either = compared[COMPARED[0]]
        cells[f"{ours} sign-flip p"] = ", ".join(f"{d.p:.3g}" for d in compared.values() if d) or DASH
        cells[f"{ours} least p"] = f"{either.least_p:.3g}" if either else DASH
        cells[f"{ours} ranking"] = ("can rank" if either.can_rank else "cannot rank") if either else DASH
        values[f"{ours} pairs"] = len(either.seeds) if either else 0
        values[f"{ours} least p"] = either.least_p if either else NAN
        values[f"{ours} ranking"] = cells[f"{ours} ranking"] if either else ""
        if row and row.settings.get("baseline1.feature") == "pooled":
            draft.notes.mark(i, POOLED_NOTE)
        if row and row.method in ("att1", "att2"):
            draft.notes.mark(i, FIGURE5_NOTE)
        if row and row.method == "a3m":
            draft.remarks.append(_verdict(row, reference, compared, draft.source))
    draft.remarks += [
        f"Δ is the difference to Baseline-2 in points, paired by seed. The sign-flip test is exact and two-sided, given for "
        f"rank-1, mAP (trapezoid); with n pairs it cannot go below 2/2^n, the least p; below {PAIRS_TO_RANK} pairs a "
        "comparison cannot rank. Bold: the pair can rank and its interval excludes 0. No correction for several comparisons.",
        f"Published mAP is probably the trapezoid one: compare it with mAP (trapezoid). {DASH} : not published or not measured.",
    ]
    return draft.table("Table 1. Person re-identification on Market-1501")


def figure5(results: pd.DataFrame) -> Table:
    """The numbers of Figure 5: rank-k and mAP of Baseline-2, Att-1, Att-2 and A3M."""
    draft = Draft(check_ablation(results))
    for row in r.rows(draft.results):
        if row.method in FIGURE5_METHODS:
            draft.add({"method": row.label}, {"method": row.label}, row, RANKING)
    draft.remarks.append("The paper's Figure 5 shows bars without numbers, so no published column stands here.")
    return draft.table("Figure 5. What each attention adds, Market-1501")


def attributes(results: pd.DataFrame) -> Table:
    """Per method: accuracy of the attributes beside the majority class, localisation beside chance and a fixed place."""
    results = check_ablation(results)
    majority = [str(column) for column in results if str(column).startswith("test/attribute_majority/")]
    draft = Draft(results.assign(**{"test/attribute_majority": results[majority].mean(axis=1) if majority else NAN}))
    for row in r.rows(draft.results):
        if row.method == "baseline1":
            continue
        i = draft.add({"method": row.label}, {"method": row.label}, row, ATTRIBUTE_COLUMNS)
        if row.method == "a3m_unlabelled":
            draft.notes.mark(
                i, "Trained without attribute labels: its attribute outputs are not expected to mean anything."
            )
    draft.remarks += [
        "Attribute accuracy: unweighted mean over the attributes, labelled test images only; beside it, always answering the "
        "majority class of the training data. Baseline-1 has no attributes.",
        "Localisation: share of test images and attributes whose highest raw score V^T a_k lies in the attribute's true region, "
        "which only twins know; beside it the region's share of the area, and one fixed place an attribute.",
    ]
    return draft.table(f"Attributes: recognised and located, {dataset_name(results)}")


def figure7(results: pd.DataFrame) -> Table:
    """The numbers of Figure 7: accuracy along alpha and along beta, two lines that share the trial at (0.5, 0.5)."""
    draft = Draft(check_alpha_beta(results))
    for along in ("alpha", "beta"):
        line = alpha_beta_line(draft.results, along)
        for value, row in line:
            cells = {"line": f"along {along}: {value:g}"}
            numbers: dict[str, object] = {"line": along}
            for weight in ("alpha", "beta"):
                cells[weight] = f"{float(row.settings[f'loss.{weight}']):g}"
                numbers[weight] = float(row.settings[f"loss.{weight}"])
            i = draft.add(cells, numbers, row, {ACCURACY: "accuracy"})
            if cells["alpha"] == cells["beta"]:
                draft.notes.mark(i, "The centre, one trial a seed, stands on both lines.")
        draft.remarks.append(_line_remark(along, line))
    draft.remarks.append(
        "The paper's figure has no numbers: accuracy rises from 0.1 to 0.5 in both; beyond, it declines along alpha, and of "
        "beta nothing is said; differences are small."
    )
    return draft.table(f"Figure 7. Loss weights alpha and beta, {dataset_name(draft.results)}")


def metrics(studies: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, dict[str, float | dict[str, float]]]]:
    """For `dvc metrics show`: study -> source -> row -> main metrics as fractions (means over the seeds); few, since DVC prints a
    column each. Beside the rows stand the number of seeds and of trials that did not finish.
    """
    main = {"test/rank1": "rank1", "test/mAP": "mAP", ACCURACY: "accuracy"}
    summary: dict[str, dict[str, dict[str, float | dict[str, float]]]] = {}
    for study, results in sorted(studies.items()):
        checked = r.check(results, study)
        source = str(checked["source"].iloc[0]).replace(" ", "_")
        grouped = r.rows(checked)
        entries: dict[str, float | dict[str, float]] = {
            "seeds": max(len(row.finished) for row in grouped),
            "unfinished": sum(len(row.unfinished) for row in grouped),
        }
        for row in grouped:
            name = " ".join(
                [row.method, *(f"{p.rpartition('.')[2]}={value}" for p, value in sorted(row.settings.items()))]
            )
            measured = {short: row.values(metric) for metric, short in main.items()}
            entries[name] = {
                short: round(mean_interval(list(values.values())).mean, 6)
                for short, values in measured.items()
                if values
            }
        summary[study] = {source: entries}
    return summary


def _placed(grouped: list[r.Row], published: pd.DataFrame) -> list[tuple[str, pd.Series | None, r.Row | None]]:
    """(label, published row or None, our row or None) in the order of print.

    The paper's number of a method stands once, beside its first row of ours: as written before normalised scores.
    """
    names = list(published["method"])
    absent = [r.METHODS[m] for m in ("baseline1", "baseline2", "a3m_unlabelled", "a3m") if r.METHODS[m] not in names]
    if absent or len(set(names)) != len(names):
        raise DataError(
            f"published/table1_market1501.csv: each method once, with {', '.join(absent) or 'no name twice'}"
        )
    ours = set(r.METHODS.values())
    placed: list[tuple[str, pd.Series | None, r.Row | None]] = [
        (str(cited["method"]), cited, None) for _, cited in published.iterrows() if cited["method"] not in ours
    ]
    cited_rows = {str(cited["method"]): cited for _, cited in published.iterrows()}
    for row in grouped:
        placed.append((row.label, cited_rows.pop(r.METHODS[row.method], None), row))
    return placed


def _reference(row: r.Row, grouped: list[r.Row]) -> r.Row | None:
    """The Baseline-2 that differs from the row in nothing but the method; None for Baseline-2 itself.

    A setting that one of the two does not read is no difference. The form of the head is one, also where it is left out.
    """
    if row.method == "baseline2":
        return None
    fitting = [
        other
        for other in grouped
        if other.method == "baseline2"
        and other.settings.get("head.form", "paper") == row.settings.get("head.form", "paper")
        and all(row.settings.get(path, value) == value for path, value in other.settings.items())
    ]
    if len(fitting) > 1:
        raise DataError(
            f"results/ablation.csv: {row.label} could be compared with {len(fitting)} rows of Baseline-2 "
            f"({', '.join(other.label for other in fitting)}): give it the setting in which they differ"
        )
    return fitting[0] if fitting else None


def _compare(row: r.Row | None, reference: r.Row | None, metric: str) -> Difference | None:
    return paired_difference(row.values(metric), reference.values(metric)) if row and reference else None


def _verdict(row: r.Row, reference: r.Row | None, compared: Mapping[str, Difference | None], source: str) -> str:
    """What was measured between A3M and Baseline-2, and whether it can say which is better."""
    where = {"twins": " on the twins", "raw subset": " on part of the real data set", "raw": ""}[source]
    first, second = (compared[metric] for metric in COMPARED)
    if first is None or second is None:
        why = "Baseline-2 has no trial with the same settings" if reference is None else "no seed finished in both"
        return f"{row.label} is not compared with Baseline-2{where}: {why}."
    pairs = len(first.seeds)
    measured = f"rank-1 {signed(first.interval)}, mAP (trapezoid) {signed(second.interval)} points"
    text = f"{row.label} minus Baseline-2{where}, {pairs} pair{'s' * (pairs > 1)} of seeds: {measured}. "
    if not first.can_rank:
        least = f"the sign-flip test cannot go below p = {first.least_p:.3g}"
        return text + f"With {pairs} pair{'s' * (pairs > 1)} {least}: this cannot rank the two."
    outcomes = []
    for head, difference in (("rank-1", first), ("mAP", second)):
        side = "above" if difference.interval.mean > 0 else "below"
        outcome = (
            f"{row.label} is {side} Baseline-2" if difference.shown else "no difference is shown, the interval holds 0"
        )
        outcomes.append(f"{head}: {outcome} (p = {difference.p:.3g})")
    return text + "; ".join(outcomes) + "."


def _line_remark(along: str, line: list[tuple[float, r.Row]]) -> str:
    means = {
        value: mean_interval(list(row.values(ACCURACY).values())).mean for value, row in line if row.values(ACCURACY)
    }
    if not means:
        return f"Along {along} no trial has finished."
    best = max(means, key=lambda value: means[value])
    low, high = 100 * min(means.values()), 100 * max(means.values())
    text = f"Along {along} the means lie between {low:.1f} and {high:.1f}, the highest at {along} = {best:g}"
    seeds = min(len(row.finished) for _, row in line if len(row.finished))
    return text + ("; with one seed a point, their order shows nothing." if seeds == 1 else ".")
