"""Figure 5: bars of Baseline-2, Att-1, Att-2 and A3M in rank-k and mAP, from the paper's recipe, without controls."""

import pandas as pd
from matplotlib.figure import Figure

from a3m.report.figures import style
from a3m.report.figures.trials import paper_trials, ranking
from a3m.report.predictions import Predictions
from a3m.report.statistics import mean_interval
from a3m.report.studies import measured_task

METHODS = ("baseline2", "att1", "att2", "a3m")
LEFT_OUT = "test/mAP"  # the rectangular one: the published mAP is probably the trapezoid one


def draw(results: pd.DataFrame, predictions: Predictions | None = None) -> Figure:
    """Rank-k and mAP of each method (own data: what its task measures), with every seed as a dot and the interval as a whisker;
    with predictions, beside it, the interval over test data.

    Raises:
        DataError: a method has no trial, or a finished trial lacks a metric.
    """
    metrics = {
        metric: head.replace(" (", "\n(") for metric, head in measured_task(results)[0].items() if metric != LEFT_OUT
    }
    results, rows = paper_trials(results, METHODS, list(metrics))
    with style.use("figure5"):
        figure = style.new(3.4, str(results["source"].iloc[0]), str(results["dataset"].iloc[0]))
        axes = figure.subplots()
        width = 0.84 / len(rows)
        for i, (row, (colour, hatch)) in enumerate(zip(rows, style.bars(rows), strict=True)):
            for place, metric in enumerate(metrics):
                x = place + (i - (len(rows) - 1) / 2) * width
                values = [100 * value for value in row.values(metric).values()]
                interval = mean_interval(values) if values else None
                label = row.label if place == 0 else "_"  # an underscore keeps the others out of the legend
                height = interval.mean if interval else 0
                bar = axes.bar(x, height, 0.92 * width, color=colour, hatch=hatch, edgecolor="black", linewidth=0.6)
                bar.set_label(label)
                if interval is None:
                    axes.text(x, 1, "not finished", rotation=90, ha="center", va="bottom", fontsize=style.SMALL)
                    continue
                beside = [x - 0.25 * width] * len(values)  # clear of the whisker
                axes.plot(beside, values, "o", color="black", markersize=3, markerfacecolor="white", mew=0.7)
                if interval.half_width is not None:
                    axes.errorbar(x, interval.mean, interval.half_width, color="black", linewidth=1)
                sampling = predictions.interval(row.keys(), metric) if predictions else None
                if sampling:
                    aside = [x + 0.25 * width] * 2
                    axes.plot(aside, [100 * sampling.low, 100 * sampling.high], color=style.DARK, linewidth=1.6)
        axes.set_xticks(range(len(metrics)), list(metrics.values()))
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(0, 100)
        axes.set_ylabel("percent")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.5)
        lines = style.seeds(rows, "Bar: mean over seeds; dot: one seed")
        lines += [style.sampled(predictions.unit)] if predictions else []
        _, (*_, judged) = measured_task(results)
        baseline = next(row for row in rows if row.method == "baseline2")
        others = {row.label: row.values(judged) for row in rows if row is not baseline}
        head = measured_task(results)[0][judged]
        style.close(figure, [*lines, *ranking(head, baseline.label, others, baseline.values(judged))])
    return figure
