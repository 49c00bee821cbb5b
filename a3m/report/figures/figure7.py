"""Figure 7: accuracy along alpha and along beta through the shared centre, both panels on one scale."""

import pandas as pd
from matplotlib.figure import Figure

from a3m.report import results as r
from a3m.report.figures import style
from a3m.report.figures.trials import ranking
from a3m.report.predictions import Predictions
from a3m.report.statistics import mean_interval
from a3m.report.studies import ACCURACY, alpha_beta_line, check_alpha_beta

LINES = {"alpha": (style.BLUE, "o"), "beta": (style.RED, "s")}


def draw(results: pd.DataFrame, predictions: Predictions | None = None) -> Figure:
    """Two lines, with an interval where there is more than one seed and a gap where a trial failed; with predictions, beside
    each point, the interval over test data.

    Raises:
        DataError: the trials are not two lines of A3M through alpha = beta = 0.5.
    """
    results = check_alpha_beta(results)
    rows = r.rows(results)
    with style.use("figure7"):
        figure = style.new(3.0, str(results["source"].iloc[0]), str(results["dataset"].iloc[0]))
        panels = figure.subplots(1, 2, sharey=True)
        for along, axes in zip(LINES, panels, strict=True):
            colour, marker = LINES[along]
            line = alpha_beta_line(results, along)
            xs = [value for value, _ in line]
            seeds = [[100 * value for value in row.values(ACCURACY).values()] for _, row in line]
            intervals = [mean_interval(values) if values else None for values in seeds]
            means = [interval.mean if interval else float("nan") for interval in intervals]
            widths = [interval.half_width if interval else None for interval in intervals]
            axes.plot(xs, means, color=colour, marker=marker, markersize=5, linewidth=1.4, zorder=3)
            for x, mean, half_width in zip(xs, means, widths, strict=True):
                if half_width is not None:
                    axes.errorbar(x, mean, half_width, fmt="none", ecolor=colour, linewidth=1)
            aside = 0.015 * (max(xs) - min(xs))
            for x, (_, row) in zip(xs, line, strict=True):
                sampling = predictions.interval(row.keys(), ACCURACY) if predictions else None
                if sampling:
                    ends = [100 * sampling.low, 100 * sampling.high]
                    axes.plot([x + aside] * 2, ends, color=style.GREY, linewidth=1.6, zorder=1)
            for x, values in zip(xs, seeds, strict=True):
                if len(values) > 1:
                    axes.plot([x] * len(values), values, ".", color="black", markersize=3, zorder=4)
            centre = xs.index(0.5)
            axes.plot(0.5, means[centre], "o", markersize=11, markerfacecolor="none", markeredgecolor="black", mew=1)
            for x, values in zip(xs, seeds, strict=True):
                if not values:  # at the foot of the panel, whatever its scale
                    axes.plot(x, 0.03, "x", color="black", transform=axes.get_xaxis_transform(), clip_on=False)
            other = "beta" if along == "alpha" else "alpha"
            axes.set_xlabel(f"{along}   ({other} = 0.5)")
            axes.set_xticks(xs, [f"{x:g}" for x in xs])
        panels[0].set_ylabel("accuracy, percent")
        panels[1].tick_params(axis="y", labelleft=True)
        panels[0].margins(y=0.12)
        words = "Ring: the centre, one trial a seed on both lines; the scale does not begin at 0"
        lines = style.seeds(rows, words)
        lines += [style.sampled(predictions.unit)] if predictions else []
        middle = next(row for value, row in alpha_beta_line(results, "alpha") if value == 0.5)
        outer = {
            f"{along} {value:g}": row.values(ACCURACY)
            for along in LINES
            for value, row in (alpha_beta_line(results, along)[0], alpha_beta_line(results, along)[-1])
            if value != 0.5
        }
        style.close(figure, [*lines, *ranking("Accuracy at the ends", "the centre", outer, middle.values(ACCURACY))])
    return figure
