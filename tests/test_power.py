"""How many seeds a plan says a difference needs."""

from types import SimpleNamespace

from a3m import power
from a3m.report.statistics import pooled_spread, seeds_needed


def trial(method, seed, value, metric="test/accuracy", state="finished", **settings):
    found = SimpleNamespace(metrics={metric: value / 100})
    return SimpleNamespace(point={"method": method, **settings}, seed=seed, state=state, found=found)


def study(*rows):
    """Rows of a study: (method, values by seed, settings)."""
    return [trial(method, seed, value, **more) for method, values, more in rows for seed, value in enumerate(values)]


def test_the_spread_is_that_of_differences_to_baseline_2_by_seed():
    found = power.lines(
        study(("baseline1", [40, 45, 41], {}), ("baseline2", [50, 56, 52], {}), ("a3m", [51, 56, 55], {}))
    )
    sd = pooled_spread([[-10, -11, -11], [1, 0, 3]]).sd
    assert f"to Baseline-2 have a standard deviation of {sd:.2f} points over seeds (2 rows, up to 3 seeds" in found[0]
    assert f"difference of 1 point {seeds_needed(sd, 1.0)} (" in found[1]
    assert f"of 2 points {seeds_needed(sd, 2.0)} (" in found[1]
    assert "power 0.8 at 5 %, two-sided" in found[1]
    assert "least attainable p: 0.25 with 3 seeds, 0.0312 with 6" in found[2]


def test_rows_are_compared_within_their_recipe_and_never_with_a_control():
    rows = (
        ("baseline2", [10, 90], {"train.shuffle_attributes": True}),
        ("baseline2", [50, 56], {}),
        ("a3m", [51, 57], {}),
        ("baseline2", [20, 21], {"recipe": "modern"}),
        ("a3m", [22, 23], {"recipe": "modern"}),
    )
    found = power.lines(study(*rows[1:]))
    assert "standard deviation of 0.00 points over seeds (2 rows" in found[0]
    assert "difference of 1 point 6 (6 to 6)" in found[1]
    assert "(3 rows" in power.lines(study(*rows))[0]


def test_a_grid_of_one_method_is_compared_with_its_first_row():
    found = power.lines(study(("a3m", [50, 52], {"loss.alpha": 0.5}), ("a3m", [50, 55], {"loss.alpha": 0.1})))
    assert "differences to its first row have a standard deviation of 2.12" in found[0]


def test_one_seed_has_no_spread_and_the_plan_says_so():
    assert power.lines(study(("baseline2", [50], {}), ("a3m", [51], {}))) == [
        "seeds needed: not known, no row has two seeds in common with Baseline-2 (one seed has no spread: try seeds=[0,1,2])"
    ]


def test_trials_that_have_not_finished_count_for_nothing():
    planned = [trial("baseline2", seed, 50, state="new") for seed in range(3)]
    assert power.lines(planned) == ["seeds needed: not known before trials have finished"]
    assert power.lines([]) == power.lines(planned)


def test_what_is_out_of_reach_is_said_and_the_metric_is_the_tasks():
    rows = [trial(method, seed, value, metric="test/mAP_trapezoid") for method, values in
            (("baseline2", [10, 90, 50]), ("a3m", [80, 15, 50])) for seed, value in enumerate(values)]  # fmt: skip
    found = power.lines(rows)
    assert found[0].startswith("seeds needed, mAP (trapezoid)")
    assert "over 1000" in found[1]
