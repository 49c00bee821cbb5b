"""Tables, figures and lists of runs as HTML."""

import re
from html import escape

import pandas as pd

from a3m.report import names as n
from a3m.report.dialogs import Dialogs, digest, speed, took
from a3m.report.figures import ALTERNATIVES
from a3m.report.table import DASH, Table, letter_of

RUN_COLUMNS = {  # column of the list of runs -> its head
    "key": "run",
    "name": "trial",
    "host": "host",
    "device": "device",
    "started": "began",
    "seconds": "took",
    "images_per_second": "images/s",
    "commit": "commit",
}


def table(table: Table, dialogs: Dialogs) -> str:
    """A table with its caption, headings of blocks, footnotes and remarks; each number of ours opens where it comes from."""
    columns = [str(column) for column in table.display]
    shaded = [' class="notmeasured"' if table.source != "raw" and _ours(column) else "" for column in columns]
    head = "".join(f'<th scope="col"{look}>{_head(c)}</th>' for c, look in zip(columns, shaded, strict=True))
    body = []
    for row, cells in enumerate(table.display.itertuples(index=False, name=None)):
        body += [
            f'<tr class="block"><th scope="rowgroup" colspan="{len(columns)}"><span>{escape(title)}</span></th></tr>'
            for title in table.headings(row)
        ]
        mark = f"<sup>{table.marks[row]}</sup>" if row in table.marks else ""
        worn = ' <span class="saturated">attention saturated</span>' if row in table.saturated else ""
        shown = [f'<th scope="row">{escape(str(cells[0]))}{mark}{worn}</th>']
        for column, cell, look in list(zip(columns, cells, shaded, strict=True))[1:]:
            words = escape(str(cell))
            words = f"<strong>{words}</strong>" if (row, column) in table.bold else words
            behind = dialogs.behind(table, row, column) if _ours(column) and cell != DASH else ""
            shown.append(f"<td{look}>{f'<button popovertarget={behind}>{words}</button>' if behind else words}</td>")
        body.append("<tr>" + "".join(shown) + "</tr>")
    notes = "".join(f"<p><sup>{letter_of(i)}</sup> {escape(note)}</p>" for i, note in enumerate(table.notes))
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in table.remarks)
    return "\n".join(
        [
            f"<h3>{escape(table.title)}</h3>",
            f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(table.title)}">',
            f"<table><caption><span>{_caption(table.caption)}</span></caption>",
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *body,
            "</tbody></table></div>",
            f'<div class="notes">{notes}{remarks}</div>',
        ]
    )


def _head(column: str) -> str:
    """A column's head; 'rank-5' is not broken at its hyphen."""
    return re.sub(r"\S+-\S+", r'<span class="whole">\g<0></span>', escape(column))


def _caption(text: str) -> str:
    """A caption with its data versions cut in print."""
    return re.sub(r"\b[0-9a-f]{64}\b", lambda found: digest(found[0]), escape(text))


def _ours(column: str) -> bool:
    return column.split(" ")[0] in n.SOURCES.values()


def figure(name: str, svg: str) -> str:
    """The svg inside the page: without its XML head, with ids of its own, since two figures use the same ones.

    Pictures inside it (data:image/png;base64,...) stay as they are: base64 has no quote, bracket or #.
    """
    inside = svg[svg.index("<svg") :]
    inside = re.sub(r"<metadata>.*?</metadata>", "", inside, flags=re.DOTALL)
    inside = re.sub(r'\bid="', f'id="{name}-', inside)
    inside = re.sub(r'href="#', f'href="#{name}-', inside)
    inside = re.sub(r"url\(#", f"url(#{name}-", inside)
    # Matplotlib writes a rule for everything (*), which would reach out of the figure into the page.
    inside = inside.replace("*{stroke-linejoin", f"#{name} *{{stroke-linejoin", 1)
    label = escape(ALTERNATIVES[name])
    inside = inside.replace("<svg", f'<svg id="{name}" role="img" aria-label="{label}"', 1)
    scroll = f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">'
    return f"<figure>\n{scroll}{inside.rstrip()}</div>\n<figcaption>{label}</figcaption>\n</figure>"


def run_list(study: str, runs: pd.DataFrame | None, dialogs: Dialogs) -> str:
    """Every run of a study, whether or not a table shows it."""
    if runs is None or runs.empty:
        return f"<p>No list of runs: results/{escape(study)}.runs.csv is not here.</p>"
    columns = [column for column in RUN_COLUMNS if column in runs]
    head = "".join(f'<th scope="col">{escape(RUN_COLUMNS[column])}</th>' for column in columns)
    body = "\n".join(
        "<tr>"
        + "".join(_run_cell(column, str(cell), dialogs) for column, cell in zip(columns, cells, strict=True))
        + "</tr>"
        for cells in runs[columns].itertuples(index=False, name=None)
    )
    stores = sorted(set(runs["store"])) if "store" in runs else []
    return "\n".join(
        [
            f"<details><summary>{len(runs)} runs in MLflow</summary>",
            f"<p>Store: {escape(', '.join(stores))}. A run that is not in this store is named by its key alone.</p>"
            if stores
            else "",
            f'<div class="scroll" role="region" tabindex="0" aria-label="Runs of {escape(study)}">',
            f'<table class="runs"><thead><tr>{head}</tr></thead>',
            f"<tbody>\n{body}\n</tbody></table></div></details>",
        ]
    )


def _run_cell(column: str, cell: str, dialogs: Dialogs) -> str:
    if column == "key":
        return f'<th scope="row">{dialogs.run(cell)}</th>'
    if column == "seconds":
        return f"<td>{escape(took(cell))}</td>"
    if column == "images_per_second":
        return f"<td>{speed(cell)}</td>"
    return f"<td>{digest(cell)}</td>"
