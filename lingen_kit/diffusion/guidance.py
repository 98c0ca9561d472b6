"""Classifier-free guidance (arXiv 2207.12598) and its rescaling (arXiv 2305.08891).

Letters: B batch, C channels, T frames, H height, W width.
"""

from torch import Tensor

from lingen_kit.diffusion.objective import Objective, expand


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Move a prediction away from the unconditional one (or that of a negative prompt); scale 1 leaves it.

    Velocities, clean videos and noises at one x_t are affine in each other: guiding any of them guides all.
    """
    return unconditional + scale * (conditional - unconditional)


def rescale(objective: Objective, guided: Tensor, conditional: Tensor, x_t: Tensor, t: Tensor, share: float) -> Tensor:
    """Take back what guidance adds to the contrast of the clean video (arXiv 2305.08891, Sec. 3.4).

    Args:
        objective: What the velocities belong to.
        guided: Guided velocity `(B, C, T, H, W)`.
        conditional: Velocity without guidance, shaped alike.
        x_t: Where on the path.
        t: Times `(B,)`.
        share: How far the standard deviation of each guided clean video goes to that of the conditional one: 0 not at
            all, 1 all the way.

    Returns:
        The velocity of the rescaled clean video.
    """
    clean = objective.clean(guided, x_t, t)
    wanted = objective.clean(conditional, x_t, t).flatten(1).std(1)
    # The floor: an untrained network may say that all is gray.
    ratio = expand(wanted / clean.flatten(1).std(1).clamp(min=1e-8))
    return objective.velocity_of_clean(share * ratio * clean + (1 - share) * clean, x_t, t)
