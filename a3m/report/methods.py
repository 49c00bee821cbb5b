"""A table of methods, made of its description: published rows with ours beside them, in a block a recipe; and its controls.

One function makes Tables 1-5, and the same table of a study that ran on data which are not the paper's, without published
columns then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from a3m.errors import DataError
from a3m.report import names as n
from a3m.report.compare import (
    add_differences,
    compare,
    controlled,
    how_compared,
    reference_of,
    verdict,
)
from a3m.report.describe import NAN, Draft, dataset_name
from a3m.report.layout import Layout, Line, check_published, lines, published
from a3m.report.layouts import LAYOUTS, POOLED_NOTE
from a3m.report.predictions import Predictions
from a3m.report.rows import Row, rows
from a3m.report.studies import check_study, measured_task
from a3m.report.table import DASH, Table

RERANKED = ("baseline2", "a3m")  # whose re-ranked scores have rows of their own
SIZES = {"model/parameters": "parameters (M)", "model/flops": "FLOPs (M)"}
SIZES_REMARK = (
    "Parameters and FLOPs in millions, of the whole network; FLOPs of one image forward, a multiply-add being two. How fast each "
    "row trained differs from run to run and stands in the report, under Cost."
)
NAMES = tuple(
    f"{name}{ending}"
    for name in (*LAYOUTS, "ablation", "cub200", "cub200_448", "compcars", "cub200_retrieval", "cars196_retrieval")
    for ending in ("", "_controls")
)


class Study(NamedTuple):
    """What a study measured, checked, and its rows."""

    results: pd.DataFrame
    rows: list[Row]
    predictions: Predictions | None = None


def method_tables(
    studies: Mapping[str, pd.DataFrame], predictions: Mapping[str, Predictions] | None = None
) -> dict[str, Table]:
    """File name -> table, of the studies that have results: the paper's tables, or a table named for the study."""
    predictions = predictions or {}
    tables: dict[str, Table] = {}
    for name, layout in LAYOUTS.items():
        own: dict[str, pd.DataFrame] = {}
        for study in layout.studies:
            if study not in studies:
                continue
            if str(studies[study]["dataset"].iloc[0]) in (layout.dataset, study):
                own[study] = studies[study]
            else:
                there = elsewhere(layout, study, studies[study])
                tables |= _both(study, there, {study: studies[study]}, predictions)
        if own:
            tables |= _both(name, layout, own, predictions)
    return tables


def check(
    layout: Layout, studies: Mapping[str, pd.DataFrame], predictions: Mapping[str, Predictions] | None = None
) -> dict[str, Study]:
    """The layout's studies, one at least, checked. Twins and real data never share a table, also not from two studies."""
    checked = {
        study: check_study(studies[study], study, layout.metrics, layout.required)
        for study in layout.studies
        if study in studies
    }
    sources = {study: str(results["source"].iloc[0]) for study, results in checked.items()}
    if len(set(sources.values())) > 1:
        which = ", ".join(f"{study} of {source}" for study, source in sources.items())
        raise DataError(
            f"{layout.title}: {which}: twins and real data never share a table; run the sweeps on one source"
        )
    return {study: Study(results, rows(results), (predictions or {}).get(study)) for study, results in checked.items()}


def _both(
    name: str, layout: Layout, studies: Mapping[str, pd.DataFrame], predictions: Mapping[str, Predictions]
) -> dict[str, Table]:
    checked = check(layout, studies, predictions)
    control = controls(layout, checked)
    return {name: method_table(layout, checked)} | ({f"{name}_controls": control} if control else {})


def elsewhere(layout: Layout, study: str, results: pd.DataFrame) -> Layout:
    """The same table on data that are not the paper's: nothing published, and the metrics that were measured."""
    metrics, compared = measured_task(results)
    return replace(
        layout,
        title=f"The methods of {layout.title.partition('.')[0]} on {dataset_name(results)}",
        studies={study: ""},
        dataset=str(results["dataset"].iloc[0]),
        metrics=metrics,
        compared=compared,
        reference=layout.reference if layout.reference in set(results["method"]) else "baseline1",
        subject=layout.subject if set(layout.subject) & set(results["method"]) else ("a3m_unlabelled",),
        required={},
        published="",
        columns={},
        facts={},
        places=(),
        published_notes={},
        method_notes={},
        remarks=(),
    )


def method_table(layout: Layout, studies: Mapping[str, Study]) -> Table:
    """What the paper published and ours beside it, with the difference to the reference method."""
    draft = _begin(studies)
    cited = published(layout.published) if layout.published else None
    if cited is not None:
        check_published(layout, cited)
    for study, (results, every, predictions) in studies.items():
        grouped = [row for row in every if not row.control]
        recipes = dict.fromkeys(row.recipe for row in grouped)
        for recipe in recipes | {"": None} if cited is not None else recipes:
            block = _block(layout, study, results, recipe)
            several = len(studies) > 1 or len(recipes) > 1
            if cited is not None or layout.published or several:
                draft.block(_heading(block, draft.source))
            chosen = _with_reranked(row for row in grouped if row.recipe == recipe)
            for line in lines(layout, cited if recipe == "" else None, chosen):
                _add(draft, layout, line, chosen, block if several else "", predictions)
            cited = None if recipe == "" else cited
    heads = [layout.metrics[metric] for metric in layout.compared]
    draft.remarks += [*how_compared(n.METHODS[layout.reference], heads, draft.unit), *layout.remarks]
    draft.remarks.append(f"{DASH} : not {'published or not ' if layout.published else ''}measured.")
    return draft.table(layout.title)


def _add(
    draft: Draft, layout: Layout, line: Line, grouped: list[Row], block: str, predictions: Predictions | None
) -> None:
    """Adds a line: published numbers and facts, ours, the comparison, and the footnotes that belong to either."""
    cited, row, ours = line.cited, line.row, draft.ours
    source = "" if cited is None else str(cited["source"])
    name = line.name
    cells = {"method": f"{name} ({source})" if line.is_comparator else name}
    values: dict[str, object] = {
        "method": name,
        "block": draft.blocks[-1][1] if draft.blocks else "",
        "published source": source,
    }
    for column, head in layout.facts.items():
        cells[head] = _fact(column, cited, row)
        values[head] = cells[head].replace(DASH, "")
    for column, head in layout.columns.items():
        text = "" if cited is None else str(cited[column])
        cells[f"published {head}"] = text or DASH
        values[f"published {head}"] = float(text) if text else NAN
    for path, head in ((n.BACKBONE, "backbone"), (n.DIMENSION, "d")):
        if path in draft.results and draft.results[path].nunique() > 1:
            setting = row.settings.get(path, "") if row else ""
            cells[f"{ours} {head}"] = n.BACKBONES.get(setting, setting) or DASH
            values[f"{ours} {head}"] = setting
    i = draft.add(cells, values, row, layout.metrics)
    reference = reference_of(row, grouped, layout.reference) if row else None
    compared = compare(row, reference, layout.compared, predictions)
    add_differences(draft, i, row, reference, compared, layout.metrics)
    if cited is not None and (cited["method"], source) in layout.published_notes:
        draft.notes.mark(i, layout.published_notes[cited["method"], source])
    if row is None:
        return
    if line.place and line.place.note:
        draft.notes.mark(i, line.place.note)
    elif row.label != name and cited is not None:
        draft.notes.mark(i, f"Ours: {row.label}.")
    if row.settings.get(n.FEATURE) == "pooled":
        draft.notes.mark(i, POOLED_NOTE)
    if cited is None and row.method in layout.method_notes:
        draft.notes.mark(i, layout.method_notes[row.method])
    if reference and reference.several and any(compared.values()):
        draft.notes.mark(i, f"Compared with the row {reference.row.label}.")
    subject = next((method for method in layout.subject if any(row.method == method for row in grouped)), "")
    if row.method == subject and row.main and not row.is_reranked:
        to = n.METHODS[layout.reference]
        draft.remarks.append(verdict(row, reference, to, compared, layout.metrics, draft.source, block, draft.unit))


def _fact(column: str, cited: pd.Series | None, row: Row | None) -> str:
    """A published fact, or what is known of our row: which methods use attribute labels; none of ours uses parts."""
    if cited is not None:
        return str(cited[column]) or DASH
    known = {"uses_attributes": "yes" if row and row.method in n.ATTRIBUTE_LABELS else "no", "uses_parts": "no"}
    return known.get(column, DASH)


def controls(layout: Layout, studies: Mapping[str, Study]) -> Table | None:
    """The controls beside what they control, with parameters and FLOPs of every row; None where nothing of it was measured."""
    draft = _begin(studies)
    heads = {metric: layout.metrics[metric] for metric in layout.compared}
    sized = [metric for metric in SIZES if metric in draft.results and draft.results[metric].notna().any()]
    if not sized and not any(row.control for study in studies.values() for row in study.rows):
        return None
    for study, (results, grouped, predictions) in studies.items():
        recipes = dict.fromkeys(row.recipe for row in grouped)
        several = len(studies) > 1 or len(recipes) > 1
        for recipe in recipes:
            block = _block(layout, study, results, recipe) if layout.published or several else ""
            if block:
                draft.block(_heading(block, draft.source))
            for row in (row for row in grouped if row.recipe == recipe):
                reference = controlled(row, grouped)
                compared = compare(row, reference, layout.compared, predictions)
                cells = {"method": row.label}
                values: dict[str, object] = {"method": row.label, "block": block}
                for metric in sized:
                    count = next(iter(row.values(metric).values()), NAN)
                    cells[f"{draft.ours} {SIZES[metric]}"] = f"{count / 1e6:,.2f}" if count == count else DASH
                    values[f"{draft.ours} {metric.removeprefix('model/')}"] = count
                i = draft.add(cells, values, row, heads)
                cells[f"{draft.ours} compared with"] = reference.row.label if reference else DASH
                values[f"{draft.ours} compared with"] = reference.row.label if reference else ""
                add_differences(draft, i, row, reference, compared, heads)
                if row.control:
                    to = reference.row.label if reference else n.METHODS["a3m" if row.control == "wide" else row.method]
                    draft.remarks.append(
                        verdict(row, reference, to, compared, heads, draft.source, block if several else "", draft.unit)
                    )
    draft.remarks.append(
        "Controls: attribute labels shuffled over identities or classes say whether the labels help or only their number; "
        "Baseline-1 with as many parameters says whether A3M's size does. A control below what it controls speaks for the method."
    )
    draft.remarks += how_compared("the row that a control is compared with", list(heads.values()), draft.unit)
    draft.remarks += [SIZES_REMARK] if sized else []
    if not layout.published:
        return draft.table(f"{layout.title}: controls and sizes")
    return draft.table(f"{layout.title.partition('.')[0]}, controls and sizes: {dataset_name(draft.results)}")


def _begin(studies: Mapping[str, Study]) -> Draft:
    """An empty table of the trials of all its studies."""
    together = pd.concat([study.results for study in studies.values()], ignore_index=True)
    text = [column for column in together if column != "seed" and "/" not in str(column)]
    unit = next((study.predictions.unit for study in studies.values() if study.predictions), "")
    return Draft(together.fillna(dict.fromkeys(text, "")), unit=unit)  # "": a setting that one of the studies varies


def _block(layout: Layout, study: str, results: pd.DataFrame, recipe: str) -> str:
    """'The paper's recipe, at the text's size (224 pixels; here 64)': a recipe, and a size where a table has several."""
    size = layout.studies[study]
    height = str(results[n.HEIGHT].iloc[0]) if n.HEIGHT in results else ""
    if height and f"({height} pixels)" not in size:
        size = size.replace(")", f"; here {height})")
    return ", ".join(filter(None, [n.RECIPES[recipe], size]))


def _heading(block: str, source: str) -> str:
    """Twins have a recipe that is cut to their size, and say so."""
    return block + (", scaled to the twins" if source == "twins" else "")


def _with_reranked(grouped: Iterable[Row]) -> list[Row]:
    """The rows, each followed by its re-ranked scores where they were measured and are shown."""
    found: list[Row] = []
    for row in grouped:
        found.append(row)
        reranked = row.reranked() if row.method in (*RERANKED, "baseline1") and row.main else None
        found += [reranked] if reranked else []
    return found
