"""The network: a backbone, the A3M head in both forms, the six methods of the ablation."""

from a3m.model.network import Attention, Output, build

__all__ = ["Attention", "Output", "build"]
