"""Means over seeds and paired differences between methods, with what they can and cannot show.

Two kinds of noise stand apart and are never merged. An `Interval` is a t interval with n - 1 degrees of freedom over seeds: it
covers training noise, not the sampling of the test data. A `Range` is a bootstrap interval over test data (identities, classes
or images), the trained networks held fixed: it covers the sampling of test data alone.

A sign-flip test over n pairs has 2^n equally likely outcomes and so no two-sided p below 2 / 2^n: below 6 pairs no result,
however clear, reaches 0.05, and such a pair of methods is marked "cannot rank".

Shape suffixes: N test images or queries, G groups of them, R trials, B resamples.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

PAIRS_TO_RANK = 6  # 2 / 2^6 = 0.031 is the first least attainable p below 0.05
MOST_PAIRS = 40  # the exact test holds 2^(n/2) sums in memory
RESAMPLES = 2000
BLOCK = 4_000_000  # numbers drawn at once: 32 MB
MOST_SEEDS = 1000  # a difference that needs more is out of reach

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its interval; `half_width` is None when n < 2: one value has no spread."""

    mean: float
    half_width: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        return self.half_width is not None and abs(self.mean) > self.half_width


@dataclass(frozen=True)
class Difference:
    """Ours minus the reference, paired by seed."""

    interval: Interval
    p: float  # exact two-sided sign-flip test
    least_p: float  # what the test could reach at best with so many pairs
    seeds: tuple[int, ...]

    @property
    def can_rank(self) -> bool:
        return len(self.seeds) >= PAIRS_TO_RANK

    @property
    def shown(self) -> bool:
        """Whether a difference is shown: enough pairs to rank, and an interval without 0."""
        return self.can_rank and self.interval.excludes_zero


@dataclass(frozen=True)
class Range:
    """The middle 95 % of what a mean over test data was in resamples of them."""

    low: float
    high: float


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and t interval of at least one finite value."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"an interval needs a list of finite values, got {values!r}")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, None, 1)
    return Interval(mean, _t_factor(confidence, array.size) * float(array.std(ddof=1)) / array.size**0.5, array.size)


@functools.cache
def _t_factor(confidence: float, n: int) -> float:
    """By how many standard errors a t interval of n values reaches out."""
    return float(scipy.stats.t.ppf((1 + confidence) / 2, n - 1))


def paired_difference(
    ours: Mapping[int, float], reference: Mapping[int, float], confidence: float = 0.95
) -> Difference | None:
    """Ours minus the reference, both seed -> value, over the seeds that both have; None when they share none."""
    seeds = tuple(sorted(set(ours) & set(reference)))
    if not seeds:
        return None
    differences = [ours[seed] - reference[seed] for seed in seeds]
    return Difference(mean_interval(differences, confidence), sign_flip_p(differences), least_p(len(seeds)), seeds)


def least_p(pairs: int) -> float:
    """The least p that a two-sided sign-flip test over so many pairs can give: only two of 2^n outcomes are as extreme."""
    return 2 / 2**pairs


def sign_flip_p(differences: Sequence[float]) -> float:
    """Exact two-sided sign-flip test of a mean of zero.

    The share of the 2^n ways to choose the signs whose sum is at least as far from 0 as the one seen. The sums are counted
    as (a sum of the first half) + (a sum of the second), so that n = 40 needs a million numbers and not 10^12.
    """
    values = np.asarray(differences, dtype=float)
    if not 1 <= values.size <= MOST_PAIRS:
        raise ValueError(f"the exact sign-flip test takes 1 to {MOST_PAIRS} pairs, got {values.size}")
    # Sums that differ by rounding alone are ties; without the tolerance the outcome seen might not count itself.
    seen = abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())
    if seen <= 0:
        return 1.0
    first = np.sort(_signed_sums(values[: values.size // 2]))
    second = _signed_sums(values[values.size // 2 :])
    above = first.size - np.searchsorted(first, seen - second, side="left")
    return 2 * float(above.sum()) / 2**values.size  # the outcomes below -seen mirror those above


# --- sampling of the test data ------------------------------------------------------------------------------------------


def bootstrap_means(
    values_NR: npt.NDArray[np.floating], groups_N: npt.NDArray[np.integer], *, resamples: int = RESAMPLES, seed: int = 0
) -> Reals:
    """(B, R): the mean of each trial in each resample of whole groups, drawn with replacement.

    Every trial sees the same resamples, so that a difference of two columns is a paired bootstrap. A group that is drawn
    twice counts twice with all its images. Raises ValueError on what is not finite and on shapes that do not fit.
    """
    if values_NR.ndim != 2 or groups_N.shape != values_NR.shape[:1] or not values_NR.size:
        raise ValueError(f"a bootstrap takes (N, R) values and (N,) groups, got {values_NR.shape} and {groups_N.shape}")
    if not np.isfinite(values_NR).all():
        raise ValueError("a bootstrap needs finite values")
    _, group_N = np.unique(groups_N, return_inverse=True)
    counts_G = np.bincount(group_N).astype(float)
    order = np.argsort(group_N, kind="stable")
    firsts_G = np.concatenate([[0], np.cumsum(counts_G)[:-1]]).astype(np.intp)
    sums_GR = np.add.reduceat(values_NR[order].astype(float), firsts_G, axis=0)
    rng = np.random.default_rng(seed)
    means = []
    block = max(1, BLOCK // len(counts_G))
    for first in range(0, resamples, block):
        size = min(block, resamples - first)
        drawn_BG = rng.integers(len(counts_G), size=(size, len(counts_G)))
        drawn_BG += np.arange(size)[:, None] * len(counts_G)  # so that one count serves the whole block
        times_BG = np.bincount(drawn_BG.ravel(), minlength=drawn_BG.size).reshape(drawn_BG.shape).astype(float)
        means.append(times_BG @ sums_GR / (times_BG @ counts_G)[:, None])
    return np.concatenate(means)


def middle(means_B: Reals, confidence: float = 0.95) -> Range:
    """The percentile interval of a bootstrap."""
    low, high = np.quantile(means_B, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Range(float(low), float(high))


def mcnemar_p(only_ours: int, only_reference: int) -> float:
    """Exact two-sided McNemar test from the images that one network gets right and the other wrong: a fair coin's tosses."""
    tosses = only_ours + only_reference
    return float(scipy.stats.binomtest(only_ours, tosses).pvalue) if tosses else 1.0


# --- how many seeds -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """How much paired differences spread over the seeds: one standard deviation for several pairs of methods."""

    sd: float
    freedom: float  # its degrees of freedom
    seeds: int  # of the pair of methods that has most

    def limits(self, confidence: float = 0.95) -> tuple[float, float]:
        """Between what the true standard deviation may lie: from a few seeds it is hardly known."""
        low, high = scipy.stats.chi2.ppf([(1 + confidence) / 2, (1 - confidence) / 2], self.freedom)
        return self.sd * (self.freedom / low) ** 0.5, self.sd * (self.freedom / high) ** 0.5


def pooled_spread(pairs: Sequence[Sequence[float]]) -> Spread | None:
    """From the paired differences of each pair of methods; None where no pair has two. Variances are averaged, means are not.

    The pairs share their reference, so that the differences of two pairs correlate by 1/2 and their variances by 1/4: k pairs
    tell less than k times what one does, and the degrees of freedom are cut accordingly.
    """
    several = [np.asarray(differences, dtype=float) for differences in pairs if len(differences) > 1]
    if not several:
        return None
    freedom = sum(one.size - 1 for one in several)
    squares = sum(float(((one - one.mean()) ** 2).sum()) for one in several)
    effective = freedom / (1 + (len(several) - 1) / 4)
    return Spread((squares / freedom) ** 0.5, effective, max(one.size for one in several))


def seeds_needed(sd: float, difference: float, *, power: float = 0.8, level: float = 0.05) -> int | None:
    """The least number of seeds with which a true difference is found with this power.

    Of a two-sided paired t test (noncentral t), and never less than the sign-flip test needs to reach the level at all; None
    when MOST_SEEDS do not do. sd: of the paired differences, in the difference's unit.
    """
    if not (sd >= 0 and difference > 0):
        raise ValueError(f"seeds are counted for a spread >= 0 and a difference > 0, got {sd} and {difference}")
    counts = np.arange(2, MOST_SEEDS + 1)
    if sd > 0:
        shift = difference / sd * counts**0.5
        critical = scipy.stats.t.ppf(1 - level / 2, counts - 1)
        found = scipy.stats.nct.sf(critical, counts - 1, shift) + scipy.stats.nct.cdf(-critical, counts - 1, shift)
        # Far out scipy's noncentral t gives nan, where the power is 1.
        enough = counts[np.where(np.isnan(found), shift > critical + 6, found >= power)]
    else:
        enough = counts
    if not len(enough):
        return None
    return max(int(enough[0]), next(int(count) for count in counts if least_p(int(count)) <= level))


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """All 2^n sums of (n,) values with every choice of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums
