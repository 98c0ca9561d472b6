"""Solvers: their order on data whose flow is known, and the trajectories of diffusers' schedulers."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from lingen_kit.diffusion import DDPM, EDM, FlowMatching, Objective, Sampler
from lingen_kit.diffusion.solvers import ddim, dpmpp_2m, euler, heun

# diffusers turns tensors into arrays in a way that numpy means to give up.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ORDERS = {"euler": (euler, 1), "heun": (heun, 2), "ddim": (lambda *args: ddim(*args, 0.0, iter(())), 1),
          "dpmpp_2m": (dpmpp_2m, 2)}  # fmt: skip
OBJECTIVES = {
    "flow": FlowMatching(),
    "ddpm": DDPM(betas="linear", prediction="v", zero_terminal_snr=True),
    "edm": EDM(),
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize(("solver", "order"), ORDERS.values(), ids=ORDERS)
def test_the_error_falls_with_the_order(objective: Objective, solver: Callable, order: int) -> None:
    """Of Gaussian data N(m, s^2) the mean given x_t is linear, and the flow keeps (x_t - alpha m) / std(x_t)."""
    m, s = 0.3, 0.4

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        p = objective.point(t)
        clean = m + p.alpha * s**2 / (p.alpha**2 * s**2 + p.sigma**2) * (x - p.alpha * m)
        return objective.velocity_of_clean(clean, x, t)

    def error(steps: int) -> float:
        times = torch.linspace(0.25, 0.85, steps + 1, dtype=torch.float64)
        first, last = objective.point(times[0]), objective.point(times[-1])
        widths = [(p.alpha**2 * s**2 + p.sigma**2).sqrt() for p in (first, last)]
        x = torch.tensor([-1.0, 0.1, 2.0], dtype=torch.float64)
        exact = last.alpha * m + widths[1] / widths[0] * (x - first.alpha * m)
        return (solver(objective, velocity, x, times) - exact).abs().max().item()

    errors = [error(60), error(120)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)
    assert errors[1] < {1: 2e-2, 2: 1e-3}[order]


@pytest.mark.parametrize("objective", [FlowMatching(), EDM()], ids=["flow", "edm"])
def test_ddim_is_euler_on_straight_paths(objective: Objective) -> None:
    noise = torch.randn(2, 3)
    first, second = (Sampler(method=method, steps=7)(objective, lambda x, t: torch.sin(x), iter([noise]))
                     for method in ("euler", "ddim"))  # fmt: skip
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_ancestral_noise_keeps_the_distribution(objective: Objective) -> None:
    """With noise in every step as without, the samples of a perfect network are spread as the data are."""
    s = 0.5

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        p = objective.point(t)
        return objective.velocity_of_clean(p.alpha * s**2 / (p.alpha**2 * s**2 + p.sigma**2) * x, x, t)

    def draws() -> Iterator[Tensor]:
        while True:
            yield torch.randn(4000)

    for eta in (0.0, 1.0):
        samples = Sampler(method="ddim", steps=100, eta=eta)(objective, velocity, draws())
        assert samples.std().item() == pytest.approx(s, rel=0.07)


@pytest.fixture(scope="module")
def schedulers() -> object:
    """The schedulers of diffusers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports is no business of ours
        return pytest.importorskip("diffusers.schedulers")


def _walk(scheduler: Any, network: Callable[[Tensor, Tensor], Tensor], noise: Tensor) -> Tensor:
    scheduler.set_timesteps(20)
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


def _network(x: Tensor, t: Tensor) -> Tensor:
    """Looks at a step of 0 to 999 as well."""
    return torch.sin(2 * x) + 0.3 * torch.cos(t / 300 + x)


def _ours(objective: Objective, network: Callable, noise: Tensor, fresh: Sequence[Tensor] = (), **options) -> Tensor:
    def velocity(x: Tensor, t: Tensor) -> Tensor:
        seen, _ = objective.network_input(x, t.expand(len(x)))
        return objective.velocity(network(seen, 1000 * (1 - t) - 1), x, t.expand(len(x)))

    return Sampler(steps=20, **options)(objective, velocity, iter([noise, *fresh]))


SHAPE = (2, 1, 2, 3, 3)
DDPMS = {
    "epsilon linear": {"prediction": "epsilon", "betas": "linear"},
    "v scaled_linear": {"prediction": "v", "betas": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "x cosine": {"prediction": "x", "betas": "cosine"},
    "v zero snr": {"prediction": "v", "betas": "linear", "zero_terminal_snr": True},
}
THEIRS = {"epsilon": "epsilon", "v": "v_prediction", "x": "sample", "cosine": "squaredcos_cap_v2"}


def _theirs(options: dict) -> dict:
    betas = options["betas"]
    return {
        "prediction_type": THEIRS[options["prediction"]],
        "beta_schedule": THEIRS.get(betas, betas),
        "beta_start": options.get("beta_start", 1e-4),
        "beta_end": options.get("beta_end", 0.02),
        "rescale_betas_zero_snr": options.get("zero_terminal_snr", False),
        "timestep_spacing": "trailing",
    }


@pytest.mark.parametrize("options", DDPMS.values(), ids=DDPMS)
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_takes_the_steps_of_diffusers(options: dict, eta: float, schedulers) -> None:
    noise, fresh = torch.randn(SHAPE), [torch.randn(SHAPE) for _ in range(20)]
    scheduler = schedulers.DDIMScheduler(**_theirs(options), clip_sample=False)
    scheduler.set_timesteps(20)
    x = noise
    for t, draw in zip(scheduler.timesteps, fresh, strict=True):
        x = scheduler.step(_network(x, t), t, x, eta=eta, variance_noise=draw).prev_sample
    ours = _ours(DDPM(**options), _network, noise, fresh, method="ddim", eta=eta)
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", list(DDPMS.values())[:3], ids=list(DDPMS)[:3])
def test_dpmpp_2m_takes_the_steps_of_diffusers(options: dict, schedulers) -> None:
    noise = torch.randn(SHAPE)
    scheduler = schedulers.DPMSolverMultistepScheduler(**_theirs(options))
    ours = _ours(DDPM(**options), _network, noise, method="dpmpp_2m")
    torch.testing.assert_close(ours, _walk(scheduler, _network, noise), rtol=1e-4, atol=1e-4)


def test_karras_spacing_of_ddpm_is_that_of_diffusers(schedulers) -> None:
    noise, options = torch.randn(SHAPE), DDPMS["v scaled_linear"]
    scheduler = schedulers.DPMSolverMultistepScheduler(**_theirs(options), use_karras_sigmas=True)

    def network(x: Tensor, t: Tensor) -> Tensor:  # diffusers rounds its times, so it looks at none
        return torch.sin(2 * x)

    ours = _ours(DDPM(**options), network, noise, method="dpmpp_2m", schedule="karras")
    torch.testing.assert_close(ours, _walk(scheduler, network, noise), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "name"), [("euler", "EDMEulerScheduler"), ("dpmpp_2m", "EDMDPMSolverMultistepScheduler")]
)
def test_edm_takes_the_steps_of_diffusers(method: str, name: str, schedulers) -> None:
    options = {"sigma_min": 0.01, "sigma_max": 30.0, "sigma_data": 0.6}
    noise = torch.randn(SHAPE)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(2 * x)

    theirs = _walk(getattr(schedulers, name)(**options), network, 30.0 * noise)
    torch.testing.assert_close(_ours(EDM(**options), network, noise, method=method), theirs, rtol=1e-4, atol=1e-4)


def test_heun_takes_the_steps_of_diffusers(schedulers) -> None:
    scheduler = schedulers.HeunDiscreteScheduler(use_karras_sigmas=True, prediction_type="sample")
    scheduler.set_timesteps(20)
    sigmas = scheduler.sigmas[scheduler.sigmas > 0]
    objective = EDM(sigma_min=sigmas.min().item(), sigma_max=sigmas.max().item())
    noise = torch.randn(SHAPE)
    x = objective.start(noise)
    for t in scheduler.timesteps:
        x = scheduler.step(torch.sin(2 * x), t, x).prev_sample

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return objective.velocity_of_clean(torch.sin(2 * x), x, t)

    ours = Sampler(method="heun", steps=20)(objective, velocity, iter([noise]))
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


def _count(method: str, steps: int) -> int:
    asked = 0

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        assert t < 1
        return x

    Sampler(method=method, steps=steps)(FlowMatching(), velocity, iter([torch.zeros(1)]))
    return asked


def test_heun_alone_evaluates_twice_and_none_at_the_data() -> None:
    assert {method: _count(method, 6) for method in ORDERS} == {"euler": 6, "heun": 11, "ddim": 6, "dpmpp_2m": 6}
