"""Figure 8: accuracy of each attribute, Baseline-2 beside A3M, and what always guessing the commonest value would score.

Where "absent" is a class of its own (the paper's fold), one panel counts it and a second one counts labelled images only.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from a3m.report import results as r
from a3m.report.figures import style
from a3m.report.figures.trials import paper_trials, ranking
from a3m.report.samples import NothingToShow
from a3m.report.statistics import Interval, mean_interval

METHODS = ("baseline2", "a3m")
EVERY, MAJORITY, LABELLED = "test/attribute/", "test/attribute_majority/", "test/attribute_labelled/"
MEAN = "mean of all"
BAR, GAP = 0.062, 0.05  # inches of a bar and between two attributes
WIDER = 1.9  # the mean's bars, so that their numbers fit beside them
NAMES, NUMBERS = 1.35, 0.35  # inches left and right of a panel


def draw(results: pd.DataFrame) -> Figure:
    """Three bars an attribute, an interval over seeds where there are some, the unweighted mean at the top.

    Raises:
        NothingToShow: the data set has no attributes.
        DataError: no Baseline-2 or A3M by the paper's recipe, or a finished trial lacks the accuracy of an attribute.
    """
    results, rows = paper_trials(results, METHODS, [])
    names = [column.removeprefix(EVERY) for column in map(str, results) if column.startswith(EVERY)]
    names = [name for name in names if results[EVERY + name].notna().any()]
    if not names:
        raise NothingToShow(
            f"results/{results['study'].iloc[0]}.csv: no column {EVERY}<name>; Figure 8 needs attributes"
        )
    r.need_metrics(results, [EVERY + name for name in names], f"results/{results['study'].iloc[0]}.csv")
    labelled = [name for name in names if LABELLED + name in results and results[LABELLED + name].notna().any()]
    dataset = str(results["dataset"].iloc[0])
    panels = [(EVERY, names, True)] + ([(LABELLED, labelled, False)] if labelled else [])
    group = BAR * (len(rows) + 1) + GAP
    with style.use("figure8"):
        deep = (_places(len(names))[-1] + 1.6) * group  # inches of a panel
        top = 0.5 if labelled else 0.3
        figure = style.new(top + deep + 0.4, str(results["source"].iloc[0]), dataset, layout=None)
        wide = (style.WIDTH - NAMES - NUMBERS * len(panels)) / len(panels)
        for place, (prefix, shown, majority) in enumerate(panels):
            axes = style.place(figure, NAMES + place * (wide + NUMBERS), top, wide, deep)
            axes.set_axis_on()
            _panel(axes, rows, prefix, names, shown, majority, group)
            axes.set_yticks(_places(len(names)), [MEAN, *(style.attribute_name(dataset, name) for name in names)])
            axes.get_yticklabels()[0].set_fontweight("bold")
            axes.tick_params(axis="y", length=0, labelsize=8, labelleft=place == 0)
            if labelled:
                title = "absent counts as a value" if majority else "labelled images only"
                style.write_at(figure, NAMES + place * (wide + NUMBERS) + wide / 2, 0.33, title, size=9)
            if place == 0:
                handles, words = axes.get_legend_handles_labels()
                figure.legend(handles, words, loc="upper center", bbox_to_anchor=(0.5, 1), ncols=4, borderaxespad=0.2)
        fold = (
            "the majority class is known for the left panel only"
            if labelled
            else "images without a label are left out: absent is masked, no value of its own"
        )
        lines = style.seeds(rows, "Bar: mean over seeds; mean of all: each attribute counts once")
        lines.append(f"Majority class: always guessing the commonest value of the training data; {fold}.")
        baseline = next(row for row in rows if row.method == "baseline2")
        others = {row.label: _means(row, names) for row in rows if row is not baseline}
        style.close(figure, [*lines, *ranking("Mean of all", baseline.label, others, _means(baseline, names))])
    return figure


def seed_values(row: r.Row, prefix: str, names: list[str]) -> list[float]:
    """Per seed the unweighted mean over these attributes, in percent; a seed that lacks one is left out."""
    return [100 * value for value in _means(row, names, prefix).values()]


def _means(row: r.Row, names: list[str], prefix: str = EVERY) -> dict[int, float]:
    """Seed -> the same as a share."""
    measured = [row.values(prefix + name) for name in names]
    shared = sorted(set.intersection(*(set(values) for values in measured)))
    return {seed: float(np.mean([values[seed] for values in measured])) for seed in shared}


def _panel(
    axes: Axes, rows: list[r.Row], prefix: str, names: list[str], shown: list[str], majority: bool, group: float
) -> None:
    """Bars of one way to count, from the top: the mean, then attribute for attribute; in inches divided by `group`."""
    looks = [(colour, 2 * hatch) for colour, hatch in style.bars(rows)]  # denser: the bars are thin
    places = _places(len(names))
    middle = len(rows) / 2  # rows and the majority's bar lie evenly around the place
    for place, chosen in zip(places, [shown, *([name] for name in names)], strict=True):
        if not set(chosen) <= set(shown):
            axes.text(1, place, "no labelled image", va="center", fontsize=style.SMALL)
            continue
        series = [(row.label, look, seed_values(row, prefix, chosen)) for row, look in zip(rows, looks, strict=True)]
        if majority:
            guesses = [value for row in rows for value in seed_values(row, MAJORITY, chosen)]
            series += [("majority class", ("white", ""), guesses[:1])] if guesses else []
        for i, (label, (colour, hatch), values) in enumerate(series):
            width = BAR / group * (WIDER if place == places[0] else 1)
            y = place + (i - middle) * width
            interval: Interval | None = mean_interval(values) if values else None
            bar = axes.barh(y, interval.mean if interval else 0, width, color=colour, hatch=hatch, ec="black", lw=0.5)
            bar.set_label(label if place == places[0] else "_")
            if interval is None:
                axes.text(1, y, "not finished", va="center", fontsize=style.SMALL)
                continue
            if interval.half_width is not None:
                axes.errorbar(interval.mean, y, xerr=interval.half_width, color="black", linewidth=0.8, capsize=1.2)
            if place == places[0]:
                axes.text(101, y, f"{interval.mean:.1f}", va="center", fontsize=style.SMALL)
    axes.axhline(places[1] - 0.6, color="black", linewidth=0.6)
    axes.set(xlim=(0, 100), ylim=(places[-1] + 0.6, places[0] - 1), xlabel="accuracy, percent")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")


def _places(attributes: int) -> list[float]:
    """The mean's place, a gap, then one place an attribute."""
    return [0.0, *(1.7 + i for i in range(attributes))]
