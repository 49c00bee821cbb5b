"""k-reciprocal re-ranking at the size of Market-1501: seconds, peak memory, and the ratio to one plain distance matrix.

The plain pass computes the same (N, N) squared distances, N = queries + gallery, block by block, and keeps nothing. Goal:
under 15 s and 2 GB on two cores; the ratio is what a busy machine does not change.

    python benchmarks/rerank.py [--queries 3368 --gallery 15913 --dimensions 512] [--noise] [--threads 2]
"""

import argparse
import resource
import time

import numpy as np
import torch

from a3m.metrics import rerank


def features(count: int, dimensions: int, people: int) -> np.ndarray:
    """Unit-free float32 features around one centre a person; without people, noise, whose neighbours are hubs."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((count, dimensions), dtype=np.float32)
    if people == 0:
        return noise
    return rng.standard_normal((people, dimensions), dtype=np.float32)[rng.integers(0, people, count)] + noise


def plain_pass(vectors: np.ndarray) -> float:
    """Seconds of all distances of all vectors to all."""
    started = time.perf_counter()
    for _, distances in rerank._distances(vectors, len(vectors)):
        distances[:, 0]
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=15913)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--noise", action="store_true", help="features without people: the hardest case")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    vectors = features(given.queries + given.gallery, given.dimensions, 0 if given.noise else 751)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu = time.perf_counter(), time.process_time()
    rerank.k_reciprocal(vectors[: given.queries], vectors[given.queries :])
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plain = plain_pass(rerank._centred(vectors.astype(np.float64)))
    print(f"{given.queries} + {given.gallery} at {given.dimensions} dimensions, {given.threads} threads")
    print(f"re-ranking       {seconds:6.1f} s ({cpu:.1f} s of processor time), goal 15")
    print(f"one plain pass   {plain:6.1f} s")
    print(f"ratio            {seconds / plain:6.2f}")
    print(f"peak memory      {peak / 2**20:6.2f} GB of the process, {before / 2**20:.2f} before; goal 2")


if __name__ == "__main__":
    main()
