"""What a loss tells of a batch, whatever its method: the total that is minimised and the terms that are watched."""

from typing import NamedTuple

from torch import Tensor


class Losses(NamedTuple):
    """Scalars. `final`, `category` and `attribute` are unweighted, 0 where a method has no such term."""

    total: Tensor
    final: Tensor
    category: Tensor
    attribute: Tensor  # (1/K) sum_k L_k


def on_category(total: Tensor, category: Tensor | None = None) -> Losses:
    """The losses of a method with one embedding: `category` is its unregularised loss, the total itself by default."""
    zero = total.new_zeros(())
    return Losses(total=total, final=zero, category=total if category is None else category, attribute=zero)
