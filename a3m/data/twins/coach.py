"""Builds one car model of the twins from its shell: panels, glass, seats behind it, doors, lamps, grille and wheels."""

import math
from dataclasses import dataclass

import numpy as np

from a3m.data.twins.bodywork import (
    BOTTOM,
    BUMPER,
    COWL,
    DECK,
    DOORS,
    EDGE,
    GLASS,
    GRILLE,
    HOOD,
    REAR,
    ROOF,
    ROOF_FRONT,
    ROOF_REAR,
    SHELL,
    TAIL,
    WHEELS,
    Face,
    Shell,
)
from a3m.data.twins.flank import flank
from a3m.data.twins.makes import GRILLES, HATCH, LAMPS, TAIL_LAMPS, TINTS, CarModel


@dataclass(frozen=True)
class Outline:
    """Faces flattened: points (N, 3), where each face ends, and per face paint, part and slope (nan: always drawn)."""

    points: np.ndarray
    ends: list[int]
    paints: list[str]
    parts: list[int | None]
    slopes: np.ndarray


@dataclass(frozen=True)
class Body:
    """One model with its roof shut or open; `front`: for views from ahead, `rear`: from behind."""

    length: float
    width: float
    height: float
    front: Outline
    rear: Outline


def build_body(model: CarModel, *, open_top: bool = False) -> Body:
    """All faces of a model. open_top: a convertible without its roof."""
    shell = Shell(model)
    groups = [nose(shell), [shell.strip(EDGE, "top"), shell.strip(HOOD, "top")], windscreen(shell, open_top)]
    if open_top:
        groups += [seats(shell, row) for row in range(model.rows)]
    else:
        groups += [roof(shell), rear_window(shell)]
    groups += [deck(shell, open_top), tail(shell)]
    under = [*underside(shell), *(cockpit(shell) if open_top else [])]
    near = flank(shell, open_top)
    finish = trim_paints(model)
    outlines = [
        flatten([*under, *(face for group in order for face in group), *near], finish)
        for order in (groups[::-1], groups)
    ]
    return Body(shell.form.length, shell.form.width, shell.form.height, outlines[0], outlines[1])


def trim_paints(model: CarModel) -> dict[str, str]:
    """What a model paints otherwise than in the car's colour: black roofs, frames and bumpers, tinted glass, dark rims."""
    t = model.traits
    tint = TINTS[min(int(t["tint"] * len(TINTS)), len(TINTS) - 1)]
    finish = {name: f"{name}_{tint}" for name in ("glass", "screen", "rear_screen", "seat", "seat_dark")}
    if t["roof_trim"] > 0.62:
        finish["roof"] = "black"
    if t["frame"] > 0.5:
        finish |= {"cabin_side": "black", "pillar": "black"}
    if t["bumper_trim"] > 0.55:
        finish |= {"front_low": "plastic", "end_low": "plastic", "side_low": "plastic"}
    if t["rim"] < 0.33:
        finish["rim"] = "rim_dark"
    return finish


def flatten(faces: list[Face], finish: dict[str, str]) -> Outline:
    """Faces as one outline of arrays; `finish` names the paint that a kind of surface has on this car."""
    return Outline(
        points=np.array([point for face in faces for point in face.points]),
        ends=np.cumsum([len(face.points) for face in faces]).tolist(),
        paints=[finish.get(face.paint, face.paint) for face in faces],
        parts=[face.part for face in faces],
        slopes=np.array([face.slope or (math.nan, math.nan) for face in faces]),
    )


def underside(shell: Shell) -> list[Face]:
    """Far wheels, tyres as seen from ahead or behind, and the dark below the body."""
    form, half = shell.form, shell.form.width / 2
    faces = []
    axles = [share * form.length for share in form.axles]
    for axle in axles:
        faces.append(Face(shell.wheel_circle(axle, form.wheel, -half), "tyre", WHEELS))
    low = form.clearance + 0.12
    dark = [(axles[0] - form.wheel, 0.8 * half, low), (axles[1] + form.wheel, 0.8 * half, low)]
    dark += [(axles[1], 0.8 * half, form.clearance * 0.7), (axles[0], 0.8 * half, form.clearance * 0.7)]
    faces.append(Face(dark, "black", None))
    for axle in axles:
        for inner, outer in ((-half, -half + 0.22), (half - 0.22, half - 0.02)):
            faces.append(
                Face([(axle, inner, 0), (axle, outer, 0), (axle, outer, low), (axle, inner, low)], "tyre", WHEELS)
            )
    return faces


def nose(shell: Shell) -> list[Face]:
    """Bumper, grille, lamps and plate: what is seen from the front."""
    model, t = shell.model, shell.model.traits
    faces = [shell.strip(BOTTOM, "front_low"), shell.strip(BUMPER, "front"), shell.strip(GRILLE, "front")]
    if shell.form.cladding:
        faces.append(shell.patch(BOTTOM, (0.0, 0.45, -1.0, 1.0), "plastic"))
    faces.append(shell.patch(BOTTOM, (0.45, 0.8, -0.62, 0.62), "black"))
    size = 0.7 + 0.6 * t["grille"]
    kind = GRILLES[model.face.grille]
    if kind == "bar":
        faces.append(shell.patch(GRILLE, (0.3, 0.3 + 0.35 * size, -0.55, 0.55), "black"))
        faces.append(shell.patch(GRILLE, (0.4, 0.5, -0.55, 0.55), "chrome"))
    elif kind == "kidneys":
        for left in (-0.28 * size, 0.04):
            right = left + 0.24 * size
            faces.append(shell.patch(GRILLE, (0.05, 0.85, left - 0.03, right + 0.03), "chrome"))
            faces.append(shell.patch(GRILLE, (0.15, 0.75, left, right), "black"))
    elif kind == "shield":
        faces.append(shell.patch(GRILLE, (0.0, 0.8, -0.34 * size, 0.34 * size), "black"))
        faces.append(shell.patch(BUMPER, (0.0, 1.0, -0.27 * size, 0.27 * size), "black"))
        faces.append(shell.patch(GRILLE, (0.3, 0.5, -0.08, 0.08), "chrome"))
    elif kind == "slats":
        faces.append(shell.patch(GRILLE, (0.05, 0.9, -0.42 * size, 0.42 * size), "black"))
        for step in range(4):
            left = (-0.34 + 0.2 * step) * size
            faces.append(shell.patch(GRILLE, (0.1, 0.85, left, left + 0.09 * size), "chrome"))
    elif kind == "oval":
        faces.append(shell.disc(GRILLE, (0.4, 0.0), (0.42, 0.33 * size), "chrome"))
        faces.append(shell.disc(GRILLE, (0.4, 0.0), (0.32, 0.29 * size), "black"))
    else:
        faces.append(shell.patch(BUMPER, (-0.4, 0.9, -0.5 * size, 0.5 * size), "black"))
        faces.append(shell.disc(GRILLE, (0.5, 0.0), (0.16, 0.05), "chrome"))
    wide, lift = 0.16 + 0.1 * t["lamp"], 0.1 * t["lamp_slant"]
    for sign in (-1.0, 1.0):
        lamp = LAMPS[model.face.lamp]
        if lamp == "round":
            faces.append(shell.disc(GRILLE, (0.5, 0.74 * sign), (0.42, 0.9 * wide), "black"))
            faces.append(shell.disc(GRILLE, (0.5, 0.74 * sign), (0.34, 0.7 * wide), "lamp"))
            continue
        inner, outer = sorted((sign * 0.97, sign * (0.97 - 1.9 * wide)))
        low, high = {"square": (0.25, 0.9), "slit": (0.5, 0.82), "swept": (0.45, 1.0)}[lamp]
        faces.append(shell.patch(GRILLE, (low, high, inner, outer), "lamp", lift=lift if lamp == "swept" else 0.0))
        if lamp == "square":
            faces.append(shell.patch(GRILLE, (0.4, 0.7, inner + 0.05, inner + 0.11), "black"))
    faces.append(shell.patch(BUMPER, (-0.5, 0.2, -0.26, 0.26), "plate"))
    return faces


def heads(shell: Shell, first: int, row: int, size: float) -> list[Face]:
    """Headrests of a row behind a window: two, or three where the row seats three."""
    third = row > 0 and shell.model.seats >= 5
    places = (-0.55, 0.0, 0.55) if third else (-0.42, 0.42)
    wide = (0.13 if third else 0.19) * size
    forward = first == COWL
    low, high = (0.1, 0.1 + 0.5 * size) if forward else (0.9 - 0.55 * size, 0.9)
    return [shell.patch(first, (low, high, at - wide, at + wide), "seat", GLASS) for at in places]


def windscreen(shell: Shell, open_top: bool) -> list[Face]:
    """The windscreen with the heads behind it; on an open car it is drawn whichever way it faces."""
    faces = [shell.strip(COWL, "pillar"), shell.patch(COWL, (0.05, 0.94, -0.9, 0.9), "screen", GLASS)]
    if shell.model.rows > 1 and not open_top:
        faces += heads(shell, COWL, 1, 0.6)
    if not open_top:
        faces += heads(shell, COWL, 0, 0.95)
        return faces
    return [face._replace(slope=None) for face in faces]


def roof(shell: Shell) -> list[Face]:
    """The roof, of cloth on a convertible."""
    kind = shell.model.type
    paint = "cloth" if kind == "convertible" else "roof"
    faces = [shell.strip(ROOF_FRONT, paint), shell.strip(ROOF, paint)]
    if kind == "hardtop convertible":
        faces += [shell.patch(first, (0.92, 1.0, -1.0, 1.0), "black") for first in (ROOF_FRONT, ROOF)]
    return faces


def rear_window(shell: Shell) -> list[Face]:
    """The rear window, a part of the last door where the body opens there."""
    kind = shell.model.type
    cloth = kind == "convertible"
    part = DOORS if shell.model.doors in HATCH else SHELL
    faces = [shell.strip(ROOF_REAR, "cloth" if cloth else "pillar", part)]
    edge = 0.6 if cloth else 0.86
    low, high = (0.2, 0.7) if cloth else (0.08, 0.9)
    if kind in ("MPV", "SUV", "minibus", "estate", "hatchback", "crossover"):
        high = 0.86
    faces.append(shell.patch(ROOF_REAR, (low, high, -edge, edge), "rear_screen", GLASS))
    if not cloth:
        faces += heads(shell, ROOF_REAR, shell.model.rows - 1, 0.6)
    if kind in ("hatchback", "SUV", "crossover", "MPV"):
        faces.append(shell.patch(ROOF_REAR, (-0.06, 0.08, -0.9, 0.9), "top"))  # the lip over the window
    return faces


def seats(shell: Shell, row: int) -> list[Face]:
    """Of an open car: backs of a row, seen over the doors."""
    form = shell.form
    start, end = form.cowl * form.length, form.rear * form.length
    x = start + (0.56 + 0.3 * row) * (end - start)
    belt, half = shell.belt_at(x), form.width / 2
    places = ((-0.44, 0.3), (0.44, 0.3)) if row == 0 or shell.model.seats < 5 else ((-0.5, 0.2), (0.0, 0.2), (0.5, 0.2))
    faces = []
    for at, wide in places:
        for low, high, width in ((belt - 0.15, belt + 0.16, wide), (belt + 0.16, belt + 0.3, 0.55 * wide)):
            left, right = (at - width) * half, (at + width) * half
            for where, paint in ((x + 0.1, "seat_dark"), (x, "seat")):
                faces.append(
                    Face(
                        [(where, left, low), (where, right, low), (where, right, high), (where, left, high)],
                        paint,
                        GLASS,
                    )
                )
            flank = [(x, right, low), (x + 0.1, right, low), (x + 0.1, right, high), (x, right, high)]
            faces.append(Face(flank, "seat_dark", GLASS))
    return faces


def cockpit(shell: Shell) -> list[Face]:
    """The floor of an open car, from belt to deck."""
    form, half = shell.form, 0.9 * shell.form.width / 2
    start, end = form.cowl * form.length, form.rear * form.length
    floor = [(start, -half, form.belt), (end, -half, form.deck), (end, half, form.deck), (start, half, form.belt)]
    return [Face(floor, "cabin", SHELL)]


def deck(shell: Shell, open_top: bool) -> list[Face]:
    """The lid behind the cabin: boot, bed of a pickup, or folded cloth."""
    model = shell.model
    faces = [shell.strip(REAR, "top", DOORS if model.doors in HATCH else SHELL)]
    if model.type == "pickup":
        faces.append(shell.patch(REAR, (0.03, 0.95, -0.86, 0.86), "bed"))
    elif open_top:
        faces.append(shell.patch(REAR, (0.0, 0.35, -0.9, 0.9), "cloth"))
    elif model.type == "sports":
        faces.append(shell.patch(REAR, (0.7, 1.0, -1.0, 1.0), "black"))
    return faces


def tail(shell: Shell) -> list[Face]:
    """The rear end with its lamps and plate."""
    model, t = shell.model, shell.model.traits
    part = DOORS if model.doors in HATCH else SHELL
    faces = [shell.strip(DECK, "end", part), shell.strip(TAIL, "end_low")]
    if shell.form.cladding:
        faces.append(shell.patch(TAIL, (0.4, 1.0, -1.0, 1.0), "plastic"))
    size = 0.75 + 0.5 * t["tail_lamp"]
    kind = TAIL_LAMPS[model.face.tail_lamp]
    if kind == "band":
        faces.append(shell.patch(DECK, (0.15, 0.15 + 0.28 * size, -0.95, 0.95), "tail_lamp"))
    for sign in (-1.0, 1.0):
        left, right = sorted((sign * 0.97, sign * (0.97 - 0.3 * size)))
        if kind == "upright":
            left, right = sorted((sign * 0.97, sign * (0.97 - 0.17 * size)))
            faces.append(shell.patch(DECK, (0.0, 0.8, left, right), "tail_lamp"))
        elif kind == "round":
            faces.append(shell.disc(DECK, (0.4, 0.76 * sign), (0.26 * size, 0.13 * size), "tail_lamp"))
        elif kind == "corner":
            faces.append(shell.patch(DECK, (0.1, 0.6, left, right), "tail_lamp"))
            faces.append(shell.patch(DECK, (0.3, 0.42, left, right), "lamp"))
    if model.doors in HATCH or model.type == "minibus":
        lines = [(0.0, 0.95, -0.78, -0.74), (0.0, 0.95, 0.74, 0.78), (0.9, 0.96, -0.78, 0.78)]
        if model.doors not in HATCH:
            lines.append((0.0, 0.95, -0.02, 0.02))  # two wings instead of a tailgate
    else:
        lines = [(0.05, 0.12, -0.85, 0.85), (0.66, 0.73, -0.62, 0.62)]
    faces += [shell.patch(DECK, box, "shut", DOORS) for box in lines]
    faces.append(shell.patch(DECK, (0.42, 0.72, -0.24, 0.24), "plate"))
    faces.append(shell.patch(TAIL, (0.5, 0.85, -0.6, 0.6), "black"))
    return faces
