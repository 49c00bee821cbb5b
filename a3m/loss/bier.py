"""BIER, boosting independent embeddings robustly (Opitz et al., ICCV 2017 and TPAMI 2018): one embedding cut into learners of
growing width, trained by online gradient boosting.

What is taken: the boosting with eta_m = 2 / (m + 1) and the binomial deviance on all pairs of the batch; learners compared
together by the weights that boosting gives them; and of the auxiliary losses that keep learners apart the *activation loss*, as
a regulariser during training. What is not: the initialisation that solves for that loss beforehand (ICCV), the adversarial loss
(TPAMI). The papers hold the embedding's size by a penalty on the length of its weight rows; here the activation loss sees the
embedding scaled to length 1, and a learner's own length is divided out wherever it is compared.
Shape suffixes: B batch, D embedding, P pairs.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from a3m.loss.learners import growing_sizes, step_sizes
from a3m.loss.terms import Losses, on_category

if TYPE_CHECKING:
    from a3m.model import Output


class BoostedEmbedding(nn.Module):
    """forward: `output.category_embedding` (B, D) is the learners' embeddings end to end, cut by `growing_sizes`, not normalised.

    The deviance of a pair with cosine s is log(1 + exp(-z)): z = scale (s - margin) for a positive, and -scale negative_cost
    (s - margin) for a negative pair. Positives and negatives are averaged each by themselves and added. Learner m sees a pair with
    the weight -l'(z) of the ensemble of the learners before it (1 for the first), as a constant; the losses are averaged over m.
    """

    def __init__(self, *, learners: int, scale: float, margin: float, negative_cost: float, diversity: float) -> None:
        super().__init__()
        self.learners, self.scale, self.margin = learners, scale, margin
        self.negative_cost, self.diversity = negative_cost, diversity

    def forward(self, output: "Output", labels: Tensor, attributes: Tensor) -> Losses:
        """The losses of a batch: labels (B,); attributes are not read."""
        embedding_BD = output.category_embedding.float()
        sizes = growing_sizes(embedding_BD.shape[1], self.learners)
        first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
        positive_P = labels[first] == labels[second]
        share_P = positive_P / positive_P.sum().clamp(min=1) + ~positive_P / (~positive_P).sum().clamp(min=1)
        sign_P = torch.where(positive_P, 1.0, -self.negative_cost)

        boosted = embedding_BD.new_zeros(())
        weight_P, ensemble_P = torch.ones_like(share_P), torch.zeros_like(share_P)
        for learner, eta in zip(embedding_BD.split(sizes, dim=1), step_sizes(self.learners), strict=True):
            unit = functional.normalize(learner)
            cosine_P = (unit[first] * unit[second]).sum(dim=1)
            z_P = self.scale * sign_P * (cosine_P - self.margin)
            boosted = boosted + (share_P * weight_P * functional.softplus(-z_P)).sum() / self.learners
            ensemble_P = (1 - eta) * ensemble_P + eta * cosine_P.detach()
            weight_P = torch.sigmoid(-self.scale * sign_P * (ensemble_P - self.margin))  # -l'(z) of s^m
        return on_category(boosted + self.diversity * activation_loss(embedding_BD, sizes), boosted)


def activation_loss(embedding_BD: Tensor, sizes: list[int]) -> Tensor:
    """The mean over the batch of sum over learners i < j, numbers k of i and l of j, of (e_k e_l)^2, e scaled to length 1.

    It is 0 where each image activates one learner only, at most (1 - 1/M) / 2.
    """
    energies = [part.square().sum(dim=1) for part in functional.normalize(embedding_BD).split(sizes, dim=1)]
    pairs = [energies[i] * energies[j] for j in range(len(energies)) for i in range(j)]
    return torch.stack(pairs).sum(dim=0).mean() if pairs else embedding_BD.new_zeros(())
