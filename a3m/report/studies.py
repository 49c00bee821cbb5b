"""What each study must be before a table or a figure is made of it, and which metrics its task has."""

from collections.abc import Mapping

import pandas as pd

from a3m.errors import DataError
from a3m.report import results as r

RANKING = {  # metric -> head of its column; the trapezoid mAP is the one that compares with the published mAP
    "test/rank1": "rank-1",
    "test/rank5": "rank-5",
    "test/rank10": "rank-10",
    "test/rank20": "rank-20",
    "test/mAP_trapezoid": "mAP (trapezoid)",
    "test/mAP": "mAP (rectangular)",
}
ACCURACY = "test/accuracy"
CLASSIFICATION = {ACCURACY: "accuracy"}
RETRIEVAL = {
    "test/recall1": "R@1",
    "test/recall2": "R@2",
    "test/recall4": "R@4",
    "test/recall8": "R@8",
    "test/nmi": "NMI",
}
TASKS = (
    (RANKING, ("test/rank1", "test/mAP_trapezoid")),
    (CLASSIFICATION, (ACCURACY,)),
    (RETRIEVAL, ("test/recall1", "test/nmi")),
)
ABLATION = ("baseline1", "baseline2", "att1", "att2", "a3m_unlabelled", "a3m")


def measured_task(results: pd.DataFrame) -> tuple[dict[str, str], tuple[str, ...]]:
    """The metrics of the task that a study measured, and which of them are compared: by the columns that hold anything."""
    for metrics, compared in TASKS:
        if compared[0] in results and results[compared[0]].notna().any():
            return metrics, compared
    return TASKS[1]


def check_study(
    results: pd.DataFrame, study: str, metrics: Mapping[str, str], methods: Mapping[str, tuple[str, ...]]
) -> pd.DataFrame:
    """Refuses a study whose finished trials lack a metric, or that lacks a method (name -> methods that will do)."""
    name = f"results/{study}.csv"
    results = r.check(results, name)
    r.need_metrics(results, list(metrics), name)
    r.need_methods(results, methods, name)
    return results


def check_ablation(results: pd.DataFrame) -> pd.DataFrame:
    """The ablation: all six variants on Market-1501; on other data, which may have no attributes, what was run."""
    results = r.check(results, "results/ablation.csv")
    if str(results["dataset"].iloc[0]) != "market1501":
        return check_study(results, "ablation", measured_task(results)[0], {})
    return check_study(results, "ablation", RANKING, {method: (method,) for method in ABLATION})


def check_alpha_beta(results: pd.DataFrame) -> pd.DataFrame:
    """Refuses what is not two lines of A3M through (0.5, 0.5)."""
    name = "results/alpha_beta.csv"
    results = r.check(results, name)
    r.need_metrics(results, [ACCURACY], name)
    settings = sorted(r.settings_of(results))
    if settings != ["loss.alpha", "loss.beta"] or set(results["method"]) != {"a3m"}:
        raise DataError(
            f"{name}: Figure 7 varies loss.alpha and loss.beta of a3m and nothing else; this varies {', '.join(settings)} "
            f"of {', '.join(sorted(set(results['method'])))}: run python sweeps/alpha_beta.py"
        )
    weights = results[settings].apply(pd.to_numeric, errors="coerce")
    if weights.isna().any().any():
        raise DataError(f"{name}: loss.alpha or loss.beta is empty or no number: run python sweeps/alpha_beta.py")
    off = results[(weights != 0.5).all(axis=1)]
    if len(off):
        raise DataError(f"{name}: trial {off['key'].iloc[0]} lies on neither line through alpha = beta = 0.5")
    if not (weights == 0.5).all(axis=1).any():
        raise DataError(f"{name}: no trial at the centre, alpha = beta = 0.5: run python sweeps/alpha_beta.py")
    return results


def alpha_beta_line(results: pd.DataFrame, along: str) -> list[tuple[float, r.Row]]:
    """(value, row) in rising order along one weight, the other being 0.5; `results` has passed `check_alpha_beta`."""
    other = "beta" if along == "alpha" else "alpha"
    line = [row for row in r.rows(results) if float(row.settings[f"loss.{other}"]) == 0.5]
    return sorted(((float(row.settings[f"loss.{along}"]), row) for row in line), key=lambda point: point[0])
