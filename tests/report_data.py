"""Results as the sweeps write them, but made up: numbers for tests, measured on nothing."""

import numpy as np
import pandas as pd

from a3m.report.predictions import Predictions

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


def cub200(seeds: int = 3, study: str = "cub200", source: str = "twins", gain: float = 0.0) -> pd.DataFrame:
    """Table 2: three methods and Bilinear-CNN by the paper's recipe, controls, and three by the modern one (one seed each)."""
    points = [
        *_points(("baseline1", "baseline2", "a3m"), seeds),
        *_points(("bilinear",), 1),
        *_points(("baseline2", "a3m"), 1, **{"train.shuffle_attributes": "True"}),
        *_points(("baseline1",), 1, **{"baseline1.feature": "wide"}),
        *_points(("baseline1", "baseline2", "a3m"), 1, recipe="modern"),
    ]
    height = 64 if study == "cub200" else 128
    return _classification(study, study, source, points, gain).assign(**{"data.height": height})


def compcars(seeds: int = 1, source: str = "twins") -> pd.DataFrame:
    """Table 3, with AlexNet and GoogLeNet as backbones of Baseline-1."""
    points = [
        *_points(("baseline1", "baseline2", "a3m"), seeds, **{"backbone.name": "small"}),
        *_points(("baseline1",), 1, **{"backbone.name": "alexnet"}),
        *_points(("baseline1",), 1, **{"backbone.name": "googlenet"}),
        *_points(("baseline1", "a3m"), 1, recipe="modern", **{"backbone.name": "small"}),
    ]
    return _classification("compcars", "compcars", source, points)


def photographs(seeds: int = 3) -> pd.DataFrame:
    points = _points(("baseline1", "baseline2", "a3m"), seeds)
    return _classification("photographs", "cub200_photographs", "raw subset", points)


def retrieval(study: str = "cub200_retrieval", seeds: int = 3, source: str = "twins") -> pd.DataFrame:
    """Tables 4 and 5: main rows, the sensitivity to K and to the embedding's size, comparators, modern rows (one seed each)."""
    sizes = {"head.attributes": 28, "head.d": 384}
    unread = {"head.attributes": "", "head.d": 384}
    a3m = ("a3m_unlabelled",)
    points = [
        *_points(("baseline1",), seeds, **unread),
        *_points(a3m, seeds, **sizes),
        *(point for count in (12, 5) for point in _points(a3m, 1, **{**sizes, "head.attributes": count})),
        *(point for d in (128, 512) for point in _points(a3m, 1, **{**sizes, "head.d": d})),
        *_points(("npair", "lifted", "bier", "proxy_anchor", "hdc"), 1, **unread),
        *_points(("baseline1",), 1, **unread, **{"baseline1.feature": "wide"}),
        *_points(("baseline1", "proxy_anchor"), 1, recipe="modern", **unread),
        *_points(a3m, 1, recipe="modern", **sizes),
    ]
    generator = np.random.default_rng(4)
    trials = []
    for method, seed, settings in points:
        level = 0.4 + 0.02 * generator.random()
        trials.append(
            {
                **_head(study, len(trials), study, source, method, seed),
                **dict.fromkeys(("baseline1.feature", "recipe"), ""),
                **settings,
                **_tail(),
                **{f"test/recall{k}": level + 0.05 * i for i, k in enumerate((1, 2, 4, 8))},
                "test/nmi": level + 0.1,
                **_sizes(method),
            }
        )
    return pd.DataFrame(trials)


def further(results: pd.DataFrame) -> pd.DataFrame:
    """The ablation with comparators, controls and modern rows (seed 0 alone), sizes, and re-ranked scores of every row."""
    labels = ["False" if method not in ("baseline1", "a3m_unlabelled") else "" for method in results["method"]]
    results = results.assign(**{"train.shuffle_attributes": labels, "recipe": ""})
    first = results[results["seed"] == 0]
    ours = first[first["head.normalise_scores"] != "False"]

    def copies(source: str, **changes: str) -> pd.DataFrame:
        found = ours[(ours["method"] == source) & (ours["baseline1.feature"] != "pooled")].assign(**changes)
        return found.assign(key=[f"{source} {'-'.join(changes.values())}"])

    together = pd.concat(
        [
            results,
            copies("baseline2", method="attr_id"),
            copies("baseline1", method="identification_verification", **{"baseline1.feature": ""}),
            copies("baseline2", **{"train.shuffle_attributes": "True"}),
            copies("a3m", **{"train.shuffle_attributes": "True"}),
            copies("baseline1", **{"baseline1.feature": "wide"}),
            *(copies(method, recipe="modern") for method in ("baseline1", "baseline2", "a3m")),
        ],
        ignore_index=True,
    )
    for metric in ("rank1", "rank5", "rank10", "rank20", "mAP", "mAP_trapezoid"):
        together[f"test/reranked/{metric}"] = together[f"test/{metric}"] + 0.05
    for column in ("model/parameters", "model/flops"):
        together[column] = [_sizes(method)[column] for method in together["method"]]
    return together


def every_study() -> dict[str, pd.DataFrame]:
    return {
        "ablation": further(ablation()),
        "cub200": cub200(),
        "cub200_448": cub200(study="cub200_448"),
        "compcars": compcars(),
        "cub200_retrieval": retrieval(),
        "cars196_retrieval": retrieval("cars196_retrieval"),
        "alpha_beta": alpha_beta(),
        "photographs": photographs(),
    }


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
            "device": "cpu (made-up, 1 thread)",
            "started": "2026-01-01T00:00:00",
            "seconds": "61.5",
            "images_per_second": "350.25",
            "commit": "0123456789abcdef0123456789abcdef01234567",
        }
    ).astype(str)


def answered(results: pd.DataFrame, images: int = 60) -> tuple[Predictions, pd.DataFrame]:
    """Made-up answers of every trial to every test image, and the results with the metrics that these give.

    Three images an identity or class. The metrics of `results` are about what they were.
    """
    generator = np.random.default_rng(7)
    keys, shape = list(results["key"]), (len(results), images)
    results = results.copy()
    if "test/accuracy" in results:
        levels = results["test/accuracy"].to_numpy()[:, None]
        correct = (generator.random(images) < levels).astype(np.int8)
        flips = generator.random(shape) < 0.05  # else one network would be right wherever a worse one is
        arrays = {"correct": np.where(flips, 1 - correct, correct).astype(np.int8)}
        results["test/accuracy"] = arrays["correct"].mean(axis=1)
        return Predictions("images", keys, np.arange(images) // 3, arrays), results
    stem, unit = ("rank", "identities") if "test/rank1" in results else ("recall", "classes")
    first = generator.geometric(results[f"test/{stem}1"].to_numpy()[:, None], shape)
    arrays = {"first_match": first.astype(np.int32)}
    for k in (1, 5, 10, 20) if stem == "rank" else (1, 2, 4, 8):
        results[f"test/{stem}{k}"] = (first <= k).mean(axis=1)
    for metric, name in (("test/mAP", "average_precision"), ("test/mAP_trapezoid", "average_precision_trapezoid")):
        if metric in results:
            arrays[name] = (1 / first).astype(np.float32)
            results[metric] = arrays[name].mean(axis=1).astype(float)
    return Predictions(unit, keys, np.arange(images) // 3, arrays), results


def unfinish(
    results: pd.DataFrame, chosen: pd.Series, status: str = "failed", reason: str = "loss is not a number"
) -> pd.DataFrame:
    """The same results in which the chosen trials have not finished."""
    results = results.copy()
    results.loc[chosen, [column for column in results if "/" in column]] = float("nan")
    results.loc[chosen, "status"] = status
    results.loc[chosen, "reason"] = reason
    return results


def _points(methods: tuple[str, ...], seeds: int, **settings: object) -> list[tuple[str, int, dict[str, object]]]:
    return [(method, seed, settings) for method in methods for seed in range(seeds)]


def _classification(
    study: str, dataset: str, source: str, points: list[tuple[str, int, dict[str, object]]], gain: float = 0.0
) -> pd.DataFrame:
    generator = np.random.default_rng(3)
    paths = dict.fromkeys(path for _, _, settings in points for path in settings)
    trials = []
    for method, seed, settings in points:
        trial = {
            **_head(study, len(trials), dataset, source, method, seed),
            **dict.fromkeys(paths, ""),
            **settings,
            **_tail(),
            "test/accuracy": 0.6 + 0.02 * generator.random() + (gain if method == "a3m" else 0),
            **_sizes(method),
        }
        if method in ("baseline2", "a3m"):
            for i, name in enumerate(("bill", "wing", "tail")):
                trial |= {
                    f"test/attribute/{name}": 0.5 + 0.1 * i + 0.01 * seed + (0.02 if method == "a3m" else 0),
                    f"test/attribute_majority/{name}": 0.3 + 0.1 * i,
                    f"test/attribute_labelled/{name}": 0.45 + 0.1 * i,
                }
            trial["test/attribute_mean"] = 0.6
        trials.append(trial)
    return pd.DataFrame(trials)


def _sizes(method: str) -> dict[str, float]:
    """More for methods with attributes."""
    large = method in ("baseline2", "att1", "att2", "a3m_unlabelled", "a3m")
    return {"model/parameters": 2_500_000.0 if large else 700_000.0, "model/flops": 31_000_000.0}


def _head(study: str, number: int, dataset: str, source: str, method: str, seed: int) -> dict[str, object]:
    key = f"{number:016d}"  # digits alone: a key that must not be read as a number
    return {"key": key, "study": study, "dataset": dataset, "source": source, "method": method, "seed": seed}


def _tail() -> dict[str, object]:
    return {
        "data.height": 96,
        "train.on": "train+val",
        "train.epochs": 8,
        "data": "d" * 12,
        "code": "c" * 12,
        "versions": VERSIONS,
        "status": "finished",
        "reason": "",
    }
