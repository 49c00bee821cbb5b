"""What the CUB-200-2011 twin shows: species, in genera of look-alikes, and how their birds differ from image to image.

Groups and values are those of the original's attributes.txt (14 of its 28 groups, the commoner of their values), in its
order. An attribute value is an index into its group.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from a3m.data.twins.scene import Colour, generator

COLOURS: dict[str, Colour] = {
    "blue": (62, 104, 178),
    "brown": (108, 80, 58),
    "rufous": (166, 84, 44),
    "grey": (136, 138, 142),
    "yellow": (224, 196, 62),
    "olive": (120, 122, 70),
    "green": (72, 130, 76),
    "pink": (222, 150, 160),
    "orange": (224, 130, 48),
    "black": (40, 40, 44),
    "white": (230, 228, 222),
    "red": (188, 46, 46),
    "buff": (206, 180, 140),
}
PLUMAGE = ("blue", "brown", "rufous", "grey", "yellow", "olive", "orange", "black", "white", "red", "buff")
PATTERNS = ("solid", "spotted", "striped", "multi-colored")
GROUPS: dict[str, tuple[str, ...]] = {
    "bill_shape": ("curved_(up_or_down)", "dagger", "hooked", "needle", "all-purpose", "cone"),
    "wing_color": PLUMAGE,
    "breast_pattern": PATTERNS,
    "back_color": PLUMAGE,
    "tail_shape": ("forked_tail", "rounded_tail", "fan-shaped_tail", "pointed_tail", "squared_tail"),
    "head_pattern": ("crested", "masked", "eyebrow", "eyering", "plain", "capped"),
    "breast_color": PLUMAGE,
    "throat_color": PLUMAGE,
    "eye_color": ("brown", "yellow", "black", "white", "red"),
    "bill_length": ("about_the_same_as_head", "longer_than_head", "shorter_than_head"),
    "belly_color": PLUMAGE,
    "leg_color": ("grey", "yellow", "pink", "orange", "black"),
    "crown_color": PLUMAGE,
    "wing_pattern": PATTERNS,
}
PLUMAGE_GROUPS = tuple(name for name, values in GROUPS.items() if values is PLUMAGE)

# What tells species of one genus apart beyond their attributes: numbers in (0, 1), even over all species.
TRAITS = (
    *(
        "body",
        "tail_length",
        "head",
        "posture",
        "bill_thickness",
        "bill_tone",
        "wing_length",
        "wing_light",
        "back_light",
    ),
    *(
        "breast_light",
        "belly_light",
        "crown_light",
        "throat_light",
        "hue",
        "cheek",
        "nape",
        "rump",
        "second",
        "leg_length",
        "tail_tone",
    ),
)

ADJECTIVES = (
    *("Ashy", "Bold", "Coastal", "Dusky", "Eastern", "Fallow", "Golden", "Hooded", "Island", "Jade", "Lesser", "Marsh"),
    *("Northern", "Ochre", "Pale", "Quiet", "River", "Southern", "Tawny", "Upland", "Valley", "Western"),
)
NOUNS = (
    *(
        "Warbler",
        "Sparrow",
        "Finch",
        "Bunting",
        "Thrush",
        "Wren",
        "Flycatcher",
        "Vireo",
        "Tanager",
        "Oriole",
        "Swallow",
    ),
    *("Grosbeak", "Shrike", "Jay", "Lark", "Pipit", "Towhee", "Starling", "Waxwing", "Kingfisher"),
)
SPECIES_A_GENUS = 4
MOST_CLASSES = len(ADJECTIVES) * len(NOUNS)


@dataclass(frozen=True)
class Species:
    """One class. `plumages`: attribute values of its bright and of its dull birds (sexes, ages)."""

    name: str
    plumages: tuple[dict[str, int], dict[str, int]]
    dull_share: float
    traits: dict[str, float]


@dataclass(frozen=True)
class Bird:
    """One individual: the attributes that this image shows, were nothing hidden."""

    attributes: dict[str, int]
    traits: dict[str, float]

    def colour(self, group: str) -> Colour:
        """The colour that its attribute of a group, such as wing_color, stands for."""
        return COLOURS[GROUPS[group][self.attributes[group]]]


def draw_genus(rng: np.random.Generator) -> dict[str, int]:
    """Attribute values, group -> index into GROUPS, from which the species of a genus differ in a few."""
    values = {name: int(rng.integers(len(values))) for name, values in GROUPS.items()}
    tied = rng.random(4)  # birds are seldom of a different colour everywhere
    for share, (first, second) in zip(
        tied,
        (
            ("wing_color", "back_color"),
            ("belly_color", "breast_color"),
            ("throat_color", "breast_color"),
            ("crown_color", "back_color"),
        ),
        strict=True,
    ):
        if share < 0.4:
            values[first] = values[second]
    return values


def change(values: dict[str, int], groups: list[str], rng: np.random.Generator) -> dict[str, int]:
    """The same bird with these groups drawn anew, each to another value."""
    changed = dict(values)
    for name in groups:
        changed[name] = (values[name] + int(rng.integers(1, len(GROUPS[name])))) % len(GROUPS[name])
    return changed


def draw_species(count: int, seed: int, stream: int, difficulty: float) -> list[Species]:
    """`count` species in genera of four. Those of a genus differ in one to four attributes, and in traits: the less
    the greater the difficulty; the greater it is, the more also differ birds of one species.
    """
    own = 1.0 / math.sqrt(1.0 + 0.8 * difficulty**2)
    species = []
    names = sorted(GROUPS)
    for index in range(count):
        genus, member = divmod(index, SPECIES_A_GENUS)
        shared = generator(seed, stream, genus, 0)
        prototype = draw_genus(shared)
        genus_traits = shared.standard_normal(len(TRAITS))
        order = [names[i] for i in shared.permutation(len(names))]
        rng = generator(seed, stream, genus, 1 + member)
        # Every member changes a group of its own, so that no two of a genus have the same attributes.
        extra = int(rng.binomial(3, 1.0 / (1.0 + difficulty)))
        others = [
            name for name in rng.choice(names, extra, replace=False).tolist() if name not in order[:SPECIES_A_GENUS]
        ]
        bright = change(prototype, [order[member], *others], rng)
        fading = rng.choice(PLUMAGE_GROUPS, int(rng.integers(1, 4)), replace=False).tolist()
        dull = change(bright, fading, rng)
        two_plumages = float(rng.random()) < 0.55
        mixed = math.sqrt(1.0 - own**2) * genus_traits + own * rng.standard_normal(len(TRAITS))
        species.append(
            Species(
                name=f"{ADJECTIVES[(7 * genus + member * 3) % len(ADJECTIVES)]}_{NOUNS[genus % len(NOUNS)]}",
                plumages=(bright, dull),
                dull_share=0.4 * min(difficulty, 1.5) if two_plumages else 0.0,
                traits=dict(zip(TRAITS, ndtr(mixed).tolist(), strict=True)),
            )
        )
    return species


def draw_bird(species: Species, difficulty: float, rng: np.random.Generator) -> Bird:
    """One bird of a species: its plumage, now and then a moulted part, and proportions about the species' own."""
    attributes = dict(species.plumages[int(rng.random() < species.dull_share)])
    moult = rng.random(len(PLUMAGE_GROUPS))
    moulted = change(attributes, list(PLUMAGE_GROUPS), rng)
    for name, chance in zip(PLUMAGE_GROUPS, moult, strict=True):
        if chance < 1.0 - math.exp(-0.025 * difficulty):
            attributes[name] = moulted[name]
    spread = 0.1 * difficulty
    shifts = np.clip(rng.standard_normal(len(TRAITS)), -2.0, 2.0).tolist()
    traits = {
        name: min(max(species.traits[name] + spread * shift, 0.0), 1.0)
        for name, shift in zip(TRAITS, shifts, strict=True)
    }
    return Bird(attributes, traits)
