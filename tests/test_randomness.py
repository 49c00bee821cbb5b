"""Random streams by name: equal on every machine, apart from each other, and without a trace in the global generators."""

import pytest
import torch

from a3m.randomness import derive, stream


def test_a_seed_depends_on_every_name_and_on_their_borders() -> None:
    assert (
        derive(0, "order", 3) == 8307221573466005009
    )  # of this version for ever: trials of one seed must stay comparable
    seeds = {derive(0, "a", "bc"), derive(0, "ab", "c"), derive(1, "a", "bc"), derive(0, "a", 1), derive(0, "a", "1")}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_stream_repeats_itself_and_leaves_the_global_generator_as_it_was() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    drawn = []
    for _ in range(2):
        with stream(3, "category_branch"):
            drawn.append(torch.randn(4))
    assert torch.equal(*drawn)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_stream_does_not_start_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that loads batches is forked from one that has CUDA: it sees the devices and must not touch them."""

    def refused(*args: object) -> None:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", refused)
    with stream(0, "erase"):
        torch.randn(1)
