"""Reciprocal attention of A3M (Han et al., MM 2018, section 3.2): equations 5 to 8, its equal-weight ablations and its forms.

Shape suffixes: B batch, L regions (h*w), D embedding, K attributes. Every class here takes the learned or the equal side of
one choice; a network is put together from REGION_ATTENTION, SCORE_MERGE, ATTRIBUTE_ATTENTION, so that no forward asks what
is being ablated. `Norm` makes a batch norm of n channels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


# --- region weights m (equation 5) --------------------------------------------------------------------------------------


class MaxOfMaps(nn.Module):
    """One sigmoid an attribute, then the maximum over the attributes (the paper's text)."""

    def __init__(self, attributes: int, regions: int, norm: Norm | None) -> None:
        super().__init__()
        self.norm = norm(attributes) if norm else nn.Identity()

    def forward(self, scores_BKL: Tensor) -> Tensor:
        """Raw scores (B, K, L) -> weights (B, L) in (0, 1)."""
        maps_BKL = self.norm(scores_BKL).sigmoid()
        return maps_BKL.amax(dim=1)


class MeanOfScores(nn.Module):
    """The mean of the raw scores, then one sigmoid; the batch norm between them is per place (the released code)."""

    def __init__(self, attributes: int, regions: int, norm: Norm | None) -> None:
        super().__init__()
        self.norm = norm(regions) if norm else nn.Identity()

    def forward(self, scores_BKL: Tensor) -> Tensor:
        """Raw scores (B, K, L) -> weights (B, L) in (0, 1)."""
        return self.norm(scores_BKL.mean(dim=1)).sigmoid()


SCORE_MERGE: dict[str, type[MaxOfMaps | MeanOfScores]] = {"max": MaxOfMaps, "mean": MeanOfScores}


# --- regional feature (equation 6) --------------------------------------------------------------------------------------


class AttributeGuided(nn.Module):
    """f_region = (1/L) V m: the category map pooled where some attribute looks.

    merge: scores (B, K, L) -> weights (B, L). feature_norm: of the regional feature, or None.
    """

    needs_scores = True

    def __init__(self, merge: nn.Module, d: int, feature_norm: Norm | None) -> None:
        super().__init__()
        self.merge = merge
        self.feature_norm = feature_norm(d) if feature_norm else nn.Identity()

    def forward(self, category_BDL: Tensor, pooled_BD: Tensor, scores_BKL: Tensor) -> tuple[Tensor, Tensor]:
        """-> regional feature (B, D) by equation 6, region weights (B, L). `pooled_BD` is not read."""
        weights_BL = self.merge(scores_BKL)
        region_BD = torch.einsum("bdl,bl->bd", category_BDL, weights_BL) / category_BDL.shape[2]  # eq. 6
        return self.feature_norm(region_BD), weights_BL


class EqualRegions(nn.Module):
    """Weight 1 everywhere: f_region is the category embedding itself, never normalised (the released code: `id_pool`)."""

    needs_scores = False

    def __init__(self, merge: nn.Module, d: int, feature_norm: Norm | None) -> None:
        super().__init__()

    def forward(self, category_BDL: Tensor, pooled_BD: Tensor, scores_BKL: Tensor | None) -> tuple[Tensor, Tensor]:
        """-> the pooled feature (B, D) as it is, weights (B, L) of 1."""
        return pooled_BD, category_BDL.new_ones(category_BDL.shape[0], category_BDL.shape[2])


REGION_ATTENTION: dict[str, type[AttributeGuided | EqualRegions]] = {"learned": AttributeGuided, "equal": EqualRegions}


# --- attribute weights s and attribute feature (equations 7 and 8) ------------------------------------------------------


def corrected(attributes_BKD: Tensor) -> Tensor:
    """A: one column an attribute, as the paper writes it. (B, K, D) -> (B, D, K)."""
    return attributes_BKD.transpose(1, 2)


def interleaved(attributes_BKD: Tensor) -> Tensor:
    """A' of the released code: the K embeddings end to end, cut into rows of K. (B, K, D) -> (B, D, K).

    A'[i, j] is number i*K + j of a_1 .. a_K end to end: a row holds neighbouring numbers of mostly one attribute, not one number
    of each, so the weight s_j falls on the wrong ones.
    """
    _, K, D = attributes_BKD.shape
    return attributes_BKD.flatten(1).unflatten(1, (D, K))


FUSION: dict[str, Callable[[Tensor], Tensor]] = {"corrected": corrected, "interleaved": interleaved}


class CategoryGuided(nn.Module):
    """s = sigmoid(A^T v), f_attr = (1/K) A s. The scores come from the true A whatever `fusion` makes of it in eq. 8.

    score_norm: before the sigmoid, or None. feature_norm: of the attribute feature, or None. `width` is f_attr's.
    """

    def __init__(
        self,
        attributes: int,
        d: int,
        fusion: Callable[[Tensor], Tensor],
        score_norm: Norm | None,
        feature_norm: Norm | None,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.width = d
        self.score_norm = score_norm(attributes) if score_norm else nn.Identity()
        self.feature_norm = feature_norm(d) if feature_norm else nn.Identity()

    def forward(self, category_BD: Tensor, attributes_BKD: Tensor) -> tuple[Tensor, Tensor]:
        """Category embedding (B, D), attribute embeddings (B, K, D) -> feature by equation 8, weights (B, K) by equation 7."""
        scores_BK = torch.einsum("bkd,bd->bk", attributes_BKD, category_BD)
        weights_BK = self.score_norm(scores_BK).sigmoid()  # eq. 7
        matrix_BDK = self.fusion(attributes_BKD)
        feature_BD = torch.einsum("bdk,bk->bd", matrix_BDK, weights_BK) / weights_BK.shape[1]  # eq. 8
        return self.feature_norm(feature_BD), weights_BK


class EqualAttributes(nn.Module):
    """Weight 1 for every attribute: f_attr is the mean of the a_k."""

    def __init__(
        self,
        attributes: int,
        d: int,
        fusion: Callable[[Tensor], Tensor],
        score_norm: Norm | None,
        feature_norm: Norm | None,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.width = d
        self.feature_norm = feature_norm(d) if feature_norm else nn.Identity()

    def forward(self, category_BD: Tensor, attributes_BKD: Tensor) -> tuple[Tensor, Tensor]:
        """-> the mean of the fused attribute embeddings (B, D), weights (B, K) of 1."""
        feature_BD = self.fusion(attributes_BKD).mean(dim=2)
        return self.feature_norm(feature_BD), attributes_BKD.new_ones(attributes_BKD.shape[:2])


class EqualInterleaved(nn.Module):
    """What the released code's equal-weight switch does: the mean of A' over the wrong axis, K numbers, no batch norm."""

    def __init__(
        self,
        attributes: int,
        d: int,
        fusion: Callable[[Tensor], Tensor],
        score_norm: Norm | None,
        feature_norm: Norm | None,
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.width = attributes

    def forward(self, category_BD: Tensor, attributes_BKD: Tensor) -> tuple[Tensor, Tensor]:
        """-> the mean of the fused matrix over its first axis, one number an attribute (B, K), weights (B, K) of 1."""
        return self.fusion(attributes_BKD).mean(dim=1), attributes_BKD.new_ones(attributes_BKD.shape[:2])


ATTRIBUTE_ATTENTION: dict[tuple[str, str], type[CategoryGuided | EqualAttributes | EqualInterleaved]] = {
    ("learned", "corrected"): CategoryGuided,
    ("learned", "interleaved"): CategoryGuided,
    ("equal", "corrected"): EqualAttributes,
    ("equal", "interleaved"): EqualInterleaved,
}
