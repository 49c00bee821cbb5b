"""The body of one car model as faces in space, to be seen from any side.

Metres: x from the front bumper to the rear, y from the middle to the side that is seen, z up. `Body.faces` are in the order in
which they are painted when the car is seen from its front half, or from its rear half.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from a3m.data.twins.makes import CarModel

SHELL, DOORS, GLASS, WHEELS = 1, 2, 3, 4
REGIONS = {"doors": (DOORS,), "seats": (GLASS,), "type": (SHELL, DOORS, GLASS, WHEELS)}

Place = tuple[float, float, float]


class Face(NamedTuple):
    """A filled polygon. paint: a key of the image's colours; slope: (nx, nz) of what faces it, None: always drawn."""

    points: Sequence[Place]
    paint: str
    part: int | None
    slope: tuple[float, float] | None = None


class Station(NamedTuple):
    """A point of the middle line from the front bumper over the roof to the rear bumper; w: half width there."""

    x: float
    z: float
    w: float


@dataclass(frozen=True)
class Form:
    """Measures of a type in metres; `cowl` to `rear` are shares of the length."""

    length: float
    width: float
    height: float
    clearance: float
    wheel: float
    nose: float
    belt: float
    cowl: float
    roof_front: float
    roof_rear: float
    rear: float
    deck: float
    axles: tuple[float, float]
    cladding: float = 0.0


FORMS: dict[str, Form] = {
    "MPV": Form(4.6, 1.82, 1.74, 0.2, 0.33, 0.84, 1.06, 0.15, 0.33, 0.88, 0.975, 1.12, (0.165, 0.8)),
    "SUV": Form(4.6, 1.9, 1.82, 0.33, 0.41, 1.03, 1.2, 0.28, 0.38, 0.87, 0.965, 1.22, (0.18, 0.8), 0.14),
    "sedan": Form(4.75, 1.8, 1.46, 0.19, 0.33, 0.74, 0.96, 0.29, 0.42, 0.66, 0.82, 1.03, (0.18, 0.78)),
    "hatchback": Form(4.0, 1.76, 1.5, 0.19, 0.32, 0.76, 0.98, 0.25, 0.4, 0.83, 0.965, 1.04, (0.175, 0.82)),
    "minibus": Form(5.1, 1.9, 2.2, 0.24, 0.35, 0.94, 1.22, 0.07, 0.16, 0.97, 0.99, 1.3, (0.16, 0.78)),
    "fastback": Form(4.6, 1.82, 1.42, 0.18, 0.35, 0.72, 0.94, 0.31, 0.45, 0.6, 0.945, 1.0, (0.18, 0.79)),
    "estate": Form(4.8, 1.8, 1.47, 0.19, 0.33, 0.75, 0.96, 0.28, 0.41, 0.885, 0.97, 1.02, (0.175, 0.77)),
    "pickup": Form(5.2, 1.9, 1.82, 0.36, 0.42, 1.05, 1.2, 0.26, 0.35, 0.555, 0.6, 1.14, (0.17, 0.78), 0.1),
    "hardtop convertible": Form(4.5, 1.8, 1.4, 0.18, 0.34, 0.73, 0.94, 0.31, 0.44, 0.6, 0.72, 1.0, (0.185, 0.79)),
    "sports": Form(4.4, 1.88, 1.2, 0.13, 0.37, 0.58, 0.82, 0.37, 0.52, 0.62, 0.86, 0.92, (0.195, 0.8)),
    "crossover": Form(4.4, 1.84, 1.6, 0.27, 0.38, 0.9, 1.08, 0.27, 0.41, 0.69, 0.955, 1.16, (0.18, 0.8), 0.16),
    "convertible": Form(4.3, 1.78, 1.36, 0.17, 0.33, 0.72, 0.92, 0.31, 0.43, 0.58, 0.72, 0.97, (0.185, 0.79)),
}


def form_of(model: CarModel) -> Form:
    """The type's measures as this model has them."""
    base = FORMS[model.type]
    t = {name: 2.0 * value - 1.0 for name, value in model.traits.items()}
    height = base.height * (1.0 + 0.06 * t["height"])
    belt = base.belt * (1.0 + 0.06 * t["belt"])
    cowl = base.cowl * (1.0 + 0.2 * t["hood"])
    rear = min(base.rear + 0.035 * t["rear"] * (base.rear < 0.9), 0.99)
    return Form(
        length=base.length * (1.0 + 0.08 * t["length"]),
        width=base.width * (1.0 + 0.03 * t["width"]),
        height=height,
        clearance=base.clearance * (1.0 + 0.25 * t["clearance"]),
        wheel=base.wheel * (1.0 + 0.13 * t["wheel"]),
        nose=base.nose * (1.0 + 0.1 * t["nose"]),
        belt=belt,
        cowl=cowl,
        roof_front=base.roof_front + 0.7 * (cowl - base.cowl) + 0.035 * t["screen"],
        roof_rear=min(base.roof_rear + 0.04 * t["roof"], rear - 0.02),
        rear=rear,
        deck=max(base.deck * (1.0 + 0.06 * t["deck"]), belt) + 0.03 * t["belt_rise"],
        axles=(base.axles[0] + 0.025 * t["front_overhang"], base.axles[1] - 0.03 * t["rear_overhang"]),
        cladding=base.cladding,
    )


def stations(form: Form, bumper: float) -> list[Station]:
    """Twelve points: bottom, bumper, grille, hood edge, hood, cowl, roof (three), rear window's foot, deck edge, and the tail."""
    half, length, low = form.width / 2, form.length, form.clearance
    rise = form.nose - low
    return [
        Station(0.03 * length, low, 0.88 * half),
        Station(0.0, low + (0.3 + 0.12 * bumper) * rise, 0.87 * half),
        Station(0.006 * length, low + (0.5 + 0.1 * bumper) * rise, 0.88 * half),
        Station(0.04 * length, form.nose, 0.91 * half),
        Station((0.04 + form.cowl) / 2 * length, (form.nose + form.belt) / 2 + 0.035, 0.96 * half),
        Station(form.cowl * length, form.belt, half),
        Station(form.roof_front * length, form.height - 0.05, 0.8 * half),
        Station((form.roof_front + form.roof_rear) / 2 * length, form.height, 0.78 * half),
        Station(form.roof_rear * length, form.height - 0.04, 0.79 * half),
        Station(form.rear * length, form.deck, 0.97 * half),
        Station(0.988 * length, form.deck - 0.05, 0.92 * half),
        Station(length, low + 0.42 * (form.deck - low), 0.89 * half),
        Station(0.975 * length, low, 0.88 * half),
    ]


BOTTOM, BUMPER, GRILLE, EDGE, HOOD, COWL, ROOF_FRONT, ROOF, ROOF_REAR, REAR, DECK, TAIL, REAR_BOTTOM = range(13)


class Shell:
    """Places on a car's outside, from the stations of its middle line."""

    def __init__(self, model: CarModel) -> None:
        self.model = model
        self.form = form_of(model)
        self.line = stations(self.form, model.traits["bumper"])

    def slope(self, first: int, last: int | None = None) -> tuple[float, float]:
        """(nx, nz) of the strip between two stations."""
        a, b = self.line[first], self.line[first + 1 if last is None else last]
        return a.z - b.z, b.x - a.x

    def on(self, first: int, along: float, across: float) -> Place:
        """On the strip from station `first` to the next; across from -1 (far) to 1 (near)."""
        a, b = self.line[first], self.line[first + 1]
        return (a.x + along * (b.x - a.x), across * (a.w + along * (b.w - a.w)), a.z + along * (b.z - a.z))

    def patch(
        self,
        first: int,
        box: tuple[float, float, float, float],
        paint: str,
        part: int | None = SHELL,
        lift: float = 0.0,
    ) -> Face:
        """A rectangle (along, along, across, across) on a strip; lift leans its far end outwards, for slanted lamps."""
        low, high, left, right = box
        outward = math.copysign(lift, left + right)
        points = [self.on(first, low, left), self.on(first, low, right)]
        points += [self.on(first, high, right + outward), self.on(first, high, left + outward)]
        return Face(points, paint, part, self.slope(first))

    def disc(self, first: int, at: tuple[float, float], radius: tuple[float, float], paint: str) -> Face:
        """A disc on the strip from station `first`: its centre `at` (along, across) and its half axes `radius`."""
        points = [
            self.on(
                first,
                at[0] + radius[0] * math.sin(math.tau * i / 10),
                at[1] + radius[1] * math.cos(math.tau * i / 10),
            )
            for i in range(10)
        ]
        return Face(points, paint, SHELL, self.slope(first))

    def strip(self, first: int, paint: str, part: int | None = SHELL) -> Face:
        """The whole strip from station `first` to the next."""
        return self.patch(first, (0.0, 1.0, -1.0, 1.0), paint, part)

    def side(self, x: float, z: float) -> Place:
        """On the near side: it leans inwards above the belt."""
        form, half = self.form, self.form.width / 2
        lean = 0.2 * max(z - form.belt, 0.0) / (form.height - form.belt)
        ends = 0.1 * max(0.0, 1.0 - x / (0.06 * form.length), 1.0 - (form.length - x) / (0.06 * form.length))
        return (x, half * (1.0 - lean - ends), z)

    def roof_at(self, x: float) -> float:
        """Height of the cabin's outline at x."""
        line = self.line[COWL : REAR + 1]
        return float(np.interp(x, [station.x for station in line], [station.z for station in line]))

    def belt_at(self, x: float) -> float:
        """Height of the belt line in metres, x metres behind the nose."""
        a, b = self.line[COWL], self.line[REAR]
        return a.z + (b.z - a.z) * (x - a.x) / (b.x - a.x)

    def pane(self, start: float, end: float, inset: float, paint: str, part: int | None) -> Face | None:
        """Side glass from x `start` to `end` under the roof line; None where nothing is left."""
        bends = [station.x for station in self.line[ROOF_FRONT : ROOF_REAR + 1]]
        upper = [end, *(x for x in reversed(bends) if start < x < end), start]
        heights = [max(self.roof_at(x) - inset, self.belt_at(x) + 0.02) for x in upper]
        if end - start < 0.08 or max(heights) < self.belt_at(start) + 0.1:
            return None
        lower = [(start, self.belt_at(start) + 0.02), (end, self.belt_at(end) + 0.02)]
        return Face([self.side(x, z) for x, z in (*lower, *zip(upper, heights, strict=True))], paint, part)

    def stroke(self, points: Sequence[tuple[float, float]], width: float, paint: str, part: int | None) -> list[Face]:
        """Lines on the near side."""
        faces = []
        for (x1, z1), (x2, z2) in pairwise(points):
            length = math.hypot(x2 - x1, z2 - z1) or 1e-9
            dx, dz = -(z2 - z1) / length * width / 2, (x2 - x1) / length * width / 2
            corners = ((x1 + dx, z1 + dz), (x2 + dx, z2 + dz), (x2 - dx, z2 - dz), (x1 - dx, z1 - dz))
            faces.append(Face([self.side(x, z) for x, z in corners], paint, part))
        return faces

    def wheel_circle(self, axle: float, radius: float, side: float, sides: int = 16) -> list[Place]:
        """The corners of a circle about a wheel's centre, in the vertical plane at distance `side` from the middle."""
        z = self.form.wheel
        angles = [math.tau * i / sides for i in range(sides)]
        return [(axle + radius * math.cos(a), side, z + radius * math.sin(a)) for a in angles]
