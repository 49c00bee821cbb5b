"""The attribute branch of the paper form: pool, then one matrix product, against K separate 1x1 convolutions over the map.

Both compute the same numbers (pooling and a linear 1x1 convolution commute); the ratio of their times is measured in one
run, forward and backward, with the repeats interleaved so that a busy machine slows both.

    python benchmarks/head.py            # d 512, K 28, map 7 x 7, C 2048, batch 32: about a minute on one core
    python benchmarks/head.py --quick    # a tenth of it: seconds
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from a3m.model.branches import LinearAttributes


def separate(branch: LinearAttributes, shared_BCHW: Tensor) -> Tensor:
    """(B, K, D) by K convolutions over the map and a pool after each, with the branch's own parameters."""
    weights = branch.linear.weight[:, :, None, None].chunk(branch.attributes)
    biases = branch.linear.bias.chunk(branch.attributes)
    maps = (functional.conv2d(shared_BCHW, weight, bias) for weight, bias in zip(weights, biases, strict=True))
    return torch.stack([own_BDHW.mean(dim=(2, 3)) for own_BDHW in maps], dim=1)


def step(compute: Callable[[Tensor], Tensor], branch: LinearAttributes, shared_BCHW: Tensor) -> tuple[float, Tensor]:
    """(seconds of a forward and backward, its output)."""
    branch.zero_grad()
    shared_BCHW = shared_BCHW.detach().requires_grad_()
    started = time.perf_counter()
    output = compute(shared_BCHW)
    output.square().mean().backward()
    return time.perf_counter() - started, output.detach()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller: d 128, K 12, C 512, batch 8")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repeats, the median counts (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    d, K, C, batch = (128, 12, 512, 8) if arguments.quick else (512, 28, 2048, 32)
    branch = LinearAttributes(C, K, d)
    shared = torch.randn(batch, C, 7, 7).relu()
    pooled_seconds, separate_seconds, difference = [], [], 0.0
    step(branch, branch, shared)  # warm up
    for _ in range(arguments.repeats):
        seconds, pooled = step(branch, branch, shared)
        pooled_seconds.append(seconds)
        seconds, convolved = step(lambda x: separate(branch, x), branch, shared)
        separate_seconds.append(seconds)
        difference = max(difference, (pooled - convolved).abs().max().item())
    slow, fast = statistics.median(separate_seconds), statistics.median(pooled_seconds)
    print(f"d {d}, K {K}, map 7 x 7, C {C}, batch {batch}, {arguments.threads} thread(s), {arguments.repeats} repeats")
    print(f"K convolutions over the map  {slow:8.3f} s a step")
    print(f"pool, then one product       {fast:8.3f} s a step")
    print(f"ratio                        {slow / fast:8.1f}")
    print(f"largest difference           {difference:8.1e}")


if __name__ == "__main__":
    main()
