"""The report as one page: tables, figures, runs, and what was not run.

The page needs nothing else: style and figures stand inside it, it loads nothing and runs no script. A study on twins says so
at its head, in each heading of a column and inside each figure.
"""

from collections.abc import Collection, Mapping
from html import escape
from typing import NamedTuple

import pandas as pd

from a3m.report import markup
from a3m.report import names as n
from a3m.report import results as r
from a3m.report.cost import cost_table
from a3m.report.describe import dataset_name
from a3m.report.figures import ALTERNATIVES
from a3m.report.table import Table


class Contents(NamedTuple):
    """The files that show a study, in order; a figure stands before the table of its name, the others first."""

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
BANNERS = {
    "twins": "Synthetic twins. Every number of ours here was measured on small drawn stand-ins of {dataset}, not on the real "
    "data set. Do not compare with published numbers.",
    "raw subset": "Part of the real data set, or not its published split. Every number of ours here was measured on such a "
    "part of {dataset}. Do not compare with published numbers.",
    "raw": "Real data set: {dataset}, complete.",
}
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 75rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; }
p, caption { overflow-wrap: anywhere; }
.banner { border: 2px solid #000; padding: .6rem .9rem; font-weight: 600; }
.twins, .subset { background: #F0E442; color: #000; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .5rem; max-width: 70rem; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid #ccc; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #000; white-space: normal; vertical-align: bottom; }
tbody .block th { text-align: left; background: #eee; border-top: 2px solid #000; }
.notmeasured { background: #fdf9c4; }
.runs th, .runs td { text-align: left; }
figure { margin: 1.5rem 0; }
figure svg { max-width: 100%; height: auto; }
.notes { font-size: .85rem; max-width: 70rem; }
code { font-size: .95em; overflow-wrap: anywhere; }
"""


def page(
    studies: Mapping[str, pd.DataFrame],
    tables: Mapping[str, Table],
    figures: Mapping[str, str],
    runs: Mapping[str, pd.DataFrame],
) -> str:
    """reports/index.html.

    Args:
        studies: study -> checked results, of the studies that were run.
        tables: file name -> table.
        figures: file name -> svg text.
        runs: study -> results/<study>.runs.csv as text; a study may be absent.
    """
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # else a browser asks the network for one
        "<title>A3M: report</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
        "<header>",
        "<h1>A3M: Attribute-Aware Attention Model, reproduced</h1>",
        "<p>Han, Guo, Zhang, Zhu, ACM Multimedia 2018, "
        "doi 10.1145/3240508.3240550. Published numbers are the paper's; ours come from the runs listed below.</p>",
        "<nav aria-label='Studies'><ul>",
        *(f'<li><a href="#{study}">{escape(study)}: {escape(n.STUDIES[study])}</a></li>' for study in studies),
        '<li><a href="#not-run">Not run</a></li>',
        "</ul></nav>",
        "</header>",
        "<main>",
    ]
    shown: set[str] = set()
    for study, results in studies.items():
        parts += _study(study, results, tables, figures, runs.get(study), shown)
    parts += ['<section id="not-run"><h2>Not run</h2>', "<ul>"]
    parts += [f"<li>{escape(line)}</li>" for line in not_run(studies)] or [
        "<li>Nothing: every trial has finished.</li>"
    ]
    parts += ["</ul></section>", "</main>", "</body>", "</html>", ""]
    return "\n".join(parts)


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
    """Trials, data version and the time that their runs took, as one sentence."""
    finished = int((results["status"] == "finished").sum())
    sentence = f"{finished} of {len(results)} trials finished; data version {results['data'].max()}"
    if runs is None or "seconds" not in runs:
        return sentence + "; no list of runs."
    seconds = pd.to_numeric(runs["seconds"], errors="coerce").dropna()
    started = sorted(set(runs["started"]) - {""}) if "started" in runs else []
    first = f", the first begun {started[0]}" if started else ""
    return sentence + f"; {len(runs)} runs, {_duration(seconds.sum())} of training in all{first}."


def _study(
    study: str,
    results: pd.DataFrame,
    tables: Mapping[str, Table],
    figures: Mapping[str, str],
    runs: pd.DataFrame | None,
    shown: set[str],
) -> list[str]:
    """The section of a study. A table of two studies stands in the first one's section: `shown` holds what stands already."""
    kind = {"twins": "twins", "raw subset": "subset", "raw": "real"}[str(results["source"].iloc[0])]
    names, drawn = CONTENTS[study]
    parts = [
        f'<section id="{study}">',
        f"<h2>{escape(study)}: {escape(n.STUDIES[study])}</h2>",
        f'<p class="banner {kind}" role="note">{escape(banner(results))}</p>',
        f"<p>{escape(how_long(results, runs))}</p>",
    ]
    parts += [f"<p>{escape(line)}</p>" for line in _stands_above(names, tables, shown)]
    parts += [markup.figure(name, figures[name]) for name in drawn if name in figures and name not in names]
    for name in names:
        if name in drawn and name in figures:
            parts.append(markup.figure(name, figures[name]))
        if name in tables and name not in shown:
            parts.append(markup.table(tables[name]))
    shown |= set(names) & set(tables)
    cost = cost_table(results, runs)
    parts += [markup.table(cost)] if cost else []
    parts += ["<h3>Runs</h3>", markup.run_list(study, runs), "</section>"]
    return parts


def _stands_above(names: Collection[str], tables: Mapping[str, Table], shown: set[str]) -> list[str]:
    titles = [tables[name].title for name in names if name in tables and name in shown]
    return [f"Its rows stand above: {'; '.join(titles)}."] if titles else []


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
