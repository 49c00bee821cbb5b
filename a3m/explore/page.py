"""An explanation as one page: pictures inside it, no script, nothing loaded."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

DASH = "\u2013"
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 75rem; margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere; }
.banner { border: 2px solid #000; padding: .6rem .9rem; font-weight: 600; background: #F0E442; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
figure { margin: 0; width: 10rem; }
figure img { width: 100%; height: auto; display: block; outline-offset: 1px; }
figure.right img { outline: 2px solid #0072B2; }
figure.wrong img { outline: 4px solid #D55E00; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
figcaption span { color: #555; display: block; }
.scroll { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; font-weight: 600; white-space: nowrap; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ccc; text-align: left; }
td.number { text-align: right; }
code { overflow-wrap: anywhere; }
@media print { figure { break-inside: avoid; } }
"""
FRAMES = "Thin blue frame: the attribute is predicted as the data set has it. Thick orange frame: it is not."


@dataclass(frozen=True)
class Shown:
    """A picture of the page: encoded PNG, its words, a second line, and whether it is right (None: not known)."""

    png: bytes
    words: str
    more: str = ""
    right: bool | None = None


def page(
    said: dict[str, Any], image: bytes, merged: bytes | None, maps: Sequence[Shown], nearest: Sequence[Shown]
) -> str:
    """index.html of an explanation; `said` is explanation.json."""
    name = said["image"].rpartition("/")[2]
    banner = ""
    if said["source"] == "twins":
        banner = '<p class="banner">Trained on a synthetic twin, not on the real data set.</p>'
    known = said["known"]
    truth = f" The data set calls it <strong>{escape(known['label'])}</strong>." if known else ""
    main = [Shown(image, "Input", f"{said['input_size'][0]} x {said['input_size'][1]} pixels, as the network sees it")]
    if merged is not None:
        range_ = f"{said['merged']['lowest']:.3f} to {said['merged']['highest']:.3f}"
        main.append(Shown(merged, "Merged weights m", f"{range_}, drawn from 0 to 1"))
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(name)} by {escape(said['name'])}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{escape(name)}, explained by {escape(said['name'])}</h1>",
        banner,
        f"<p>Run <code>{escape(said['run'])}</code>, key <code>{escape(said['key'])}</code>, {escape(said['dataset'])}, "
        f"data version "
        f"<code>{escape(said['data'][:12])}</code>.{truth}</p>",
        _figures(main),
    ]
    if said["merged"] is not None and said["merged"]["flat"]:
        parts.append(
            "<p><strong>Attention has saturated here:</strong> the merged weights are one value everywhere, so the regional "
            "feature is the plain average. The formula as written can do that.</p>"
        )
    if said["classes"]:
        rows = [(one["class"], f"{100 * one['probability']:.1f} %") for one in said["classes"]]
        what = "Training identities" if said["task"] == "re-identification" else "Classes"
        parts.append(_table(f"{what} that it takes the image for", ("Class", "Probability"), rows))
    if said["attributes"]:
        attributes = [
            (
                attribute.replace("_", " "), one["value"], f"{100 * one['probability']:.1f} %",
                DASH if one["true"] is None else one["true"], DASH if one["weight"] is None else f"{one['weight']:.3f}",
            )
            for attribute, one in said["attributes"].items()
        ]  # fmt: skip
        heads = ("Attribute", "Predicted", "Probability", "True", "Weight s")
        parts.append(_table("Attributes", heads, attributes))
    if maps:
        parts.append("<h2>Where each attribute looks</h2>")
        parts.append(
            "<p>Each map is drawn from its own lowest (dark) to its highest score (yellow); m is the range of its weights."
            + (f" {FRAMES}" if any(one.right is not None for one in maps) else "")
            + "</p>"
        )
        parts.append(_figures(maps))
    parts.append(f"<h2>Nearest {'gallery' if said['task'] == 're-identification' else 'test'} images</h2>")
    if any(one.right is not None for one in nearest):
        parts.append("<p>Thin blue frame: the same label. Thick orange frame: another one.</p>")
    parts.append(_figures(nearest))
    return "\n".join([*parts, "</main></body></html>", ""])


def _figures(figures: Sequence[Shown]) -> str:
    return '<div class="row">' + "".join(map(_figure, figures)) + "</div>"


def _figure(one: Shown) -> str:
    look = {None: "", True: ' class="right"', False: ' class="wrong"'}[one.right]
    verdict = {None: "", True: " (right)", False: " (wrong)"}[one.right]
    data = base64.b64encode(one.png).decode()
    return (
        f'<figure{look}><img alt="{escape(one.words + verdict)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(one.words)}<span>{escape(one.more)}</span></figcaption></figure>"
    )


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
