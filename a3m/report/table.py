"""A table: what is shown, the numbers behind it, and its three files.

The CSV holds the numbers; Markdown and LaTeX hold what is shown, with caption, footnotes and remarks, so that a file that is
passed on alone still says where its numbers come from. Equal tables give equal bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
MOST_COLUMNS = 10  # of a printed table in one part
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "[": "{[}",  # after \\ a bare bracket would be read as its argument
        "]": "{]}",
        "±": r"$\pm$",
        MINUS: "$-$",
        "Δ": r"$\Delta$",
        DASH: "--",
    }
)
MARKDOWN = str.maketrans({character: "\\" + character for character in "\\|*_`<>["})


@dataclass
class Notes:
    """Footnotes of a table being made. A text that stands already keeps its letter."""

    texts: list[str] = field(default_factory=list)
    rows: dict[int, set[int]] = field(default_factory=dict)  # row -> places of its footnotes in `texts`

    def mark(self, row: int, text: str) -> None:
        if text not in self.texts:
            self.texts.append(text)
        self.rows.setdefault(row, set()).add(self.texts.index(text))

    def letters(self, row: int) -> str:
        return ",".join(letter_of(place) for place in sorted(self.rows.get(row, ())))

    def of(self, row: int) -> str:
        return " ".join(self.texts[place] for place in sorted(self.rows.get(row, ())))


@dataclass(frozen=True)
class Pair:
    """What a difference is made of: two rows, seed by seed."""

    ours: str  # label of the row
    reference: str
    head: str  # the metric's name in print
    values: tuple[tuple[int, float, float], ...]  # seed, ours, reference: fractions
    keys: tuple[tuple[str, ...], tuple[str, ...]]  # of the trials of either row
    remarks: tuple[str, ...]  # what it shows and what it cannot, in words


@dataclass(frozen=True)
class Table:
    """`display` and `numbers` have the same rows; the first column of each names the row."""

    title: str
    caption: str
    display: pd.DataFrame  # text as it is shown
    numbers: pd.DataFrame  # NaN where nothing was measured or published
    notes: tuple[str, ...] = ()  # footnote a, b, ...
    marks: dict[int, str] = field(default_factory=dict)  # row -> letters of its footnotes
    remarks: tuple[str, ...] = ()  # sentences under the table
    bold: frozenset[tuple[int, str]] = frozenset()  # (row, column of display)
    source: str = "twins"  # twins | raw | raw subset: what our columns were measured on
    blocks: tuple[tuple[int, str], ...] = ()  # (row, heading): a heading stands above its row
    trials: Mapping[tuple[int, str], tuple[str, ...]] = field(
        default_factory=dict
    )  # (row, column) -> keys behind a number
    names: Mapping[tuple[str, ...], str] = field(default_factory=dict)  # keys -> label of their row
    pairs: Mapping[tuple[int, str], Pair] = field(default_factory=dict)  # (row, column) -> what a difference is made of
    saturated: frozenset[int] = frozenset()  # rows with a trial whose attention has become constant

    def write(self, folder: Path, name: str) -> list[Path]:
        """Writes <name>.csv, .md and .tex into an existing folder."""
        texts = {"csv": self.csv(), "md": self.markdown(), "tex": self.tex(name)}
        paths = []
        for ending, text in texts.items():
            path = folder / f"{name}.{ending}"
            path.write_text(text, encoding="utf-8", newline="\n")
            paths.append(path)
        return paths

    def csv(self) -> str:
        return self.numbers.to_csv(index=False, lineterminator="\n", float_format="%.6g")

    def markdown(self) -> str:
        columns = [str(column) for column in self.display]
        lines = [
            "| " + " | ".join(column.translate(MARKDOWN) for column in columns) + " |",
            "| " + " | ".join(["---"] + ["---:"] * (len(columns) - 1)) + " |",
        ]
        for row, cells in enumerate(self._cells()):
            lines += [
                f"| *{title.translate(MARKDOWN)}* " + "| " * (len(columns) - 1) + "|" for title in self.headings(row)
            ]
            shown = []
            for column, cell in zip(columns, cells, strict=True):
                text = cell.translate(MARKDOWN)
                shown.append(f"**{text}**" if (row, column) in self.bold else text)
            if row in self.marks:
                shown[0] += f"<sup>{self.marks[row]}</sup>"
            lines.append("| " + " | ".join(shown) + " |")
        parts = [f"### {self.title}", self.caption.translate(MARKDOWN), "\n".join(lines)]
        parts += [f"<sup>{letter_of(i)}</sup> {note.translate(MARKDOWN)}" for i, note in enumerate(self.notes)]
        parts += [remark.translate(MARKDOWN) for remark in self.remarks]
        return "\n\n".join(parts) + "\n"

    def tex(self, name: str) -> str:
        """A float of its own; a table of many columns stands in two parts, the comparisons below what was measured."""
        title, parts = self.title.translate(TEX), [self._tabular(columns) for columns in self._parts()]
        below = [rf"\textsuperscript{{{letter_of(i)}}} {note.translate(TEX)}\par" for i, note in enumerate(self.notes)]
        below += [remark.translate(TEX) + r"\par" for remark in self.remarks]
        return "\n".join(
            [
                r"% Needs \usepackage{booktabs}; with graphicx a table wider than the text is shrunk to it.",
                r"\begin{table*}[tbp]",
                r"\centering",
                rf"\caption[{title}]{{{title}. \footnotesize {self.caption.translate(TEX)}}}",
                rf"\label{{tab:{name}}}",
                r"\par\smallskip",
                r"\footnotesize",
                r"\setlength{\tabcolsep}{4pt}",
                "\n\\par\\smallskip\n".join(parts),
                r"\par\smallskip",
                r"\begin{minipage}{\textwidth}\scriptsize\raggedright",
                *below,
                r"\end{minipage}",
                r"\end{table*}",
                "",
            ]
        )

    def _parts(self) -> list[list[int]]:
        """The columns of each part of a printed table; the first column stands in all."""
        columns = [str(column) for column in self.display]
        first = next((i for i, column in enumerate(columns) if "Δ" in column), len(columns))
        if len(columns) <= MOST_COLUMNS or first == len(columns):
            return [list(range(len(columns)))]
        return [list(range(first)), [0, *range(first, len(columns))]]

    def _tabular(self, chosen: list[int]) -> str:
        """Some columns, without the rows that hold nothing in a later part."""
        columns = [str(self.display.columns[i]) for i in chosen]
        heads = [r"\shortstack{" + r"\\".join(word.translate(TEX) for word in _lines(c)) + "}" for c in columns]
        later = len(chosen) > 1 and chosen[1] != 1
        body: list[str] = []
        titles: list[str] = []
        for row, cells in enumerate(self._cells()):
            titles = self.headings(row) or titles
            if later and all(cells[i] == DASH for i in chosen[1:]):
                continue
            for title in titles:
                body += [
                    *([r"\midrule"] if body else []),
                    rf"\multicolumn{{{len(columns)}}}{{l}}{{\textit{{{title.translate(TEX)}}}}} \\",
                ]
            titles = []
            shown = []
            for i, column in zip(chosen, columns, strict=True):
                text = cells[i].translate(TEX)
                shown.append(rf"\textbf{{{text}}}" if (row, column) in self.bold else text)
            if row in self.marks:
                shown[0] += rf"\textsuperscript{{{self.marks[row]}}}"
            body.append(" & ".join(shown) + r" \\")
        return "\n".join(
            [
                r"\sbox2{%",
                rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
                r"\toprule",
                " & ".join(heads) + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}}%",
                r"\ifdim\wd2>\textwidth",
                r"  \ifdefined\resizebox\resizebox{\textwidth}{!}{\usebox2}\else\usebox2\fi",
                r"\else\usebox2\fi",
            ]
        )

    def headings(self, row: int) -> list[str]:
        """The heading above a row, if a block begins there."""
        return [title for first, title in self.blocks if first == row]

    def _cells(self) -> list[list[str]]:
        return [[str(cell) for cell in cells] for cells in self.display.itertuples(index=False, name=None)]


def letter_of(index: int) -> str:
    """a ... z, aa, ab ..."""
    return (
        LETTERS[index] if index < len(LETTERS) else letter_of(index // len(LETTERS) - 1) + LETTERS[index % len(LETTERS)]
    )


def _lines(head: str) -> list[str]:
    """A column's head, broken after its first word, which says twin, ours or published, and before what was resampled."""
    first, _, rest = head.partition(" ")
    return [first, *rest.replace(", test ", ",\ntest ").split("\n")] if rest else [first]
