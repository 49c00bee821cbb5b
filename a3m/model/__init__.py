"""The network: a backbone, the A3M head in both forms, the six methods of the ablation, the comparators."""

from a3m.model.builder import build
from a3m.model.network import Attention, Output

__all__ = ["Attention", "Output", "build"]
