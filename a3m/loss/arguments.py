"""The numbers that each loss is known by, and the check of what a method gives of them (`method.loss_arguments`)."""

import difflib
from collections.abc import Mapping

from a3m.errors import SettingsError

# As published where no reason is given beside the loss itself. Networks that are trained by one loss only read theirs here too.
DEFAULTS: dict[str, dict[str, float]] = {
    "equation11": {},
    "apr": {"identity_weight": 8.0},
    "npair": {"l2": 0.002},
    "lifted": {"margin": 1.0},
    "proxy_anchor": {"margin": 0.1, "scale": 32.0, "learning_rate_factor": 100.0},
    "verification": {"identification": 1.0, "verification": 1.0},
    "hdc": {
        "margin": 1.0, "negative_weight": 10.0, "share_1": 1.0, "share_2": 0.5, "share_3": 0.2, "cascade": 0.0,
        "test_weight_1": 1.0, "test_weight_2": 1.0, "test_weight_3": 2.0,
    },
    "bier": {"learners": 3.0, "scale": 2.0, "margin": 0.5, "negative_cost": 25.0, "diversity": 0.01},
}  # fmt: skip


def resolved(loss: str, given: Mapping[str, float]) -> dict[str, float]:
    """Every argument of `loss`: what is given, else the default. Raises SettingsError for an unknown loss or name."""
    if loss not in DEFAULTS:
        raise SettingsError(f"method.loss={loss}: expected one of {', '.join(DEFAULTS)}")
    for name in given:
        if name not in DEFAULTS[loss]:
            near = difflib.get_close_matches(name, DEFAULTS[loss], n=1) or list(DEFAULTS[loss])
            hint = f"did you mean {', '.join(near)}?" if near else "this loss takes none"
            raise SettingsError(f"method.loss_arguments.{name}: method.loss={loss} has no such argument; {hint}")
    return DEFAULTS[loss] | {name: float(value) for name, value in given.items()}
