"""The report as one page: tables, figures, runs, and what was not run.

The page needs nothing else: style and figures stand inside it, it loads nothing and runs no script. A study on twins says so
at its head, in each heading of a column and inside each figure.
"""

from collections.abc import Collection, Mapping
from html import escape
from importlib import resources
from typing import NamedTuple

import pandas as pd

from a3m.report import markup
from a3m.report import names as n
from a3m.report import results as r
from a3m.report.cost import cost_table
from a3m.report.describe import FORMULA, dataset_name
from a3m.report.dialogs import KEYS_SHOWN, Dialogs, duration, speed
from a3m.report.figures import ALTERNATIVES
from a3m.report.rows import SATURATED_PARTS
from a3m.report.table import Table


class Contents(NamedTuple):
    """The files that show a study, in order; a figure stands before the table of its name, the others last."""

    tables: tuple[str, ...]
    figures: tuple[str, ...] = ()


CONTENTS = {  # a study on data that are not the paper's has a table of its own name in place of the paper's
    "ablation": Contents(
        ("table1", "table1_controls", "ablation", "ablation_controls", "figure5", "attributes"),
        ("figure2", "figure4", "figure6", "figure5"),
    ),
    "cub200": Contents(("table2", "table2_controls", "cub200", "cub200_controls", "figure8"), ("figure8",)),
    "cub200_448": Contents(("table2", "table2_controls", "cub200_448", "cub200_448_controls")),
    "compcars": Contents(("table3", "table3_controls", "compcars", "compcars_controls")),
    "cub200_retrieval": Contents(("table4", "table4_controls", "cub200_retrieval", "cub200_retrieval_controls")),
    "cars196_retrieval": Contents(("table5", "table5_controls", "cars196_retrieval", "cars196_retrieval_controls")),
    "alpha_beta": Contents(("figure7",), ("figure7",)),
    "photographs": Contents(("photographs", "photographs_controls")),
}
KINDS = {"twins": "twins", "raw subset": "subset", "raw": "real"}  # source -> class of its banner
BANNERS = {
    "twins": "Synthetic twins. Every number of ours here was measured on small drawn stand-ins of {dataset}, not on the real "
    "data set. Do not compare with published numbers.",
    "raw subset": "Part of the real data set, or not its published split. Every number of ours here was measured on such a "
    "part of {dataset}. Do not compare with published numbers.",
    "raw": "Real data set: {dataset}, complete.",
}
HOW_TO_READ = (
    "Published numbers are the paper's. Numbers of ours are underlined: each opens the list of its runs, a difference its pairs "
    "of seeds; Escape closes them.",
    "± is a 95 % t interval over seeds: training noise. With fewer than 6 pairs of seeds a comparison cannot rank, however clear "
    "it looks, and the table says which p it could reach at best.",
    "Columns headed 'test identities', 'test classes' or 'test images' are bootstrap intervals over the test data: sampling, not "
    "training noise. The two are never combined.",
    FORMULA + " Rows and runs in which that has happened are marked 'attention saturated'.",
)


def page(
    studies: Mapping[str, pd.DataFrame],
    tables: Mapping[str, Table],
    figures: Mapping[str, str],
    runs: Mapping[str, pd.DataFrame],
    links: Mapping[str, str] | None = None,
) -> str:
    """reports/index.html.

    Args:
        studies: study -> checked results, of the studies that were run.
        tables: file name -> table.
        figures: file name -> svg text.
        runs: study -> results/<study>.runs.csv as text; a study may be absent.
        links: run id -> its address in MLflow, of the runs that are in the store at hand; the others print their keys.
    """
    dialogs = Dialogs(studies, runs, links or {})
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="data:,">',  # else a browser asks the network for one
        "<title>A3M: report</title>",
        f"<style>{style()}</style>",
        "</head>",
        "<body>",
        '<a class="skip" href="#studies">Skip to the studies</a>',
        "<header>",
        "<h1>A3M: Attribute-Aware Attention Model, reproduced</h1>",
        "<p>Han, Guo, Zhang, Zhu, ACM Multimedia 2018, "
        "doi 10.1145/3240508.3240550. Published numbers are the paper's; ours come from the runs listed below.</p>",
        *(f'<p class="banner {kind}" role="note">{escape(line)}</p>' for kind, line in measured_all(studies)),
        "<nav aria-label='Studies'><ul>",
        *(
            f'<li><a href="#{study}">{escape(n.STUDIES[study])}</a> {_told(results)}</li>'
            for study, results in studies.items()
        ),
        '<li><a href="#not-run">Not run</a></li>',
        "</ul></nav>",
        "<details open><summary>How to read this page</summary><ul>",
        *(f"<li>{escape(line)}</li>" for line in HOW_TO_READ),
        "</ul></details>",
        "</header>",
        '<main id="studies">',
    ]
    shown: set[str] = set()
    for study, results in studies.items():
        parts += _study(study, results, tables, figures, runs.get(study), shown, dialogs)
    parts += ['<section id="not-run"><h2>Not run</h2>', "<ul>"]
    parts += [f"<li>{escape(line)}</li>" for line in not_run(studies)] or [
        "<li>Nothing: every trial has finished.</li>"
    ]
    parts += ["</ul></section>", "</main>", "</body>", "</html>", ""]
    return "\n".join(parts)


def style() -> str:
    return (resources.files("a3m.report") / "page.css").read_text(encoding="utf-8")


def measured_all(studies: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """(class, sentence) at the head of the page: which studies ran on what; one sentence a kind of source."""
    kinds: dict[str, list[str]] = {}
    for study, results in studies.items():
        kinds.setdefault(str(results["source"].iloc[0]), []).append(study)
    said = {
        "twins": "on synthetic twins, small drawn stand-ins that no published number may be compared with",
        "raw subset": "on parts of the real data sets, which no published number may be compared with",
        "raw": "on the complete real data sets",
    }
    return [
        (
            KINDS[source],
            f"{'Every study' if len(kinds) == 1 else ', '.join(names)} on this page was measured {said[source]}."
            if len(kinds) == 1
            else f"Measured {said[source]}: {', '.join(names)}.",
        )
        for source, names in kinds.items()
    ]


def _told(results: pd.DataFrame) -> str:
    """'(synthetic twin)' beside a link, unless it leads to the real data set."""
    told = {"twins": "synthetic twin", "raw subset": "part of the data set"}.get(str(results["source"].iloc[0]))
    return f'<span class="told">{told}</span>' if told else ""


def text(
    studies: Mapping[str, pd.DataFrame],
    tables: Mapping[str, Table],
    figures: Collection[str],
    runs: Mapping[str, pd.DataFrame],
) -> str:
    """reports/report.md: the same, figures (the names of those drawn) as links to reports/figures/."""
    parts = ["# A3M: report"]
    shown: set[str] = set()
    for study, results in studies.items():
        names, drawn = CONTENTS[study]
        parts += [f"## {study}: {n.STUDIES[study]}", f"**{banner(results)}**", how_long(results, runs.get(study))]
        parts += [worn] if (worn := saturated(results)) else []
        parts += [f"![{ALTERNATIVES[name]}](figures/{name}.svg)" for name in drawn if name in figures]
        parts += _stands_above(names, tables, shown)
        parts += [tables[name].markdown().rstrip() for name in names if name in tables and name not in shown]
        shown |= set(names) & set(tables)
        cost = cost_table(results, runs.get(study))
        parts += [cost.markdown().rstrip()] if cost else []
    lines = not_run(studies) or ["Nothing: every trial has finished."]
    parts += ["## Not run", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def banner(results: pd.DataFrame) -> str:
    return BANNERS[str(results["source"].iloc[0])].format(dataset=dataset_name(results))


def not_run(studies: Mapping[str, pd.DataFrame]) -> list[str]:
    """One line for each study without results, and for each trial that has not finished."""
    lines = [
        f"{study} ({what}{'; no part of make repro' if study in n.ON_REQUEST else ''}): no results; "
        f"run python sweeps/{study}.py"
        for study, what in n.STUDIES.items()
        if study not in studies
    ]
    for study, results in studies.items():
        for _, trial in results[results["status"] != "finished"].iterrows():
            settings = " ".join(f"{path}={trial[path]}" for path in r.settings_of(results) if trial[path])
            name = " ".join(filter(None, [trial["method"], settings, f"seed {trial['seed']}"]))
            reason = f": {trial['reason']}" if trial["reason"] else ""
            lines.append(f"{study}: {name} {trial['status']}{reason} (key {trial['key']})")
    return lines


def how_long(results: pd.DataFrame, runs: pd.DataFrame | None) -> str:
    """Trials, data version, the time that their runs took, and on what, as one sentence."""
    finished = int((results["status"] == "finished").sum())
    sentence = f"{finished} of {len(results)} trials finished; data version {results['data'].max()[:KEYS_SHOWN]}"
    if runs is None or "seconds" not in runs:
        return sentence + "; no list of runs."
    seconds = pd.to_numeric(runs["seconds"], errors="coerce").dropna()
    started = sorted(set(runs["started"]) - {""}) if "started" in runs else []
    first = f", the first begun {started[0][:16].replace('T', ' ')}" if started else ""
    hosts, devices = (_several(runs, column) for column in ("host", "device"))
    on = (f" on {hosts}" if hosts else "") + (f", device {devices}" if devices else "")
    rates = (
        pd.to_numeric(runs["images_per_second"], errors="coerce").dropna()
        if "images_per_second" in runs
        else seconds[:0]
    )
    least, most = (speed(str(rate)) for rate in (rates.min(), rates.max()))
    at = f", {least if least == most else f'{least} to {most}'} images/s" if len(rates) else ""
    return sentence + f"; {len(runs)} runs, {duration(seconds.sum())} of training in all{on}{at}{first}."


def _several(runs: pd.DataFrame, column: str, most: int = 5) -> str:
    """The distinct values of a column, of many the first."""
    values = sorted(set(runs[column]) - {""}) if column in runs else []
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")


def saturated(results: pd.DataFrame) -> str:
    """How many runs of a study have attention that has become constant, and of which rows; '' where none has."""
    worn: dict[str, int] = {}
    for row in r.rows(results):
        seeds = {seed for part in SATURATED_PARTS for seed in row.saturated(part)}
        if seeds:
            worn[row.name] = len(seeds)
    if not worn:
        return ""
    each = ", ".join(f"{name} ({count})" for name, count in worn.items())
    count = sum(worn.values())
    return f"Attention saturated in {count} run{'s' * (count != 1)}: {each}. {FORMULA}"


def _study(
    study: str,
    results: pd.DataFrame,
    tables: Mapping[str, Table],
    figures: Mapping[str, str],
    runs: pd.DataFrame | None,
    shown: set[str],
    dialogs: Dialogs,
) -> list[str]:
    """The section of a study. A table of two studies stands in the first one's section: `shown` holds what stands already."""
    kind = KINDS[str(results["source"].iloc[0])]
    names, drawn = CONTENTS[study]
    parts = [
        f'<section id="{study}">',
        f"<h2>{escape(study)}: {escape(n.STUDIES[study])}</h2>",
        f'<p class="banner {kind}" role="note">{escape(banner(results))}</p>',
        f"<p>{escape(how_long(results, runs))}</p>",
    ]
    worn = saturated(results)
    parts += [f'<p class="worn" role="note">{escape(worn)}</p>'] if worn else []
    parts += [f"<p>{escape(line)}</p>" for line in _stands_above(names, tables, shown)]
    for name in names:
        if name in drawn and name in figures:
            parts.append(markup.figure(name, figures[name]))
        if name in tables and name not in shown:
            parts.append(markup.table(tables[name], dialogs))
    parts += [markup.figure(name, figures[name]) for name in drawn if name in figures and name not in names]
    shown |= set(names) & set(tables)
    cost = cost_table(results, runs)
    parts += [markup.table(cost, dialogs)] if cost else []
    parts += [
        '<h3 class="runs">Runs</h3>',
        *_study_run(runs, dialogs),
        markup.run_list(study, runs, dialogs),
        dialogs.written(),
        "</section>",
    ]
    return parts


def _study_run(runs: pd.DataFrame | None, dialogs: Dialogs) -> list[str]:
    """The study's own run in MLflow, with its plan, tables and figures, where it is in the store at hand."""
    addresses = (
        sorted({dialogs.links.get(run, "") for run in runs["study_run"]} - {""})
        if runs is not None and "study_run" in runs
        else []
    )
    if not addresses:
        return []
    linked = ", ".join(f'<a href="{escape(address)}">the study\'s run in MLflow</a>' for address in addresses)
    return [
        f"<p>{linked}, with its plan, tables and figures. Links need a running MLflow UI (<code>a3m ui</code>, or its server).</p>"
    ]


def _stands_above(names: Collection[str], tables: Mapping[str, Table], shown: set[str]) -> list[str]:
    titles = [tables[name].title for name in names if name in tables and name in shown]
    return [f"Its rows stand above: {'; '.join(titles)}."] if titles else []
