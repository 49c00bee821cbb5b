"""Means over seeds and paired differences between methods, with what they can and cannot show.

Every interval is a t interval with n - 1 degrees of freedom: it covers training noise (the seeds), not the sampling of the
test data. A sign-flip test over n pairs has 2^n equally likely outcomes and so no two-sided p below 2 / 2^n: below 6 pairs
no result, however clear, reaches 0.05, and such a pair of methods is marked "cannot rank".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

PAIRS_TO_RANK = 6  # 2 / 2^6 = 0.031 is the first least attainable p below 0.05
MOST_PAIRS = 40  # the exact test holds 2^(n/2) sums in memory


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


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and t interval of at least one finite value."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"an interval needs a list of finite values, got {values!r}")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, None, 1)
    factor = float(scipy.stats.t.ppf((1 + confidence) / 2, array.size - 1))
    return Interval(mean, factor * float(array.std(ddof=1)) / array.size**0.5, array.size)


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


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """All 2^n sums of (n,) values with every choice of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums
