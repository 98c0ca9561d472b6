"""The training task: what is random is a function of the step, what validates is fixed."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer

from lingen_kit.data import MovingShapes
from lingen_kit.data.sample import collate
from lingen_kit.diffusion import DDPM, EDM, FlowMatching, Objective, Sampler, seeded_noise
from lingen_kit.mixers import SelfAttention
from lingen_kit.models import Denoiser, WordEncoder
from lingen_kit.pipeline import TextToVideoPipeline
from lingen_kit.tasks import TextToVideo


def _task(**options: object) -> TextToVideo:
    torch.manual_seed(0)
    denoiser = partial(Denoiser, dim=16, depth=1, mixer=SelfAttention, patch=(1, 4, 4))
    return TextToVideo(denoiser, WordEncoder(16), frames=4, height=16, width=16, **options)


def _data(**options: int) -> MovingShapes:
    return MovingShapes(frames=4, height=16, width=16, batch_size=4, validation_size=8, **options)


def _trainer(**options: object) -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                   enable_model_summary=False, use_distributed_sampler=False, **options)  # fmt: skip


def test_validation_is_the_same_every_time_and_training_moves_it() -> None:
    task, data, trainer = _task(optimizer=partial(torch.optim.AdamW, lr=3e-3), warmup_steps=1), _data(), _trainer()
    first, second = (trainer.validate(task, data, verbose=False)[0]["validation/loss"] for _ in range(2))
    assert first == second
    _trainer(max_steps=30, limit_val_batches=0).fit(task, data)
    assert trainer.validate(task, data, verbose=False)[0]["validation/loss"] < 0.8 * first


def test_validation_times_cover_the_distribution_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    task, seen = _task(), []
    losses = task.losses
    monkeypatch.setattr(
        task, "losses", lambda latents, text, mask, noise, t: seen.append(t) or losses(latents, text, mask, noise, t)
    )
    trainer = _trainer()
    trainer.validate(task, _data(), verbose=False)
    quantiles = torch.special.ndtr(torch.logit(torch.cat(seen))).sort().values
    assert len(quantiles) == 8
    assert quantiles.diff().max() < 2.5 / 8 and quantiles[0] < 0.2 and quantiles[-1] > 0.8


def test_batches_of_a_step_depend_on_seed_and_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(seed: int, steps: int, noise_before: int) -> list[tuple[torch.Tensor, torch.Tensor, list[int]]]:
        task, seen = _task(seed=seed, caption_dropout=0.5), []
        losses = task.losses
        monkeypatch.setattr(
            task,
            "losses",
            lambda latents, text, mask, noise, t: (
                seen.append((noise, t, mask.sum(1).tolist())) or losses(latents, text, mask, noise, t)
            ),
        )
        torch.manual_seed(noise_before)
        _trainer(max_steps=steps, limit_val_batches=0).fit(task, _data())
        return seen

    first, other_rng, other_seed = draws(0, 3, 1), draws(0, 3, 2), draws(1, 3, 1)
    for (noise, t, lengths), (noise2, t2, lengths2) in zip(first, other_rng, strict=True):
        assert torch.equal(noise, noise2) and torch.equal(t, t2) and lengths == lengths2
    assert not torch.equal(first[0][0], other_seed[0][0])
    assert not torch.equal(first[0][0], first[1][0])
    dropped = [length == 1 for _, _, lengths in first for length in lengths]  # the start token alone
    assert 0 < sum(dropped) < len(dropped)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    task = _task(warmup_steps=10, schedule_steps=110, final_lr_ratio=0.1)
    ratios = [task.learning_rate_ratio(step) for step in range(120)]
    assert ratios[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert max(ratios) == pytest.approx(1)
    assert ratios[60] == pytest.approx(0.55)  # half way down
    assert ratios[110:] == pytest.approx([0.1] * 10)
    assert _task(warmup_steps=2, schedule_steps=-1).learning_rate_ratio(10_000) == 1


def test_vectors_are_not_decayed_and_inner_matrices_are_marked() -> None:
    task = _task()
    optimizer = task.configure_optimizers()["optimizer"]
    hidden, matrices, vectors = optimizer.param_groups
    assert vectors["weight_decay"] == 0 and all(p.ndim < 2 for p in vectors["params"])
    assert hidden["hidden"] and all(p.ndim == 2 for p in hidden["params"] + [])
    counted = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert counted == sum(p.numel() for p in task.parameters())
    names = {id(p): name for name, p in task.named_parameters()}
    assert all(".blocks." in names[id(p)] for p in hidden["params"])
    assert "pipeline.denoiser.head.weight" in {names[id(p)] for p in matrices["params"]}


OBJECTIVES = {
    "flow x": FlowMatching(prediction="x"),
    "flow velocity": FlowMatching(prediction="velocity"),
    "flow noise": FlowMatching(prediction="noise"),
    "ddpm epsilon": DDPM(prediction="epsilon", betas="linear"),
    "ddpm v": DDPM(prediction="v", betas="cosine", zero_terminal_snr=True, min_snr_gamma=5.0),
    "edm": EDM(),
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_every_objective_learns_and_samples(objective: Objective) -> None:
    task = _task(objective=objective, optimizer=partial(torch.optim.AdamW, lr=3e-3))
    _trainer(max_steps=3, limit_val_batches=0).fit(task, _data())
    videos = task.pipeline(["a red circle moves left", "a blue ring stays"], steps=3)
    assert videos.shape == (2, 3, 4, 16, 16)
    assert videos.isfinite().all() and videos.abs().max() <= 1


def test_a_sample_depends_on_its_own_seed_and_prompt() -> None:
    pipeline = _task().pipeline
    with torch.no_grad():
        for p in pipeline.denoiser.parameters():
            p.add_(0.05 * torch.randn_like(p))
    together = pipeline(["a red circle", "a blue ring"], seed=[3, 4], steps=3)
    torch.testing.assert_close(together[1:], pipeline(["a blue ring"], seed=4, steps=3), rtol=1e-3, atol=1e-4)
    assert (together[0] - pipeline(["a red circle"], seed=5, steps=3)[0]).abs().max() > 1e-2
    guided = pipeline(["a red circle"], seed=3, steps=3, guidance=9.0)[0]
    assert (together[0] - guided).abs().max() > 1e-4
    with pytest.raises(ValueError, match="2 seeds for 1 prompts"):
        pipeline(["a"], seed=[0, 1])


def _with_stub(monkeypatch: pytest.MonkeyPatch, **options: object) -> tuple[TextToVideoPipeline, list[list[int]]]:
    """A pipeline whose velocity is the number of words of each prompt, and the numbers that each call saw."""
    pipeline, calls = _task(sampler=Sampler(**options)).pipeline, []

    def stub(x: torch.Tensor, t: torch.Tensor, text: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert len(x) == len(t) == len(text) == len(mask)
        words = mask.sum(1) - 1
        calls.append(words.tolist())
        return 0.01 * words[:, None, None, None, None].expand_as(x)

    object.__setattr__(pipeline, "denoiser", stub)
    monkeypatch.setitem(pipeline._modules, "denoiser", None)
    monkeypatch.setattr(type(pipeline), "device", torch.device("cpu"))
    return pipeline, calls


def test_guidance_moves_from_the_unconditional_velocity_through_the_conditional(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline, _ = _with_stub(monkeypatch, schedule="uniform", steps=1)
    noise = seeded_noise([0], (3, 4, 16, 16))
    for guidance in (1.0, 0.0, 3.0):
        expected = noise + guidance * 0.02  # one Euler step: noise + u + g (c - u)
        torch.testing.assert_close(pipeline(["a circle"], guidance=guidance), expected.clamp(-1, 1))


def test_outside_its_interval_guidance_costs_nothing_and_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, calls = _with_stub(monkeypatch, schedule="uniform", steps=4, guidance=3.0, guidance_interval=(0.2, 0.6))
    noise = seeded_noise([0, 1], (3, 4, 16, 16))
    sample = pipeline(["red circle", "red"])
    assert calls == [[2, 1], [2, 1, 0, 0], [2, 1, 0, 0], [2, 1]]  # at 0, 1/4, 1/2, 3/4
    moved = 0.01 * (0.5 + 0.5 * 3) * torch.tensor([2.0, 1.0])
    torch.testing.assert_close(sample, (noise + moved[:, None, None, None, None]).clamp(-1, 1))

    calls.clear()
    pipeline(["red"], sampler=pipeline.sampler.changed(guidance_interval=(0.0, 1.0)), steps=2)
    assert calls == [[1, 0]] * 2


def test_guidance_moves_away_from_negative_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, _ = _with_stub(monkeypatch, schedule="uniform", steps=1)
    noise = seeded_noise([0, 1], (3, 4, 16, 16))
    for negative, words in (("a blue ring", [3, 3]), (["blur", ""], [1, 0])):
        moved = torch.tensor([0.01 * (n + 3 * (2 - n)) for n in words])[:, None, None, None, None]
        sample = pipeline(["red circle", "red circle"], negative_prompts=negative, guidance=3.0)
        torch.testing.assert_close(sample, (noise + moved).clamp(-1, 1))
    with pytest.raises(ValueError, match="1 negative prompts for 2 prompts"):
        pipeline(["a", "b"], negative_prompts=["c"])
    with pytest.raises(ValueError, match="no effect with guidance 1"):
        pipeline(["a", "b"], negative_prompts="c", guidance=1.0)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_rescaled_guidance_samples_with_less_contrast(objective: Objective) -> None:
    pipeline = _task(objective=objective).pipeline
    with torch.no_grad():
        for p in pipeline.denoiser.parameters():
            p.add_(0.05 * torch.randn_like(p))
    plain, rescaled = (
        pipeline(["a red circle"], steps=4, sampler=Sampler(guidance=30.0, guidance_rescale=share))
        for share in (0.0, 1.0)
    )
    assert rescaled.isfinite().all() and rescaled.abs().mean() < plain.abs().mean()


def test_a_schedule_that_the_objective_lacks_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="karras"):
        _task(sampler=Sampler(schedule="karras"))


def test_caption_dropout_must_leave_captions() -> None:
    with pytest.raises(ValueError, match="caption_dropout 1"):
        _task(caption_dropout=1.0)


def test_two_ranks_draw_what_one_rank_with_their_batch_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of the global batch is the mean over the ranks, in training and in validation."""
    data = _data()
    samples = [data.train_dataset()[i] for i in range(8)]

    def loss(rank: int, world: int, verb: str) -> list[float]:
        task = _task()
        seen: list[float] = []
        losses = task.losses
        monkeypatch.setattr(task, "losses", lambda *inputs: seen.extend((values := losses(*inputs)).tolist()) or values)
        monkeypatch.setattr(task, "log", lambda *args, **kwargs: None)
        monkeypatch.setattr(TextToVideo, "global_rank", rank)
        monkeypatch.setattr(TextToVideo, "trainer", type("T", (), {"world_size": world, "global_step": 0}))
        monkeypatch.setattr(TextToVideo, "global_step", 0)
        share = samples[rank::world] if verb == "validation" else samples[rank * 8 // world : (rank + 1) * 8 // world]
        task.on_validation_epoch_start()
        for first in range(0, len(share), 4) if verb == "validation" else [0]:
            part = share[first : first + 4] if verb == "validation" else share
            getattr(task, f"{verb}_step")(collate(part), first // 4)
        return seen

    for verb in ("training", "validation"):
        one = sorted(loss(0, 1, verb))
        two = sorted(loss(0, 2, verb) + loss(1, 2, verb))
        assert one == pytest.approx(two, rel=1e-4), verb
