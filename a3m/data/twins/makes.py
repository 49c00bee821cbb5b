"""What the car twins show: models, in makes with a face of their own, and what the CompCars attributes say of them.

A model is rigid: its cars differ in colour, wheels, view and light, which are drawn for every image. Types and their order
are those of CompCars (Yang et al., 2015); doors and seats are combined as its models combine them.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from a3m.data.twins.scene import generator

TYPES = (
    *("MPV", "SUV", "sedan", "hatchback", "minibus", "fastback", "estate", "pickup", "hardtop convertible", "sports"),
    *("crossover", "convertible"),
)
# (doors, seats) that a type is built with, the commonest first.
BUILDS: dict[str, tuple[tuple[int, int], ...]] = {
    "MPV": ((5, 7), (5, 5), (4, 7)),
    "SUV": ((5, 5), (5, 7), (3, 4)),
    "sedan": ((4, 5), (2, 4), (4, 4)),
    "hatchback": ((5, 5), (3, 4), (3, 2)),
    "minibus": ((5, 7), (4, 7), (5, 5)),
    "fastback": ((5, 5), (5, 4), (3, 4)),
    "estate": ((5, 5), (5, 7)),
    "pickup": ((4, 5), (2, 2)),
    "hardtop convertible": ((2, 4), (2, 2)),
    "sports": ((2, 2), (2, 4)),
    "crossover": ((5, 5), (5, 4)),
    "convertible": ((2, 4), (2, 2)),
}
# km/h and litres of the middle model of a type.
SPEEDS = dict(zip(TYPES, (182, 196, 208, 184, 152, 222, 206, 172, 226, 272, 198, 218), strict=True))
LITRES = dict(zip(TYPES, (1.9, 2.4, 2.0, 1.5, 2.2, 2.2, 2.0, 2.6, 2.3, 3.4, 1.9, 2.1), strict=True))

# What tells two models of one make and type apart: numbers in (0, 1), even over all models.
TRAITS = (
    *("length", "width", "height", "clearance", "wheel", "nose", "hood", "belt", "belt_rise", "screen", "roof", "rear"),
    *("deck", "front_overhang", "rear_overhang", "pillar", "crease", "lamp", "lamp_slant", "grille", "tail_lamp"),
    *("bumper", "skirt", "handle", "rim", "roof_trim", "frame", "bumper_trim", "tint", "moulding"),
)
HATCH = (3, 5)  # numbers of doors that count a tailgate
GRILLES = ("bar", "kidneys", "shield", "slats", "oval", "mouth")
LAMPS = ("round", "square", "slit", "swept")
TINTS = ("light", "middle", "dark")  # of the glass
TAIL_LAMPS = ("upright", "band", "round", "corner")

MAKES = (
    *("Aldora", "Brenta", "Cavell", "Dorning", "Estrel", "Falken", "Gravina", "Halberd", "Isola", "Jorvik", "Kestrel"),
    *("Lumen", "Marlow", "Nordal", "Orsova", "Pellworm", "Quarton", "Rivalta", "Stroud", "Tessin", "Umbra", "Vantor"),
    *("Westerly", "Xanthe", "Yarrow", "Zephyr"),
)
SERIES = ("A", "C", "E", "G", "K", "M", "Q", "R", "S", "T", "V", "X")
MODELS_A_LINE = 2  # models of one make and type, which only doors, seats and proportions tell apart
MOST_MODELS = 40 * len(MAKES)


@dataclass(frozen=True)
class Face:
    """What all models of a make share: indices into GRILLES, LAMPS and TAIL_LAMPS."""

    grille: int
    lamp: int
    tail_lamp: int
    creases: int


@dataclass(frozen=True)
class CarModel:
    """One class. speed (km/h) and displacement (litres) follow from the shape, with noise."""

    make: int
    name: str
    type: str
    doors: int
    seats: int
    face: Face
    traits: dict[str, float]
    speed: int
    displacement: float

    @property
    def rows(self) -> int:
        """Of seats."""
        return 1 if self.seats == 2 else 2 if self.seats < 6 else 3

    @property
    def type_id(self) -> int:
        """From 1, as car_type.mat counts."""
        return TYPES.index(self.type) + 1


def draw_models(count: int, makes: int, seed: int, stream: int, difficulty: float) -> list[CarModel]:
    """`count` models, spread evenly over `makes` makes and over the types; those of a make follow each other.

    Two models of a make that are of one type differ in doors or seats, or in proportions alone; in these the less the
    greater the difficulty.
    """
    own = 1.0 / math.sqrt(1.0 + 0.8 * difficulty**2)
    models = []
    for make in range(makes):
        shared = generator(seed, stream, make, 0)
        face = Face(*(int(shared.integers(len(kinds))) for kinds in (GRILLES, LAMPS, TAIL_LAMPS, range(3))))
        make_traits = shared.standard_normal(len(TRAITS))
        for member in range(len(range(make, count, makes))):
            line = member // MODELS_A_LINE
            turn, place = divmod(line * makes + make, len(TYPES))
            kind = TYPES[int(generator(seed, stream, makes, 1 + turn).permutation(len(TYPES))[place])]
            of_line = generator(seed, stream, make, 1, line)
            line_traits = of_line.standard_normal(len(TRAITS))
            first = min(int(of_line.exponential(0.8)), len(BUILDS[kind]) - 1)
            rng = generator(seed, stream, make, 2, member)
            other = int(member % MODELS_A_LINE > 0 and rng.random() < 0.6)
            doors, seats = BUILDS[kind][(first + other) % len(BUILDS[kind])]
            common = math.sqrt(0.3) * make_traits + math.sqrt(0.7) * line_traits
            mixed = math.sqrt(1.0 - own**2) * common + own * rng.standard_normal(len(TRAITS))
            traits = dict(zip(TRAITS, ndtr(mixed).tolist(), strict=True))
            speed, litres = performance(kind, traits, rng)
            name = f"{SERIES[(5 * make + line) % len(SERIES)]}{10 * line + 1 + 2 * (member % MODELS_A_LINE)}"
            models.append(CarModel(make, name, kind, doors, seats, face, traits, speed, litres))
    return models


def performance(kind: str, traits: dict[str, float], rng: np.random.Generator) -> tuple[int, float]:
    """(km/h, litres): a long hood and large wheels under a low roof go with power."""
    power = 2.0 * (traits["hood"] + traits["wheel"] - traits["height"] - 0.5)  # about -3 to 3
    noise = rng.standard_normal(2)
    speed = SPEEDS[kind] + 14.0 * power + 9.0 * noise[0]
    litres = LITRES[kind] + 0.35 * power + 0.2 * noise[1]
    return max(round(float(speed)), 110), max(round(float(litres), 1), 0.8)
