"""Descriptions in Markdown, as MLflow's page shows them: of a data set's experiment, of a study's run and of a trial's run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from a3m.data.pack import SPLITS, Pack, read_summary
from a3m.errors import DataError
from a3m.plan import Planned
from a3m.report import names
from a3m.report.rows import SATURATED_PARTS, constant
from a3m.settings import Params

HEADLINE = ("rank1", "mAP", "accuracy", "recall1", "nmi", "attribute_mean", "localisation_mean")
DONE = ("finished", "older")
GAP = "&emsp;"
LONGEST = 7500  # characters: MLflow keeps 8,000 of a tag
WHERE = {"twins": "synthetic twin: images that this project draws, not photographs", "raw": "real data"}


def experiment(params: Params, root: Path) -> str:
    """What the data set is and how the runs of its experiment are named; '' while it is not packed."""
    folder = root / "data" / "prepared" / params.dataset.name
    try:
        summary = read_summary(folder)
        pack = Pack(folder / "pack.safetensors")
    except DataError:
        return ""
    people = pack.description["task"] == "re-identification"
    rows = []
    for code, split in enumerate(SPLITS):
        labels = pack.label[pack.split == code]
        if len(labels):
            distinct = np.unique(labels[labels > 0] if people else labels)
            rows.append((split, f"{len(labels):,}", f"{len(distinct):,}"))
    size = " x ".join(map(str, pack.input_size))
    return "\n".join(
        [
            f"**{named(params.dataset.name)}** ({WHERE.get(summary['source'], summary['source'])}), {pack.description['task']}, "
            f"{len(pack.attribute_names)} attributes, images of {size} pixels (height x width).",
            "",
            *table(("part", "images", "identities" if people else "classes"), rows),
            "",
            f"Data version `{summary['digest']}`: a run says with which it was made (tag `data`, and its inputs).",
            "",
            "A study is a run with the tag `study`; its trials lie below it. A trial that several studies share lies below the "
            "first, and is found for each by its tag, as in ``tags.`study.ablation` = 'yes'``. Metrics are `train/...`, "
            "`val/...`, `test/...` and `model/...`; steps are epochs. What varies stands in the parameters under its setting's "
            "path, such as `loss.alpha`.",
            "",
            "A trial's model lies among its run's artifacts under `model/`, and the best of a study in the Model registry; the tab "
            "Models of this experiment stays empty.",
        ]
    )


def trial(name: str, settings: Mapping[str, Any], source: str, metrics: Mapping[str, float]) -> str:
    """What one trial is, on what, and, with the metrics of its test or validation, what came out."""
    method = settings["method"]["name"]
    lines = [
        f"**{names.METHODS.get(method, method)}** (`{name}`) on {named(settings['dataset'])} ({WHERE.get(source, source)}), "
        f"seed {settings['seed']}: {settings['train']['epochs']} epochs on {settings['train']['on']}, "
    ]
    if not metrics:
        return lines[0] + "not finished."
    prefix = "val" if any(metric.startswith("val/") for metric in metrics) else "test"
    lines[0] += "measured " + (
        "on the validation part." if prefix == "val" else "on the test data, once, after the last epoch."
    )
    head = headline(metrics, prefix)
    lines += ["", *table([metric for metric, _ in head], [[percent(value) for _, value in head]])]
    if worn := saturated(settings, metrics, prefix):
        lines += [
            "",
            f"Attention saturated: the weights {' and '.join(worn)} are nearly constant, so that weighing by them does nothing. "
            "The formula as the paper writes it can do that.",
        ]
    lines += [
        "",
        "To look at, in `shown/`: ranked lists, what was confused with what, and, of a method that has them, attention maps and "
        "the accuracy of each attribute. `model/` maps an image to its embedding and to what else the method says of it.",
    ]
    return "\n".join(lines)


def study(
    params: Params, name: str, planned: Sequence[Planned], experiment: str, *, status: str = "", model: str = ""
) -> str:
    """What a study is, how its trials are found, and, where trials are done, what came out of each of its settings."""
    done = sum(one.state in DONE for one in planned)
    what = names.STUDIES.get(name, "")
    lines = [
        f"**{name}**{f' ({what})' if what else ''} on {named(params.dataset.name)} "
        f"({WHERE.get(params.data.source, params.data.source)}), profile {params.profile}: {len(planned)} trials, {done} finished"
        f"{f', {status}' if status else ''}.",
    ]
    rows = outcome(planned)
    last = [
        "",
        f"All its trials, also those that other studies share: ``{found_by(name)}`` ([open]({link(experiment, name)})). "
        "`plan.csv` names them and what was known of each before; `report/` holds the tables and figures.",
    ]
    if model:
        last += ["", model[0].upper() + model[1:].removesuffix(".") + "."]
    if len(rows) > 1:
        lines += ["", *shortened(table(rows[0], rows[1:]), LONGEST - sum(map(len, [*lines, *last])) - 200)]
    return "\n".join(lines + last)


def outcome(planned: Sequence[Planned]) -> list[list[str]]:
    """Head and rows of the table of a study's outcome: a row for each of its settings, means over the seeds that finished."""
    groups: dict[str, list[Planned]] = {}
    for one in planned:
        groups.setdefault(one.name.rpartition(" seed=")[0], []).append(one)
    measured = [one.found.metrics for one in planned if one.state in DONE and one.found is not None]
    if not measured:
        return []
    prefix = "test" if any(name.startswith("test/") for name in measured[0]) else "val"
    columns = [name for name, _ in headline({name: 0.0 for metrics in measured for name in metrics}, prefix)]
    rows = [["settings", "seeds", *columns]]
    for called, several in groups.items():
        found = [one.found.metrics for one in several if one.state in DONE and one.found is not None]
        values = [[metrics[column] for metrics in found if column in metrics] for column in columns]
        seeds = str(len(found)) if len(found) == len(several) else f"{len(found)} of {len(several)}"
        rows.append([called, seeds, *map(spread, values)])
    return rows


def plan_table(planned: Sequence[Planned]) -> str:
    """CSV of a study's trials and what was known of each before this call."""
    import pandas as pd

    varying = sorted({path for one in planned for path in one.point})
    rows = [
        {"name": one.name, "key": one.trial.key, "state": one.state, "seed": one.seed}
        | {path: one.point.get(path) for path in varying}
        | {"epochs": one.trial.settings["train"]["epochs"], "epochs_done": one.epochs_done}
        for one in planned
    ]
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


# --- words --------------------------------------------------------------------------------------------------------------


def named(dataset: str) -> str:
    """A data set's name as it is written, such as Market-1501."""
    return names.DATASETS.get(dataset, dataset)


def found_by(study: str) -> str:
    """The filter that finds all trials of a study."""
    return f"tags.`study.{study}` = 'yes'"


def link(experiment: str, study: str) -> str:
    """Where MLflow's page lists them, as an address within it."""
    asked = f"searchFilter={quote(found_by(study), safe='')}&workflowType=machine_learning"
    return f"#/experiments/{quote(experiment)}/runs?{asked}"


def headline(metrics: Mapping[str, float], prefix: str) -> list[tuple[str, float]]:
    """The metrics that a reader looks at first, in this order."""
    return [(f"{prefix}/{name}", metrics[f"{prefix}/{name}"]) for name in HEADLINE if f"{prefix}/{name}" in metrics]


def saturated(settings: Mapping[str, Any], metrics: Mapping[str, float], prefix: str) -> list[str]:
    """The weights, as the paper calls them, that a method learns and that have become constant."""
    found = []
    for part, symbol in SATURATED_PARTS.items():
        mean, deviation = (metrics.get(f"{prefix}/attention/{part}_{kind}", math.nan) for kind in ("mean", "std"))
        if constant(settings["method"]["name"], part, mean, deviation):
            found.append(symbol)
    return found


def percent(value: float) -> str:
    """A fraction as text: 0.5 -> '50.0 %'."""
    return f"{100 * value:.1f} %"


def spread(values: Sequence[float]) -> str:
    """Mean and, of several, the standard deviation over the seeds."""
    if not values:
        return "-"
    mean = 100 * float(np.mean(values))
    return f"{mean:.1f} ± {100 * float(np.std(values, ddof=1)):.1f} %" if len(values) > 1 else f"{mean:.1f} %"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown; nothing without columns."""
    if not head:
        return []
    return [_row(head), f"|{' --- |' * len(head)}", *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    # MLflow's page sets the cells of a table without a space between them; a plain one at an end is dropped.
    return f"| {f'{GAP}| '.join(cell.replace('|', '/') for cell in cells)} |"


def shortened(lines: Sequence[str], characters: int) -> list[str]:
    """The lines of a table that fit; the rest is counted below it."""
    kept: list[str] = []
    for line in lines:
        if sum(map(len, kept)) + len(kept) + len(line) > characters:
            return [*kept, "", f"... and {len(lines) - len(kept)} rows more: results/*.csv has all."]
        kept.append(line)
    return kept
