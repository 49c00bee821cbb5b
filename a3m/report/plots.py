"""What `dvc plots show` and `dvc plots diff` draw: one small file a plot, a row a point, means over the seeds in percent."""

from collections.abc import Mapping

import pandas as pd

from a3m.report.rows import Row, rows
from a3m.report.statistics import mean_interval
from a3m.report.studies import ACCURACY, alpha_beta_line, check_alpha_beta, measured_task

LINES = ("alpha", "beta")
COLUMN = "percent"  # what every plot shows, whatever its metric: the plot's title says which


def all_plots(studies: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """File name -> points, of checked studies: a bar a row of each study, and the two lines of Figure 7."""
    plots = {}
    for study, results in studies.items():
        if study == "alpha_beta":
            checked = check_alpha_beta(results)
            for along in LINES:
                points = [{along: value, **_point(row, ACCURACY)} for value, row in alpha_beta_line(checked, along)]
                plots[along] = pd.DataFrame(points)
        else:
            judged = measured_task(results)[1][-1] if study == "ablation" else measured_task(results)[1][0]
            plots[study] = pd.DataFrame([{"method": row.name, **_point(row, judged)} for row in rows(results)])
    return plots


def _point(row: Row, metric: str) -> dict[str, float | int | None]:
    measured = list(row.values(metric).values())
    return {COLUMN: round(100 * mean_interval(measured).mean, 4) if measured else None, "seeds": len(measured)}
