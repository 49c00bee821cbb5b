"""What each study must be before a table or a figure is made of it."""

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


def check_ablation(results: pd.DataFrame) -> pd.DataFrame:
    name = "results/ablation.csv"
    results = r.check(results, name)
    dataset = str(results["dataset"].iloc[0])
    if dataset != "market1501":
        raise DataError(f"{name}: Table 1 and Figure 5 are of market1501, this is of {dataset}")
    r.need_metrics(results, list(RANKING), name)
    r.need_methods(r.rows(results), list(r.METHODS), name)
    return results


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
