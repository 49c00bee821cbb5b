"""Random streams by name: one seed a component, so that two trials share what they have in common and nothing else.

A generator that components draw from in turn would give the same classifier other initial values as soon as something
before it drew once more. Two methods of one seed are compared in pairs; that needs equal initial values of equal parts.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the stream called `names` of the trial's `seed`; the same on every machine and version."""
    # json keeps ("a", "bc") and ("ab", "c") apart, and 1 from "1".
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def stream(seed: int, *names: str | int) -> Iterator[None]:
    """Inside, torch's global generators (CPU, every CUDA device in use) run the stream `names`; afterwards they stand as before."""
    # Not is_available: asking a device for its state would start CUDA, which a forked process that loads batches cannot.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(derive(seed, *names))
        yield
