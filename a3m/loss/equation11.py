"""Equation 11 of A3M (Han et al., MM 2018): L_final + alpha * L_category + beta * (1/K) * sum_k L_k.

Shape suffixes: B batch, K attributes.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from a3m.loss.terms import Losses

if TYPE_CHECKING:
    from a3m.model import Output


class Equation11(nn.Module):
    """`total` with its weights: the criterion of Baseline-1 to A3M."""

    def __init__(self, *, alpha: float, beta: float, label_smoothing: float) -> None:
        super().__init__()
        self.alpha, self.beta, self.label_smoothing = alpha, beta, label_smoothing

    def forward(self, output: "Output", labels: Tensor, attributes: Tensor) -> Losses:
        """Equation 11 of a batch: labels (B,) int64, attributes (B, K) int64 with -1 = unlabelled."""
        weights = {"alpha": self.alpha, "beta": self.beta, "label_smoothing": self.label_smoothing}
        return total(output, labels, attributes, **weights)


def total(
    output: "Output", labels: Tensor, attributes: Tensor, *, alpha: float, beta: float, label_smoothing: float = 0.0
) -> Losses:
    """The loss of a batch: labels (B,) int64, attributes (B, K) int64 with -1 = unlabelled.

    Without a final classifier (Baseline-1) the total is the category loss with weight 1. With beta = 0, or without attribute
    logits, the attribute loss is 0 and not in the graph. `label_smoothing` smooths the category and final labels, not the
    attributes'.
    """
    assert output.category is not None
    # In float32 also under autocast, which would otherwise leave the choice to the operation.
    category = functional.cross_entropy(output.category.float(), labels, label_smoothing=label_smoothing)
    zero = torch.zeros_like(category)
    if output.final is None:
        return Losses(total=category, final=zero, category=category, attribute=zero)
    final = functional.cross_entropy(output.final.float(), labels, label_smoothing=label_smoothing)
    if beta == 0 or not output.attributes:
        return Losses(total=final + alpha * category, final=final, category=category, attribute=zero)
    attribute = attribute_loss(output.attributes, attributes)
    return Losses(final + alpha * category + beta * attribute, final=final, category=category, attribute=attribute)


def attribute_loss(logits: list[Tensor], attributes: Tensor) -> Tensor:
    """(1/K) sum_k L_k, L_k the mean cross-entropy over the batch's labelled images, 0 where there is none.

    logits: K of (B, C_k); attributes (B, K) int64, -1 = unlabelled. The divisor is K also when some L_k is 0.
    """
    if attributes.shape[1] != len(logits):
        raise ValueError(f"{attributes.shape[1]} attribute columns for {len(logits)} attribute classifiers")
    # The sum over unlabelled images is 0 by ignore_index; dividing by their number on the device keeps the loop free of
    # a wait for it, and of the NaN that reduction="mean" gives when nothing is labelled.
    labelled_K = (attributes >= 0).sum(dim=0).clamp(min=1)
    sums_K = torch.stack(
        [
            functional.cross_entropy(logits_k.float(), attributes[:, k], ignore_index=-1, reduction="sum")
            for k, logits_k in enumerate(logits)
        ]
    )
    return (sums_K / labelled_K).mean()
