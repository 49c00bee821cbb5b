"""Three losses on the embedding alone, from pytorch-metric-learning: N-pair, LiftedStructure, Proxy-Anchor.

That library is imported where a loss is built: a trial that uses none does not pay for it.
Shape suffixes: B batch, D embedding.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from a3m.loss.terms import Losses, on_category

if TYPE_CHECKING:
    from a3m.model import Output


class NPair(nn.Module):
    """N-pair-mc loss (Sohn, NIPS 2016): for the first two images x, x+ of every class of the batch,
    log(1 + sum over the other classes j of exp(f(x) . f(x+_j) - f(x) . f(x+))), averaged, of embeddings that are not normalised.

    `l2` times half the mean squared norm keeps them small. Classes with a single image in the batch are not used.
    """

    def __init__(self, *, l2: float) -> None:
        from pytorch_metric_learning.distances import DotProductSimilarity
        from pytorch_metric_learning.losses import NPairsLoss

        super().__init__()
        self.l2 = l2
        self.pairs = NPairsLoss(distance=DotProductSimilarity(normalize_embeddings=False))

    def forward(self, output: "Output", labels: Tensor, attributes: Tensor) -> Losses:
        """The losses of `output.embedding` (B, D), not normalised: labels (B,), two images a class; attributes are not read."""
        embedding_BD = output.embedding.float()
        pairs = self.pairs(embedding_BD, labels)
        return on_category(pairs + self.l2 * embedding_BD.square().sum(dim=1).mean() / 2, pairs)


class LiftedStructure(nn.Module):
    """Lifted structured loss (Oh Song et al., CVPR 2016): the mean over the positive pairs (i, j) of half the square of
    max(0, log(sum over negatives k of exp(margin - D_ik) + sum over negatives l of exp(margin - D_jl)) + D_ij).

    D is the Euclidean distance of L2-normalised embeddings, since those are compared (the original leaves them as they are).
    """

    def __init__(self, *, margin: float) -> None:
        from pytorch_metric_learning.distances import LpDistance
        from pytorch_metric_learning.losses import LiftedStructureLoss

        super().__init__()
        self.pairs = LiftedStructureLoss(
            neg_margin=margin, pos_margin=0, distance=LpDistance(normalize_embeddings=True)
        )

    def forward(self, output: "Output", labels: Tensor, attributes: Tensor) -> Losses:
        """The losses of `output.embedding` (B, D): labels (B,); attributes are not read."""
        return on_category(self.pairs(output.embedding.float(), labels))


class ProxyAnchor(nn.Module):
    """Proxy-Anchor loss (Kim et al., CVPR 2020): a learned proxy a class, compared with every image of the batch by cosine s.

    The mean over the proxies with a positive in the batch of log(1 + sum over positives of exp(-scale (s - margin))), plus the
    mean over all proxies of log(1 + sum over negatives of exp(scale (s + margin))). The proxies are drawn from torch's global
    generator and learn at `learning_rate_factor` times the common rate.
    """

    def __init__(self, classes: int, width: int, *, margin: float, scale: float, learning_rate_factor: float) -> None:
        from pytorch_metric_learning.losses import ProxyAnchorLoss

        super().__init__()
        self.learning_rate_factor = learning_rate_factor
        self.proxies = ProxyAnchorLoss(classes, width, margin=margin, alpha=scale)

    def forward(self, output: "Output", labels: Tensor, attributes: Tensor) -> Losses:
        """The losses of `output.embedding` (B, D): labels (B,) that index the proxies; attributes are not read."""
        return on_category(self.proxies(output.embedding.float(), labels))
