"""The report as one page: tables, figures, runs, and what was not run.

The page needs nothing else: style and figures stand inside it, it loads nothing and runs no script. A study on twins says so
at its head, in each heading of a column and inside each figure.
"""

import re
from collections.abc import Mapping
from html import escape
from typing import NamedTuple

import pandas as pd

from a3m.report import results as r
from a3m.report.describe import dataset_name
from a3m.report.table import Table, letter_of


class Contents(NamedTuple):
    """The files that show a study, in order; a figure stands before the table of its name."""

    tables: tuple[str, ...]
    figures: tuple[str, ...]


CONTENTS = {
    "ablation": Contents(("table1", "figure5", "attributes"), ("figure5",)),
    "alpha_beta": Contents(("figure7",), ("figure7",)),
}
BANNERS = {
    "twins": "Synthetic twins. Every number of ours here was measured on small drawn stand-ins of {dataset}, not on the real "
    "data set. Do not compare with published numbers.",
    "raw subset": "Part of the real data set. Every number of ours here was measured on a part of {dataset}. Do not compare with "
    "published numbers.",
    "raw": "Real data set: {dataset}, complete.",
}
ALTERNATIVES = {
    "figure5": "Bars of rank-1, 5, 10, 20 and mAP for Baseline-2, Att-1, Att-2 and A3M. The numbers stand in the table Figure 5.",
    "figure7": "Two panels: accuracy along alpha and along beta. The numbers stand in the table Figure 7.",
}
RUN_COLUMNS = ("key", "run_id", "store", "host", "started", "seconds", "commit")
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 75rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; }
.banner { border: 2px solid #000; padding: .6rem .9rem; font-weight: 600; }
.twins, .subset { background: #F0E442; color: #000; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .5rem; max-width: 70rem; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid #ccc; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #000; white-space: normal; vertical-align: bottom; }
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
        *(f'<li><a href="#{study}">{escape(study)}: {escape(r.STUDIES[study])}</a></li>' for study in studies),
        '<li><a href="#not-run">Not run</a></li>',
        "</ul></nav>",
        "</header>",
        "<main>",
    ]
    for study, results in studies.items():
        parts += _study(study, results, tables, figures, runs.get(study))
    parts += ['<section id="not-run"><h2>Not run</h2>', "<ul>"]
    parts += [f"<li>{escape(line)}</li>" for line in not_run(studies)] or [
        "<li>Nothing: every trial has finished.</li>"
    ]
    parts += ["</ul></section>", "</main>", "</body>", "</html>", ""]
    return "\n".join(parts)


def text(studies: Mapping[str, pd.DataFrame], tables: Mapping[str, Table], runs: Mapping[str, pd.DataFrame]) -> str:
    """reports/report.md: the same, figures as links to reports/figures/."""
    parts = ["# A3M: report"]
    for study, results in studies.items():
        names, drawn = CONTENTS[study]
        parts += [f"## {study}: {r.STUDIES[study]}", f"**{banner(results)}**", how_long(results, runs.get(study))]
        parts += [tables[name].markdown().rstrip() for name in names if name in tables]
        parts += [f"![{ALTERNATIVES[name]}](figures/{name}.svg)" for name in drawn]
    lines = not_run(studies) or ["Nothing: every trial has finished."]
    parts += ["## Not run", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def banner(results: pd.DataFrame) -> str:
    return BANNERS[str(results["source"].iloc[0])].format(dataset=dataset_name(results))


def not_run(studies: Mapping[str, pd.DataFrame]) -> list[str]:
    """One line for each study without results, and for each trial that has not finished."""
    lines = [
        f"{study} ({what}): no results; run python sweeps/{study}.py"
        for study, what in r.STUDIES.items()
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
) -> list[str]:
    kind = {"twins": "twins", "raw subset": "subset", "raw": "real"}[str(results["source"].iloc[0])]
    names, drawn = CONTENTS[study]
    parts = [
        f'<section id="{study}">',
        f"<h2>{escape(study)}: {escape(r.STUDIES[study])}</h2>",
        f'<p class="banner {kind}" role="note">{escape(banner(results))}</p>',
        f"<p>{escape(how_long(results, runs))}</p>",
    ]
    for name in names:
        if name in drawn and name in figures:
            parts.append(_figure(name, figures[name]))
        if name in tables:
            parts.append(_table(tables[name]))
    parts += ["<h3>Runs</h3>", _runs(study, runs), "</section>"]
    return parts


def _table(table: Table) -> str:
    columns = [str(column) for column in table.display]
    shaded = [' class="notmeasured"' if table.source != "raw" and _ours(column) else "" for column in columns]
    head = "".join(f'<th scope="col"{look}>{escape(c)}</th>' for c, look in zip(columns, shaded, strict=True))
    body = []
    for row, cells in enumerate(table.display.itertuples(index=False, name=None)):
        mark = f"<sup>{table.marks[row]}</sup>" if row in table.marks else ""
        shown = [f'<th scope="row">{escape(str(cells[0]))}{mark}</th>']
        for column, cell, look in list(zip(columns, cells, shaded, strict=True))[1:]:
            words = escape(str(cell))
            shown.append(f"<td{look}>{f'<strong>{words}</strong>' if (row, column) in table.bold else words}</td>")
        body.append("<tr>" + "".join(shown) + "</tr>")
    notes = "".join(f"<p><sup>{letter_of(i)}</sup> {escape(note)}</p>" for i, note in enumerate(table.notes))
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in table.remarks)
    return "\n".join(
        [
            f"<h3>{escape(table.title)}</h3>",
            f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(table.title)}">',
            f"<table><caption>{escape(table.caption)}</caption>",
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *body,
            "</tbody></table></div>",
            f'<div class="notes">{notes}{remarks}</div>',
        ]
    )


def _ours(column: str) -> bool:
    return column.split(" ")[0] in r.SOURCES.values()


def _figure(name: str, svg: str) -> str:
    """The svg inside the page: without its XML head, with ids of its own, since two figures use the same ones."""
    inside = svg[svg.index("<svg") :]
    inside = re.sub(r"<metadata>.*?</metadata>", "", inside, flags=re.DOTALL)
    inside = re.sub(r'\bid="', f'id="{name}-', inside)
    inside = re.sub(r'href="#', f'href="#{name}-', inside)
    inside = re.sub(r"url\(#", f"url(#{name}-", inside)
    # Matplotlib writes a rule for everything (*), which would reach out of the figure into the page.
    inside = inside.replace("*{stroke-linejoin", f"#{name} *{{stroke-linejoin")
    label = escape(ALTERNATIVES[name])
    inside = inside.replace("<svg", f'<svg id="{name}" role="img" aria-label="{label}"', 1)
    return f"<figure>\n{inside.rstrip()}\n<figcaption>{label}</figcaption>\n</figure>"


def _runs(study: str, runs: pd.DataFrame | None) -> str:
    if runs is None or runs.empty:
        return f"<p>No list of runs: results/{escape(study)}.runs.csv is not here.</p>"
    columns = [column for column in RUN_COLUMNS if column in runs]
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td><code>{escape(str(cell))}</code></td>" for cell in cells) + "</tr>"
        for cells in runs[columns].itertuples(index=False, name=None)
    )
    return "\n".join(
        [
            f"<details><summary>{len(runs)} runs in MLflow</summary>",
            f'<div class="scroll" role="region" tabindex="0" aria-label="Runs of {escape(study)}">',
            f'<table class="runs"><thead><tr>{head}</tr></thead>',
            f"<tbody>\n{body}\n</tbody></table></div></details>",
        ]
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
