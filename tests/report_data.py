"""Results as the sweeps write them, but made up: numbers for tests, measured on nothing."""

import numpy as np
import pandas as pd

VERSIONS = "torch 2.14.1, torchvision 0.29.1, timm 1.0.31, numpy 2.4.6"
METHODS = ("baseline1", "baseline2", "att1", "att2", "a3m_unlabelled", "a3m")
LEARNED = ("att1", "att2", "a3m_unlabelled", "a3m")


def ablation(seeds: int = 3, source: str = "twins", gain: float = 0.0) -> pd.DataFrame:
    """Eight rows a seed, as the demo's: six methods, A3M as written, Baseline-1's pooled feature.

    Args:
        gain: what A3M with normalised scores has over Baseline-2 in every metric, up to small noise.
    """
    generator = np.random.default_rng(0)
    beside = [("a3m", "False", ""), ("baseline1", "", "pooled")]
    plain = [
        (method, "True" if method in LEARNED else "", "category" if method == "baseline1" else "") for method in METHODS
    ]
    trials = []
    for method, normalised, feature in plain + beside:
        for seed in range(seeds):
            level = 0.30 + 0.03 * generator.random() + (gain if (method, normalised) == ("a3m", "True") else 0)
            saturated = normalised == "False"
            trial = {
                **_head("ablation", len(trials), "market1501", source, method, seed),
                "baseline1.feature": feature,
                "head.normalise_scores": normalised,
                **_tail(),
                "test/rank1": level + 0.1,
                "test/rank5": level + 0.2,
                "test/rank10": level + 0.25,
                "test/rank20": level + 0.3,
                "test/mAP": level - 0.05,
                "test/mAP_trapezoid": level - 0.04,
                "test/queries": 400.0,
            }
            if method != "baseline1":
                trial |= {
                    "test/attribute_mean": 0.8,
                    "test/attribute/gender": 0.9,
                    "test/attribute/hat": 0.7,
                    "test/attribute_majority/gender": 0.5,
                    "test/attribute_majority/hat": 0.6,
                    "test/localisation_mean": 0.3,
                    "test/localisation_chance": 0.1,
                    "test/localisation_prior": 0.25,
                    "test/attention/region_mean": 0.999 if saturated or method in ("baseline2", "att2") else 0.8,
                    "test/attention/region_std": 0.001 if saturated or method in ("baseline2", "att2") else 0.1,
                    "test/attention/attribute_mean": 0.999 if saturated or method in ("baseline2", "att1") else 0.7,
                    "test/attention/attribute_std": 0.001 if saturated or method in ("baseline2", "att1") else 0.1,
                }
            trials.append(trial)
    return pd.DataFrame(trials)


def alpha_beta(
    seeds: int = 1, values: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 1.0), source: str = "twins"
) -> pd.DataFrame:
    """Two lines through (0.5, 0.5)."""
    generator = np.random.default_rng(1)
    points = sorted({(value, 0.5) for value in values} | {(0.5, value) for value in values})
    trials = []
    for alpha, beta in points:
        for seed in range(seeds):
            trials.append(
                {
                    **_head("alpha_beta", len(trials), "cub200", source, "a3m", seed),
                    "loss.alpha": alpha,
                    "loss.beta": beta,
                    **_tail(),
                    "test/accuracy": 0.6 - 0.1 * abs(alpha - 0.5) - 0.05 * abs(beta - 0.5) + 0.01 * generator.random(),
                    "test/attribute_mean": 0.6,
                }
            )
    return pd.DataFrame(trials)


def runs(results: pd.DataFrame) -> pd.DataFrame:
    """The list of runs beside results, as text."""
    return pd.DataFrame(
        {
            "key": results["key"],
            "run_id": [f"{i:032x}" for i in range(len(results))],
            "name": results["method"],
            "status": "FINISHED",
            "store": "sqlite:///mlflow.db",
            "host": "worker-<1>",
            "started": "2026-01-01T00:00:00",
            "seconds": "61.5",
            "commit": "0123456789abcdef0123456789abcdef01234567",
        }
    ).astype(str)


def unfinish(
    results: pd.DataFrame, chosen: pd.Series, status: str = "failed", reason: str = "loss is not a number"
) -> pd.DataFrame:
    """The same results in which the chosen trials have not finished."""
    results = results.copy()
    results.loc[chosen, [column for column in results if "/" in column]] = float("nan")
    results.loc[chosen, "status"] = status
    results.loc[chosen, "reason"] = reason
    return results


def _head(study: str, number: int, dataset: str, source: str, method: str, seed: int) -> dict[str, object]:
    key = f"{number:016d}"  # digits alone: a key that must not be read as a number
    return {"key": key, "study": study, "dataset": dataset, "source": source, "method": method, "seed": seed}


def _tail() -> dict[str, object]:
    return {
        "train.on": "train+val",
        "train.epochs": 8,
        "data": "d" * 12,
        "code": "c" * 12,
        "versions": VERSIONS,
        "status": "finished",
        "reason": "",
    }
