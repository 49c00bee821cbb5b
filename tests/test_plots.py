"""What `dvc plots` draws, and that dvc.yaml names what is written."""

from pathlib import Path

import pytest
import yaml
from report_data import ablation, alpha_beta, cub200, every_study, unfinish

from a3m.report import plots
from a3m.report import results as r

ROOT = Path(__file__).parents[1]


def made(**studies):
    return plots.all_plots({study: r.check(results) for study, results in studies.items()})


def test_a_study_is_a_bar_a_row_with_its_mean_in_percent():
    results = ablation()
    points = made(ablation=results)["ablation"].set_index("method")
    mine = results[results["method"] == "baseline2"]
    assert points.loc["Baseline-2", "percent"] == pytest.approx(100 * mine["test/mAP_trapezoid"].mean(), abs=1e-4)
    assert points.loc["Baseline-2", "seeds"] == 3
    assert len(points) == 8


def test_figure_7_is_two_lines_in_rising_order_through_the_centre():
    found = made(alpha_beta=alpha_beta())
    assert list(found) == ["alpha", "beta"]
    for along, points in found.items():
        assert list(points[along]) == [0.1, 0.3, 0.5, 0.7, 1.0]
    assert found["alpha"]["percent"][2] == found["beta"]["percent"][2]


def test_rows_of_a_study_have_names_of_their_own_and_what_did_not_finish_is_empty():
    results = unfinish(cub200(), cub200()["method"] == "a3m")
    points = made(cub200=results)["cub200"]
    assert points["method"].is_unique
    assert "percent" in points
    assert points.set_index("method").loc["A3M", "seeds"] == 0
    assert points.set_index("method")["percent"].isna()["A3M"]


def test_dvc_draws_every_file_that_a_whole_run_writes_and_by_its_columns():
    found = made(**every_study())
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    drawn = {}
    for plot in declared:
        if isinstance(plot, dict):
            ((_, shown),) = plot.items()
            ((path, y),) = shown["y"].items()
            drawn[Path(path).stem] = {shown["x"], y}
    assert set(drawn) == set(found) - {"photographs"}  # no part of a whole run
    for name, columns in drawn.items():
        assert columns <= set(found[name].columns)
