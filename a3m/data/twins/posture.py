"""How one bird of the CUB-200-2011 twin sits, where its parts are, and which parts show which attribute.

Coordinates: the bird looks to +x, y runs down, (0, 0) is the middle of the body, which is about 0.6 long; the whole
bird is about 1 long. The camera mirrors and turns it.
"""

import math

from a3m.data.twins.birds import Bird
from a3m.data.twins.scene import Point

# Part numbers on the canvas' map.
(BILL, EYE, CROWN, FACE, THROAT, NAPE, BACK, BREAST, BELLY, WING, TAIL, LEG) = range(1, 13)
REGIONS: dict[str, tuple[int, ...]] = {
    "bill_shape": (BILL,),
    "wing_color": (WING,),
    "breast_pattern": (BREAST,),
    "back_color": (BACK, NAPE),
    "tail_shape": (TAIL,),
    "head_pattern": (CROWN, FACE, EYE),
    "breast_color": (BREAST,),
    "throat_color": (THROAT,),
    "eye_color": (EYE,),
    "bill_length": (BILL,),
    "belly_color": (BELLY,),
    "leg_color": (LEG,),
    "crown_color": (CROWN,),
    "wing_pattern": (WING,),
}


class Frame:
    """Where things are on this bird: the tilted body, the head, and what hangs on them."""

    def __init__(self, bird: Bird, tilt: float, nod: float) -> None:
        traits = bird.traits
        self.length = 0.29 + 0.03 * traits["body"]
        self.depth = 0.135 + 0.06 * traits["body"]
        self.tilt = tilt + 0.25 + 0.55 * traits["posture"]  # radians, head up
        self.head_size = 0.098 + 0.024 * traits["head"]
        neck = self.at(1.0, -0.42)
        self.head = (neck[0] + 0.035 * math.cos(nod), neck[1] - 0.075 + 0.05 * nod)

    def at(self, along: float, across: float) -> Point:
        """A point of the body: along its axis (1 = breast end), across it (1 = belly side), in its half axes."""
        x, y = along * self.length, across * self.depth
        return (x * math.cos(self.tilt) + y * math.sin(self.tilt), -x * math.sin(self.tilt) + y * math.cos(self.tilt))

    def arc(self, start: float, end: float, steps: int = 9, reach: float = 1.0) -> list[Point]:
        """The body's outline from one angle to another; 0 is the breast end, pi/2 the belly side."""
        angles = [start + (end - start) * i / (steps - 1) for i in range(steps)]
        return [self.at(reach * math.cos(angle), reach * math.sin(angle)) for angle in angles]

    def on_head(self, x: float, y: float) -> Point:
        """A point in head radii from the head's middle."""
        return (self.head[0] + x * self.head_size, self.head[1] + y * self.head_size)


def landmarks(
    bird: Bird, frame: Frame, feet: tuple[Point, Point], mirrored: bool
) -> dict[str, tuple[Point, tuple[int, ...]] | None]:
    """The original's 15 parts, in the bird's coordinates, with the parts that must show there; None: far side."""
    eye, leg_, wing_ = (frame.on_head(0.3, -0.08), (EYE,)), (feet[1], (LEG,)), (frame.at(-0.1, -0.05), (WING,))
    far_leg = (feet[0], (LEG,))
    return {
        "back": (frame.at(0.1, -0.85), (BACK, WING)),
        "beak": (frame.on_head(1.15, 0.12), (BILL,)),
        "belly": (frame.at(-0.1, 0.75), (BELLY,)),
        "breast": (frame.at(0.75, 0.1), (BREAST,)),
        "crown": (frame.on_head(0.0, -0.8), (CROWN,)),
        "forehead": (frame.on_head(0.65, -0.5), (CROWN, FACE)),
        "left eye": eye if mirrored else None,
        "left leg": leg_ if mirrored else far_leg,
        "left wing": wing_ if mirrored else None,
        "nape": (frame.on_head(-0.8, 0.25), (NAPE, FACE)),
        "right eye": None if mirrored else eye,
        "right leg": far_leg if mirrored else leg_,
        "right wing": None if mirrored else wing_,
        "tail": (frame.at(-1.45, 0.0), (TAIL, WING)),
        "throat": (frame.on_head(0.3, 0.85), (THROAT,)),
    }
