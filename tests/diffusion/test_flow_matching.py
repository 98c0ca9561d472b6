"""Flow matching: the path, the spaces and the samplers agree with each other."""

import itertools
import math

import pytest
import torch

from lingen_kit.diffusion import FlowMatching, Sampler
from lingen_kit.diffusion.flow_matching import Space
from lingen_kit.diffusion.schedules import uniform_times
from lingen_kit.diffusion.solvers import euler, heun

SPACES: list[Space] = ["x", "velocity", "noise"]
SHAPE = (4, 3, 2, 4, 4)


def _truth(space: Space, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    return {"x": x, "noise": noise, "velocity": x - (1 - 1e-5) * noise}[space]


@pytest.mark.parametrize(("prediction", "loss_space"), list(itertools.product(SPACES, SPACES)))
def test_the_truth_has_no_loss_and_an_error_has_the_loss_of_its_space(prediction: Space, loss_space: Space) -> None:
    objective = FlowMatching(prediction=prediction, loss_space=loss_space)
    x, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    t = torch.tensor([0.2, 0.4, 0.6, 0.8])
    x_t = objective.add_noise(x, noise, t)
    assert objective.loss(_truth(prediction, x, noise), x, noise, x_t, t).abs().max() < 1e-8

    # An error of 0.1 in the predicted space, carried by hand through x_t = t x + b noise into the space of the loss.
    b = 1 - (1 - 1e-5) * t
    in_x = {"x": torch.ones(4), "velocity": b, "noise": -b / t}[prediction]
    to_loss = {"x": torch.ones(4), "velocity": 1 / b, "noise": -t / b}[loss_space]
    loss = objective.loss(_truth(prediction, x, noise) + 0.1, x, noise, x_t, t)
    torch.testing.assert_close(loss, (0.1 * in_x * to_loss) ** 2, rtol=1e-3, atol=1e-7)


def test_the_loss_stays_bounded_next_to_the_data() -> None:
    objective = FlowMatching(prediction="x", loss_space="velocity", min_denominator=0.05)
    x, noise, t = torch.randn(SHAPE), torch.randn(SHAPE), torch.full((4,), 0.9999)
    loss = objective.loss(x + 0.1, x, noise, objective.add_noise(x, noise, t), t)
    torch.testing.assert_close(loss, torch.full((4,), (0.1 / 0.05) ** 2))


@pytest.mark.parametrize("prediction", SPACES)
@pytest.mark.parametrize("solver", [euler, heun], ids=["euler", "heun"])
def test_a_perfect_network_is_sampled_exactly(prediction: Space, solver: object) -> None:
    """With a single video as data, the true velocity field leads from any noise to that video in any steps."""
    objective = FlowMatching(prediction=prediction)
    x, noise = torch.randn(SHAPE), torch.randn(SHAPE)

    def velocity(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        t = t.expand(4)
        b = (1 - (1 - 1e-5) * t)[:, None, None, None, None]
        noise_now = (x_t - t[:, None, None, None, None] * x) / b
        return objective.velocity(_truth(prediction, x, noise_now), x_t, t.clamp(min=1e-6))

    times = uniform_times(8).clamp(min=objective.first_time)
    assert callable(solver)
    torch.testing.assert_close(
        solver(objective, velocity, objective.add_noise(x, noise, times[:1].expand(4)), times), x, rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize("prediction", SPACES)
def test_a_slightly_wrong_network_is_sampled_slightly_wrong(prediction: Space) -> None:
    """Whatever is predicted, an error of the network must not grow without bound on its way to the sample."""
    objective = FlowMatching(prediction=prediction)
    x, noise = torch.randn(SHAPE), torch.randn(SHAPE)

    def velocity(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        t = t.expand(4)
        b = (1 - (1 - 1e-5) * t)[:, None, None, None, None]
        noise_now = (x_t - t[:, None, None, None, None] * x) / b
        return objective.velocity(_truth(prediction, x, noise_now) + 0.01, x_t, t)

    sample = Sampler(steps=50)(objective, velocity, iter([noise]))
    assert (sample - x).abs().max() < 1


def test_times_follow_the_logit_normal() -> None:
    t = FlowMatching(time_mean=-1.2, time_std=0.8).times((torch.arange(1000) + 0.5) / 1000)
    logits = torch.logit(t)
    assert logits.mean().item() == pytest.approx(-1.2, abs=0.01)
    assert logits.std().item() == pytest.approx(0.8, abs=0.01)


def test_other_distributions_of_times() -> None:
    quantiles = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    assert torch.equal(FlowMatching(time_distribution="uniform").times(quantiles), quantiles)
    t = FlowMatching(time_distribution="cosmap").times(quantiles)
    density = 2 / (math.pi - 2 * math.pi * t + 2 * math.pi * t**2)  # arXiv 2403.03206, Eq. 21
    torch.testing.assert_close(1e-3 / t.diff(), (density[1:] + density[:-1]) / 2, rtol=1e-4, atol=0)


def test_the_path_and_the_loss_keep_their_numbers() -> None:
    """Quickstart's objective and solver, bit for bit as written out by hand."""
    objective = FlowMatching(prediction="x", time_mean=-1.2)
    x, noise, output, t = torch.randn(SHAPE), torch.randn(SHAPE), torch.randn(SHAPE), torch.rand(4)
    by = t[:, None, None, None, None]
    x_t = by * x + (1 - (1 - 1e-5) * by) * noise
    assert torch.equal(objective.add_noise(x, noise, t), x_t)
    denominator = (1 - (1 - 1e-5) * by).clamp(min=0.05)
    error = (output - (1 - 1e-5) * x_t) / denominator - (x - (1 - 1e-5) * x_t) / denominator
    assert torch.equal(objective.loss(output, x, noise, x_t, t), error.square().flatten(1).mean(1))

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return objective.velocity(torch.sin(x), x, t.expand(4))

    by_hand, times = noise, torch.linspace(0, 1, 6)
    for now, then in itertools.pairwise(times):
        slope = (torch.sin(by_hand) - (1 - 1e-5) * by_hand) / (1 - (1 - 1e-5) * now.expand(4)).clamp(min=1e-6)[0]
        by_hand = by_hand + (then - now) * slope
    assert torch.equal(Sampler(schedule="uniform", steps=5)(objective, velocity, iter([noise])), by_hand)


@pytest.mark.parametrize(
    "options",
    [
        {"time_std": 0.0},
        {"min_denominator": 0.0},
        {"prediction": "eps"},
        {"loss_space": "y"},
        {"time_distribution": "n"},
    ],
    ids=str,
)
def test_impossible_values_are_refused(options: dict) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} .*{value}"):
        FlowMatching(**options)
