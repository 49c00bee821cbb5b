"""Figures: what is drawn, what is said inside them, and equal bytes for equal results."""

import re
import subprocess
import sys

import numpy as np
import pytest
from report_data import ablation, alpha_beta, unfinish

from a3m.errors import DataError
from a3m.report import figures


def svg(figure, name="figure5"):
    return figures.svg_text(figure, name)


def words(figure):
    """All text inside a figure, as one line."""
    drawn = svg(figure)
    return " ".join(re.findall(r"<text[^>]*>([^<]*)", drawn) + re.findall(r"<tspan[^>]*>([^<]*)", drawn))


def heights(figure):
    return [bar.get_height() for bar in figure.axes[0].patches]


def test_figure5_draws_the_means_of_four_methods_and_five_metrics():
    results = ablation()
    figure = figures.figure5(results)
    drawn = heights(figure)
    assert len(drawn) == 5 * 5  # Baseline-2, Att-1, Att-2, A3M as written and with normalised scores
    baseline2 = 100 * results.loc[results["method"] == "baseline2", "test/rank1"].mean()
    assert drawn[0] == pytest.approx(baseline2)
    assert figure.axes[0].get_ylim() == (0, 100)


def test_figure5_shows_every_seed_and_an_interval():
    axes = figures.figure5(ablation(seeds=3)).axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [len(line.get_ydata()) for line in dots] == [3] * 25
    assert len(axes.containers) == 50  # 25 bars and 25 whiskers


def test_one_seed_has_no_whisker_and_the_figure_says_so():
    figure = figures.figure5(ablation(seeds=1))
    assert len(figure.axes[0].containers) == 25
    assert "one seed has no interval" in words(figure)


@pytest.mark.parametrize(
    ("source", "said"), [("twins", "SYNTHETIC TWIN"), ("raw subset", "PART of the real"), ("raw", "Market-1501")]
)
def test_what_the_data_are_is_said_inside_the_figure(source, said):
    text = words(figures.figure5(ablation(source=source)))
    assert said in text
    assert ("TWIN" in text) == (source == "twins")
    assert ("TWIN" in words(figures.figure7(alpha_beta(source=source)))) == (source == "twins")


def test_a_failed_method_leaves_a_gap_and_a_note():
    results = ablation()
    figure = figures.figure5(unfinish(results, results["method"] == "att1"))
    text = words(figure)
    assert 0 in heights(figure)
    assert "not finished" in text
    assert "seed 0 failed (loss is not a number)" in text


def test_figure7_draws_both_lines_through_the_shared_centre_on_one_scale():
    results = alpha_beta()
    first, second = figures.figure7(results).axes
    centre = 100 * results.query("`loss.alpha` == 0.5 and `loss.beta` == 0.5")["test/accuracy"].item()
    for axes in (first, second):
        line = axes.lines[0]
        assert list(line.get_xdata()) == [0.1, 0.3, 0.5, 0.7, 1.0]
        assert line.get_ydata()[2] == pytest.approx(centre)
    assert first.get_ylim() == second.get_ylim()
    assert first.lines[0].get_marker() != second.lines[0].get_marker()


def test_figure7_has_intervals_only_with_more_than_one_seed():
    assert not figures.figure7(alpha_beta(seeds=1)).axes[0].containers
    assert len(figures.figure7(alpha_beta(seeds=3)).axes[0].containers) == 5


def test_a_failed_point_of_figure7_is_a_gap_and_a_note():
    results = alpha_beta()
    figure = figures.figure7(unfinish(results, results["loss.alpha"] == 0.3))
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[1])
    assert "alpha 0.3, beta 0.5: seed 0 failed" in words(figure)


def test_figure7_with_a_failed_centre_is_drawn():
    results = alpha_beta()
    figure = figures.figure7(unfinish(results, (results["loss.alpha"] == 0.5) & (results["loss.beta"] == 0.5)))
    assert "alpha 0.5, beta 0.5: seed 0 failed" in words(figure)


def test_bad_results_are_refused():
    with pytest.raises(DataError, match="no trial of att2"):
        figures.figure5(ablation().query("method != 'att2'"))
    with pytest.raises(DataError, match="neither line"):
        figures.figure7(alpha_beta().replace({"loss.alpha": 0.5}, 0.4))


def test_equal_results_give_equal_bytes(tmp_path):
    for name, order in (("a", ablation()), ("b", ablation().sample(frac=1, random_state=1))):
        (tmp_path / name).mkdir()
        for path, figure in figures.all_figures({"ablation": order, "alpha_beta": alpha_beta()}).items():
            figures.write(figure, tmp_path / name, path)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["figure5.png", "figure5.svg", "figure7.png", "figure7.svg"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert "<dc:date>" not in (tmp_path / "a" / "figure5.svg").read_text()


def test_drawing_loads_no_pyplot():
    code = "import sys, a3m.report.figures as f; f.Figure; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
