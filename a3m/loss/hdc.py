"""HDC, hard-aware deeply cascaded embedding (Yuan et al., ICCV 2017): three heads, each trained on harder pairs than the last.

A positive pair costs d^2, a negative one weight * max(0, margin - d^2), d the distance of one head's normalised embeddings. A
head keeps a share of the positives and the same share of the negatives, those that cost it most; its loss is the sum over them
divided by the number of those that cost anything (as the released layer does). The three are added.
Shape suffixes: B batch, D embedding, P pairs.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from a3m.loss.learners import even_sizes
from a3m.loss.terms import Losses, on_category

if TYPE_CHECKING:
    from a3m.model import Output


class CascadedContrastive(nn.Module):
    """forward: `output.category_embedding` (B, D) is the heads' embeddings end to end, cut by `even_sizes`.

    shares: of the pairs that each head keeps. cascade: a head chooses among what the head before it has kept (the paper) instead of
    among all pairs of the batch (the released code); the shares are of all pairs either way.
    """

    def __init__(self, *, shares: tuple[float, ...], margin: float, negative_weight: float, cascade: bool) -> None:
        super().__init__()
        self.shares, self.margin, self.negative_weight, self.cascade = shares, margin, negative_weight, cascade

    def forward(self, output: "Output", labels: Tensor, attributes: Tensor) -> Losses:
        """The sum over the heads of each one's mean cost of the pairs it keeps: labels (B,); attributes are not read."""
        embedding_BD = output.category_embedding.float()
        first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
        positive_P = labels[first] == labels[second]
        kept_P = torch.ones_like(positive_P)
        total = embedding_BD.new_zeros(())
        heads = embedding_BD.split(even_sizes(embedding_BD.shape[1], len(self.shares)), dim=1)
        for head, share in zip(heads, self.shares, strict=True):
            unit = functional.normalize(head)
            squared_P = (unit[first] - unit[second]).square().sum(dim=1)
            negative_cost_P = self.negative_weight * (self.margin - squared_P).relu()
            cost_P = torch.where(positive_P, squared_P, negative_cost_P)
            among_P = kept_P if self.cascade else torch.ones_like(kept_P)
            kept_P = hardest(cost_P, positive_P, share, among_P) | hardest(cost_P, ~positive_P, share, among_P)
            total = total + (cost_P * kept_P).sum() / (kept_P & (cost_P > 0)).sum().clamp(min=1)
        return on_category(total)


def hardest(cost_P: Tensor, kind_P: Tensor, share: float, among_P: Tensor) -> Tensor:
    """(P,) bool: the costliest of the pairs of one kind, `share` of them all (rounded down, at least one), from `among_P`."""
    candidates = (kind_P & among_P).nonzero()[:, 0]
    count = min(max(int(int(kind_P.sum()) * share), 1), len(candidates))
    # Stable, so that pairs of equal cost are chosen alike wherever this runs.
    chosen = candidates[cost_P[candidates].argsort(descending=True, stable=True)[:count]]
    return torch.zeros_like(kind_P).index_fill_(0, chosen, True)
