"""An embedding that is several embeddings end to end: how wide each is, and how they are weighted when compared.

HDC (Yuan et al., ICCV 2017) has three of equal width, BIER (Opitz et al., ICCV 2017) M learners of growing width. Network and loss
must cut at the same places.
"""

from a3m.errors import SettingsError


def even_sizes(width: int, parts: int) -> list[int]:
    """`width` in `parts` as equal as can be, wider ones first: 384 in 3 is 128, 128, 128. Raises SettingsError below 1 each."""
    if width < parts:
        raise SettingsError(f"head.d={width}: at least {parts}, one number for each of the {parts} embeddings")
    return [width // parts + (part < width % parts) for part in range(parts)]


def growing_sizes(width: int, learners: int) -> list[int]:
    """`width` in the proportion 1 : 2 : ... : M, rounded down, the rest to the last: 1024 in 3 is 170, 341, 513.

    Opitz et al. grow theirs nearly so (170, 342, 512 of 1024; 96, 160, 256 of 512). Raises SettingsError below 1 each.
    """
    whole = learners * (learners + 1) // 2
    if learners < 1 or width < whole:
        raise SettingsError(
            f"head.d={width} cannot be cut into method.loss_arguments.learners={learners} learners of growing width: "
            f"raise head.d to {max(whole, 1)} or more, or take fewer learners"
        )
    sizes = [width * (m + 1) // whole for m in range(learners)]
    return [*sizes[:-1], width - sum(sizes[:-1])]


def step_sizes(learners: int) -> list[float]:
    """eta_m = 2 / (m + 1) of online gradient boosting, m = 1 .. M; the first learner stands for itself: eta_1 = 1."""
    return [2 / (m + 1) for m in range(1, learners + 1)]


def shares(learners: int) -> list[float]:
    """What learner m contributes to s^M: eta_m times the product of (1 - eta_n) over the later n. They sum to 1."""
    found = []
    for m, eta in enumerate(step_sizes(learners)):
        for later in step_sizes(learners)[m + 1 :]:
            eta *= 1 - later
        found.append(eta)
    return found
