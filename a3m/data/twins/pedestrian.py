"""Draws one pedestrian of the Market-1501 twin as shapes. Coordinates as in `figure`."""

import math

from a3m.data.twins.figure import (
    BACKPACK,
    BAG,
    FAR_BAG,
    FOREARM,
    HAIR,
    HAND,
    HANDBAG,
    HAT,
    HEAD,
    LOWER,
    SHIN,
    SHOE,
    SLEEVE,
    TORSO,
    Pose,
    Wardrobe,
    body_width,
    hand_of,
    leg_of,
)
from a3m.data.twins.luggage import backpack, handbag, hat, shoulder_bag, straps
from a3m.data.twins.people import Person
from a3m.data.twins.scene import Shape, ellipse, limb, shade

BODY = (HEAD, HAIR, HAT, TORSO, SLEEVE, FOREARM, HAND, LOWER, SHIN, SHOE)
TOP, ARMS, LEGS = (TORSO, SLEEVE), (SLEEVE, FOREARM, HAND), (LOWER, SHIN)


def draw_pedestrian(person: Person, pose: Pose) -> list[Shape]:
    """From back to front. What is drawn differs from attribute to attribute only where that attribute shows."""
    wear = Wardrobe(person)
    attributes = person.attributes
    side = pose.turn == "side"
    shapes: list[Shape] = []
    # Left and right of the person are right and left of the image for those who face the camera.
    own_left = 1.0 if pose.turn == "front" else -1.0
    carrying = own_left if wear.traits["bag_side"] < 0.5 else -own_left
    near = carrying > 0 if not pose.mirrored else carrying < 0  # from the side: does the bag hang towards the camera?

    if attributes["backpack"] and pose.turn != "back":
        shapes += backpack(wear, pose.turn)
    if attributes["bag"] and side and not near:
        shapes += shoulder_bag(wear, pose, 1.0, behind=True)
    shapes += arm(wear, pose, far=True)
    shapes += legs(wear, pose)
    shapes += torso(wear, pose)
    shapes += head(wear, pose)
    if attributes["hair"]:
        shapes += long_hair(wear, pose)
    if attributes["hat"]:
        shapes += hat(wear, pose)
    if attributes["backpack"]:
        shapes += backpack(wear, "back") if pose.turn == "back" else straps(wear, pose)
    if attributes["bag"] and (not side or near):
        shapes += shoulder_bag(wear, pose, carrying, behind=False)
    shapes += arm(wear, pose, far=False)
    if attributes["handbag"]:
        shapes += handbag(wear, pose, -carrying)
    return shapes


def torso(wear: Wardrobe, pose: Pose) -> list[Shape]:
    """Chest and belly in the colour of the upper clothes."""
    shoulder, waist, hip = body_width(wear, pose)
    top, bottom = wear.neck - 0.005, wear.crotch
    middle = top + 0.62 * (bottom - top)
    x = wear.stoop * (1.0 if pose.turn == "side" else 0.0)
    outline = [
        *((x - 0.4 * shoulder, top - 0.01), (x + 0.4 * shoulder, top - 0.01), (x + shoulder, top + 0.025)),
        *(
            (0.97 * shoulder, top + 0.08),
            (waist, middle),
            (hip, bottom - 0.012),
            (-hip, bottom - 0.012),
            (-waist, middle),
        ),
        *((-0.97 * shoulder, top + 0.08), (x - shoulder, top + 0.025)),
    ]
    shapes = [Shape(limb((x, top - 0.03), (x, top + 0.02), 0.034, 0.04), shade(wear.skin, 0.88), HEAD)]
    shapes.append(Shape(outline, wear.upper, TORSO))
    shadow = [(0.55 * shoulder, top + 0.03), (0.97 * shoulder, top + 0.08), (waist, middle), (hip, bottom - 0.012)]
    shapes.append(Shape([*shadow, (0.5 * hip, bottom - 0.012)], shade(wear.upper, 0.84), None))
    if wear.upper_second is not None:
        for step in range(4):
            y = top + 0.05 + 0.085 * step
            band = [(-0.93 * waist, y), (0.93 * waist, y), (0.93 * waist, y + 0.04), (-0.93 * waist, y + 0.04)]
            shapes.append(Shape(band, wear.upper_second, None))
    return shapes + logo(wear, pose, shoulder, waist, top, bottom)


def logo(wear: Wardrobe, pose: Pose, shoulder: float, waist: float, top: float, bottom: float) -> list[Shape]:
    """What no attribute names: a print, a band, stripes. Some show from one side only."""
    y = top + 0.09 + 0.06 * wear.traits["logo_place"]
    if wear.logo == "chest" and pose.turn == "front":
        return [Shape(ellipse((0.45 * waist, y), 0.03, 0.022), wear.accent, None)]
    if wear.logo == "print" and pose.turn != "back":
        return [Shape(ellipse((0.0, y + 0.05), 0.6 * waist, 0.05), wear.accent, None)]
    if wear.logo == "panel" and pose.turn != "front":
        return [
            Shape(
                [(-0.6 * shoulder, top), (0.6 * shoulder, top), (0.4 * waist, y), (-0.4 * waist, y)], wear.accent, None
            )
        ]
    if wear.logo == "placket" and pose.turn == "front":
        return [
            Shape([(-0.012, top), (0.014, top), (0.014, bottom - 0.02), (-0.012, bottom - 0.02)], wear.accent, None)
        ]
    if wear.logo == "band":
        band = [(-0.97 * waist, y + 0.06), (0.97 * waist, y + 0.06), (0.97 * waist, y + 0.1), (-0.97 * waist, y + 0.1)]
        return [Shape(band, wear.accent, None)]
    if wear.logo == "stripes":
        rows = [y + 0.05 * step for step in range(4)]
        return [
            Shape(
                [(-0.92 * waist, row), (0.92 * waist, row), (0.92 * waist, row + 0.016), (-0.92 * waist, row + 0.016)],
                wear.accent,
                None,
            )
            for row in rows
        ]
    return []


def arm(wear: Wardrobe, pose: Pose, *, far: bool) -> list[Shape]:
    """From the side one arm is behind the body, one before it; else both are drawn with the near ones."""
    if pose.turn != "side" and far:
        return []
    signs = ((-1.0,) if far else (1.0,)) if pose.turn == "side" else (-1.0, 1.0)
    shapes: list[Shape] = []
    for sign in signs:
        dim = 0.8 if far else (0.9 if sign > 0 else 0.97)
        start, elbow, hand = hand_of(wear, pose, sign)
        sleeve = wear.upper_second if wear.upper_second is not None and wear.traits["logo_place"] > 0.5 else wear.upper
        cloth, skin = shade(sleeve, dim), shade(wear.skin, dim)
        if wear.attributes["up"]:
            reach = 0.45 + 0.4 * wear.traits["sleeve_hem"]
            hem = (start[0] + (elbow[0] - start[0]) * reach, start[1] + (elbow[1] - start[1]) * reach)
            shapes.append(Shape(limb(start, elbow, 0.03, 0.026), skin, FOREARM))
            shapes.append(Shape(limb(elbow, hand, 0.026, 0.02), skin, FOREARM))
            shapes.append(Shape(limb(start, hem, 0.037, 0.037), cloth, SLEEVE))
        else:
            shapes.append(Shape(limb(start, elbow, 0.037, 0.033), cloth, SLEEVE))
            shapes.append(Shape(limb(elbow, hand, 0.033, 0.028), cloth, SLEEVE))
        shapes.append(Shape(ellipse((hand[0], hand[1] + 0.012), 0.021, 0.025), skin, HAND))
    return shapes


def legs(wear: Wardrobe, pose: Pose) -> list[Shape]:
    """Legs with what is worn on them, and shoes; the far one is darker."""
    dress, short = not wear.attributes["clothes"], bool(wear.attributes["down"])
    _, waist, hip = body_width(wear, pose)
    shapes: list[Shape] = []
    for sign in (-1.0, 1.0):
        dim = 0.82 if sign < 0 else 1.0
        top, knee, ankle = leg_of(wear, pose, sign)
        cloth, skin, shoe = shade(wear.lower, dim), shade(wear.skin, dim), shade(wear.shoe, dim)
        toe = 0.06 if pose.turn == "side" else 0.012 * sign
        sole = (ankle[0] + toe, ankle[1] + 0.03)
        if short or dress:
            shapes.append(Shape(limb(top, knee, 0.048, 0.038), skin, SHIN))
            shapes.append(Shape(limb(knee, ankle, 0.037, 0.022), skin, SHIN))
            if wear.traits["trouser_hem"] > 0.62:
                sock = (ankle[0] + 0.28 * (knee[0] - ankle[0]), ankle[1] + 0.28 * (knee[1] - ankle[1]))
                shapes.append(Shape(limb(sock, ankle, 0.027, 0.024), shade((214, 214, 214), dim), None))
        if not dress:
            reach = 0.55 + 0.5 * wear.traits["trouser_hem"]
            hem = (top[0] + (knee[0] - top[0]) * reach, top[1] + (knee[1] - top[1]) * reach)
            cut = 0.056 + 0.012 * wear.traits["build"]
            if short:
                shapes.append(Shape(limb(top, hem, cut, cut), cloth, LOWER))
            else:
                shapes.append(Shape(limb(top, knee, cut, 0.045), cloth, LOWER))
                shapes.append(Shape(limb(knee, ankle, 0.044, 0.03 + 0.016 * wear.traits["trouser_hem"]), cloth, LOWER))
            if wear.traits["stripe"] > 0.68 and wear.lower_second is None:
                end = hem if short else ankle
                x = 0.032 * sign if pose.turn != "side" else 0.0
                seam = limb((top[0] + x, top[1]), (end[0] + x * 0.7, end[1]), 0.011, 0.009)
                shapes.append(Shape(seam, shade(wear.accent, dim), None))
        shapes.append(Shape(limb((ankle[0] - 0.005, ankle[1] + 0.018), sole, 0.026, 0.022), shoe, SHOE))
    if dress:
        floor = 0.9 if not short else wear.crotch + 0.13 + 0.1 * wear.traits["trouser_hem"]
        flare = hip * (1.18 + 0.25 * wear.traits["stripe"]) + abs(pose.stride) * 0.04
        skirt = [
            (-waist, wear.crotch - 0.07),
            (waist, wear.crotch - 0.07),
            (hip, wear.crotch),
            (flare, floor),
            (-flare, floor),
        ]
        shapes.append(Shape([*skirt, (-hip, wear.crotch)], wear.lower, LOWER))
        fold = [(0.3 * waist, wear.crotch), (0.6 * hip, wear.crotch), (0.8 * flare, floor), (0.35 * flare, floor)]
        shapes.append(Shape(fold, shade(wear.lower, 0.85), None))
    else:
        seat = [
            (-hip, wear.crotch - 0.05),
            (hip, wear.crotch - 0.05),
            (hip, wear.crotch + 0.03),
            (-hip, wear.crotch + 0.03),
        ]
        shapes.append(Shape(seat, wear.lower, LOWER))
    if wear.lower_second is not None:
        for step in range(3):
            y = wear.crotch + 0.02 + 0.035 * step
            shapes.append(
                Shape(
                    [(-0.8 * hip, y), (0.8 * hip, y), (0.8 * hip, y + 0.015), (-0.8 * hip, y + 0.015)],
                    wear.lower_second,
                    None,
                )
            )
    return shapes


def head(wear: Wardrobe, pose: Pose) -> list[Shape]:
    """Face and hair, or the back of the head."""
    size = wear.head
    x = wear.stoop * 1.6 if pose.turn == "side" else 0.0
    centre = (x, size + 0.004)
    volume = 1.05 + 0.14 * wear.traits["hair_volume"]
    shapes = [Shape(ellipse(centre, 0.78 * size, size), wear.skin, HEAD)]
    if pose.turn == "back":
        return [
            *shapes,
            Shape(ellipse((x, centre[1] - 0.1 * size), 0.82 * size * volume, 0.93 * size), wear.hair, HAIR),
        ]
    if pose.turn == "front":
        shapes += [
            Shape(
                ellipse((x + sign * 0.3 * size, centre[1] + 0.08 * size), 0.09 * size, 0.07 * size), (40, 34, 34), None
            )
            for sign in (-1, 1)
        ]
        fringe = centre[1] - (0.28 + 0.2 * wear.traits["hair_volume"]) * size
        cap = [
            point
            for point in ellipse(centre, 0.8 * size * volume, 1.02 * size * volume)
            if point[1] < fringe + 0.25 * size
        ]
        return [
            *shapes,
            Shape(sorted(cap, key=lambda point: math.atan2(point[1] - fringe - size, point[0] - x)), wear.hair, HAIR),
        ]
    shapes.append(Shape(ellipse((x + 0.75 * size, centre[1] + 0.15 * size), 0.16 * size, 0.13 * size), wear.skin, HEAD))
    skull = (x - 0.2 * size, centre[1] - 0.22 * size)
    return [*shapes, Shape(ellipse(skull, 0.72 * size * volume, 0.82 * size * volume, -0.5), wear.hair, HAIR)]


def long_hair(wear: Wardrobe, pose: Pose) -> list[Shape]:
    """Hair that falls below the neck, for who has it."""
    size, length = wear.head, wear.neck + 0.05 + 0.08 * wear.traits["hair_volume"]
    x = wear.stoop * 1.6 if pose.turn == "side" else 0.0
    colour = shade(wear.hair, 0.93)
    if pose.turn == "front":  # a lock on either side of the face
        locks = [
            [
                (sign * 0.62 * size, 0.45 * size),
                (sign * 0.95 * size, 0.7 * size),
                (sign * 1.15 * size, length),
                (sign * 0.55 * size, length - 0.01),
            ]
            for sign in (-1, 1)
        ]
        return [Shape(lock, colour, HAIR) for lock in locks]
    if pose.turn == "side":
        fall = [
            (x + 0.1 * size, 0.3 * size),
            (x - 0.85 * size, 0.8 * size),
            (x - 1.0 * size, length),
            (x - 0.25 * size, length - 0.02),
        ]
    else:
        fall = [
            (x - 0.85 * size, 0.8 * size),
            (x + 0.85 * size, 0.8 * size),
            (x + 0.95 * size, length),
            (x - 0.95 * size, length),
        ]
    return [Shape(fall, colour, HAIR)]


def region_parts(person: Person) -> dict[str, tuple[int, ...]]:
    """The parts that show each attribute; of what is not there, the parts at which it would be."""
    has = person.attributes
    whole = (*BODY, BACKPACK, BAG, FAR_BAG, HANDBAG)
    return {
        "gender": whole,
        "hair": (HAIR, HEAD),
        "age": whole,
        "up": ARMS,
        "down": (*LEGS, SHOE),
        "clothes": LEGS,
        "hat": (HAT,) if has["hat"] else (HAIR, HEAD),
        "backpack": (BACKPACK,) if has["backpack"] else (TORSO,),
        "bag": (BAG,) if has["bag"] else (TORSO, LOWER),
        "handbag": (HANDBAG,) if has["handbag"] else (HAND,),
        "upper_colour": TOP,
        "lower_colour": (LOWER,),
    }
