"""Who the Market-1501 twin shows: people, their attributes and what no attribute names.

Attributes have the folded names and the value order of `UPPER_COLOURS` and so on; numbers are 0-based, -1 = none.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from a3m.data.twins.scene import Colour, generator

UPPER_COLOURS: dict[str, Colour] = {
    "black": (40, 40, 46),
    "white": (222, 222, 220),
    "red": (182, 40, 48),
    "purple": (112, 56, 132),
    "gray": (128, 130, 133),
    "blue": (52, 88, 168),
    "green": (58, 124, 72),
    "yellow": (212, 182, 66),
}
LOWER_COLOURS: dict[str, Colour] = {
    "black": (42, 42, 48),
    "white": (218, 216, 212),
    "pink": (220, 138, 164),
    "gray": (124, 126, 130),
    "blue": (62, 84, 132),
    "green": (82, 112, 72),
    "brown": (112, 80, 58),
    "yellow": (202, 174, 84),
    "purple": (104, 62, 126),
}
# The share of each colour, with the rare ones of the real set made less rare: 200 people must show them all.
UPPER_SHARES = (0.15, 0.19, 0.12, 0.09, 0.13, 0.11, 0.11, 0.10)
LOWER_SHARES = (0.20, 0.09, 0.09, 0.15, 0.17, 0.09, 0.11, 0.05, 0.05)
COLOURLESS = 0.07

ATTRIBUTES = (
    *("gender", "hair", "age", "up", "down", "clothes", "hat", "backpack", "bag", "handbag"),
    *("upper_colour", "lower_colour"),
)

# What tells two people of one signature apart. Each is a number in (0, 1), even over the population.
TRAITS = (
    *("skin", "hair_shade", "hair_volume", "build", "legs", "head", "sleeve_hem", "trouser_hem", "shoes", "shoe_light"),
    *("upper_light", "upper_hue", "lower_light", "lower_hue", "accent", "accent_light", "logo", "logo_place"),
    *("stripe", "bag_shade", "bag_light", "bag_side", "bag_size", "backpack_shade", "backpack_size", "hat_shade"),
    *("hat_form", "second_shade"),
)

Signature = tuple[int, ...]
HELD_OUT_PAIRS = 14
HELD_OUT_FAMILIES = 3  # every third family of the test people wears a pair of colours that no training person wears
SIGNATURES_A_FAMILY = 3
PEOPLE_A_SIGNATURE = (0.62, 0.28, 0.10)  # shares of signatures that one, two, three people have; real: 508 for 751


@dataclass(frozen=True)
class Person:
    """Somebody as the twin draws them: attributes that are labelled, traits that no label names, a family of look-alikes."""

    attributes: dict[str, int]
    traits: dict[str, float]
    family: int


def signature_of(attributes: dict[str, int]) -> Signature:
    """The values of all attributes in their order: people of one signature differ in traits alone."""
    return tuple(attributes[name] for name in ATTRIBUTES)


def colour_pair(attributes: dict[str, int]) -> tuple[int, int]:
    """(upper colour, lower colour), as indices."""
    return attributes["upper_colour"], attributes["lower_colour"]


def held_out_pairs(seed: int, stream: int) -> frozenset[tuple[int, int]]:
    """Pairs (upper colour, lower colour) that no training person wears."""
    pairs = len(UPPER_COLOURS) * len(LOWER_COLOURS)
    drawn = generator(seed, stream).choice(pairs, HELD_OUT_PAIRS, replace=False)
    return frozenset((int(pair) // len(LOWER_COLOURS), int(pair) % len(LOWER_COLOURS)) for pair in drawn)


def draw_attributes(rng: np.random.Generator) -> dict[str, int]:
    """One attribute set, drawn as people dress: long hair and dresses go with women, short clothes with dresses."""
    chance = rng.random(len(ATTRIBUTES) + 2)
    female = chance[0] < 0.47
    dress = female and chance[5] < 0.34
    upper = int(rng.choice(len(UPPER_SHARES), p=UPPER_SHARES))
    lower = int(rng.choice(len(LOWER_SHARES), p=np.array(LOWER_SHARES) / sum(LOWER_SHARES)))
    return {
        "gender": int(female),
        "hair": int(chance[1] < (0.75 if female else 0.08)),
        "age": int(np.searchsorted((0.08, 0.62, 0.88), chance[2])),
        "up": int(chance[3] < 0.68),
        "down": int(chance[4] < (0.7 if dress else 0.38)),
        "clothes": int(not dress),
        "hat": int(chance[6] < 0.15),
        "backpack": int(chance[7] < 0.3),
        "bag": int(chance[8] < 0.28),
        "handbag": int(chance[9] < (0.24 if female else 0.14)),
        "upper_colour": -1 if chance[10] < COLOURLESS else upper,
        "lower_colour": -1 if chance[11] < COLOURLESS else lower,
    }


def change_some(attributes: dict[str, int], rng: np.random.Generator) -> dict[str, int]:
    """A look-alike: one or two attributes drawn anew. Gender stays, and with it what goes with it."""
    names = rng.choice(ATTRIBUTES[1:], size=int(rng.integers(1, 3)), replace=False)
    fresh = draw_attributes(rng)
    changed = {**attributes, **{str(name): fresh[str(name)] for name in names}}
    if not changed["gender"]:
        changed["clothes"] = 1
    return changed


def draw_people(
    count: int, seed: int, stream: int, difficulty: float, forbidden: frozenset[tuple[int, int]], *, test: bool
) -> list[Person]:
    """`count` people in families of look-alikes.

    A family shares most attributes and, the more the greater the difficulty, what no attribute names; a signature
    belongs to one to three people. Training people never wear a pair of colours of `forbidden`; of the test people
    those of every third family do.
    """
    own = 1.0 / np.sqrt(1.0 + 0.7 * difficulty**2)  # a trait is sqrt(1 - own^2) the family's and own the person's
    people: list[Person] = []
    taken: set[Signature] = set()
    family = 0
    while len(people) < count:
        rng = generator(seed, stream, family)
        prototype = draw_attributes(rng)
        shared = rng.standard_normal(len(TRAITS))
        if test and family % HELD_OUT_FAMILIES == 0:
            upper, lower = sorted(forbidden)[int(rng.integers(len(forbidden)))]
            prototype = {**prototype, "upper_colour": upper, "lower_colour": lower}
        for member in range(SIGNATURES_A_FAMILY):
            attributes = change_some(prototype, rng) if member else prototype
            while signature_of(attributes) in taken or (not test and colour_pair(attributes) in forbidden):
                attributes = change_some(attributes, rng)
            taken.add(signature_of(attributes))
            for _ in range(int(rng.choice(3, p=PEOPLE_A_SIGNATURE)) + 1):
                mixed = np.sqrt(1.0 - own**2) * shared + own * rng.standard_normal(len(TRAITS))
                traits = dict(zip(TRAITS, ndtr(mixed).tolist(), strict=True))
                people.append(Person(attributes, traits, family))
        family += 1
    return people[:count]
