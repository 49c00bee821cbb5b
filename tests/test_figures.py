"""Figures 5, 7 and 8, of results: what is drawn, what is said inside them, and equal bytes for equal results."""

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_data import ablation, alpha_beta, answered, cub200, unfinish

from a3m.errors import DataError, UserError
from a3m.report.figures import ALTERNATIVES, FIGURES, STUDIES, figure5, figure7, figure8, style

ROOT = Path(__file__).parents[1]
CODE = ROOT / "a3m" / "report" / "figures"


def svg(figure, name="figure5"):
    return style.svg_text(figure, name)


def words(figure):
    """All text inside a figure, as one line."""
    drawn = svg(figure)
    return " ".join(re.findall(r"<text[^>]*>([^<]*)", drawn) + re.findall(r"<tspan[^>]*>([^<]*)", drawn))


def heights(figure):
    return [bar.get_height() for bar in figure.axes[0].patches]


def test_figure5_draws_the_means_of_four_methods_and_five_metrics():
    results = ablation()
    figure = figure5.draw(results)
    drawn = heights(figure)
    assert len(drawn) == 5 * 5  # Baseline-2, Att-1, Att-2, A3M as written and with normalised scores
    baseline2 = 100 * results.loc[results["method"] == "baseline2", "test/rank1"].mean()
    assert drawn[0] == pytest.approx(baseline2)
    assert figure.axes[0].get_ylim() == (0, 100)


def test_figure5_shows_every_seed_and_an_interval():
    axes = figure5.draw(ablation(seeds=3)).axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [len(line.get_ydata()) for line in dots] == [3] * 25
    assert len(axes.containers) == 50  # 25 bars and 25 whiskers


def test_one_seed_has_no_whisker_and_the_figure_says_so():
    figure = figure5.draw(ablation(seeds=1))
    assert len(figure.axes[0].containers) == 25
    assert "one seed has no interval" in words(figure)


@pytest.mark.parametrize(
    ("source", "said"), [("twins", "SYNTHETIC TWIN"), ("raw subset", "PART of the real"), ("raw", "Market-1501")]
)
def test_what_the_data_are_is_said_inside_the_figure(source, said):
    text = words(figure5.draw(ablation(source=source)))
    assert said in text
    assert ("TWIN" in text) == (source == "twins")
    assert ("TWIN" in words(figure7.draw(alpha_beta(source=source)))) == (source == "twins")


def test_a_failed_method_leaves_a_gap_and_a_note():
    results = ablation()
    figure = figure5.draw(unfinish(results, results["method"] == "att1"))
    text = words(figure)
    assert 0 in heights(figure)
    assert "not finished" in text
    assert "seed 0 failed (loss is not a number)" in text


def test_figure7_draws_both_lines_through_the_shared_centre_on_one_scale():
    results = alpha_beta()
    first, second = figure7.draw(results).axes
    centre = 100 * results.query("`loss.alpha` == 0.5 and `loss.beta` == 0.5")["test/accuracy"].item()
    for axes in (first, second):
        line = axes.lines[0]
        assert list(line.get_xdata()) == [0.1, 0.3, 0.5, 0.7, 1.0]
        assert line.get_ydata()[2] == pytest.approx(centre)
    assert first.get_ylim() == second.get_ylim()
    assert first.lines[0].get_marker() != second.lines[0].get_marker()


def test_figure7_has_intervals_only_with_more_than_one_seed():
    assert not figure7.draw(alpha_beta(seeds=1)).axes[0].containers
    assert len(figure7.draw(alpha_beta(seeds=3)).axes[0].containers) == 5


def test_a_failed_point_of_figure7_is_a_gap_and_a_note():
    results = alpha_beta()
    figure = figure7.draw(unfinish(results, results["loss.alpha"] == 0.3))
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[1])
    assert "alpha 0.3, beta 0.5: seed 0 failed" in words(figure)


def test_figure7_with_a_failed_centre_is_drawn():
    results = alpha_beta()
    figure = figure7.draw(unfinish(results, (results["loss.alpha"] == 0.5) & (results["loss.beta"] == 0.5)))
    assert "alpha 0.5, beta 0.5: seed 0 failed" in words(figure)


def test_bad_results_are_refused():
    with pytest.raises(DataError, match="no trial of att2"):
        figure5.draw(ablation().query("method != 'att2'"))
    with pytest.raises(DataError, match="neither line"):
        figure7.draw(alpha_beta().replace({"loss.alpha": 0.5}, 0.4))


def test_figure5_leaves_out_comparators_controls_sizes_and_the_modern_recipe():
    plain = ablation(seeds=2).assign(**{"recipe": "", "train.shuffle_attributes": "", "backbone.name": "resnet50"})
    a3m = plain[plain["method"] == "a3m"]
    beside = [
        plain.assign(**{"recipe": "modern", "train.epochs": 99}),
        a3m.assign(**{"train.shuffle_attributes": "true"}),
        a3m.assign(**{"backbone.name": "vgg16"}),
        plain[plain["baseline1.feature"] == "pooled"].assign(**{"baseline1.feature": "wide"}),
        plain[plain["method"] == "baseline2"].assign(method="attr_id"),
    ]
    beside = pd.concat(beside).assign(**{"test/rank1": 0.99})
    everything = pd.concat([plain, beside], ignore_index=True)
    everything["key"] = [f"{i:016d}" for i in range(len(everything))]
    drawn = figure5.draw(everything)
    assert heights(drawn) == pytest.approx(heights(figure5.draw(plain)))
    assert "Attr-Id" not in words(drawn)
    assert "shuffled" not in words(drawn)


def attributes(seeds=3, source="twins", labelled=False):
    """cub200 with two attributes; hat is twice as hard as bill shape."""
    trials = []
    for method, level in (("baseline1", 0.0), ("baseline2", 0.4), ("a3m", 0.5)):
        for seed in range(seeds):
            trial = ablation(seeds=1, source=source).iloc[0].to_dict()
            trial = {name: value for name, value in trial.items() if "/" not in name}
            trial |= {
                "study": "cub200",
                "dataset": "cub200",
                "method": method,
                "seed": seed,
                "key": f"{len(trials):016d}",
            }
            trial |= {"baseline1.feature": "category" if method == "baseline1" else "", "test/accuracy": 0.5}
            if level:
                value = level + 0.01 * seed
                trial |= {"test/attribute/has_bill_shape": value, "test/attribute/has_hat": value / 2}
                trial |= {"test/attribute_majority/has_bill_shape": 0.3, "test/attribute_majority/has_hat": 0.1}
                if labelled:
                    trial["test/attribute_labelled/has_bill_shape"] = value + 0.2
            trials.append(trial)
    return pd.DataFrame(trials)


def test_figure8_draws_each_attribute_beside_its_majority_and_an_unweighted_mean():
    figure = figure8.draw(attributes())
    (axes,) = figure.axes
    assert len(axes.patches) == 3 * 3  # Baseline-2, A3M, majority; mean, bill shape, hat
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([30.75, 38.25, 20, 41, 51, 30, 20.5, 25.5, 10])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mean of all", "bill shape", "hat"]
    assert axes.yaxis_inverted()  # the mean at the top
    assert "absent is masked" in words(figure)


def test_figure8_has_intervals_only_with_more_than_one_seed():
    def whiskers(seeds):
        return [c for c in figure8.draw(attributes(seeds=seeds)).axes[0].containers if hasattr(c, "has_xerr")]

    assert len(whiskers(3)) == 6  # none on the majority
    assert not whiskers(1)


def test_figure8_has_a_second_panel_where_absent_is_a_class():
    every, labelled = figure8.draw(attributes(labelled=True)).axes
    assert len(every.patches) == 9
    assert [bar.get_width() for bar in labelled.patches] == pytest.approx([61, 71, 61, 71])  # the mean is that of one
    assert [text.get_text() for text in labelled.texts if "no " in text.get_text()] == ["no labelled image"]


def test_figure8_of_a_failed_method_says_so():
    results = attributes()
    figure = figure8.draw(unfinish(results, results["method"] == "a3m"))
    assert "not finished" in words(figure)
    assert "seed 0 failed" in words(figure)


def test_figure8_without_attributes_is_refused():
    with pytest.raises(DataError, match="no column test/attribute/"):
        figure8.draw(ablation().drop(columns=[c for c in ablation() if c.startswith("test/attribute/")]))
    with pytest.raises(DataError, match="no trial of baseline2"):
        figure8.draw(attributes().query("method != 'baseline2'"))


def test_equal_results_give_equal_bytes(tmp_path):
    drawn = {"figure5": (figure5, ablation()), "figure7": (figure7, alpha_beta()), "figure8": (figure8, attributes())}
    for folder, seed in (("a", None), ("b", 1)):
        (tmp_path / folder).mkdir()
        for name, (module, results) in drawn.items():
            order = results if seed is None else results.sample(frac=1, random_state=seed)
            style.write(module.draw(order), tmp_path / folder, name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [f"{name}.{ending}" for name in drawn for ending in ("png", "svg")]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert "<dc:date>" not in (tmp_path / "a" / "figure5.svg").read_text()


def test_no_text_is_smaller_than_seven_points():
    for figure in (figure5.draw(ablation()), figure7.draw(alpha_beta()), figure8.draw(attributes(labelled=True))):
        sizes = [float(size) for size in re.findall(r"font(?:-size)?: [^;]*?([\d.]+)px", svg(figure))]
        assert sizes
        assert min(sizes) >= 7  # px of the svg, whose width is in points


def test_every_figure_has_a_module_a_study_and_a_text_in_its_place():
    assert set(FIGURES) == set(STUDIES) == set(ALTERNATIVES)
    assert {path.stem for path in CODE.glob("figure*.py")} == set(FIGURES)
    for name in FIGURES:
        assert callable(importlib.import_module(f"a3m.report.figures.{name}").draw)


def test_a_figure_reads_no_other_figures_module_and_the_names_carry_no_looks():
    for name in FIGURES:
        others = set(FIGURES) - {name}
        assert not others & set(re.findall(r"figure\d", (CODE / f"{name}.py").read_text())), name
    assert "import" not in (CODE / "__init__.py").read_text().split('"""')[2]


def test_drawing_loads_neither_pyplot_nor_torch():
    modules = ", ".join(f"a3m.report.figures.{name}" for name in FIGURES)
    code = f"import sys, {modules}; sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def script():
    path = ROOT / "pipelines" / "figures.py"
    spec = importlib.util.spec_from_file_location("pipelines_figures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_stage_draws_one_figure_of_the_study_it_is_told(script, tmp_path):
    (tmp_path / "results").mkdir()
    ablation().assign(study="other").to_csv(tmp_path / "results" / "other.csv", index=False)
    script.main(tmp_path, *script.command(["figure5", "study=other"]))
    assert sorted(path.name for path in (tmp_path / "reports" / "figures").iterdir()) == ["figure5.png", "figure5.svg"]
    assert script.command(["figure8"]) == ("figure8", "cub200")


@pytest.mark.parametrize(
    ("name", "study", "said"),
    [
        ("figure9", "ablation", "no such figure"),
        ("style", "ablation", "no such figure"),
        ("figure5", "../ablation", "no name of a study"),
        ("figure5", "ablation", "python sweeps/ablation.py"),
        ("figure6", "ablation", "python sweeps/ablation.py"),
    ],
)
def test_the_stage_says_what_is_wrong(script, tmp_path, name, study, said):
    with pytest.raises(UserError, match=said):
        script.main(tmp_path, name, study)


def test_a_study_with_nothing_to_show_gives_a_figure_that_says_so(script, tmp_path, capsys):
    (tmp_path / "results").mkdir()
    meta = '{"missing": "no A3M trial of this study has finished"}'
    np.savez(tmp_path / "results" / "ablation.samples.npz", meta=np.array(meta))
    script.main(tmp_path, "figure6", "ablation")
    assert "warning: figure6" in capsys.readouterr().err
    drawn = (tmp_path / "reports" / "figures" / "figure6.svg").read_text()
    assert "no A3M trial of this study has finished" in drawn


def test_without_arguments_the_stage_explains_itself(script, capsys):
    with pytest.raises(SystemExit) as left:
        script.command([])
    assert left.value.code == 2
    shown = capsys.readouterr().err
    assert all(f"{name} from" in shown for name in FIGURES)


# --- what a figure can show ---------------------------------------------------------------------------------------------


def test_figure5_says_over_how_many_pairs_and_that_few_cannot_rank():
    results = ablation()
    text = words(figure5.draw(results))
    values = {
        method: results[(results["method"] == method)].groupby("seed")["test/mAP_trapezoid"].first()
        for method in ("att2", "baseline2")
    }
    delta = 100 * (values["att2"] - values["baseline2"]).mean()
    shown = f"{delta:+.1f}".replace("-", "\N{MINUS SIGN}")
    assert f"Att-2 (normalised scores) {shown} ±" in text
    assert "over 3 pairs of seeds" in text
    assert "Least attainable p 0.25: this cannot rank them." in text
    assert "cannot rank" not in words(figure5.draw(ablation(seeds=6)))


def test_figures_7_and_8_say_what_their_seeds_can_show():
    assert "over 1 pair of seeds: alpha 0.1 " in words(figure7.draw(alpha_beta()))
    eight = words(figure8.draw(cub200()))
    assert (
        "Mean of all minus Baseline-2's, points over 3 pairs of seeds: A3M +2.0 ± 0.0. Least attainable p 0.25" in eight
    )


def test_a_reference_that_has_not_finished_leaves_the_line_out():
    results = ablation()
    assert "pairs of seeds" not in words(figure5.draw(unfinish(results, results["method"] == "baseline2")))


def test_test_data_have_a_whisker_of_their_own_that_is_no_part_of_the_seeds():
    predictions, results = answered(ablation())
    alone, figure = figure5.draw(results), figure5.draw(results, predictions)
    assert heights(figure) == heights(alone)
    assert len(figure.axes[0].containers) == len(alone.axes[0].containers)
    more = [line for line in figure.axes[0].lines if line.get_color() == style.DARK]
    assert len(more) == 25
    keys = results[results["method"] == "baseline2"]["key"]
    interval = predictions.interval(tuple(keys), "test/rank1")
    assert list(more[0].get_ydata()) == pytest.approx([100 * interval.low, 100 * interval.high])
    assert "bootstrap interval over the test identities" in words(figure)
    assert "bootstrap" not in words(alone)


def test_figure7_has_the_test_datas_whisker_also_with_one_seed():
    predictions, results = answered(alpha_beta())
    figure = figure7.draw(results, predictions)
    assert [sum(line.get_color() == style.GREY for line in axes.lines) for axes in figure.axes] == [5, 5]
    assert "over the test images" in words(figure)
