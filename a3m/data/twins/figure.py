"""One pedestrian of the Market-1501 twin before drawing: colours, measures, pose, and where the limbs are.

Coordinates: a standing person's height is 1, y runs from 0 (crown) to 1 (soles), x is 0 in the middle of the body and
grows to the right of the image. Seen from the side the person looks to +x; the camera mirrors those who look to -x.
"""

import math
from dataclasses import dataclass
from typing import Literal

from a3m.data.twins.people import LOWER_COLOURS, UPPER_COLOURS, Person
from a3m.data.twins.scene import Colour, Point, blend, shade

# Part numbers on the canvas' map.
(HEAD, HAIR, HAT, TORSO, SLEEVE, FOREARM, HAND, LOWER, SHIN, SHOE, BACKPACK, BAG, HANDBAG, FAR_BAG) = range(1, 15)

SKINS: tuple[Colour, ...] = ((238, 200, 172), (224, 182, 150), (204, 158, 124), (170, 124, 92), (122, 84, 62))
HAIRS: tuple[Colour, ...] = ((26, 22, 24), (42, 32, 30), (70, 48, 36), (104, 72, 44), (150, 112, 66))
ACCENTS: tuple[Colour, ...] = (
    *((228, 226, 220), (38, 38, 44), (196, 52, 48), (232, 140, 52), (222, 196, 74), (78, 150, 86)),
    *((66, 158, 168), (58, 92, 170), (128, 72, 146), (214, 130, 160)),
)
SHOES: tuple[Colour, ...] = ((34, 34, 38), (226, 226, 224), (96, 66, 46), (168, 50, 52), (70, 92, 140), (150, 150, 152))
LOGOS = ("none", "chest", "band", "stripes", "placket", "panel", "print")


@dataclass(frozen=True)
class Pose:
    """turn: which side the camera sees. stride, arm: swing of legs and arms, radians. lean: radians. width: factor."""

    turn: Literal["front", "back", "side"]
    mirrored: bool
    stride: float
    arm: float
    lean: float
    width: float


def pick(colours: tuple[Colour, ...], share: float) -> Colour:
    """The colour at a share from 0 to 1 of the way through `colours`."""
    return colours[min(int(share * len(colours)), len(colours) - 1)]


def tint(colour: Colour, light: float, hue: float) -> Colour:
    """Another cloth of the same colour name: light and hue in (0, 1), 0.5 leaves the colour as it is."""
    warm = 34.0 * (hue - 0.5)
    turned = (colour[0] + warm, colour[1] + 10.0 * math.sin(9.0 * hue), colour[2] - warm)
    lit = shade(turned, 0.78 + 0.44 * light)
    lift = 26.0 * (light - 0.5)
    return (max(lit[0] + lift, 4.0), max(lit[1] + lift, 4.0), max(lit[2] + lift, 4.0))


class Wardrobe:
    """The colours and measures of one person, from attributes and traits."""

    def __init__(self, person: Person) -> None:
        self.traits = traits = person.traits
        self.attributes = attributes = person.attributes
        old, young = attributes["age"] == 3, attributes["age"] == 0
        self.skin = pick(SKINS, traits["skin"])
        hair = shade(pick(HAIRS, traits["hair_shade"]), 0.85 + 0.3 * traits["hair_volume"])
        self.hair = blend(hair, (186, 186, 190), 0.8) if old else hair
        self.upper, self.upper_second = self.cloth("upper", UPPER_COLOURS, "second_shade")
        self.lower, self.lower_second = self.cloth("lower", LOWER_COLOURS, "accent")
        self.accent = shade(pick(ACCENTS, traits["accent"]), 0.8 + 0.35 * traits["accent_light"])
        self.shoe = shade(pick(SHOES, traits["shoes"]), 0.8 + 0.35 * traits["shoe_light"])
        self.bag = shade(pick(ACCENTS, traits["bag_shade"]), 0.5 + 0.5 * traits["bag_light"])
        self.backpack = shade(pick(ACCENTS, traits["backpack_shade"]), 0.55 + 0.4 * traits["bag_light"])
        self.hat = shade(pick(ACCENTS, traits["hat_shade"]), 0.9)
        self.logo = LOGOS[min(int(traits["logo"] * len(LOGOS)), len(LOGOS) - 1)]
        female = attributes["gender"] == 1
        grown = {0: 0.8, 1: 0.94, 2: 1.06, 3: 1.1}[attributes["age"]]
        build = (0.86 + 0.3 * traits["build"]) * grown
        self.shoulder = (0.108 if female else 0.132) * build
        self.waist = (0.072 if female else 0.098) * build
        self.hip = (0.102 if female else 0.098) * build
        self.head = (0.062 + 0.01 * traits["head"]) * (1.26 if young else 1.0)
        self.neck = 2.0 * self.head + 0.012
        self.crotch = 0.52 - 0.05 * (traits["legs"] - 0.5) + (0.03 if young else 0.0)
        self.stoop = 0.05 if old else 0.0

    def cloth(self, kind: str, colours: dict[str, Colour], other: str) -> tuple[Colour, Colour | None]:
        """The cloth's colour and, of a cloth that has no one colour, its second."""
        index = self.attributes[f"{kind}_colour"]
        light, hue = self.traits[f"{kind}_light"], self.traits[f"{kind}_hue"]
        if index >= 0:
            return tint(list(colours.values())[index], light, hue), None
        first = int(hue * len(ACCENTS))
        second = (first + 1 + int(self.traits[other] * (len(ACCENTS) - 1))) % len(ACCENTS)
        return shade(ACCENTS[first], 0.8 + 0.3 * light), ACCENTS[second]


def body_width(wear: Wardrobe, pose: Pose) -> tuple[float, float, float]:
    """Half widths of shoulder, waist and hip as seen from this side."""
    squeeze = (0.66 if pose.turn == "side" else 1.0) * pose.width
    return wear.shoulder * squeeze, wear.waist * (squeeze + 0.04), wear.hip * (squeeze + 0.04)


def hand_of(wear: Wardrobe, pose: Pose, sign: float) -> tuple[Point, Point, Point]:
    """Shoulder, elbow and hand of the arm on the right (+1) or left (-1) of the image; from the side, near or far."""
    shoulder, _, _ = body_width(wear, pose)
    y = wear.neck + 0.03
    if pose.turn == "side":
        swing = pose.arm * sign
        start = (wear.stoop, y + 0.005)
        elbow = (start[0] + 0.16 * math.sin(swing), y + 0.16 * math.cos(swing))
        return start, elbow, (elbow[0] + 0.15 * math.sin(swing + 0.45), elbow[1] + 0.15 * math.cos(swing + 0.45))
    out = 0.22 + 0.25 * abs(pose.arm) * (1.0 if pose.arm * sign > 0 else 0.3)
    start = (sign * (shoulder - 0.012), y)
    elbow = (start[0] + sign * 0.16 * math.sin(out), y + 0.16 * math.cos(out))
    return start, elbow, (elbow[0] + sign * 0.04 * math.cos(2.0 * pose.arm), elbow[1] + 0.14)


def leg_of(wear: Wardrobe, pose: Pose, sign: float) -> tuple[Point, Point, Point]:
    """Hip, knee and ankle."""
    _, _, hip = body_width(wear, pose)
    top, ankle = wear.crotch - 0.03, 0.955
    half = (ankle - top) / 2
    if pose.turn == "side":
        skirt = 1.0 if wear.attributes["clothes"] else 0.45 + 0.3 * wear.attributes["down"]  # narrows the step
        swing = pose.stride * sign * skirt
        knee = (half * math.sin(swing + 0.12), top + half * math.cos(swing))
        back = swing - (0.3 if swing < 0 else 0.05) * abs(swing) * 2.0
        return (0.0, top), knee, (knee[0] + half * math.sin(back), knee[1] + half * math.cos(back))
    x = sign * 0.5 * hip
    lift = 0.05 * max(pose.stride * sign, 0.0) * 2.0
    return (x, top), (x * 1.08, top + half - 0.3 * lift), (x * (0.8 + 0.2 * abs(pose.stride)), ankle - lift)
