"""ResNet-50 (I+V): identification and verification together (Zheng et al., A Discriminatively Learned CNN Embedding for Person
Re-identification, 2016).

A softmax over the identities of each image, and on pairs of images the square layer (f1 - f2)^2, a linear classifier and a softmax
over {different, same}. Zheng et al. feed pairs; here they are formed inside the batch.
Shape suffixes: B batch, D embedding, P pairs.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from a3m.loss.terms import Losses, on_category

if TYPE_CHECKING:
    from a3m.model import Output


class Pairs(NamedTuple):
    """P pairs of images of a batch, and which are of one class."""

    first: Tensor  # (P,) int64, rows of the batch
    second: Tensor  # (P,)
    same: Tensor  # (P,) int64, 1 = of one class


def balanced_pairs(labels: Tensor) -> Pairs:
    """One positive and one negative pair for every image that has both in the batch; a function of the labels (B,) alone.

    The positive partner is the next image of the class, the negative one the next of another class from half a batch on, so that
    in a batch sorted by class not all images of a class meet the same one.
    """
    count = len(labels)
    row = torch.arange(count, device=labels.device)
    ahead_BB = (row[None] - row[:, None]) % count  # of j seen from i
    same_BB = labels[:, None] == labels[None]
    positive_B, has_positive_B = _nearest(ahead_BB, same_BB & (ahead_BB > 0))
    negative_B, has_negative_B = _nearest((ahead_BB - count // 2) % count, ~same_BB)
    kept = row[has_positive_B & has_negative_B]
    ones = torch.ones_like(kept)
    second = torch.cat([positive_B[kept], negative_B[kept]])
    return Pairs(torch.cat([kept, kept]), second, torch.cat([ones, 1 - ones]))


def _nearest(distance_BB: Tensor, allowed_BB: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the allowed column of least distance, and whether there is one."""
    nearest_B = distance_BB.masked_fill(~allowed_BB, len(distance_BB)).argmin(dim=1)
    return nearest_B, allowed_BB.any(dim=1)


class IdentificationVerification(nn.Module):
    """identification * softmax over classes + verification * softmax over {different, same}, the mean over the batch's pairs.

    The pair classifier is drawn from torch's global generator. `category` of the result is the identification loss.
    """

    def __init__(self, width: int, *, identification: float, verification: float, label_smoothing: float) -> None:
        super().__init__()
        self.identification, self.verification, self.label_smoothing = identification, verification, label_smoothing
        self.classifier = nn.Linear(width, 2)

    def forward(self, output: "Output", labels: Tensor, attributes: Tensor) -> Losses:
        """The weighted sum of both losses: labels (B,); attributes are not read. A batch without a pair has verification loss 0."""
        assert output.category is not None
        identity = functional.cross_entropy(output.category.float(), labels, label_smoothing=self.label_smoothing)
        pairs = balanced_pairs(labels)
        embedding_BD = output.embedding.float()
        logits_P2 = self.classifier((embedding_BD[pairs.first] - embedding_BD[pairs.second]).square())
        # The sum divided by at least 1: a batch without any pair gives 0, not the NaN of an empty mean.
        same = functional.cross_entropy(logits_P2, pairs.same, reduction="sum") / max(len(pairs.same), 1)
        return on_category(self.identification * identity + self.verification * same, identity)
