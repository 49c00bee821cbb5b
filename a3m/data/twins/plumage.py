"""Draws one bird of the CUB-200-2011 twin as shapes. Coordinates as in `posture`."""

import math

from a3m.data.twins.birds import COLOURS, GROUPS, Bird
from a3m.data.twins.posture import BACK, BELLY, BILL, BREAST, CROWN, EYE, FACE, LEG, NAPE, TAIL, THROAT, WING, Frame
from a3m.data.twins.scene import Colour, Point, Shape, blend, ellipse, limb, shade

BILL_LENGTHS = {"about_the_same_as_head": 0.21, "longer_than_head": 0.33, "shorter_than_head": 0.12}


def value(bird: Bird, group: str) -> str:
    """The name of the value that a bird has in a group of attributes."""
    return GROUPS[group][bird.attributes[group]]


def tone(bird: Bird, group: str, trait: str) -> Colour:
    """The group's colour as this bird has it: lighter or darker, warmer or colder."""
    warm = 26.0 * (bird.traits["hue"] - 0.5)
    red, green, blue = shade(bird.colour(group), 0.8 + 0.4 * bird.traits[trait])
    return (max(red + warm, 4.0), max(green, 4.0), max(blue - warm, 4.0))


def unnamed(bird: Bird, trait: str) -> Colour:
    """A quiet colour that no attribute names, for cheek and tail: a species' own, whatever its attributes."""
    names = ("brown", "grey", "buff", "olive", "black", "white", "rufous")
    at = bird.traits[trait] * (len(names) - 1)
    first = min(int(at), len(names) - 2)
    return blend(COLOURS[names[first]], COLOURS[names[first + 1]], at - first)


def draw_bird_shapes(bird: Bird, frame: Frame, feet: tuple[Point, Point]) -> list[Shape]:
    """From back to front. `feet`: where the far and the near foot stand."""
    return [
        *tail(bird, frame),
        *leg(bird, frame, -0.02, feet[0], 0.78),
        *body(bird, frame),
        *leg(bird, frame, 0.05, feet[1], 1.0),
        *wing(bird, frame),
        *bill(bird, frame),
        *head(bird, frame),
    ]


def tail(bird: Bird, frame: Frame) -> list[Shape]:
    """The tail with its vane and the rump, in the shape that its attribute names."""
    root, length = frame.at(-0.85, -0.15), 0.24 + 0.2 * bird.traits["tail_length"]
    down = frame.tilt - 0.12
    back: Point = (-math.cos(down), math.sin(down))
    side: Point = (math.sin(down), math.cos(down))
    spread = {"fan-shaped_tail": 0.16, "pointed_tail": 0.045, "forked_tail": 0.095, "rounded_tail": 0.09}.get(
        value(bird, "tail_shape"), 0.075
    )

    def point(along: float, across: float) -> Point:
        return (
            root[0] + along * length * back[0] + across * side[0],
            root[1] + along * length * back[1] + across * side[1],
        )

    ends = {
        "forked_tail": [(1.08, -1.0), (0.62, 0.0), (1.08, 1.0)],
        "rounded_tail": [(0.8, -1.0), (0.97, -0.6), (1.02, 0.0), (0.97, 0.6), (0.8, 1.0)],
        "fan-shaped_tail": [(0.78, -1.0), (0.92, -0.5), (0.97, 0.0), (0.92, 0.5), (0.78, 1.0)],
        "pointed_tail": [(0.6, -1.0), (1.2, 0.0), (0.6, 1.0)],
        "squared_tail": [(0.95, -1.0), (0.95, 1.0)],
    }[value(bird, "tail_shape")]
    colour = unnamed(bird, "tail_tone")
    outline = [point(-0.2, -0.05), *(point(along, across * spread) for along, across in ends), point(-0.2, 0.05)]
    rump = [point(-0.1, -0.055), point(0.22, -0.055), point(0.22, 0.06), point(-0.1, 0.06)]
    under = blend(colour, COLOURS["white"], 0.6) if bird.traits["rump"] > 0.7 else shade(colour, 1.1)
    vane = [point(0.3, 0.0), *(point(along * 0.97, across * spread * 0.12) for along, across in (ends[0], ends[-1]))]
    return [Shape(outline, colour, TAIL), Shape(vane, shade(colour, 0.75), None), Shape(rump, under, None)]


def leg(bird: Bird, frame: Frame, along: float, foot: Point, dim: float) -> list[Shape]:
    """One leg from the body to the `foot` where it stands; `dim` darkens the far one."""
    colour = shade(bird.colour("leg_color"), dim)
    top = frame.at(along, 0.75)
    heel = (0.5 * (top[0] + foot[0]) - 0.03, 0.55 * (top[1] + foot[1]) - 0.05 * top[1])
    toes = [
        limb(foot, (foot[0] + reach, foot[1] + drop), 0.013, 0.009) for reach, drop in ((0.06, 0.012), (-0.035, 0.014))
    ]
    return [
        Shape(limb(top, heel, 0.024, 0.013), colour, LEG),
        Shape(limb(heel, foot, 0.013, 0.012), colour, LEG),
        *(Shape(toe, colour, LEG) for toe in toes),
    ]


def body(bird: Bird, frame: Frame) -> list[Shape]:
    """Back, breast and belly."""
    back, breast, belly = (
        tone(bird, "back_color", "back_light"),
        tone(bird, "breast_color", "breast_light"),
        tone(bird, "belly_color", "belly_light"),
    )
    half = math.pi / 2
    shapes = [Shape(frame.arc(0.0, math.tau, 22), back, BACK)]
    shapes.append(
        Shape([*frame.arc(0.85 * half, 2.05 * half), frame.at(-0.55, 0.1), frame.at(0.25, -0.05)], belly, BELLY)
    )
    shapes.append(
        Shape([*frame.arc(-0.42 * half, 0.95 * half), frame.at(0.12, 0.3), frame.at(0.35, -0.35)], breast, BREAST)
    )
    shapes.append(
        Shape(
            [*frame.arc(0.45 * half, 1.7 * half, 9), *frame.arc(1.7 * half, 0.45 * half, 9, 0.84)],
            blend(belly, (30, 30, 34), 0.22),
            None,
        )
    )
    pattern = value(bird, "breast_pattern")
    mark = shade(breast, 0.45) if sum(breast) > 250 else blend(breast, COLOURS["white"], 0.65)
    if pattern == "spotted":
        rows = [
            (0.93, -0.1),
            (0.72, 0.02),
            (0.83, 0.3),
            (0.58, 0.32),
            (0.62, 0.62),
            (0.38, 0.55),
            (0.4, 0.8),
            (0.95, 0.12),
        ]
        shapes += [Shape(ellipse(frame.at(*at), 0.017, 0.017), mark, None) for at in rows]
    elif pattern == "striped":
        for step in range(5):
            start, end = (
                frame.at(0.95 - 0.14 * step, -0.2 + 0.1 * step),
                frame.at(0.6 - 0.14 * step, 0.35 + 0.12 * step),
            )
            shapes.append(Shape(limb(start, end, 0.01, 0.008), mark, None))
    elif pattern == "multi-colored":
        second = second_breast(bird)
        shapes.append(
            Shape([*frame.arc(0.3 * half, 0.95 * half), frame.at(0.12, 0.3), frame.at(0.5, 0.12)], second, None)
        )
    return shapes


def second_breast(bird: Bird) -> Colour:
    """A breast of several colours: below, one that is neither the breast's nor the belly's."""
    choices = [COLOURS[name] for name in ("white", "black", "rufous", "yellow")]
    used = (bird.colour("breast_color"), bird.colour("belly_color"))
    free = [colour for colour in choices if colour not in used]
    return free[int(bird.traits["second"] * 0.999 * len(free))]


def wing(bird: Bird, frame: Frame) -> list[Shape]:
    """The folded wing."""
    colour = tone(bird, "wing_color", "wing_light")
    tip = -1.0 - 0.35 * bird.traits["wing_length"]
    outline = [
        frame.at(0.62, -0.35),
        frame.at(0.45, 0.28),
        frame.at(0.0, 0.5),
        frame.at(-0.55, 0.35),
        frame.at(tip, 0.02),
    ]
    outline += [frame.at(-0.6, -0.38), frame.at(0.1, -0.68)]
    shapes = [Shape(outline, shade(colour, 0.93), WING)]
    mark = blend(colour, COLOURS["white"], 0.75) if sum(colour) < 480 else shade(colour, 0.4)
    pattern = value(bird, "wing_pattern")
    if pattern == "spotted":
        places = [(0.35, -0.3), (0.2, 0.05), (0.0, -0.35), (-0.15, 0.15), (-0.35, -0.2), (-0.55, 0.08), (0.05, 0.3)]
        shapes += [Shape(ellipse(frame.at(*at), 0.02, 0.02), mark, None) for at in places]
    elif pattern == "striped":
        for along in (0.32, 0.08):
            shapes.append(Shape(limb(frame.at(along, -0.5), frame.at(along - 0.12, 0.38), 0.015, 0.015), mark, None))
    elif pattern == "multi-colored":
        shapes.append(
            Shape(
                [
                    frame.at(-0.15, -0.55),
                    frame.at(-0.3, 0.42),
                    frame.at(-0.55, 0.35),
                    frame.at(tip, 0.02),
                    frame.at(-0.6, -0.38),
                ],
                shade(colour, 0.35),
                None,
            )
        )
        shapes.append(
            Shape([frame.at(0.62, -0.35), frame.at(0.45, 0.28), frame.at(0.3, 0.3), frame.at(0.35, -0.5)], mark, None)
        )
    for across in (-0.1, 0.12):  # flight feathers
        shapes.append(
            Shape(
                limb(frame.at(-0.1, across), frame.at(tip * 0.85, across * 0.5), 0.006, 0.004), shade(colour, 0.7), None
            )
        )
    return shapes


def bill(bird: Bird, frame: Frame) -> list[Shape]:
    """The bill, in the shape and of the length that its attributes name."""
    length = BILL_LENGTHS[value(bird, "bill_length")] / frame.head_size
    shape = value(bird, "bill_shape")
    colour = blend((52, 48, 46), (222, 150, 60), bird.traits["bill_tone"])
    thick = {"dagger": 0.26, "hooked": 0.3, "needle": 0.11, "all-purpose": 0.24, "cone": 0.46}.get(shape, 0.2) * (
        0.85 + 0.3 * bird.traits["bill_thickness"]
    )
    end = 0.85 + length
    points = {
        "curved_(up_or_down)": [
            (0.7, -thick),
            (0.85 + 0.6 * length, -0.02),
            (end, 0.35),
            (0.85 + 0.55 * length, 0.22),
            (0.7, 0.3),
        ],
        "dagger": [
            (0.7, -thick),
            (0.85 + 0.5 * length, -0.6 * thick),
            (end, 0.08),
            (0.85 + 0.5 * length, 0.75 * thick),
            (0.7, thick),
        ],
        "hooked": [
            (0.7, -thick),
            (end - 0.1, -0.8 * thick),
            (end, 0.1),
            (end - 0.12, 0.42),
            (end - 0.22, 0.12),
            (0.7, thick),
        ],
        "needle": [(0.7, -thick), (end, 0.0), (0.7, thick)],
        "all-purpose": [(0.7, -thick), (0.85 + 0.6 * length, -0.5 * thick), (end, 0.1), (0.7, thick)],
        "cone": [(0.7, -thick), (end, 0.12), (0.7, thick * 1.1)],
    }[shape]
    outline = [frame.on_head(x, y + 0.08) for x, y in points]
    return [
        Shape(outline, colour, BILL),
        Shape(limb(frame.on_head(0.75, 0.12), frame.on_head(end - 0.15, 0.14), 0.005, 0.003), shade(colour, 0.5), None),
    ]


def head(bird: Bird, frame: Frame) -> list[Shape]:
    """Head, eye and what is around it."""
    size = frame.head_size
    back, crown, throat = (
        tone(bird, "back_color", "back_light"),
        tone(bird, "crown_color", "crown_light"),
        tone(bird, "throat_color", "throat_light"),
    )
    breast = tone(bird, "breast_color", "breast_light")
    pattern = value(bird, "head_pattern")
    face = unnamed(bird, "cheek")
    nape = [frame.on_head(-0.85, -0.35), frame.on_head(-0.2, 0.2), frame.at(0.55, -0.55), frame.at(0.3, -0.92)]
    front = [frame.on_head(0.55, 0.75), frame.on_head(-0.6, 0.4), frame.at(0.6, -0.5), frame.at(0.98, -0.1)]
    shapes = [
        Shape(front, breast, BREAST),
        Shape(nape, shade(back, 0.75 + 0.45 * bird.traits["nape"]), NAPE),
        Shape([frame.on_head(math.cos(a), math.sin(a)) for a in [math.tau * i / 20 for i in range(20)]], face, FACE),
        Shape(
            [
                frame.on_head(*point)
                for point in ((0.93, 0.3), (0.5, 0.92), (0.1, 1.25), (-0.35, 1.0), (0.1, 0.55), (0.6, 0.35))
            ],
            throat,
            THROAT,
        ),
    ]
    low = 0.12 if pattern == "capped" else -0.22
    start = math.asin(low)
    cap = [
        frame.on_head(math.cos(a), math.sin(a))
        for a in [math.pi - start + (math.pi + 2 * start) * i / 11 for i in range(12)]
    ]
    shapes.append(Shape(cap, shade(crown, 0.8 if pattern == "capped" else 1.0), CROWN))
    if pattern == "crested":
        crest = [frame.on_head(0.5, -0.8), frame.on_head(-0.75, -1.75), frame.on_head(-0.95, -0.35)]
        shapes.append(Shape(crest, crown, CROWN))
    elif pattern == "masked":
        mask = [
            frame.on_head(0.98, -0.2),
            frame.on_head(0.95, 0.3),
            frame.on_head(-0.2, 0.32),
            frame.on_head(-0.75, 0.1),
            frame.on_head(-0.2, -0.32),
        ]
        dark = (26, 24, 26) if sum(face) > 190 else (214, 208, 196)
        shapes.append(Shape(mask, dark, None))
    elif pattern == "eyebrow":
        light = (236, 232, 214) if sum(crown) < 560 else (60, 50, 44)
        shapes.append(
            Shape(limb(frame.on_head(0.85, -0.33), frame.on_head(-0.7, -0.4), 0.13 * size, 0.1 * size), light, None)
        )
    elif pattern == "eyering":
        light = (240, 238, 230) if sum(face) < 560 else (70, 56, 48)
        shapes.append(Shape(ellipse(frame.on_head(0.3, -0.08), 0.36 * size, 0.36 * size), light, None))
    eye = frame.on_head(0.3, -0.08)
    shapes.append(Shape(ellipse(eye, 0.225 * size, 0.225 * size), bird.colour("eye_color"), EYE))
    shapes.append(Shape(ellipse(eye, 0.11 * size, 0.11 * size), (14, 14, 16), None))
    return shapes
