"""Figure 6: where the attributes look. Per query the attribute-guided maps, the merged weights and the rank-1 result.

The raw scores V^T a_k have no common scale, so each map is scaled to its own lowest and highest score. The merged weights m lie
in [0, 1] and are shown as they are: where attention has saturated, their map is one flat colour, and their mean says so.
"""

import textwrap

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from a3m.report.figures import style
from a3m.report.samples import Samples

QUERIES = 4
SHOWN = {
    "market1501": ("gender", "bag", "upper_colour", "up", "lower_colour")
}  # as the paper; elsewhere the first five
MAPS = 5
GAP = 0.07  # inches between two images
TALLEST = 1.5  # inches of an image
HEADS = 0.3  # inches of the column heads
WORDS = 0.33  # inches of the words below an image
FRAMES = {True: ("right", style.BLUE, "solid"), False: ("wrong", style.RED, (0, (3, 1.5)))}


def draw(samples: Samples) -> Figure:
    """Four queries in rows, both right and wrong ones where there are.

    Raises:
        NothingToShow: the study kept no queries with attribute-guided maps.
    """
    images, labels, truth, predicted, scores, weights, right = samples.need(
        *(
            "query_images",
            "query_labels",
            "query_attributes",
            "query_predicted",
            "query_scores",
            "query_weights",
            "query_right",
        ),
        figure="figure6",
    )
    searched = samples.task != "classification"
    nearest, nearest_labels = (
        samples.need("nearest_images", "nearest_labels", figure="figure6") if searched else (images, labels)
    )
    shown = attributes_shown(samples)
    chosen = queries_shown(right, QUERIES)
    columns = 2 + len(shown) + searched
    width = min((style.WIDTH - GAP * (columns - 1)) / columns, 1.0)
    aspect = images.shape[1] / images.shape[2]
    width, height = min(width, TALLEST / aspect), min(width * aspect, TALLEST)
    step = (style.WIDTH - width) / (columns - 1)
    total = HEADS + len(chosen) * (height + WORDS) + 0.3

    with style.use("figure6"):
        figure = style.new(total, samples.source, samples.dataset, layout=None)
        names = [style.attribute_name(samples.dataset, list(samples.attributes)[k]) for k in shown]
        heads = ["query" if searched else "image", *names, "weights m", "rank-1 result"][:columns]
        for column, head in enumerate(heads):
            lines = textwrap.wrap(head, 15)
            style.write_at(figure, column * step + width / 2, HEADS - 0.03 - style.LINE * len(lines), "\n".join(lines))
        for row, q in enumerate(chosen):
            top = HEADS + row * (height + WORDS)
            below = top + height + 0.06
            cells = [style.place(figure, column * step, top, width, height) for column in range(columns)]
            maps = [overlay(images[q], scaled(scores[q, k])) for k in shown] + [overlay(images[q], weights[q])]
            pictures = [images[q], *maps, *([nearest[q]] if searched else [])]
            classes = [style.class_name(int(of[q]), samples.task, samples.classes) for of in (labels, nearest_labels)]
            values = [value_words(samples, k, int(predicted[q, k]), int(truth[q, k]), width) for k in shown]
            m = weights[q]
            words = [classes[0], *values, f"mean {m.mean():.2f}\n{m.min():.2f} to {m.max():.2f}", classes[1]]
            for column, (axes, picture, said) in enumerate(zip(cells, pictures, words[:columns], strict=True)):
                style.show(axes, picture)
                lines = [style.shorten(line, width) for line in said.split("\n")]
                style.write_at(figure, column * step + width / 2, below, "\n".join(lines))
            judged = columns - 1 if searched else 0
            frame(cells[judged], bool(right[q]))
            outcome = FRAMES[bool(right[q])][0]
            style.write_at(figure, judged * step + width / 2, below + style.LINE, outcome, bold=True)
        _scale(figure, total - 0.2)
        style.close(figure, [_caption(samples, right, weights, searched)])
    return figure


def attributes_shown(samples: Samples) -> list[int]:
    """Places of the paper's five attributes, where the data set has them all; else of the first five."""
    names = list(samples.attributes)
    wanted = SHOWN.get(samples.dataset, ())
    if wanted and set(wanted) <= set(names):
        return [names.index(name) for name in wanted]
    return list(range(min(MAPS, len(names))))


def queries_shown(right: npt.NDArray[np.bool_], number: int) -> list[int]:
    """Places of up to `number` queries drawn with a fixed seed, half of them right, half wrong; one kind fills in for the other."""
    generator = np.random.default_rng(0)
    kinds = [generator.permutation(np.flatnonzero(right == kind)).tolist() for kind in (True, False)]
    wrong = min(len(kinds[1]), max(number // 2, number - len(kinds[0])))
    return kinds[0][: number - wrong] + kinds[1][:wrong]


def scaled(scores: npt.NDArray) -> npt.NDArray[np.float64]:
    """(h, w) scores from 0, the lowest, to 1, the highest; 0.5 everywhere where all are equal."""
    scores = np.asarray(scores, dtype=np.float64)
    lowest, span = scores.min(), np.ptp(scores)
    return (scores - lowest) / span if span > 0 else np.full(scores.shape, 0.5)


def overlay(image: npt.NDArray[np.uint8], weights: npt.NDArray) -> npt.NDArray[np.uint8]:
    """An (H, W, 3) image in grey under an (h, w) map of [0, 1] in colour, each cell as large as the region it stands for."""
    rows, columns = (
        np.arange(size) * cells // size for size, cells in zip(image.shape[:2], weights.shape, strict=True)
    )
    levels = (255 * np.asarray(weights, dtype=np.float64)).round().astype(int)[rows][:, columns]
    colours = 255 * mpl.colormaps["cividis"](levels)[..., :3]  # rises in lightness: reads the same in black and white
    grey = image @ np.array([0.299, 0.587, 0.114])
    return (0.4 * grey[..., None] + 0.6 * colours).round().astype(np.uint8)


def value_words(samples: Samples, attribute: int, predicted: int, truth: int, width: float) -> str:
    """The predicted value; where the label says another, that in brackets in a second line."""
    said = samples.value(attribute, predicted)
    if truth == predicted:
        return said
    return f"{said}\n({style.shorten('unlabelled' if truth < 0 else 'is: ' + samples.value(attribute, truth), width - 0.12)})"


def frame(axes: Axes, right: bool) -> None:
    """A frame in blue and unbroken where right, in red and dashed where wrong."""
    _, colour, line = FRAMES[right]
    edge = Rectangle(
        (0, 0), 1, 1, transform=axes.transAxes, clip_on=False, fill=False, edgecolor=colour, linestyle=line
    )
    edge.set_linewidth(2.5)
    axes.add_patch(edge)


def _scale(figure: Figure, top: float) -> None:
    """The colours from 0 to 1, with words at both ends."""
    left, width = style.WIDTH / 2 - 0.7, 1.4
    levels = mpl.colormaps["cividis"](np.linspace(0, 1, 64))[None, :, :3]
    style.show(style.place(figure, left, top, width, 0.1), (255 * levels).round().astype(np.uint8))
    style.write_at(figure, left - 0.06, top + 0.01, "lowest score of a map; m = 0", ha="right")
    style.write_at(figure, left + width + 0.06, top + 0.01, "highest score of a map; m = 1", ha="left")


def _caption(samples: Samples, right: npt.NDArray, weights: npt.NDArray, searched: bool) -> str:
    what = "queries" if searched else "test images"
    return (
        f"A seeded choice of the {len(right)} {what} that the study kept, right and wrong ones where there are both "
        f"({samples.trial}): it says nothing of the accuracy. Maps: the scores V^T a before the sigmoid, each scaled to its "
        "own range; places within a map compare, two maps do not. Below each: the predicted value, in brackets the label where "
        f"it is another. Weights m: the largest sigmoid over all {len(samples.attributes)} attributes, on the scale from 0 to "
        f"1; over all {len(right)} {what} their mean is {weights.mean():.3f}: the nearer to 0 or 1, the less they can differ. "
        f"Frame of the {'rank-1 result' if searched else 'image'}: blue and unbroken, right; red and dashed, wrong."
    )
