"""Figures 2, 4 and 6, of samples: what may be read, what is drawn, and equal bytes for equal samples."""

import json
import re

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from a3m.errors import DataError
from a3m.report import samples
from a3m.report.figures import figure2, figure4, figure6, style

ATTRIBUTES = {
    "gender": ["male", "female"],
    "hat": ["no", "yes"],
    "bag": ["no", "yes"],
    "up": ["long", "short"],
    "upper_colour": ["black", "white", "red"],
    "lower_colour": ["black", "white", "pale_pink"],
}


def made_up(people=6, queries=8, size=(32, 16), grid=(4, 2), seed=0):
    """Arrays of a re-identification study, measured on nothing."""
    generator = np.random.default_rng(seed)
    sizes = [len(values) for values in ATTRIBUTES.values()]

    def values(number):
        return np.stack([generator.integers(-1, size, number) for size in sizes], axis=1)

    def images(number):
        return generator.integers(0, 256, (number, *size, 3), dtype=np.uint8)

    labels = np.repeat(np.arange(5), 6)
    features = generator.normal(size=(5, 24))[labels]
    arrays = {
        "train_images": images(people),
        "train_labels": np.arange(people),
        "train_attributes": values(people),
        "query_images": images(queries),
        "query_labels": np.arange(queries),
        "query_attributes": values(queries),
        "query_predicted": np.maximum(values(queries), 0),
        "query_scores": generator.normal(size=(queries, len(sizes), *grid)).astype(np.float32),
        "query_weights": generator.uniform(0.9, 1, (queries, *grid)).astype(np.float32),
        "query_right": np.arange(queries) % 2 == 0,
        "nearest_images": images(queries),
        "nearest_labels": np.arange(queries),
        "embedding_labels": labels,
    }
    for name, noise in (("category", 1.0), ("attribute", 2.0), ("final", 0.5)):
        arrays[f"embedding_{name}"] = (features + noise * generator.normal(size=features.shape)).astype(np.float32)
    return arrays


def write(path, arrays, **changed):
    meta = {"dataset": "market1501", "source": "twins", "task": "re-identification", "method": "a3m", "seed": 0}
    meta |= {"key": "k" * 16, "attributes": ATTRIBUTES, "map_size": [4, 2]}
    np.savez(path, meta=np.array(json.dumps(meta | changed)), **arrays)
    return path


def read(tmp_path, arrays=None, **changed):
    return samples.read(write(tmp_path / "ablation.samples.npz", made_up() if arrays is None else arrays, **changed))


def words(figure):
    drawn = style.svg_text(figure, "test")
    return re.findall(r"<text[^>]*>([^<]*)", drawn) + re.findall(r"<tspan[^>]*>([^<]*)", drawn)


# --- reading ------------------------------------------------------------------------------------------------------------


def test_samples_are_read_as_they_were_written(tmp_path):
    arrays = made_up()
    read_back = read(tmp_path, arrays)
    assert (read_back.dataset, read_back.source, read_back.seed, read_back.classes) == ("market1501", "twins", 0, [])
    assert set(read_back.arrays) == set(arrays)
    assert all(np.array_equal(read_back.arrays[name], array) for name, array in arrays.items())
    assert read_back.value(5, 2) == "pale pink"
    assert read_back.value(5, -1) == "\u2013"


def test_a_missing_file_and_one_that_is_no_npz_say_what_makes_them(tmp_path):
    with pytest.raises(DataError, match=r"not here; run python sweeps/ablation\.py"):
        samples.read(tmp_path / "ablation.samples.npz")
    (tmp_path / "cub200.samples.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match=r"cannot be read .* run python sweeps/cub200\.py"):
        samples.read(tmp_path / "cub200.samples.npz")


def test_a_pickle_is_never_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read as npz without pickles"):
        read(tmp_path, {"train_labels": np.array([object()], dtype=object)})


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("train_images", lambda a: a.astype(np.float32), "holds float32, not uint8"),
        ("train_images", lambda a: a[..., 0], "has shape"),
        ("train_images", lambda a: a[..., :2], "where 3 of"),
        ("train_labels", lambda a: a[:-1], "where N of"),
        ("train_labels", lambda a: a.astype(float), "not whole numbers"),
        ("train_attributes", lambda a: a + 9, "a value without a name"),
        ("query_predicted", lambda a: a[:, :-1], "where K of"),
        ("query_scores", lambda a: a[:, :-1], "has 5 maps, meta names 6"),
        ("query_scores", lambda a: np.full_like(a, np.nan), "NaN or infinite"),
        ("query_weights", lambda a: a + 1, r"outside \[0, 1\]"),
        ("query_weights", lambda a: a[:, :-1], "where h of"),
        ("query_right", lambda a: a.astype(int), "not bool"),
        ("embedding_final", lambda a: a[:-1], "is .* elsewhere"),
    ],
)
def test_an_array_that_is_not_as_agreed_is_refused(tmp_path, name, change, said):
    arrays = made_up()
    arrays[name] = change(arrays[name])
    with pytest.raises(DataError, match=said):
        read(tmp_path, arrays)


def test_arrays_that_a_study_has_not_are_missed_by_the_figure_that_needs_them(tmp_path):
    arrays = {name: array for name, array in made_up().items() if name.startswith("embedding")}
    few = read(tmp_path, arrays)
    assert figure4.draw(few).axes
    with pytest.raises(DataError, match="holds no train_images, train_labels, train_attributes; figure2 needs"):
        figure2.draw(few)
    with pytest.raises(DataError, match="holds no query_images"):
        figure6.draw(few)


def test_meta_must_say_what_the_data_are(tmp_path):
    path = tmp_path / "ablation.samples.npz"
    np.savez(path, meta=np.array(json.dumps({"dataset": "market1501"})))
    with pytest.raises(DataError, match="meta without source, task, method, seed, key"):
        samples.read(path)
    np.savez(path, embedding_labels=np.arange(3))
    with pytest.raises(DataError, match="no array meta"):
        samples.read(path)


# --- what is drawn ------------------------------------------------------------------------------------------------------


def test_figure2_names_each_attributes_value_below_its_image(tmp_path):
    arrays = made_up(people=2)
    arrays["train_attributes"] = np.array([[0, 0, 1, 1, 2, -1], [1, 1, 0, 0, -1, 2]])
    text = words(figure2.draw(read(tmp_path, arrays)))
    assert text.count("\u2013") == 2  # what is unlabelled
    assert {"male", "female", "red", "pale pink", "identity 0", "identity 1", "sleeves", "upper colour"} <= set(text)
    assert "black" not in text  # value 0 of nobody's colour: an unlabelled one is no class


def test_figure2_shows_no_more_than_six_and_says_how_many_there_are(tmp_path):
    figure = figure2.draw(read(tmp_path, made_up(people=9)))
    assert sum(bool(axes.images) for axes in figure.axes) == 6
    assert any("6 of the 9 that the study kept" in line for line in words(figure))


def test_figure6_shows_right_and_wrong_queries_with_word_line_and_colour(tmp_path):
    figure = figure6.draw(read(tmp_path))
    frames = [axes.patches[0] for axes in figure.axes if axes.patches]
    assert [frame.get_linestyle() == "solid" for frame in frames] == [True, True, False, False]
    assert len({frame.get_edgecolor() for frame in frames}) == 2
    assert [word for word in words(figure) if word in ("right", "wrong")] == ["right", "right", "wrong", "wrong"]


@pytest.mark.parametrize(("right", "expected"), [([0, 1, 0, 0, 0, 0], 1), ([1] * 6, 4), ([0] * 6, 0), ([1, 0], 1)])
def test_queries_of_one_kind_fill_in_for_the_other(right, expected):
    right = np.array(right, dtype=bool)
    chosen = figure6.queries_shown(right, 4)
    assert len(chosen) == len(set(chosen)) == min(4, len(right))
    assert right[chosen].sum() == expected
    assert chosen == figure6.queries_shown(right, 4)
    assert sorted(right[chosen], reverse=True) == right[chosen].tolist()


def test_figure6_of_market1501_shows_the_papers_five_attributes_else_the_first_five(tmp_path):
    market = read(tmp_path)
    names = list(ATTRIBUTES)
    assert [names[k] for k in figure6.attributes_shown(market)] == [
        "gender",
        "bag",
        "upper_colour",
        "up",
        "lower_colour",
    ]
    assert figure6.attributes_shown(read(tmp_path, dataset="cub200")) == [0, 1, 2, 3, 4]


def test_figure6_of_a_classification_frames_the_image_itself(tmp_path):
    arrays = {name: array for name, array in made_up().items() if not name.startswith("nearest")}
    classes = [f"{i + 1:03d}.Grey_bird_{i}" for i in range(8)]
    figure = figure6.draw(read(tmp_path, arrays, task="classification", dataset="cub200", classes=classes))
    images = [axes for axes in figure.axes if axes.images]
    assert len(images) == 4 * 7 + 1  # image, five maps, m; the colours' scale
    assert all(axes.patches for axes in images[0:28:7])
    assert any(re.fullmatch(r"Grey bird \d", word) for word in words(figure))
    assert "rank-1 result" not in words(figure)


def test_scores_are_scaled_within_their_map_and_a_flat_one_is_a_half():
    assert figure6.scaled(np.array([[-3.0, 1.0], [0.0, -1.0]])).tolist() == [[0, 1], [0.75, 0.5]]
    assert figure6.scaled(np.full((2, 2), 7.0)).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_weights_keep_their_absolute_scale():
    black = np.zeros((4, 4, 3), dtype=np.uint8)
    low, high = (figure6.overlay(black, np.full((2, 2), level))[0, 0].astype(int) for level in (0.9, 1.0))
    assert (low != high).any()  # not stretched: 0.9 everywhere is not drawn as 1
    assert figure6.overlay(black, np.array([[1.0, 0.0]]))[:, :, 0].tolist() == [[high[0]] * 2 + [0] * 2] * 4


def test_a_map_lies_over_the_regions_it_stands_for():
    white = np.full((8, 4, 3), 255, dtype=np.uint8)
    weights = np.arange(8).reshape(4, 2) / 7
    drawn = figure6.overlay(white, weights)
    for y in range(8):
        for x in range(4):
            alone = figure6.overlay(white, np.full((1, 1), weights[y // 2, x // 2]))
            assert (drawn[y, x] == alone[y, x]).all()


def test_figure6_says_the_mean_of_the_merged_weights(tmp_path):
    arrays = made_up()
    arrays["query_weights"] = np.full_like(arrays["query_weights"], 0.875)
    text = words(figure6.draw(read(tmp_path, arrays)))
    assert text.count("mean 0.88") == 4
    assert "their mean is 0.875" in " ".join(text)


def test_principal_components_are_those_of_a_known_ellipse_and_their_signs_are_fixed():
    generator = np.random.default_rng(0)
    axis = np.array([0.6, -0.8, 0, 0])
    points = 5 * generator.normal(size=(400, 1)) * axis + generator.normal(size=(400, 4)) * np.array([0, 0, 1, 0.01])
    found, shares = figure4.principal_components(points)
    along = (points - points.mean(axis=0)) @ -axis  # its largest weight, of -0.8, made positive
    assert np.corrcoef(found[:, 0], along)[0, 1] > 0.999
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    turned, _ = figure4.principal_components(-points)
    assert np.allclose(turned, -found)


def test_the_numbers_below_the_panels_are_measured_in_the_whole_space(tmp_path):
    taken = read(tmp_path)
    labels = taken.arrays["embedding_labels"]
    text = " ".join(words(figure4.draw(taken)))
    for name in figure4.PANELS:
        feature = taken.arrays[name]
        expected = silhouette_score(feature, labels, metric="cosine")
        assert f"silhouette {expected:.2f}".replace("-", "\u2212") in text
        unit = feature / np.linalg.norm(feature, axis=1, keepdims=True)
        same = 0
        for i in range(len(unit)):
            others = [(unit[i] @ unit[j], labels[j]) for j in range(len(unit)) if j != i]
            same += max(others)[1] == labels[i]
        assert f"nearest of the same class {100 * same / len(unit):.0f} %" in text


def test_features_that_allow_no_number_are_drawn_all_the_same():
    one = np.zeros(4, dtype=int)
    assert figure4.silhouette(np.eye(4), one) is None
    assert figure4.silhouette(np.eye(4), np.arange(4)) is None
    assert figure4.nearest_of_same_class(np.eye(1), one[:1]) is None
    points, shares = figure4.principal_components(figure4.unit_length(np.zeros((3, 1))))
    assert points.tolist() == [[0, 0]] * 3
    assert shares == [0]


def test_figure4_tells_ten_classes_by_marker_alone(tmp_path):
    arrays = made_up()
    arrays["embedding_labels"] = np.repeat(np.arange(10), 3)
    panel = next(axes for axes in figure4.draw(read(tmp_path, arrays)).axes if axes.lines)
    assert len({line.get_marker() for line in panel.lines}) == 10


# --- files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [figure2, figure4, figure6])
def test_equal_samples_give_equal_bytes(tmp_path, module):
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files.append(style.write(module.draw(read(tmp_path)), tmp_path / folder, "figure"))
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes()
    text = files[0][0].read_text()
    assert "SYNTHETIC TWIN of Market-1501" in text
    assert min(float(size) for size in re.findall(r"font(?:-size)?: [^;]*?([\d.]+)px", text)) >= 7


def test_a_page_of_images_that_compress_worst_stays_of_moderate_size(tmp_path):
    noise = made_up(size=(256, 128), grid=(16, 8))
    assert len(style.svg_text(figure6.draw(read(tmp_path, noise)), "figure6")) < 1.5e6


@pytest.mark.parametrize(("source", "said"), [("raw", None), ("raw subset", "PART of the real Market-1501")])
def test_what_the_data_are_is_said_inside_the_figure(tmp_path, source, said):
    text = " ".join(words(figure2.draw(read(tmp_path, source=source))))
    assert "TWIN" not in text
    assert said is None or said in text
