"""Figure 4: category, attribute and final features of the same test images in two dimensions.

Principal components, not t-SNE: they are a linear map without a random start, equal on every machine up to rounding, and
distances in them are part of the real ones. A picture of two dimensions can mislead, so each panel has numbers measured in all.
"""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.metrics import pairwise_distances, silhouette_score

from a3m.report.figures import style
from a3m.report.samples import Samples

PANELS = {
    "embedding_category": "category feature v",
    "embedding_attribute": "attribute feature, mean of a",
    "embedding_final": "final feature f",
}
COLOURS = (
    style.BLUE, style.ORANGE, style.GREEN, style.RED, style.PINK, style.SKY, style.BLACK, style.GREY,
)  # fmt: skip
SIDE = 2.2  # inches of a panel
COLUMNS = 5  # of the legend
MARKERS = "osD^vPX<>*"  # with the colours no pair comes twice in 40 classes


def draw(samples: Samples) -> Figure:
    """Three panels side by side, one colour and marker a class.

    Raises:
        NothingToShow: the study kept no features.
    """
    *features, labels = samples.need(*PANELS, "embedding_labels", figure="figure4")
    classes = sorted(set(labels.tolist()))
    with style.use("figure4"):
        legend = -(-len(classes) // COLUMNS)  # rows, rounded up
        figure = style.new(0.25 + SIDE + 0.56 + 0.16 * legend, samples.source, samples.dataset, layout=None)
        for place, (title, feature) in enumerate(zip(PANELS.values(), features, strict=True)):
            left = place * (style.WIDTH - SIDE) / (len(PANELS) - 1)
            axes = style.place(figure, left, 0.25, SIDE, SIDE)
            unit = unit_length(feature)
            points, shares = principal_components(unit)
            for i, label in enumerate(classes):
                axes.plot(
                    *points[labels == label].T,
                    MARKERS[i % len(MARKERS)],
                    color=COLOURS[i % len(COLOURS)],
                    markersize=4,
                    markeredgecolor="black",
                    markeredgewidth=0.3,
                    label=style.shorten(style.class_name(label, samples.task, samples.classes), 1.1),
                )
            axes.set_axis_on()
            axes.set(xticks=[], yticks=[])
            axes.set_aspect("equal", adjustable="datalim")
            axes.spines[["top", "right"]].set_visible(True)
            style.write_at(figure, left + SIDE / 2, 0.1, title, size=9)
            style.write_at(figure, left + SIDE / 2, 0.25 + SIDE + 0.06, _measured(unit, labels, shares))
        handles, names = axes.get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="lower center",
            bbox_to_anchor=(0.5, 0),
            ncols=COLUMNS,
            fontsize=7,
            handletextpad=0.2,
            borderaxespad=0,
        )
        words = (
            f"{len(labels)} test images of {len(classes)} classes, a seeded choice ({samples.trial}). Features of length 1 on "
            "their first two principal components, signs fixed. The numbers are measured in the whole feature space by cosine: "
            "silhouette by class (from \u22121 to 1), and the share of images whose nearest other image is of the same class."
        )
        style.close(figure, [words])
    return figure


def unit_length(features: npt.NDArray) -> npt.NDArray[np.float64]:
    """(M, D) rows scaled to length 1; a row of zeros stays."""
    features = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1)


def principal_components(features: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], list[float]]:
    """(M, D) -> (M, 2) coordinates and the share of the variance of each; the largest weight of a component is positive."""
    centred = features - features.mean(axis=0)
    _, sizes, components = np.linalg.svd(centred, full_matrices=False)
    components, sizes = components[:2], sizes
    signs = np.sign(components[np.arange(len(components)), np.abs(components).argmax(axis=1)])
    points = centred @ (components * np.where(signs == 0, 1, signs)[:, None]).T
    if points.shape[1] < 2:  # a single image, or a feature of one number
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    total = float((sizes**2).sum())
    shares = [float(size**2) / total if total else 0.0 for size in sizes[:2]]
    return points.round(6) + 0.0, shares  # rounded: the last bits differ between machines; + 0.0: no -0


def silhouette(unit: npt.NDArray[np.float64], labels: npt.NDArray) -> float | None:
    """Mean silhouette by class, cosine distance; None where it is not defined: one class, or a class an image."""
    if not 1 < len(set(labels.tolist())) < len(labels):
        return None
    return float(silhouette_score(unit, labels, metric="cosine"))


def nearest_of_same_class(unit: npt.NDArray[np.float64], labels: npt.NDArray) -> float | None:
    """Share of images whose nearest other image by cosine is of the same class; None for a single image."""
    if len(labels) < 2:
        return None
    distances = pairwise_distances(unit, metric="cosine")
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(axis=1)] == labels).mean())


def _measured(unit: npt.NDArray[np.float64], labels: npt.NDArray, shares: list[float]) -> str:
    by_class, same = silhouette(unit, labels), nearest_of_same_class(unit, labels)
    return (
        ("silhouette not defined" if by_class is None else f"silhouette {by_class:.2f}".replace("-", "\u2212"))
        + ("" if same is None else f"\nnearest of the same class {100 * same:.0f} %")
        + f"\nshown: {100 * sum(shares):.0f} % of the variance"
    )
