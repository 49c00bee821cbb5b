"""What the figures share: looks, the box that says what the data are, the words below, and the files.

Colours are those of Okabe and Ito, told apart also by the colour-blind; hatches, markers, lines and words tell the same in
black and white. All text is 7 points or more at a width of 7 inches.
"""

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from a3m.report import results as r
from a3m.report.describe import unfinished_text

WIDTH = 7.0  # inches
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
)  # fmt: skip
GREY, DARK = "#999999", "#595959"
BARS = {  # method -> colour, hatch
    "baseline2": (GREY, ""),
    "att1": (SKY, "//"),
    "att2": (ORANGE, "\\\\"),
    "a3m": (GREEN, ".."),
}
FURTHER_BARS = ((PINK, "xx"), (YELLOW, "++"), (BLUE, "oo"))  # A3M again with other settings
WARNINGS = {
    "twins": "SYNTHETIC TWIN of {dataset}, not the real data set",
    "raw subset": "PART of the real {dataset}, or not its published split",
}
STYLE = {
    "text.parse_math": False,  # names from own data may hold a $
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
SMALL = 7.0  # points: the smallest text
LINE = 0.125  # inches of a line of it
IN_PRINT = {  # attributes whose names in the files say too little
    "market1501": {"up": "sleeves", "down": "lower length", "clothes": "lower clothes"},
}


def use(name: str) -> AbstractContextManager[None]:
    """Matplotlib's own defaults and ours, whatever the user's matplotlibrc says. Ids in the svg come from the name."""
    return style.context(["default", {**STYLE, "svg.hashsalt": f"a3m {name}"}])


def new(height: float, source: str, dataset: str, *, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """A figure 7 inches wide that says at its head, in a box, when it does not show the real data set.

    `dataset` is its key, as `market1501`; `layout` is None when the figure places its axes itself (`place`).
    """
    figure = Figure(figsize=(WIDTH, height), layout=layout)
    FigureCanvasAgg(figure)
    name = r.DATASETS.get(dataset, dataset)
    warned = source in WARNINGS
    box = {"boxstyle": "square,pad=0.4", "facecolor": YELLOW, "edgecolor": "black", "linewidth": 0.8}
    figure.text(
        0.5,
        1 + 0.08 / height,  # above the figure: what is written grows by it
        WARNINGS[source].format(dataset=name) if warned else name,
        ha="center",
        va="bottom",
        fontsize=9,
        fontweight="bold" if warned else "normal",
        bbox=box if warned else None,
    )
    return figure


def empty(reason: str) -> Figure:
    """What stands in the place of a figure that has nothing to show: the reason."""
    figure = Figure(figsize=(WIDTH, 1.0))
    FigureCanvasAgg(figure)
    words = "\n".join(textwrap.wrap(f"Nothing to show. {reason}", 100))
    figure.text(0.5, 0.5, words, ha="center", va="center", fontsize=9)
    return figure


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes without lines or ticks at a place in inches, counted from the upper left corner."""
    whole = figure.get_figheight()
    axes = figure.add_axes((left / WIDTH, 1 - (top + height) / whole, width / WIDTH, height / whole))
    axes.set_axis_off()
    return axes


def show(axes: Axes, image: npt.NDArray[np.uint8]) -> None:
    """An (H, W, 3) image that fills the axes."""
    axes.imshow(image, aspect="auto", interpolation="antialiased")


def write_at(
    figure: Figure, left: float, top: float, words: str, *, size: float = SMALL, ha: str = "center", bold: bool = False
) -> None:
    """Text whose first line begins at a place in inches, counted from the upper left corner."""
    # Each line by its baseline: by their upper edges, words with and without tall letters would dance.
    for number, line in enumerate(words.split("\n")):
        baseline = top + 0.78 * size / 72 + number * LINE * size / SMALL
        figure.text(
            left / WIDTH,
            1 - baseline / figure.get_figheight(),
            line,
            ha=ha,
            va="baseline",
            fontsize=size,
            fontweight="bold" if bold else "normal",
        )


def shorten(words: str, width: float) -> str:
    """What goes into one line of 7 points and so many inches; what is longer ends in dots."""
    letters = int(width / 0.058)
    return words if len(words) <= letters else words[: letters - 1].rstrip() + "…"


def bars(rows: Sequence[r.Row]) -> list[tuple[str, str]]:
    """Colour and hatch of each row: its method's; further rows of the same method take those of FURTHER_BARS."""
    looks, drawn, further = [], set(), 0
    for row in rows:
        if row.method in drawn:
            looks.append(FURTHER_BARS[further % len(FURTHER_BARS)])
            further += 1
        else:
            looks.append(BARS[row.method])
        drawn.add(row.method)
    return looks


def close(figure: Figure, lines: Sequence[str]) -> None:
    """Says under the figure what the marks mean, then fixes the layout."""
    words = "\n".join(part for line in lines for part in textwrap.wrap(line, 122, break_on_hyphens=False))
    below = figure.text(
        0.5, -0.05 / figure.get_figheight(), words, ha="center", va="top", fontsize=7.5, linespacing=1.25
    )
    below.set_multialignment("left")
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once; else each file that is written lays it out again


def sampled(unit: str) -> str:
    """The line that says what the second, grey whisker is; `unit` is what of the test data was resampled."""
    return (
        f"Grey line beside it: 95 % bootstrap interval over the test {unit}, these networks held fixed: the sampling of test data, "
        "no training noise."
    )


def seeds(rows: Sequence[r.Row], first: str) -> list[str]:
    """The lines below a figure of results: what the marks mean, how many seeds, and what has not finished."""
    counts = sorted({len(row.finished) for row in rows} - {0}) or [0]
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    parts = [first, f"{many} seed{'s' * (counts[-1] != 1)}"]
    parts.append("whisker: 95 % t interval over seeds" if counts[-1] > 1 else "one seed has no interval")
    lines = ["; ".join(parts) + "."]
    lost = [f"{_short(row)}: {unfinished_text(row)}" for row in rows if len(row.unfinished)]
    if lost:
        lines.append("Not finished: " + "; ".join(lost[:3]) + (f"; {len(lost) - 3} more" if lost[3:] else ""))
    return lines


def attribute_name(dataset: str, name: str) -> str:
    """An attribute as it is printed: `has_bill_shape` is bill shape, Market-1501's `up` is sleeves."""
    return IN_PRINT.get(dataset, {}).get(name, name.removeprefix("has_").replace("_", " "))


def class_name(label: int, task: str, classes: Sequence[str] = ()) -> str:
    """A class by its name where the data set has names, else by its number."""
    if 0 <= label < len(classes):
        return classes[label].partition(".")[2].replace("_", " ") or classes[label].replace("_", " ")
    return f"{'identity' if task == 're-identification' else 'class'} {label}"


def write(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes <name>.svg and <name>.png (200 dots an inch) into an existing folder."""
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    svg.write_text(svg_text(figure, name), encoding="utf-8", newline="\n")
    with use(name):
        figure.savefig(png, format="png", dpi=200, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None})
    return [svg, png]


def svg_text(figure: Figure, name: str) -> str:
    """The figure as svg. Ids come from the name, and no date is written: else every drawing would differ.

    Images in it have 110 dots an inch, which keeps a page of photographs below 1.5 MB.
    """
    text = StringIO()
    with use(name):
        figure.savefig(
            text,
            format="svg",
            dpi=110,
            bbox_inches="tight",
            pad_inches=0.08,
            metadata={"Date": None, "Creator": None},
        )
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _short(row: r.Row) -> str:
    if row.settings.keys() == {"loss.alpha", "loss.beta"}:
        return f"alpha {row.settings['loss.alpha']}, beta {row.settings['loss.beta']}"
    return row.label
