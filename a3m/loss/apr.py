"""Attr-Id, the attribute-person recognition network (Lin et al., Improving Person Re-identification by Attribute and Identity
Learning, 2017): one identity classifier and one classifier an attribute, all on the same feature.

L = lambda L_id + (1/M) sum_k L_att,k with lambda 8; unlabelled attributes are left out as in equation 11.
Shape suffixes: B batch, K attributes.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from a3m.loss.equation11 import attribute_loss
from a3m.loss.terms import Losses

if TYPE_CHECKING:
    from a3m.model import Output


class AttributePersonRecognition(nn.Module):
    """forward(output, labels (B,), attributes (B, K) with -1 = unlabelled) -> Losses."""

    def __init__(self, *, identity_weight: float, label_smoothing: float) -> None:
        super().__init__()
        self.identity_weight, self.label_smoothing = identity_weight, label_smoothing

    def forward(self, output: "Output", labels: Tensor, attributes: Tensor) -> Losses:
        """The losses of a batch of B images; `output.category` (B, classes) must be there."""
        assert output.category is not None
        identity = functional.cross_entropy(output.category.float(), labels, label_smoothing=self.label_smoothing)
        attribute = attribute_loss(output.attributes, attributes)
        total = self.identity_weight * identity + attribute
        return Losses(total, final=identity.new_zeros(()), category=identity, attribute=attribute)
