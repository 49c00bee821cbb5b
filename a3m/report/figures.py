"""The figures, drawn from what the studies measured. Equal results give equal bytes, svg and png.

Colours are those of Okabe and Ito, told apart also by the colour-blind; hatches and markers tell the same in black and white.
"""

import textwrap
from collections.abc import Mapping
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path

import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from a3m.report import results as r
from a3m.report.describe import dataset_name, unfinished_text
from a3m.report.statistics import mean_interval
from a3m.report.studies import ACCURACY, alpha_beta_line, check_ablation, check_alpha_beta

NAMES = ("figure5", "figure7")
BARS = {  # method -> colour, hatch
    "baseline2": ("#999999", ""),
    "att1": ("#56B4E9", "//"),
    "att2": ("#E69F00", "\\\\"),
    "a3m": ("#009E73", ".."),
}
FURTHER_BARS = (("#CC79A7", "xx"), ("#F0E442", "++"), ("#0072B2", "oo"))  # A3M again with other settings
LINES = {"alpha": ("#0072B2", "o"), "beta": ("#D55E00", "s")}
FIGURE5_METRICS = {
    "test/rank1": "rank-1",
    "test/rank5": "rank-5",
    "test/rank10": "rank-10",
    "test/rank20": "rank-20",
    "test/mAP_trapezoid": "mAP\n(trapezoid)",
}
WARNINGS = {
    "twins": "SYNTHETIC TWIN of {dataset}, not the real data set",
    "raw subset": "PART of the real {dataset}, not the whole",
}
STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "errorbar.capsize": 2.5,
}


def all_figures(studies: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """File name -> figure, for the studies that have results."""
    figures = {}
    if "ablation" in studies:
        figures["figure5"] = figure5(studies["ablation"])
    if "alpha_beta" in studies:
        figures["figure7"] = figure7(studies["alpha_beta"])
    return figures


def figure5(results: pd.DataFrame) -> Figure:
    """Bars of Baseline-2, Att-1, Att-2 and A3M: rank-k and mAP, with every seed as a dot and the interval as a whisker."""
    results = check_ablation(results)
    rows = [row for row in r.rows(results) if row.method in BARS]
    with _style("figure5"):
        figure, (axes,) = _figure(results, columns=1, height=3.8)
        width = 0.84 / len(rows)
        further = iter(FURTHER_BARS * len(rows))
        drawn: set[str] = set()
        for i, row in enumerate(rows):
            colour, hatch = next(further) if row.method in drawn else BARS[row.method]
            drawn.add(row.method)
            for place, metric in enumerate(FIGURE5_METRICS):
                x = place + (i - (len(rows) - 1) / 2) * width
                values = [100 * value for value in row.values(metric).values()]
                interval = mean_interval(values) if values else None
                label = row.label if place == 0 else "_"  # an underscore keeps the others out of the legend
                height = interval.mean if interval else 0
                bar = axes.bar(x, height, 0.92 * width, color=colour, hatch=hatch, edgecolor="black", linewidth=0.6)
                bar.set_label(label)
                if interval is None:
                    axes.text(x, 1, "not finished", rotation=90, ha="center", va="bottom", fontsize=7)
                    continue
                beside = [x - 0.25 * width] * len(values)  # clear of the whisker
                axes.plot(beside, values, "o", color="black", markersize=3, markerfacecolor="white", mew=0.7)
                if interval.half_width is not None:
                    axes.errorbar(x, interval.mean, interval.half_width, color="black", linewidth=1)
        axes.set_xticks(range(len(FIGURE5_METRICS)), list(FIGURE5_METRICS.values()))
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(0, 100)
        axes.set_ylabel("percent")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.5)
        _finish(figure, rows, "Bar: mean over seeds; dot: one seed")
    return figure


def figure7(results: pd.DataFrame) -> Figure:
    """Accuracy along alpha and along beta through the shared centre; both panels on one scale; a gap where a trial failed."""
    results = check_alpha_beta(results)
    rows = r.rows(results)
    with _style("figure7"):
        figure, panels = _figure(results, columns=2, height=3.4)
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
        _finish(figure, rows, "Ring: the centre, one trial a seed on both lines; the scale does not begin at 0")
    return figure


def write(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes <name>.svg and <name>.png (200 dots an inch) into an existing folder."""
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    svg.write_text(svg_text(figure, name), encoding="utf-8", newline="\n")
    with _style(name):
        figure.savefig(png, format="png", dpi=200, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None})
    return [svg, png]


def svg_text(figure: Figure, name: str) -> str:
    """The figure as svg. Ids come from the name, and no date is written: else every drawing would differ."""
    text = StringIO()
    with _style(name):
        figure.savefig(
            text, format="svg", bbox_inches="tight", pad_inches=0.08, metadata={"Date": None, "Creator": None}
        )
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _style(name: str) -> AbstractContextManager[None]:
    """Matplotlib's own defaults and ours, whatever the user's matplotlibrc says."""
    return style.context(["default", {**STYLE, "svg.hashsalt": f"a3m {name}"}])


def _figure(results: pd.DataFrame, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure 7 inches wide that says at its head, in a box, when it does not show the real data set."""
    figure = Figure(figsize=(7.0, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, columns, sharey=True, squeeze=False)
    source = str(results["source"].iloc[0])
    dataset = dataset_name(results)
    if source in WARNINGS:
        box = {"boxstyle": "square,pad=0.4", "facecolor": "#F0E442", "edgecolor": "black", "linewidth": 0.8}
        figure.suptitle(WARNINGS[source].format(dataset=dataset), fontsize=9, fontweight="bold", bbox=box)
    else:
        figure.suptitle(dataset, fontsize=9)
    return figure, list(grid[0])


def _finish(figure: Figure, rows: list[r.Row], first: str) -> None:
    """Says under the figure what the marks mean, how many seeds, and what has not finished; then fixes the layout."""
    counts = sorted({len(row.finished) for row in rows} - {0}) or [0]
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    parts = [first, f"{seeds} seed{'s' * (counts[-1] != 1)}"]
    parts.append("whisker: 95 % t interval over seeds" if counts[-1] > 1 else "one seed has no interval")
    lines = ["; ".join(parts) + "."]
    lost = [f"{_short(row)}: {unfinished_text(row)}" for row in rows if len(row.unfinished)]
    if lost:
        lines.append("Not finished: " + "; ".join(lost[:3]) + (f"; {len(lost) - 3} more" if lost[3:] else ""))
    figure.supxlabel("\n".join(part for line in lines for part in textwrap.wrap(line, 125)), fontsize=7.5)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once; else each file that is written lays it out again


def _short(row: r.Row) -> str:
    if row.settings.keys() == {"loss.alpha", "loss.beta"}:
        return f"alpha {row.settings['loss.alpha']}, beta {row.settings['loss.beta']}"
    return row.label
