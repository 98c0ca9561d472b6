"""Times of the steps, and options of a sampler."""

import pytest
import torch

from lingen_kit.diffusion import DDPM, EDM, FlowMatching, Sampler
from lingen_kit.diffusion.schedules import karras_times, linear_quadratic_times, schedule_times

OBJECTIVES = {"flow": FlowMatching(), "flow noise": FlowMatching(prediction="noise"), "ddpm": DDPM(), "edm": EDM()}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("schedule", ["uniform", "linear_quadratic", "karras"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 300])
def test_times_rise_from_the_first_to_1(objective, schedule: str, steps: int) -> None:
    if schedule == "karras" and isinstance(objective, FlowMatching):
        return
    times = schedule_times(schedule, objective, steps, 7.0)
    assert times.dtype == torch.float32 and len(times) == steps + 1
    assert times[0].item() == pytest.approx(objective.first_time, abs=1e-6) and times[-1].item() == pytest.approx(1)
    assert (times.diff() > 0).all()


def test_linear_quadratic_times_are_those_of_movie_gen() -> None:
    times = linear_quadratic_times(50, fine_steps=1000)
    torch.testing.assert_close(times[:26], torch.arange(26) / 1000)
    growth = times[25:].diff().diff()
    torch.testing.assert_close(growth, growth.mean().expand_as(growth), rtol=1e-3, atol=1e-6)  # quadratic


def test_karras_times_are_the_noise_levels_of_edm() -> None:
    objective = EDM(sigma_min=0.002, sigma_max=80)
    sigma = objective.point(karras_times(objective, 18)).sigma
    i = torch.arange(18)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7  # arXiv 2206.00364, Eq. 5
    torch.testing.assert_close(sigma[:-1], expected, rtol=1e-3, atol=0)
    assert sigma[-1] == 0


@pytest.mark.parametrize(
    "objective", [FlowMatching(), DDPM(prediction="v", zero_terminal_snr=True)], ids=["flow", "zero snr"]
)
def test_pure_noise_has_no_level_to_space(objective) -> None:
    with pytest.raises(ValueError, match=r"karras.*pure noise.*linear_quadratic"):
        Sampler(schedule="karras").check(objective)
    Sampler(schedule="karras").check(EDM())


def test_a_changed_sampler_differs_in_what_is_given() -> None:
    sampler = Sampler(method="heun", steps=7, guidance=3.0)
    changed = sampler.changed(steps=9, guidance=None, guidance_interval=[0.1, 0.4])
    assert vars(changed) == vars(sampler) | {"steps": 9, "guidance_interval": (0.1, 0.4)}
    with pytest.raises(ValueError, match="steps 0"):
        sampler.changed(steps=0)


WRONG = [
    ({"method": "rk4"}, "method 'rk4'.*euler, heun, ddim, dpmpp_2m"),
    ({"schedule": "cosine"}, "schedule 'cosine'.*uniform, linear_quadratic, karras"),
    ({"steps": 0}, "steps 0"),
    ({"guidance": float("nan")}, "guidance nan"),
    ({"guidance_interval": (0.6, 0.2)}, "0.6 to 0.2"),
    ({"guidance_rescale": 1.5}, "guidance_rescale 1.5"),
    ({"rho": 0.0}, "rho 0.0"),
    ({"method": "ddim", "eta": -0.1}, "eta -0.1"),
    ({"eta": 0.5}, "eta 0.5.*not of euler"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_impossible_values_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampler(**options)
