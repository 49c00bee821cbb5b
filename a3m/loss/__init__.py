"""Losses by name: equation 11, and those of the comparators. `build` is the only function here that knows the settings."""

from typing import TYPE_CHECKING

from torch import nn

from a3m.loss.apr import AttributePersonRecognition
from a3m.loss.arguments import resolved
from a3m.loss.bier import BoostedEmbedding
from a3m.loss.equation11 import Equation11, attribute_loss, total
from a3m.loss.hdc import CascadedContrastive
from a3m.loss.metric import LiftedStructure, NPair, ProxyAnchor
from a3m.loss.terms import Losses
from a3m.loss.verification import IdentificationVerification
from a3m.randomness import stream

if TYPE_CHECKING:
    from a3m.settings import Loss, Method

__all__ = ["Losses", "attribute_loss", "build", "total"]


def build(method: "Method", loss: "Loss", classes: int, width: int, seed: int) -> nn.Module:
    """The criterion of a method: forward(output, labels (B,), attributes (B, K) with -1 = unlabelled) -> Losses.

    `width` is the size of output.embedding. What a criterion learns itself (proxies, a pair classifier) it holds as parameters,
    drawn from a stream of its own name; `learning_rate_factor`, where it has one, multiplies their learning rate.
    Raises SettingsError for an unknown loss or an argument that the loss does not have.
    """
    given, smoothing = resolved(method.loss, method.loss_arguments), loss.label_smoothing
    match method.loss:
        case "equation11":
            beta = loss.beta if method.attribute_labels else 0.0
            return Equation11(alpha=loss.alpha, beta=beta, label_smoothing=smoothing)
        case "apr":
            return AttributePersonRecognition(**given, label_smoothing=smoothing)
        case "npair":
            return NPair(**given)
        case "lifted":
            return LiftedStructure(**given)
        case "proxy_anchor":
            with stream(seed, "proxies"):
                return ProxyAnchor(classes, width, **given)
        case "verification":
            with stream(seed, "pair_classifier"):
                return IdentificationVerification(width, **given, label_smoothing=smoothing)
        case "hdc":
            return CascadedContrastive(
                shares=(given["share_1"], given["share_2"], given["share_3"]),
                margin=given["margin"],
                negative_weight=given["negative_weight"],
                cascade=bool(given["cascade"]),
            )
        case _:
            return BoostedEmbedding(
                learners=int(given["learners"]),
                scale=given["scale"],
                margin=given["margin"],
                negative_cost=given["negative_cost"],
                diversity=given["diversity"],
            )
