"""Intervals and paired tests against numbers computed by hand and by listing every sign."""

import itertools
import math

import numpy as np
import pytest

from a3m.report.statistics import (
    Spread,
    bootstrap_means,
    least_p,
    mcnemar_p,
    mean_interval,
    middle,
    paired_difference,
    pooled_spread,
    seeds_needed,
    sign_flip_p,
)


def test_interval_of_three_values_by_hand():
    # mean 0.83; deviations -0.03 -0.01 0.04, so s^2 = 0.0026 / 2; t(0.975, 2) = 4.302653 (table)
    interval = mean_interval([0.80, 0.82, 0.87])
    assert interval.mean == pytest.approx(0.83)
    assert interval.half_width == pytest.approx(4.302653 * math.sqrt(0.0013) / math.sqrt(3), rel=1e-6)
    assert interval.n == 3


def test_interval_of_two_values_by_hand():
    # s = 1 / sqrt(2), t(0.975, 1) = 12.706205, divided by sqrt(2): 12.706205 / 2
    assert mean_interval([1.0, 2.0]).half_width == pytest.approx(12.706205 / 2, rel=1e-6)


def test_one_value_has_no_interval():
    interval = mean_interval([0.5])
    assert interval.mean == 0.5
    assert interval.half_width is None
    assert not interval.excludes_zero


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_an_interval_of_nothing_or_of_no_number_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # all one way: itself and its mirror
        ([3.0, 1.0, -1.0], 6 / 8),  # sums of +-3 +-1 +-1: 5 3 3 1 and mirrors; at least 3 away: six of eight
        ([1.0, 2.0, -3.0], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
        ([0.4], 1.0),
        ([0.1] * 6, 2 / 64),
    ],
)
def test_sign_flip_by_hand(differences, p):
    assert sign_flip_p(differences) == pytest.approx(p)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 9])
def test_sign_flip_equals_listing_every_sign(n):
    generator = np.random.default_rng(n)
    for _ in range(20):
        values = generator.integers(-5, 6, n) / 10  # tenths: ties that rounding would break
        seen = abs(values.sum())
        sums = [abs(np.dot(signs, values)) for signs in itertools.product((-1, 1), repeat=n)]
        assert sign_flip_p(values) == pytest.approx(np.mean([total >= seen - 1e-12 for total in sums]))


def test_sign_flip_of_forty_pairs_is_exact_and_more_are_refused():
    assert sign_flip_p([0.1] * 30) == pytest.approx(2 / 2**30)
    with pytest.raises(ValueError, match="40"):
        sign_flip_p([0.1] * 41)


def test_pairs_are_the_seeds_that_both_have():
    difference = paired_difference({0: 0.5, 1: 0.7, 5: 0.9}, {0: 0.4, 1: 0.5, 2: 0.1})
    assert difference.seeds == (0, 1)
    assert difference.interval.mean == pytest.approx(0.15)
    assert difference.p == pytest.approx(0.5)
    assert difference.least_p == 0.5
    assert paired_difference({0: 0.5}, {1: 0.5}) is None


def test_pairing_takes_out_what_two_methods_share():
    shared = dict(enumerate([0.1, 0.5, 0.9, 0.3]))
    better = {seed: value + 0.02 for seed, value in shared.items()}
    difference = paired_difference(better, shared)
    assert difference.interval.mean == pytest.approx(0.02)
    assert difference.interval.half_width == pytest.approx(0, abs=1e-12)


def test_five_pairs_cannot_rank_and_six_can():
    def clear(n):
        return paired_difference({seed: 0.9 + seed / 1000 for seed in range(n)}, dict.fromkeys(range(n), 0.5))

    assert (clear(5).can_rank, clear(6).can_rank) == (False, True)
    assert clear(5).interval.excludes_zero
    assert (clear(5).shown, clear(6).shown) == (False, True)
    assert least_p(5) > 0.05 > least_p(6)


def test_a_difference_whose_interval_holds_zero_is_not_shown():
    ours = {seed: 0.5 + (0.1 if seed % 2 else -0.09) for seed in range(8)}
    difference = paired_difference(ours, dict.fromkeys(range(8), 0.5))
    assert difference.can_rank
    assert not difference.shown


# --- sampling of the test data ------------------------------------------------------------------------------------------


def test_a_bootstrap_of_groups_draws_groups_whole():
    # Two identities of three images and of one, all right and all wrong: a resample holds the first 0, 1 or 2 times.
    means = bootstrap_means(np.array([[1.0], [1.0], [1.0], [0.0]]), np.array([7, 7, 7, 3]), resamples=4000)
    shares = {value: np.mean(np.isclose(means[:, 0], value)) for value in (0.0, 0.75, 1.0)}
    assert sum(shares.values()) == 1
    assert shares[0.75] == pytest.approx(0.5, abs=0.03)
    assert shares[0.0] == pytest.approx(0.25, abs=0.03)


def test_a_bootstrap_equals_plain_loops():
    generator = np.random.default_rng(5)
    values, groups = generator.random((12, 2)), generator.integers(0, 4, 12)
    means = bootstrap_means(values, groups, resamples=6, seed=3)
    draws = np.random.default_rng(3).integers(4, size=(6, 4))
    for drawn, mean in zip(draws, means, strict=True):
        images = [image for group in drawn for image in np.flatnonzero(groups == group)]
        np.testing.assert_allclose(mean, values[images].mean(axis=0))


def test_a_bootstrap_of_images_has_the_standard_error_of_a_share():
    right = (np.arange(400) < 100).astype(float)[:, None]
    means = bootstrap_means(right, np.arange(400))[:, 0]
    assert means.std() == pytest.approx(math.sqrt(0.25 * 0.75 / 400), rel=0.05)
    interval = middle(means)
    assert (interval.low, interval.high) == pytest.approx((0.25 - 1.96 * 0.02165, 0.25 + 1.96 * 0.02165), abs=0.004)


def test_two_networks_see_the_same_resamples():
    shared = np.random.default_rng(0).random(300)
    means = bootstrap_means(np.stack([shared, shared + 0.01], axis=1), np.arange(300) // 3)
    assert middle(means[:, 1] - means[:, 0]).low == pytest.approx(0.01)
    assert means[:, 0].std() > 0.01


def test_blocks_change_no_resample(monkeypatch):
    values, groups = np.random.default_rng(1).random((50, 3)), np.arange(50)
    whole = bootstrap_means(values, groups, resamples=100)
    monkeypatch.setattr("a3m.report.statistics.BLOCK", 700)
    np.testing.assert_allclose(bootstrap_means(values, groups, resamples=100), whole, rtol=1e-12)


@pytest.mark.parametrize("values", [np.empty((0, 1)), np.array([[math.nan]]), np.array([1.0])])
def test_a_bootstrap_of_nothing_or_of_no_number_is_refused(values):
    with pytest.raises(ValueError, match="bootstrap"):
        bootstrap_means(values, np.arange(len(values)))


@pytest.mark.parametrize(
    ("ours", "reference", "p"),
    [(0, 0, 1.0), (3, 3, 1.0), (5, 0, 2 / 32), (0, 5, 2 / 32), (6, 1, 2 * (1 + 7) / 128)],  # tosses of a fair coin
)
def test_mcnemar_by_hand(ours, reference, p):
    assert mcnemar_p(ours, reference) == pytest.approx(p)


# --- how many seeds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "seeds"),
    # Pairs for power 0.8 at 5 %, two-sided, by effect size: 0.2, 0.5, 0.8, 1.0 of the sd, as tables of the paired t test
    # (Cohen 1988; G*Power) give them.
    [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)],
)
def test_seeds_needed_are_those_of_the_tables(ratio, seeds):
    assert seeds_needed(1.0, ratio) == seeds


def test_seeds_needed_are_never_fewer_than_can_rank():
    assert seeds_needed(0.1, 10.0) == 6
    assert seeds_needed(0.0, 1.0) == 6
    assert least_p(6) < 0.05 < least_p(5)


def test_a_difference_far_below_the_spread_is_out_of_reach():
    assert seeds_needed(5.0, 0.1) is None


def test_seeds_needed_give_that_power_when_simulated():
    count = seeds_needed(2.0, 1.5)
    generator = np.random.default_rng(0)

    def power(n):
        drawn = generator.normal(1.5, 2.0, (20000, n))
        t = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / math.sqrt(n))
        from scipy.stats import t as student

        return np.mean(np.abs(t) > student.ppf(0.975, n - 1))

    assert power(count) > 0.79
    assert power(count - 1) < 0.81


@pytest.mark.parametrize(("sd", "difference"), [(-1.0, 1.0), (1.0, 0.0), (math.nan, 1.0)])
def test_seeds_for_no_difference_are_not_counted(sd, difference):
    with pytest.raises(ValueError, match="difference > 0"):
        seeds_needed(sd, difference)


def test_the_spread_is_pooled_over_pairs_of_methods_but_their_means_are_not():
    # Deviations -1 0 1 and -2 2: squares 2 and 8, three degrees of freedom, of which a shared reference leaves 3 / 1.25;
    # what two methods differ by is no spread.
    spread = pooled_spread([[1.0, 2.0, 3.0], [50.0, 54.0], [9.0]])
    assert spread == Spread(pytest.approx(math.sqrt(10 / 3)), pytest.approx(2.4), 3)
    assert pooled_spread([[1.0], []]) is None


def test_a_spread_of_two_pairs_is_hardly_known():
    # chi-square with 1 degree of freedom: 0.000982 and 5.0239 (tables)
    low, high = Spread(1.0, 1, 2).limits()
    assert low == pytest.approx(1 / math.sqrt(5.0239), rel=1e-3)
    assert high == pytest.approx(1 / math.sqrt(0.000982), rel=1e-2)


def test_variances_of_pairs_that_share_a_reference_tell_as_much_as_the_degrees_of_freedom_say():
    generator = np.random.default_rng(0)
    variances = []
    for _ in range(4000):
        reference, ours = generator.normal(size=4), generator.normal(size=(5, 4))
        spread = pooled_spread(list(ours - reference))
        variances.append(spread.sd**2)
    # A variance with f degrees of freedom has a relative variance of 2 / f.
    assert 2 / (np.var(variances) / np.mean(variances) ** 2) == pytest.approx(spread.freedom, rel=0.1)
