"""Figure 2: sample training images with their attributes."""

import textwrap

from matplotlib.figure import Figure

from a3m.report.figures import style
from a3m.report.samples import Samples

MOST = 6  # images in a row: more would leave no room for the words
NAMES = 1.22  # inches for the names of the attributes
TALLEST = 1.9  # inches of an image
GAP = 0.04  # inches between two attributes
LETTERS = 16  # of a value's name in one line


def draw(samples: Samples) -> Figure:
    """Images in a row, below each the names of its attribute values, one line an attribute; a dash where unlabelled.

    Raises:
        NothingToShow: the study kept no training images with attributes.
    """
    images, labels, attributes = samples.need("train_images", "train_labels", "train_attributes", figure="figure2")
    count = min(MOST, len(images))
    cell = (style.WIDTH - NAMES) / count
    width = min(cell - 0.06, 1.3)
    height = width * images.shape[1] / images.shape[2]
    width, height = width * min(1, TALLEST / height), min(height, TALLEST)
    centres = [NAMES + (i + 0.5) * cell for i in range(count)]
    rows = []
    for k, name in enumerate(samples.attributes):
        values = [_lines(samples.value(k, int(attributes[i, k]))) for i in range(count)]
        rows.append((style.attribute_name(samples.dataset, name), values, max(map(len, values))))
    names = [_lines(style.class_name(int(label), samples.task, samples.classes)) for label in labels[:count]]
    top = height + 0.12 + style.LINE * max(map(len, names))
    total = top + sum(style.LINE * lines + GAP for *_, lines in rows) + 0.02
    with style.use("figure2"):
        figure = style.new(total, samples.source, samples.dataset, layout=None)
        for i, centre in enumerate(centres):
            style.show(style.place(figure, centre - width / 2, 0, width, height), images[i])
            style.write_at(figure, centre, height + 0.06, "\n".join(names[i]))
        for number, (name, values, lines) in enumerate(rows):
            deep = style.LINE * lines + GAP
            if number % 2 == 0:  # a band leads the eye from the name to the values
                band = style.place(figure, 0, top, style.WIDTH, deep)
                band.fill_between([0, 1], 0, 1, color="#eeeeee", linewidth=0)
                band.set(xlim=(0, 1), ylim=(0, 1), zorder=-1)
            style.write_at(figure, 0.04, top + 0.04, name, ha="left", bold=True)
            for centre, value in zip(centres, values, strict=True):
                style.write_at(figure, centre, top + 0.04, "\n".join(value))
            top += deep
        left_out = f" {count} of the {len(images)} that the study kept." if len(images) > count else ""
        what = "people" if samples.task == "re-identification" else "classes"
        words = (
            f"Training images of different {what}, a seeded choice.{left_out} Attributes as the data set labels them; "
        )
        style.close(figure, [words + "\u2013: unlabelled."])
    return figure


def _lines(value: str) -> list[str]:
    """At most two lines; what is longer ends in dots."""
    return textwrap.wrap(value, LETTERS, max_lines=2, placeholder=" …", break_on_hyphens=True)
