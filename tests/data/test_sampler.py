"""The order of samples: complete, reproducible, the same for any number of ranks, resumable anywhere."""

from itertools import islice

import pytest

from lingen_kit.data.sampler import Draw, FixedBatches, SampleOrder, StreamBatches, derive_seed


def take(batches: StreamBatches, count: int) -> list[list[Draw]]:
    return list(islice(batches, count))


def test_every_pass_is_another_permutation() -> None:
    order = SampleOrder(length=50, seed=3)
    passes = [[order[50 * epoch + offset] for offset in range(50)] for epoch in range(3)]
    for epoch, draws in enumerate(passes):
        assert sorted(draw.index for draw in draws) == list(range(50))
        assert {draw.epoch for draw in draws} == {epoch}
    orders = {tuple(draw.index for draw in draws) for draws in passes}
    assert len(orders) == 3
    assert tuple(range(50)) not in orders


def test_order_depends_on_seed_alone() -> None:
    def indices(seed: int) -> list[int]:
        return [SampleOrder(length=40, seed=seed)[position].index for position in range(80)]

    assert indices(seed=0) == indices(seed=0)
    assert indices(seed=0) != indices(seed=1)


def test_positions_can_be_read_in_any_order() -> None:
    order = SampleOrder(length=7, seed=0)
    forward = [order[position] for position in range(30)]
    assert [order[position] for position in reversed(range(30))] == forward[::-1]


@pytest.mark.parametrize("start_batch", [0, 1, 5, 23])
def test_starting_later_continues_the_same_stream(start_batch: int) -> None:
    order = SampleOrder(length=37, seed=1)
    whole = take(StreamBatches(order, batch_size=4), 30)
    assert take(StreamBatches(order, batch_size=4, start=4 * start_batch), 30 - start_batch) == whole[start_batch:]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_cut_the_same_global_batches(world_size: int) -> None:
    order = SampleOrder(length=37, seed=1)
    per_rank = 12 // world_size
    ranks = [take(StreamBatches(order, per_rank, rank, world_size), 9) for rank in range(world_size)]
    together = [[draw for rank in ranks for draw in rank[step]] for step in range(9)]
    assert together == take(StreamBatches(order, batch_size=12), 9)


def test_batch_larger_than_the_data_set_runs_into_the_next_passes() -> None:
    (batch,) = take(StreamBatches(SampleOrder(length=3, seed=0), batch_size=8), 1)
    assert [draw.epoch for draw in batch] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(draw.index for draw in batch[:3]) == [0, 1, 2]


def test_period_repeats_the_first_samples() -> None:
    batches = take(StreamBatches(SampleOrder(length=100, seed=0), batch_size=4, period=8), 6)
    assert batches[0] != batches[1]
    assert batches == batches[:2] * 3


@pytest.mark.parametrize("length,batch_size,world_size", [(10, 4, 1), (10, 4, 2), (11, 4, 2), (1, 4, 3), (9, 2, 4)])
def test_fixed_batches_cover_everything_in_equal_steps(length: int, batch_size: int, world_size: int) -> None:
    ranks = [FixedBatches(length, batch_size, rank, world_size) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    indices = [draw.index for rank in ranks for batch in rank for draw in batch]
    assert set(indices) == set(range(length))
    assert len(indices) == -(-length // world_size) * world_size


def test_one_rank_validates_each_sample_once_in_order() -> None:
    batches = list(FixedBatches(10, 4))
    assert [[draw.index for draw in batch] for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_derived_seeds_differ_with_every_part() -> None:
    seeds = {derive_seed("order", seed, epoch) for seed in range(20) for epoch in range(20)}
    assert len(seeds) == 400
    assert derive_seed("a", 1) == derive_seed("a", 1) != derive_seed("b", 1)
    assert len({derive_seed(name) for name in ("\udce9.mp4", "\udcea.mp4", "\ud83d.mp4")}) == 3
    assert derive_seed("café") == 3151342568496262129  # as stored runs have it
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="0 samples"):
        SampleOrder(length=0, seed=0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        StreamBatches(SampleOrder(1, 0), batch_size=0)
    with pytest.raises(ValueError, match="rank 2 is not among 2"):
        StreamBatches(SampleOrder(1, 0), batch_size=1, rank=2, world_size=2)
    with pytest.raises(IndexError, match="-1"):
        SampleOrder(1, 0)[-1]
