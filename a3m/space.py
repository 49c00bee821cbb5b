"""The space of a study whose rows are methods: a table of the paper.

A row is a point: setting paths and their values; `method` names a method, `recipe: modern` stands for the settings of section
`modern`, `seeds` for seeds of its own. A table holds the paper's rows with all seeds of the study, then the groups that the
study's setting `groups` names, with `beside_seeds`, then what the profile puts beside.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from a3m.settings import Rows

Point = Mapping[str, Any]

# Baseline-2 and A3M when the attribute labels say nothing, and Baseline-1 with as many parameters as A3M (docs/differences.md).
CONTROLS: list[Point] = [
    {"method": "baseline2", "train.shuffle_attributes": True},
    {"method": "a3m", "train.shuffle_attributes": True},
    {"method": "baseline1", "baseline1.feature": "wide"},
]
WIDE: list[Point] = CONTROLS[2:]  # all that retrieval has: there are no attribute labels to shuffle


def methods(*names: str, recipe: str | None = None) -> list[Point]:
    """One row a method, in the paper's recipe or the `modern` one."""
    return [{"method": name} if recipe is None else {"method": name, "recipe": recipe} for name in names]


def rows(
    section: Rows,
    main: Sequence[Point],
    *,
    comparators: Sequence[Point] = (),
    controls: Sequence[Point] = (),
    modern: Sequence[Point] = (),
) -> list[Point]:
    """All rows of a table in the order in which they are trained; `section` is the study's section of the settings."""
    groups = {"comparators": comparators, "controls": controls, "modern": modern}
    further = [point for name in section.groups for point in groups[name]]
    own = {} if section.beside_seeds is None else {"seeds": list(section.beside_seeds)}
    return [*main, *section.beside, *({**own, **point} for point in further)]


def retrieval(section: Rows) -> list[Point]:
    """The rows of Tables 4 and 5: A3M without attribute labels, since there are none; K and the embedding's size as sensitivity."""
    sensitivity: list[Point] = [
        *({"method": "a3m_unlabelled", "head.attributes": K} for K in (12, 5)),
        *({"method": "a3m_unlabelled", "head.d": d} for d in (128, 512)),
    ]
    comparators = [*sensitivity, *methods("npair", "lifted", "hdc", "bier", "proxy_anchor")]
    modern = methods("baseline1", "a3m_unlabelled", "proxy_anchor", recipe="modern")
    main = methods("baseline1", "a3m_unlabelled")
    return rows(section, main, comparators=comparators, controls=WIDE, modern=modern)
