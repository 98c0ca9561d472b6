"""The path, the spaces and the samplers agree with each other."""

import itertools

import pytest
import torch

from lingen_kit.diffusion import FlowMatching, Sampler
from lingen_kit.diffusion.flow_matching import Space
from lingen_kit.diffusion.samplers import euler, heun, linear_quadratic_times, uniform_times

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
        solver(velocity, objective.add_noise(x, noise, times[:1].expand(4)), times), x, rtol=1e-2, atol=1e-2
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

    sample = Sampler(steps=50)(velocity, noise, first_time=objective.first_time)
    assert (sample - x).abs().max() < 1


def test_heun_is_of_second_order() -> None:
    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x * torch.cos(t)

    exact = torch.sin(torch.tensor(1.0, dtype=torch.float64)).exp()
    one = torch.ones(1, dtype=torch.float64)
    errors = {
        s: [(s(velocity, one, uniform_times(n).double()) - exact).abs().item() for n in (20, 40)] for s in (euler, heun)
    }
    assert errors[euler][0] / errors[euler][1] == pytest.approx(2, rel=0.15)
    assert errors[heun][0] / errors[heun][1] > 2.5  # its last step is Euler's, on a fraction of the interval
    assert errors[heun][1] < errors[euler][1] / 4


def test_times_follow_the_logit_normal() -> None:
    t = FlowMatching(time_mean=-1.2, time_std=0.8).times((torch.arange(1000) + 0.5) / 1000)
    logits = torch.logit(t)
    assert logits.mean().item() == pytest.approx(-1.2, abs=0.01)
    assert logits.std().item() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 250, 300])
def test_linear_quadratic_times_rise_from_0_to_1(steps: int) -> None:
    times = linear_quadratic_times(steps)
    assert len(times) == steps + 1
    assert times[0] == 0 and times[-1].item() == pytest.approx(1)
    assert (times.diff() > 0).all()


def test_linear_quadratic_times_are_those_of_movie_gen() -> None:
    times = linear_quadratic_times(50, fine_steps=1000)
    torch.testing.assert_close(times[:26], torch.arange(26) / 1000)
    growth = times[25:].diff().diff()
    torch.testing.assert_close(growth, growth.mean().expand_as(growth), rtol=1e-3, atol=1e-6)  # quadratic


@pytest.mark.parametrize("build", [lambda: FlowMatching(time_std=0), lambda: Sampler(steps=0)], ids=["std", "steps"])
def test_impossible_values_are_refused(build: object) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match="0"):
        build()
