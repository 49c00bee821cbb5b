"""Intervals and paired tests against numbers computed by hand and by listing every sign."""

import itertools
import math

import numpy as np
import pytest

from a3m.report.statistics import least_p, mean_interval, paired_difference, sign_flip_p


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
