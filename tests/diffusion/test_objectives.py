"""DDPM and EDM against the formulas of their papers, and what all objectives promise."""

import math

import pytest
import torch
from torch import Tensor

from lingen_kit.diffusion import DDPM, EDM, FlowMatching, Objective

SHAPE = (4, 3, 2, 4, 4)
T = torch.tensor([0.02, 0.3, 0.6, 0.97])
OBJECTIVES = {
    "flow x": FlowMatching(prediction="x"),
    "flow velocity": FlowMatching(),
    "flow noise": FlowMatching(prediction="noise"),
    "ddpm epsilon": DDPM(prediction="epsilon", betas="linear"),
    "ddpm v": DDPM(prediction="v", betas="cosine"),
    "ddpm x": DDPM(prediction="x", betas="scaled_linear", beta_start=0.00085, beta_end=0.012),
    "ddpm v zero snr": DDPM(prediction="v", betas="linear", zero_terminal_snr=True),
    "edm": EDM(sigma_data=0.7),
}
objectives = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def _by(t: Tensor) -> Tensor:
    return t[:, None, None, None, None]


def _truth(objective: Objective, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """What a perfect network says, in the words of each paper."""
    p = objective.point(_by(t))
    if isinstance(objective, EDM):
        s, sigma = objective.sigma_data, p.sigma
        c_skip, c_out = s**2 / (sigma**2 + s**2), sigma * s / (sigma**2 + s**2).sqrt()
        return (x - c_skip * (x + sigma * noise)) / c_out
    kinds = {"x": x, "noise": noise, "epsilon": noise, "velocity": x - (1 - 1e-5) * noise}
    kinds["v"] = p.alpha * noise - p.sigma * x
    return kinds[objective.prediction]  # type: ignore[attr-defined]


@objectives
def test_the_truth_has_no_loss_and_gives_data_and_noise_back(objective: Objective) -> None:
    x, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    x_t = objective.add_noise(x, noise, T)
    output = _truth(objective, x, noise, T)
    assert objective.loss(output, x, noise, x_t, T).max() < 1e-6
    assert objective.loss(output + 0.1, x, noise, x_t, T).min() > 1e-4
    velocity = objective.velocity(output, x_t, T)
    scale = objective.point(_by(T)).sigma.clamp(min=1)
    torch.testing.assert_close(objective.clean(velocity, x_t, T) / scale, x / scale, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(objective.noise(velocity, x_t, T), noise, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(objective.velocity_of_clean(x, x_t, T), velocity, rtol=1e-2, atol=1e-2)


@objectives
def test_the_velocity_is_the_slope_of_the_path(objective: Objective) -> None:
    t = torch.tensor([0.1234, 0.4321, 0.8765], dtype=torch.float64, requires_grad=True)
    p = objective.point(t)
    # t - t keeps what does not depend on t in the graph.
    slopes = [torch.autograd.grad((field + t - t).sum(), t, retain_graph=True)[0] for field in p[:3]]
    clock, alpha, sigma = slopes
    torch.testing.assert_close(alpha / clock, p.alpha_rate)
    torch.testing.assert_close(sigma / clock, p.sigma_rate)


@objectives
def test_time_runs_from_noise_to_data(objective: Objective) -> None:
    t = objective.first_time + (1 - objective.first_time) * torch.linspace(0, 1, 1001)
    p = objective.point(t)
    ratio = p.sigma / p.alpha
    assert (ratio.diff() < 0)[ratio[:-1].isfinite()].all()
    assert ratio[0] > 50 * p.sigma[-1] and ratio[0] > 10
    assert p.alpha[-1] == 1 and p.sigma[-1] < 2e-5
    torch.testing.assert_close(objective.time_of_ratio(ratio)[:-1], t[:-1], rtol=1e-4, atol=1e-6)
    times = objective.times((torch.arange(100) + 0.5) / 100)
    assert ((times > 0) & (times < 1)).all() and (times.diff() > 0).all()
    _, seen = objective.network_input(torch.zeros(100, 1, 1, 1, 1), times)
    assert ((seen >= 0) & (seen <= 1)).all() and (seen.diff() > 0).all()


@pytest.mark.parametrize("betas", ["linear", "scaled_linear"])
def test_ddpm_has_the_variances_of_its_betas(betas: str) -> None:
    objective = DDPM(betas=betas, beta_start=0.001, beta_end=0.02, noise_steps=50)
    power = {"linear": 1, "scaled_linear": 0.5}[betas]
    kept = (1 - torch.linspace(0.001**power, 0.02**power, 50, dtype=torch.float64) ** (1 / power)).cumprod(0)
    n = torch.arange(1, 51, dtype=torch.float64)
    p = objective.point(1 - n / 50)
    torch.testing.assert_close(p.alpha.square(), kept)
    torch.testing.assert_close(p.sigma.square(), 1 - kept)


def test_cosine_betas() -> None:
    n = torch.arange(1, 990, dtype=torch.float64)
    f = torch.cos((n / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(DDPM(betas="cosine").point(1 - n / 1000).alpha.square(), f)


def test_zero_terminal_snr_stretches_the_path() -> None:
    plain, stretched = (DDPM(betas="linear", prediction="v", zero_terminal_snr=zero) for zero in (False, True))
    t = torch.arange(1000, dtype=torch.float64) / 1000
    a, b = plain.point(t).alpha, stretched.point(t).alpha
    assert a[0] > 0.006 and b[0] == 0
    torch.testing.assert_close(a[-1], b[-1])
    torch.testing.assert_close(b.diff() / b.diff()[0], a.diff() / a.diff()[0])  # affine in alpha


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x"])
def test_min_snr_weights_an_error_of_the_clean_video(prediction: str) -> None:
    plain, weighted = (DDPM(prediction=prediction, betas="linear", min_snr_gamma=gamma) for gamma in (None, 5.0))
    x, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    x_t = plain.add_noise(x, noise, T)
    p = plain.point(T)
    snr = (p.alpha / p.sigma) ** 2
    weight = torch.minimum(snr, torch.tensor(5.0)) / {"epsilon": snr, "v": snr + 1, "x": 1}[prediction]
    output = torch.randn(SHAPE)
    ratio = weighted.loss(output, x, noise, x_t, T) / plain.loss(output, x, noise, x_t, T)
    torch.testing.assert_close(ratio, weight, rtol=1e-3, atol=1e-6)


def test_edm_is_preconditioned_and_weighted_as_in_its_table_1() -> None:
    objective = EDM(sigma_data=0.5)
    x, noise, output = torch.randn(SHAPE), torch.randn(SHAPE), torch.randn(SHAPE)
    sigma = torch.tensor([60.0, 2.0, 0.5, 0.01])
    t = objective.time_of_ratio(sigma)
    torch.testing.assert_close(objective.point(t).sigma, sigma, rtol=1e-4, atol=0)
    x_t = x + _by(sigma) * noise
    torch.testing.assert_close(objective.add_noise(x, noise, t), x_t, rtol=1e-3, atol=1e-4)

    seen, time = objective.network_input(x_t, t)
    torch.testing.assert_close(seen, x_t / (_by(sigma) ** 2 + 0.25).sqrt(), rtol=1e-4, atol=1e-5)
    c_noise = sigma.log() / 4
    torch.testing.assert_close(time.diff() / c_noise.diff(), (time.diff() / c_noise.diff())[:1].expand(3))  # affine
    c_skip, c_out = 0.25 / (_by(sigma) ** 2 + 0.25), _by(sigma) * 0.5 / (_by(sigma) ** 2 + 0.25).sqrt()
    denoised = c_skip * x_t + c_out * output
    velocity = objective.velocity(output, x_t, t)
    torch.testing.assert_close(velocity, (x_t - denoised) / _by(sigma), rtol=1e-3, atol=1e-3)
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    expected = weight * (denoised - x).square().flatten(1).mean(1)
    torch.testing.assert_close(objective.loss(output, x, noise, x_t, t), expected, rtol=1e-2, atol=0)


def test_edm_draws_its_noise_levels() -> None:
    objective = EDM(log_sigma_mean=-1.0, log_sigma_std=1.5)
    log_sigma = objective.point(objective.times((torch.arange(1000) + 0.5) / 1000)).sigma.log()
    assert log_sigma.mean().item() == pytest.approx(-1.0, abs=0.01)
    assert log_sigma.std().item() == pytest.approx(1.5, abs=0.01)


WRONG = [
    (DDPM, {"prediction": "eps"}, "prediction 'eps'.*epsilon, v, x"),
    (DDPM, {"betas": "square"}, "betas 'square'.*linear, scaled_linear, cosine"),
    (DDPM, {"beta_start": 0.1, "beta_end": 0.02}, "0.1 .*0.02"),
    (DDPM, {"noise_steps": 1}, "noise_steps 1"),
    (DDPM, {"min_snr_gamma": 0.0}, "min_snr_gamma 0.0"),
    (DDPM, {"prediction": "epsilon", "zero_terminal_snr": True}, "choose prediction v or x"),
    (EDM, {"sigma_data": 0.0}, "sigma_data 0.0"),
    (EDM, {"sigma_min": 3.0, "sigma_max": 2.0}, "sigma_min 3.0"),
    (EDM, {"log_sigma_std": 0.0}, "log_sigma_std 0.0"),
]


@pytest.mark.parametrize(("kind", "options", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_impossible_values_are_refused(kind: type[Objective], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)
