"""The near side of one car model of the twins: sheet, panes with seats behind them, doors, lamps round the corner, wheels."""

from itertools import pairwise

from a3m.data.twins.bodywork import (
    COWL,
    DECK,
    DOORS,
    EDGE,
    GLASS,
    GRILLE,
    REAR,
    ROOF_FRONT,
    ROOF_REAR,
    SHELL,
    TAIL,
    WHEELS,
    Face,
    Shell,
)
from a3m.data.twins.makes import HATCH, LAMPS, TAIL_LAMPS

LINE = 0.032  # metres: the width of a shut line


def flank(shell: Shell, open_top: bool) -> list[Face]:
    """From the sheet outwards."""
    form, length = shell.form, shell.form.length
    lower = [station for index, station in enumerate(shell.line) if not ROOF_FRONT <= index <= ROOF_REAR]
    start, end = form.cowl * length, form.rear * length
    middle = pillar(shell, start, end)
    last = min(form.axles[1] * length - 0.25, end)  # where the rear doors end
    faces = [Face([(station.x, station.w, station.z) for station in lower], "side", SHELL)]
    if open_top:
        pane = shell.pane(start + 0.1, start + 0.35 * (end - start), 0.1, "glass", GLASS)
        faces += [] if pane is None else [pane]
    else:
        faces += cabin(shell, start, middle, last, end)
    faces += doors(shell, start, middle, last)
    faces += trim(shell, end, open_top)
    faces += side_lamps(shell)
    for share in form.axles:
        faces += wheel(shell, share * length)
    edge, out, z = form.width / 2, form.width / 2 + 0.14, form.belt + 0.1
    mirror = [(start + 0.12, edge, z - 0.07), (start + 0.3, out, z - 0.06)]
    mirror += [(start + 0.3, out, z + 0.08), (start + 0.16, edge, z + 0.08)]
    return [*faces, Face(mirror, "side_low", SHELL)]


def pillar(shell: Shell, start: float, end: float) -> float:
    """x of the pillar behind the front doors, which are longer where they are the only ones."""
    model, length = shell.model, shell.form.length
    tall = model.type in ("MPV", "minibus", "SUV", "estate")
    share = (0.42 if tall else 0.5) + 0.08 * model.traits["pillar"]
    return min(start + share * (end - start), 0.56 * length) + (0.06 * length if model.doors in (2, 3) else 0.0)


def cabin(shell: Shell, start: float, middle: float, last: float, end: float) -> list[Face]:
    """Pillars and roof edge, and one pane a row of seats with what is seen of the seats through it."""
    model, line = shell.model, shell.line
    window_end = {"pickup": end - 0.12, "sports": line[ROOF_REAR].x + 0.35}.get(model.type, end)
    outline = [(station.x, station.w, station.z) for station in line[COWL : REAR + 1]]
    faces = [Face(outline, "cloth" if model.type == "convertible" else "cabin_side", SHELL)]
    panes = [(start + 0.1, middle)]
    if model.rows == 2:
        panes.append((middle + 0.09, window_end - 0.12))
    elif model.rows == 3:
        stop = max(last, middle + 0.5)
        panes += [(middle + 0.09, stop), (stop + 0.09, window_end - 0.1)]
    for row, (left, right) in enumerate(panes):
        pane = shell.pane(left, right, 0.09, "glass", GLASS)
        if pane is not None:
            faces += [pane, back(shell, row, left, right)]
    return faces


def trim(shell: Shell, end: float, open_top: bool) -> list[Face]:
    """Creases, sill or cladding, roof rails, and the gap between a pickup's cab and bed."""
    model, form, t = shell.model, shell.form, shell.model.traits
    length, low = form.length, form.clearance
    faces = []
    for step in range(model.face.creases):
        z = low + (0.62 - 0.28 * step + 0.1 * t["crease"]) * (form.belt - low)
        crease = [(0.1 * length, z - 0.04), (0.95 * length, z + 0.05 * t["belt_rise"])]
        faces += shell.stroke(crease, LINE, "crease", None)
    if abs(t["moulding"] - 0.5) > 0.2:
        z = low + 0.42 * (form.belt - low)
        paint = "chrome" if t["moulding"] > 0.5 else "black"
        faces += shell.stroke([(0.03 * length, z), (0.97 * length, z)], 0.09, paint, None)
    top = low + (form.cladding or 0.05 + 0.05 * t["skirt"]) + 0.01
    sill = [(0.06 * length, low), (0.94 * length, low), (0.94 * length, top), (0.06 * length, top)]
    faces.append(Face([shell.side(*place) for place in sill], "plastic" if form.cladding else "side_low", SHELL))
    if model.type in ("SUV", "estate") and not open_top:
        ends = (1.05 * form.roof_front * length, form.roof_rear * length)
        rail = [(x, 0.8 * form.width / 2, shell.roof_at(x) + 0.05) for x in ends]
        faces.append(Face([*rail, *((x, y, z - 0.06) for x, y, z in reversed(rail))], "rail", SHELL))
    if model.type == "pickup":
        faces += shell.stroke([(end + 0.06, form.deck), (end + 0.06, low + 0.1)], 0.05, "shut", None)
    return faces


def back(shell: Shell, row: int, left: float, right: float) -> Face:
    """Behind a pane: a seat with its headrest, or, where a row seats three, a low bench."""
    bench = row > 0 and shell.model.seats >= 5
    x = left + 0.62 * (right - left)
    room = max(shell.roof_at(x) - shell.belt_at(x), 0.1)
    base = shell.belt_at(x) + 0.03
    wide, tall = (0.34, 0.34 * room) if bench else (0.14, 0.62 * room)
    spread = min(wide, 0.42 * (right - left))
    outline = [(x - spread, base), (x + spread, base), (x + spread, base + tall), (x - 0.7 * spread, base + tall)]
    return Face([shell.side(*place) for place in outline], "seat", GLASS)


def doors(shell: Shell, start: float, middle: float, last: float) -> list[Face]:
    """Panels of the near side with shut lines and handles, and the line of the tailgate or of the boot lid."""
    model, form, t = shell.model, shell.form, shell.model.traits
    low = form.clearance + (form.cladding or 0.1)
    hinge = max(start + 0.1, form.axles[0] * form.length + form.wheel + 0.1)
    cuts = [hinge, middle] if model.doors in (2, 3) else [hinge, middle, max(last, middle + 0.45)]
    faces = []
    for left, right in pairwise(cuts):
        corners = [(left, low), (right, low), (right, shell.belt_at(right)), (left, shell.belt_at(left))]
        faces.append(Face([shell.side(*place) for place in corners], "side", DOORS))
        faces += shell.stroke([corners[3], corners[0], corners[1], corners[2]], LINE, "shut", DOORS)
        z = shell.belt_at(right) - 0.12 - 0.06 * t["handle"]
        faces += shell.stroke([(right - 0.3, z), (right - 0.08, z)], 0.055, "handle", DOORS)
    rear, deck_edge = shell.line[REAR], shell.line[DECK]
    foot = (deck_edge.x - 0.06, form.clearance + 0.35 * (form.deck - form.clearance))
    if model.doors in HATCH:
        roof_rear = shell.line[ROOF_REAR]
        path = [
            (roof_rear.x, roof_rear.z - 0.03),
            (rear.x - 0.05, rear.z),
            (deck_edge.x - 0.1, deck_edge.z - 0.02),
            foot,
        ]
    else:
        path = [(rear.x, rear.z - 0.05), (deck_edge.x - 0.08, deck_edge.z - 0.06), foot]
    return faces + shell.stroke(path, LINE, "shut", DOORS)


def side_lamps(shell: Shell) -> list[Face]:
    """Where head and tail lamps reach round the corner."""
    t, kind = shell.model.traits, LAMPS[shell.model.face.lamp]
    low, high = shell.line[GRILLE], shell.line[EDGE]
    reach = {"round": 0.06, "square": 0.16, "slit": 0.3, "swept": 0.45}[kind] * (0.7 + 0.6 * t["lamp"])
    mid = low.z + 0.45 * (high.z - low.z)
    front = [(low.x + 0.02, mid), (low.x + 0.5 * reach, mid), (high.x + reach, high.z - 0.01), (high.x - 0.04, high.z)]
    foot, top = shell.line[TAIL], shell.line[DECK]
    depth = 0.15 + 0.25 * t["tail_lamp"]
    floor = top.z - (0.75 if TAIL_LAMPS[shell.model.face.tail_lamp] == "upright" else 0.45) * (top.z - foot.z)
    rear = [(top.x - depth, top.z - 0.02), (top.x, top.z - 0.02), (foot.x - 0.03, floor), (top.x - 0.7 * depth, floor)]
    return [
        Face([shell.side(*place) for place in front], "lamp", SHELL),
        Face([shell.side(*place) for place in rear], "tail_lamp", SHELL),
    ]


def wheel(shell: Shell, axle: float) -> list[Face]:
    """A wheel, its rim and the arch above it, on the near side at `axle` metres behind the nose."""
    form, half = shell.form, shell.form.width / 2
    arch = [
        (x, half - 0.01, max(z, 0.6 * form.clearance))
        for x, _, z in shell.wheel_circle(axle, form.wheel + 0.07, half, 18)
    ]
    rim = (0.62 + 0.1 * shell.model.traits["wheel"]) * form.wheel
    faces = [
        Face(arch, "plastic" if form.cladding else "black", SHELL),
        Face(shell.wheel_circle(axle, form.wheel, half), "tyre", WHEELS),
        Face(shell.wheel_circle(axle, rim, half), "rim", WHEELS),
    ]
    if shell.model.traits["rim"] > 0.66:  # open between five spokes
        outer, inner = shell.wheel_circle(axle, 0.9 * rim, half, 20), shell.wheel_circle(axle, 0.3 * rim, half, 20)
        for first in range(0, 20, 4):
            points = [outer[first], outer[first + 1], outer[first + 2], inner[first + 1]]
            faces.append(Face(points, "tyre", WHEELS))
        return faces
    return [*faces, Face(shell.wheel_circle(axle, 0.2 * form.wheel, half, 8), "hub", WHEELS)]
