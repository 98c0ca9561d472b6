"""Rescaled guidance against the formula of its paper."""

import pytest
import torch

from lingen_kit.diffusion import DDPM, EDM, FlowMatching, Objective
from lingen_kit.diffusion.guidance import guide, rescale

OBJECTIVES = {"flow": FlowMatching(), "ddpm": DDPM(), "edm": EDM()}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_rescaling_brings_the_contrast_of_the_clean_video_back(objective: Objective) -> None:
    shape, t = (2, 3, 2, 4, 4), torch.tensor([0.3, 0.8])
    x_t, wanted, other = torch.randn(shape), torch.randn(shape), torch.randn(shape)
    conditional, negative = (objective.velocity_of_clean(clean, x_t, t) for clean in (wanted, other))
    guided = guide(conditional, negative, 4.0)
    by_hand = other + 4.0 * (wanted - other)
    torch.testing.assert_close(objective.clean(guided, x_t, t), by_hand, rtol=1e-3, atol=1e-4)
    rescaled = torch.stack([g * w.std() / g.std() for g, w in zip(by_hand, wanted, strict=True)])
    for share in (0.0, 0.7, 1.0):
        clean = objective.clean(rescale(objective, guided, conditional, x_t, t, share), x_t, t)
        torch.testing.assert_close(clean, share * rescaled + (1 - share) * by_hand, rtol=1e-3, atol=1e-3)


def test_a_network_without_an_opinion_is_rescaled_to_finite_numbers() -> None:
    objective, x_t, t = FlowMatching(prediction="x"), torch.randn(2, 3, 2, 4, 4), torch.tensor([0.3, 0.8])
    gray = objective.velocity_of_clean(torch.zeros_like(x_t), x_t, t)
    assert rescale(objective, gray, gray, x_t, t, 0.7).isfinite().all()
