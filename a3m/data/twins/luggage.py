"""What pedestrians of the Market-1501 twin carry: hat, backpack, bag, handbag. Coordinates as in `figure`."""

from a3m.data.twins.figure import (
    ACCENTS,
    BACKPACK,
    BAG,
    FAR_BAG,
    HANDBAG,
    HAT,
    Pose,
    Wardrobe,
    body_width,
    hand_of,
    pick,
)
from a3m.data.twins.scene import Shape, limb, shade


def hat(wear: Wardrobe, pose: Pose) -> list[Shape]:
    """A hat on the head, with its brim to where the person looks."""
    size = wear.head
    x = wear.stoop * 1.6 if pose.turn == "side" else 0.0
    brim = 0.62 * size
    crown = [
        (x - 0.92 * size, brim),
        (x - 0.85 * size, 0.0),
        (x - 0.4 * size, -0.32 * size),
        (x + 0.4 * size, -0.32 * size),
    ]
    crown += [(x + 0.85 * size, 0.0), (x + 0.92 * size, brim)]
    shapes = [Shape(crown, wear.hat, HAT)]
    reach = (
        (1.25, 1.25)
        if wear.traits["hat_form"] > 0.6
        else {"front": (0.9, 0.9), "side": (0.6, 1.55), "back": (0.0, 0.0)}[pose.turn]
    )
    if max(reach):
        rim = [
            (x - reach[0] * size, brim),
            (x + reach[1] * size, brim),
            (x + reach[1] * size, brim + 0.2 * size),
            (x - reach[0] * size, brim + 0.2 * size),
        ]
        shapes.append(Shape(rim, shade(wear.hat, 0.8), HAT))
    return shapes


def backpack(wear: Wardrobe, turn: str) -> list[Shape]:
    """The backpack as far as it is seen from this side; its straps are `straps`."""
    size = 0.85 + 0.3 * wear.traits["backpack_size"]
    y, bottom = wear.neck + 0.015, wear.neck + 0.015 + 0.24 * size
    width = 0.085 * size
    if turn == "side":
        x = -0.55 * wear.shoulder
        bulge = [(x, y), (x - 0.075 * size, y + 0.03), (x - 0.095 * size, bottom - 0.03), (x, bottom)]
        return [Shape(bulge, wear.backpack, BACKPACK)]
    if turn == "front":
        # Only what stands out beside the body.
        return [
            Shape(
                [
                    (-width * 1.5, y + 0.07),
                    (width * 1.5, y + 0.07),
                    (width * 1.5, bottom - 0.03),
                    (-width * 1.5, bottom - 0.03),
                ],
                wear.backpack,
                BACKPACK,
            )
        ]
    outline = [
        (-0.75 * width, y),
        (0.75 * width, y),
        (width, y + 0.05),
        (width, bottom),
        (-width, bottom),
        (-width, y + 0.05),
    ]
    pocket = [
        (-0.7 * width, bottom - 0.09),
        (0.7 * width, bottom - 0.09),
        (0.7 * width, bottom - 0.02),
        (-0.7 * width, bottom - 0.02),
    ]
    return [Shape(outline, wear.backpack, BACKPACK), Shape(pocket, shade(wear.backpack, 0.75), None)]


def straps(wear: Wardrobe, pose: Pose) -> list[Shape]:
    """The straps of a backpack over the chest."""
    y = wear.neck + 0.012
    if pose.turn == "side":
        strap = limb((-0.012, y), (-0.03, y + 0.15), 0.014, 0.012)
        return [Shape(strap, shade(wear.backpack, 0.85), BACKPACK)]
    shoulder = wear.shoulder * pose.width
    return [
        Shape(
            limb((sign * 0.55 * shoulder, y), (sign * 0.7 * shoulder, y + 0.17), 0.015, 0.012),
            shade(wear.backpack, 0.9),
            BACKPACK,
        )
        for sign in (-1, 1)
    ]


def shoulder_bag(wear: Wardrobe, pose: Pose, sign: float, *, behind: bool) -> list[Shape]:
    """A bag on a strap from the other shoulder, at the hip on the side `sign` of the image; behind, too little shows."""
    part = FAR_BAG if behind else BAG
    shoulder, _, hip = body_width(wear, pose)
    size = 0.8 + 0.4 * wear.traits["bag_size"]
    y = wear.crotch - 0.03
    x = 0.02 if pose.turn == "side" else sign * (hip + 0.005)
    if behind:
        x -= 0.05
    width, height = 0.058 * size, 0.075 * size
    strap = limb(
        (-0.4 * shoulder * sign if pose.turn != "side" else -0.02, wear.neck + 0.005),
        (x, y - height + 0.02),
        0.01,
        0.01,
    )
    pouch = [
        (x - width, y - height),
        (x + width, y - height),
        (x + 1.1 * width, y + height),
        (x - 1.1 * width, y + height),
    ]
    flap = [
        (x - width, y - height),
        (x + width, y - height),
        (x + width, y - 0.15 * height),
        (x - width, y - 0.15 * height),
    ]
    return [
        Shape(strap, shade(wear.bag, 0.7), part),
        Shape(pouch, wear.bag, part),
        Shape(flap, shade(wear.bag, 0.8), None),
    ]


def handbag(wear: Wardrobe, pose: Pose, sign: float) -> list[Shape]:
    """In the hand on the side `sign` of the image; from the side in the near one."""
    _, _, hand = hand_of(wear, pose, 1.0 if pose.turn == "side" else sign)
    size = 0.8 + 0.4 * wear.traits["bag_size"]
    x, y = hand[0], hand[1] + 0.04
    colour = shade(pick(ACCENTS, (wear.traits["bag_shade"] + 0.37) % 1.0), 0.6 + 0.4 * wear.traits["bag_light"])
    width, height = 0.05 * size, 0.08 * size
    bag = [(x - 0.8 * width, y), (x + 0.8 * width, y), (x + width, y + height), (x - width, y + height)]
    return [
        Shape(limb((x, hand[1]), (x, y + 0.01), 0.01, 0.022), shade(colour, 0.7), HANDBAG),
        Shape(bag, colour, HANDBAG),
    ]
