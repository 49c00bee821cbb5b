"""Which task a manifest is for, and whether its splits fit together: what no row shows by itself."""

import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from a3m.data.manifest_rows import WHOLE, Problem, Sheet, shown, whole

DISTRACTOR = 0
FEW = 0.1  # below this share of the rows, text among identities that are whole numbers is a slip
FRACTION = re.compile(r"[+-]?[0-9]*\.[0-9]+")
SPLITS = {"identity": ("train", "query", "gallery"), "label": ("train", "test")}


def task_of(sheet: Sheet, frame: pd.DataFrame, problems: list[Problem]) -> str:
    """classification, re-identification or retrieval; empty and a problem where the columns and splits do not say."""
    given = [name for name in SPLITS if name in sheet.header]
    used = [split for split in ("train", "test", "query", "gallery") if (frame["split"] == split).any()]
    if not given or not used:
        return ""  # told as missing columns or unknown splits
    saw = f"columns {' and '.join(given)}, splits {', '.join(used)}"
    if len(given) > 1:
        problems.append(
            Problem("no task", sheet.line, f"{saw}: keep one, identity to search for people, label for classes")
        )
        return ""
    wanted = SPLITS[given[0]]
    strange = [split for split in used if split not in wanted]
    if strange:
        remedy = "label with train and test, or identity with train, query and gallery"
        line = int(frame.loc[frame["split"] == strange[0], "line"].iloc[0])
        problems.append(Problem("no task", line, f"{saw}: a mixture; expected {remedy}"))
        return ""
    absent = [split for split in wanted if split not in used]
    problems.extend(Problem("no task", 0, f"{saw}: no {split} images") for split in absent)
    if given[0] == "identity":
        return "re-identification"
    trained, tested = (set(frame.loc[frame["split"] == split, "name"]) - {None, ""} for split in ("train", "test"))
    return "retrieval" if trained and tested and not trained & tested else "classification"


def mixed_names(frame: pd.DataFrame, problems: list[Problem], warnings: list[Problem]) -> set[str]:
    """Identities that are whole numbers in some rows and text in others; the names that cannot stay, told with every row.

    One text makes all of them names. That is refused where it changes what a row means, since 0 is a distractor and below it
    is junk only among whole numbers, or where the text is rare; it is a warning otherwise, at the first row of a name.
    """
    rows = [(line, name) for line, name in zip(frame["line"], frame["name"], strict=True) if name]
    text = [(line, name) for line, name in rows if not WHOLE.fullmatch(name)]
    numbers = [(line, name) for line, name in rows if WHOLE.fullmatch(name)]
    if not text or not numbers:
        return set()
    special = [(line, name) for line, name in numbers if whole(name) <= DISTRACTOR]
    lowest: dict[str, int] = {}
    for _, name in special:
        lowest.setdefault("a distractor" if whole(name) == DISTRACTOR else "junk", whole(name))
    count = len({name for _, name in numbers})
    others = f"the other {count} are whole numbers" if count > 1 else "the other one is a whole number"
    if special and len(text) > len(numbers) - len(special):
        named = len({name for _, name in text})
        for line, name in special:
            kind = "a distractor" if whole(name) == DISTRACTOR else "junk"
            what = (
                f"identity {name!r} is {kind} only where all are whole numbers, and {named} are text: number them all"
            )
            problems.append(Problem("distractor or junk among names", line, f"{what}, or leave this row out"))
        return set()
    if special or len(text) < FEW * len(rows):
        among = " and ".join(f"{number} ({kind})" for kind, number in sorted(lowest.items()))
        for line, name in text:
            what = f"identity {shown(name)!r}: {others}{', among them ' + among if among else ''}"
            remedy = "write a whole number; one text would make names of all of them"
            problems.append(Problem("text where a number belongs", line, f"{what}: {remedy}"))
        return {name for _, name in text}
    told = text
    if len(text) > len(numbers):
        told = sorted([*numbers, *(row for row in text if FRACTION.fullmatch(row[1]))])
    first = {name: line for line, name in reversed(told)}
    for name, line in sorted(first.items(), key=lambda item: item[1]):
        what = f"identity {shown(name)!r}: some are whole numbers and some are not; all are taken for names"
        warnings.append(Problem("numbers and text", line, what))
    return set()


def cross_check(
    task: str, frame: pd.DataFrame, torn: set[str], problems: list[Problem], warnings: list[Problem]
) -> None:
    """Problems between rows. A name of a line or cell that could not be read (`torn`) may be anywhere: nothing is said of it."""
    unclear = torn | set(frame.loc[frame["split"].isna(), "name"])
    known = frame[frame["name"].fillna("").astype(bool).to_numpy() & frame["split"].notna().to_numpy()]
    parts = {str(split): part for split, part in known.groupby("split", sort=False)}
    sizes = {split: Counter(part["name"].tolist()) for split, part in parts.items()}
    first = {split: dict(zip(part["name"][::-1], part["line"][::-1], strict=True)) for split, part in parts.items()}
    noun = "identity" if task == "re-identification" else "class"
    nobody = distractors(frame["name"]) if noun == "identity" else set()
    for split in parts:
        names = [name for name in sizes[split] if name not in nobody]
        if len(names) == 1 and not unclear:
            kind = f"one {noun} only"
            problems.append(Problem(kind, 0, f"all {split} images are of {shown(names[0])}: two or more are needed"))
    if task == "re-identification":
        _identities(parts, sizes, first, unclear | nobody, problems, warnings)
    elif task == "classification":
        _classes(sizes, first, unclear, problems, warnings)
    else:
        _searched(sizes, first, problems, warnings)


def distractors(names: Iterable[str]) -> set[str]:
    """The identities that stand for nobody who is asked for: 0. Beside text it is refused (`mixed_names`)."""
    return {name for name in names if name and WHOLE.fullmatch(name) and whole(name) == DISTRACTOR}


def _identities(
    parts: dict[str, pd.DataFrame], sizes: dict[str, Counter[str]], first: dict[str, dict[str, int]], unclear: set[str],
    problems: list[Problem], warnings: list[Problem],
) -> None:  # fmt: skip
    for split in ("query", "gallery"):
        for name, number in sizes.get(split, Counter()).items():
            if name in first.get("train", {}) and name not in unclear:
                rows = f"{number} {split} image{'s' * (number > 1)}"
                what = f"identity {shown(name)} has {rows} and trains too (line {first['train'][name]})"
                problems.append(Problem("identity in train and test", first[split][name], what))
    if "query" not in parts:
        return
    seen: dict[str, set[int | None]] = {}
    if "gallery" in parts:
        for name, camera in zip(parts["gallery"]["name"], parts["gallery"]["camera"], strict=True):
            seen.setdefault(name, set()).add(camera)
    for line, name, camera in zip(*(parts["query"][column] for column in ("line", "name", "camera")), strict=True):
        if name not in seen and name not in unclear:
            what = f"identity {shown(name)} is not in the gallery"
            problems.append(Problem("query without a match", line, what))
        elif camera is not None and seen.get(name) == {camera} and name not in unclear:
            what = f"the gallery shows identity {shown(name)} by camera {camera} only, the query's own: it is skipped"
            warnings.append(Problem("query without another camera", line, what))


def _classes(
    sizes: dict[str, Counter[str]], first: dict[str, dict[str, int]], unclear: set[str], problems: list[Problem],
    warnings: list[Problem],
) -> None:  # fmt: skip
    train, test = sizes.get("train", Counter()), sizes.get("test", Counter())
    untrained = [name for name in test if name not in train and name not in unclear] if train else []
    for name in untrained:
        what = (
            f"class {shown(name)}: {test[name]} test and no training images, while {len(set(test) & set(train))} of "
            f"{len(test)} test classes are trained (classification: all of them; retrieval: none)"
        )
        problems.append(Problem("test class never trained", first["test"][name], what))
    for name, number in train.items():
        if number == 1:
            what = f"class {shown(name)} has one training image: none is left for validation"
            warnings.append(Problem("one training image", first["train"][name], what))
        if test and name not in test and name not in unclear:
            what = f"class {shown(name)} has no test image: its accuracy is not measured"
            warnings.append(Problem("class never tested", first["train"][name], what))


def _searched(
    sizes: dict[str, Counter[str]], first: dict[str, dict[str, int]], problems: list[Problem], warnings: list[Problem]
) -> None:
    alone = [name for name, number in sizes["test"].items() if number == 1]
    if len(alone) == len(sizes["test"]):
        problems.append(Problem("query without a match", 0, "every test class has one image: nothing can be found"))
        return
    for name in alone:
        what = f"class {shown(name)} has one test image, which has nothing to find: a miss"
        warnings.append(Problem("query without a match", first["test"][name], what))
