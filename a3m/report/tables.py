"""The tables, as pure functions of what the studies measured and what the paper published.

Shares are fractions in the results and percent in every table. The published numbers stand in published/*.csv, never here;
ours never stand in a published column, and each of our columns says in its head what it was measured on.
"""

from collections.abc import Mapping

import pandas as pd

from a3m.report import methods
from a3m.report import names as n
from a3m.report import results as r
from a3m.report.attributes import attributes, figure8
from a3m.report.describe import Draft, dataset_name
from a3m.report.predictions import Predictions
from a3m.report.statistics import mean_interval
from a3m.report.studies import ACCURACY, alpha_beta_line, check_ablation, check_alpha_beta, measured_task
from a3m.report.table import Table

NAMES = (*methods.NAMES, "figure5", "attributes", "figure8", "figure7")
MAIN_METRICS = {
    "test/rank1": "rank1",
    "test/mAP": "mAP",
    ACCURACY: "accuracy",
    "test/recall1": "recall1",
    "test/nmi": "nmi",
}
FIGURE5_METHODS = ("baseline2", "att1", "att2", "a3m")


def all_tables(
    studies: Mapping[str, pd.DataFrame], predictions: Mapping[str, Predictions] | None = None
) -> dict[str, Table]:
    """File name -> table, for the studies that have results. `predictions`: of those whose test data can be resampled."""
    tables = methods.method_tables(studies, predictions)
    if "ablation" in studies:
        if set(studies["ablation"]["method"]) & set(FIGURE5_METHODS):
            tables["figure5"] = figure5(studies["ablation"])
        if "test/attribute_mean" in studies["ablation"]:
            tables["attributes"] = attributes(studies["ablation"])
    if "cub200" in studies and "test/attribute_mean" in studies["cub200"]:
        tables["figure8"] = figure8(studies["cub200"], (predictions or {}).get("cub200"))
    if "alpha_beta" in studies:
        tables["figure7"] = figure7(studies["alpha_beta"])
    return {name: tables[name] for name in NAMES if name in tables}


def figure5(results: pd.DataFrame) -> Table:
    """The numbers of Figure 5: every metric of Baseline-2, Att-1, Att-2 and A3M in the paper's recipe."""
    draft = Draft(check_ablation(results))
    metrics, _ = measured_task(draft.results)
    for row in r.rows(draft.results):
        if row.method in FIGURE5_METHODS and not row.recipe and not row.control:
            draft.add({"method": row.label}, {"method": row.label}, row, metrics)
    draft.remarks.append("The paper's Figure 5 shows bars without numbers, so no published column stands here.")
    return draft.table(f"Figure 5. What each attention adds, {dataset_name(draft.results)}")


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
            measured = {short: row.values(metric) for metric, short in MAIN_METRICS.items()}
            entries[_plain_name(row)] = {
                short: round(mean_interval(list(values.values())).mean, 6)
                for short, values in measured.items()
                if values
            }
        summary[study] = {source: entries}
    return summary


def _plain_name(row: r.Row) -> str:
    """'a3m normalise_scores=true modern': what tells the row from others, in as few words as DVC's narrow columns need."""
    usual = {(n.SHUFFLED, "false"), (n.FEATURE, "category")}  # what a control or a plain backbone differs from
    settings = [(path, row.settings[path]) for path in sorted(row.distinct) if path in row.settings]
    told = [(path.rpartition(".")[2], value) for path, value in settings if (path, value) not in usual]
    return " ".join([row.method, *(f"{name}={value}" for name, value in told), *filter(None, [row.recipe])])


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
