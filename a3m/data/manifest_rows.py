"""A manifest as it is written: one CSV, its header and its rows, each with its line in the file.

Comma as delimiter, UTF-8 with or without a byte order mark, any line ends, quotes as spreadsheets write them; a row is one
line. Columns: `image`, `label` or `identity`, `split`; optional `camera`, the box `x y w h`; every further column is an
attribute. Blanks around a cell do not count. What a row means is the business of `a3m.data.manifest`.
"""

import csv
import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from a3m.data.records import ATTRIBUTE
from a3m.errors import DataError

BOX = ("x", "y", "w", "h")
KNOWN = ("image", "label", "identity", "split", "camera", *BOX)
# What others call these columns; only for hints.
ALSO_CALLED = {
    **dict.fromkeys(("path", "file", "filename", "file_name", "img", "name"), "image"),
    **dict.fromkeys(("class", "category", "target"), "label"),
    **dict.fromkeys(("id", "person", "pid", "person_id"), "identity"),
    **dict.fromkeys(("set", "subset", "part", "partition", "fold"), "split"),
    **dict.fromkeys(("cam", "camid", "camera_id"), "camera"),
    **{"left": "x", "top": "y", "width": "w", "height": "h"},
}
WHOLE = re.compile(r"[+-]?[0-9]{1,18}(?:\.0+)?")


class Problem(NamedTuple):
    """One thing to mend. `line` counts from 1, the header being line 1 as a rule; 0 = the file as a whole."""

    kind: str
    line: int
    what: str

    def where(self) -> str:
        """How a message begins that names the line."""
        return f"line {self.line}, " if self.line else ""


class Row(NamedTuple):
    """A row of the manifest: its line in the file (the header is line 1) and column -> text."""

    line: int
    cells: dict[str, str]


@dataclass
class Sheet:
    """The rows that have a cell for every column, and what was wrong with the others."""

    header: list[str]
    line: int  # of the header
    rows: list[Row]
    attributes: list[str]  # the columns that are attributes, in order
    torn: set[str] = field(default_factory=set)  # cells of the lines that are no rows, so that nothing is missed twice
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def shown(text: str, limit: int = 80) -> str:
    """Text from a file as it may stand in a message: one line, nothing that a terminal would obey, not too long."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def ordered(values: Iterable[str]) -> list[str]:
    """Different values: by size when all of them are whole numbers, else by their characters."""
    different = sorted(set(values))
    return sorted(different, key=whole) if all(map(WHOLE.fullmatch, different)) else different


def whole(text: str) -> int:
    """The whole number that a cell holds; spreadsheets write 3 as 3.0. The cell must match WHOLE."""
    return int(text.partition(".")[0])


def read_sheet(path: Path) -> Sheet:
    """Read header and rows. Raises DataError only when there is no file to read."""
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise DataError(f"{path}: a folder; give the CSV file in it") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a CSV (docs/own-data.md)") from error
    sheet = Sheet([], 0, [], [])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        sheet.problems.append(Problem("encoding", 0, "the file is UTF-16: save it as CSV in UTF-8"))
        return sheet
    text = data.decode("utf-8-sig", errors="surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    empty = 0
    for number, line in enumerate(text.split("\n"), start=1):
        cells = _cells(sheet, number, line)
        if cells is None:
            continue
        if not any(cells):
            empty += bool(line.strip())
        elif not sheet.header:
            sheet.header, sheet.line = cells, number
        elif len(cells) != len(sheet.header):
            what = (
                f"{len(cells)} cells, the header has {len(sheet.header)}; a comma inside a cell needs quotes around it"
            )
            sheet.problems.append(Problem("ragged row", number, what))
            sheet.torn |= set(cells)
        else:
            # from the right, so that of two columns with one name the first counts
            sheet.rows.append(Row(number, dict(zip(sheet.header[::-1], cells[::-1], strict=True))))
    if empty:
        sheet.notes.append(f"{empty} lines without a value, ignored")
    if not sheet.header:
        sheet.problems.append(
            Problem("columns", 0, "no header line: expected image,label,split or image,identity,split")
        )
    elif len(sheet.header) == 1 and (sign := next((sign for sign in ";\t|" if sign in sheet.header[0]), None)):
        sheet.problems = [Problem("columns", sheet.line, f"the delimiter is {sign!r}: save the file with commas")]
        sheet.rows = []
    else:
        _check_header(sheet)
        if not sheet.rows:
            sheet.problems.append(Problem("no rows", 0, "no line below the header is a row"))
    return sheet


def _cells(sheet: Sheet, number: int, line: str) -> list[str] | None:
    """The cells of one line, or None and a problem. A quote left open must not swallow the lines below."""
    allowed = "" if sheet.header else "\t"  # a header with tabs is told as a wrong delimiter
    bad = next((c for c in line if unicodedata.category(c) in ("Cc", "Cs") and c not in allowed), None)
    if bad is not None:
        kind, what = "control character", f"holds the character {shown(bad)}, which no name may"
        if unicodedata.category(bad) == "Cs":
            kind, what = "encoding", "not UTF-8: save the file as CSV in UTF-8"
        sheet.problems.append(Problem(kind, number, what))
        sheet.torn |= {cell.strip() for cell in line.split(",")}
        return None
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True, skipinitialspace=True), [])]
    except csv.Error as error:
        what = str(error)
        if "unexpected end" in what:
            what = "a quote is opened and not closed on this line"
        elif "expected after" in what:
            what = 'text after a closing quote; a quote inside quotes is written twice, ""'
        sheet.problems.append(Problem("quotes", number, what))
        sheet.torn |= {cell.strip(' "') for cell in line.split(",")}
        return None


def _check_header(sheet: Sheet) -> None:
    """Problems of the column names, and which columns are attributes."""
    header, line = sheet.header, sheet.line
    for name in sorted({name for name in header if header.count(name) > 1 and name}):
        sheet.problems.append(Problem("columns", line, f"column {shown(name)} is there {header.count(name)} times"))
    if "" in header:
        if any(row.cells[""] for row in sheet.rows):
            position = header.index("") + 1
            sheet.problems.append(Problem("columns", line, f"column {position} has values and no name"))
        else:
            sheet.notes.append("a column without name and values, ignored")
    further = [name for name in dict.fromkeys(header) if name and name not in KNOWN]
    guessed: set[str] = set()
    for wanted in ("image", "label or identity", "split"):
        names = wanted.split(" or ")
        if not any(name in header for name in names):
            guess = next((column for name in names for column in further if meant(column) == name), None)
            guessed |= {guess} if guess else set()
            hint = f"; did you mean {shown(guess)!r}?" if guess else f"; there are {shown(', '.join(header), 200)}"
            sheet.problems.append(Problem("columns", line, f"no column {wanted}{hint}"))
    present = [name for name in BOX if name in header]
    if present and len(present) < len(BOX):
        what = f"a box needs the columns {', '.join(BOX)}; there are only {', '.join(present)}"
        sheet.problems.append(Problem("columns", line, what))
    for name in further:
        if name in guessed:
            continue
        if not ATTRIBUTE.fullmatch(name):
            what = f"attribute {shown(name)!r}: a name is letters, digits, blanks, dots, _ and -, at most 100"
            sheet.problems.append(Problem("columns", line, what))
            continue
        sheet.attributes.append(name)
        if meant(name) in ("camera", *BOX) and meant(name) not in header:
            what = f"column {shown(name)!r} is taken for an attribute; did you mean {meant(name)!r}?"
            sheet.warnings.append(Problem("columns", line, what))


def meant(name: str) -> str | None:
    """The known column that a name may stand for."""
    lower = name.lower()
    if lower in KNOWN:
        return lower
    if lower in ALSO_CALLED:
        return ALSO_CALLED[lower]
    near = difflib.get_close_matches(lower, [known for known in KNOWN if len(known) > 1], n=1, cutoff=0.75)
    return near[0] if near else None
