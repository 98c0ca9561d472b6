"""The order of samples: complete, reproducible, the same for any number of ranks, resumable anywhere."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise

import pytest

from lingen_kit.data.order import Draw, SampleOrder, keys_of
from lingen_kit.data.sampler import Bucket, FixedBatches, Schedule, StreamBatches
from lingen_kit.data.seeds import derive_seed


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


def single(length: int, batch_size: int, world_size: int = 1, seed: int = 1) -> Schedule:
    return Schedule([Bucket("all", range(length), batch_size)], world_size, seed)


def three(batch_sizes: tuple[int, int, int] = (4, 2, 3), world_size: int = 1) -> Schedule:
    members = list(range(0, 41)), list(range(41, 48)), list(range(48, 67))
    repeats = 1, 1, Fraction(1, 10)
    buckets = [
        Bucket(name, m, b, Fraction(r)) for name, m, b, r in zip("abc", members, batch_sizes, repeats, strict=True)
    ]
    return Schedule(buckets, world_size, seed=5)


@pytest.mark.parametrize("start", [0, 1, 5, 23])
@pytest.mark.parametrize("make", [partial(single, 37, 4), three], ids=["one_bucket", "three_buckets"])
def test_starting_later_continues_the_same_stream(make: Callable[[], Schedule], start: int) -> None:
    whole = take(StreamBatches(make()), 30)
    assert take(StreamBatches(make(), start=start), 30 - start) == whole[start:]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_cut_the_same_global_batches(world_size: int) -> None:
    for whole, make in (
        (single(37, 12), partial(single, 37, 12 // world_size, world_size)),
        (three((12, 6, 6)), partial(three, (12 // world_size, 6 // world_size, 6 // world_size), world_size)),
    ):
        ranks = [take(StreamBatches(make(), rank), 40) for rank in range(world_size)]
        together = [[draw for rank in ranks for draw in rank[step]] for step in range(40)]
        assert together == take(StreamBatches(whole), 40)
        assert make().fingerprint == whole.fingerprint


def test_batch_larger_than_the_data_set_runs_into_the_next_passes() -> None:
    (batch,) = take(StreamBatches(single(3, 8)), 1)
    assert [draw.epoch for draw in batch] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert sorted(draw.index for draw in batch[:3]) == [0, 1, 2]


def test_period_repeats_the_first_batches() -> None:
    batches = take(StreamBatches(single(100, 4), period=2), 6)
    assert batches[0] != batches[1]
    assert batches == batches[:2] * 3


def test_a_bucket_is_a_stream_without_losses_whoever_stands_beside_it() -> None:
    batches = take(StreamBatches(three()), 600)
    for members, size in ((range(41), 4), (range(41, 48), 2), (range(48, 67), 3)):
        of_bucket = [batch for batch in batches if batch[0].index in members]
        draws = [draw for batch in of_bucket for draw in batch]
        assert {len(batch) for batch in of_bucket} == {size}
        assert all(draw.index in members for draw in draws)
        assert [draw.epoch for draw in draws] == [place // len(members) for place in range(len(draws))]
        for epoch in range(len(draws) // len(members)):
            assert sorted(draw.index for draw in draws if draw.epoch == epoch) == list(members)


def test_after_any_number_of_passes_no_bucket_is_behind_by_a_batch() -> None:
    schedule = three()
    turns = [schedule.turn(step)[0] for step in range(2000)]
    per_pass = [Fraction(41, 4), Fraction(7, 2), Fraction(19, 30)]
    step = 0
    for passes in range(1, 100):
        step += sum(int(passes * each) - int((passes - 1) * each) for each in per_pass)
        had = [turns[:step].count(bucket) for bucket in range(3)]
        assert had == [int(passes * each) for each in per_pass]
    assert schedule.steps_per_pass == int(sum(per_pass)) == 14


def test_turns_of_the_buckets_are_mixed_and_differ_from_pass_to_pass() -> None:
    schedule = three()
    passes = [[schedule.turn(14 * number + place)[0] for place in range(14)] for number in range(4)]
    assert all(len(set(turns[:7])) > 1 for turns in passes)
    assert len({tuple(turns) for turns in passes}) == 4


def test_images_come_at_the_ratio_asked_for() -> None:
    videos, images = Bucket("video", range(5000), 4), Bucket("image", range(5000, 5700), 8, Fraction(50, 700))
    drawn = [draw.index for batch in take(StreamBatches(Schedule([videos, images], 1, 0)), 3000) for draw in batch]
    share = sum(index >= 5000 for index in drawn) / sum(index < 5000 for index in drawn)
    assert share == pytest.approx(0.01, rel=0.1)
    assert len({index for index in drawn if index >= 5000}) == sum(index >= 5000 for index in drawn)  # none twice yet


@pytest.mark.parametrize("step", [0, 1, 13, 14, 15, 200])
def test_what_was_taken_can_be_counted_and_gone_on_from(step: int) -> None:
    whole = take(StreamBatches(three()), 400)
    places = three().places_before(step)
    for name, members in (("a", range(41)), ("b", range(41, 48)), ("c", range(48, 67))):
        before = [draw for batch in whole[:step] for draw in batch if draw.index in members]
        after = [draw for batch in whole[step:] for draw in batch if draw.index in members]
        assert places[name] == (*divmod(len(before), len(members)), None)
        # Another batch size makes another schedule, which hands out the next samples all the same.
        other = three((3, 1, 2))
        other.begin_at(places)
        later = take(StreamBatches(other), 100)
        drawn = [draw for batch in later for draw in batch if draw.index in members]
        assert drawn == after[: len(drawn)]
        assert drawn


def named(names: list[str], batch_size: int = 4) -> Schedule:
    return Schedule([Bucket("all", range(len(names)), batch_size, keys=keys_of(names))], 1, seed=1)


def in_passes(schedule: Schedule, names: list[str], steps: range) -> dict[int, list[str]]:
    """The names that some steps draw, by the pass over the data."""
    drawn: dict[int, list[str]] = {}
    for step in steps:
        for draw in schedule.draws(step):
            drawn.setdefault(draw.epoch, []).append(names[draw.index])
    return drawn


def test_names_are_shuffled_anew_in_each_pass_wherever_they_stand() -> None:
    names = [f"{number}.mp4" for number in range(40)]
    passes = in_passes(named(names), names, range(30))
    assert all(sorted(each) == sorted(names) for each in passes.values())
    assert len({tuple(each) for each in passes.values()}) == 3
    assert in_passes(named(names[::-1]), names[::-1], range(30)) == passes
    assert named(names[::-1]).fingerprint == named(names).fingerprint != named([*names[:-1], "x"]).fingerprint
    firsts = [tuple(named(names).draws(10 * number)) for number in range(200)]
    counts = [sum(draw.index == 0 for draws in firsts for draw in draws[:4])]
    assert 8 < counts[0] < 36  # one in ten: a name has no fixed place


def test_two_captions_of_a_clip_do_not_follow_each_other() -> None:
    names = [f"{number // 2}.mp4" for number in range(60)]
    drawn = [draw.index // 2 for step in range(15) for draw in named(names).draws(step)]
    assert sum(a == b for a, b in pairwise(drawn)) < 10


@pytest.mark.parametrize("step", [3, 23, 25, 57])
def test_a_stream_goes_on_when_samples_come_and_go(step: int) -> None:
    """Of those that stay, none is missed and none comes twice in a pass; after it, the new ones are there as well."""
    before = [f"{number}.mp4" for number in range(50)]
    after = [f"{number}.mp4" for number in range(5, 60) if number % 7]
    seen = in_passes(named(before), before, range(step))
    resumed = named(after, batch_size=3)
    resumed.begin_at({name: tuple(place) for name, place in named(before).places_before(step).items()})
    rest = in_passes(resumed, after, range(60))
    current = step * 4 // 50
    stay = set(before) & set(after)
    together = seen.get(current, []) + rest[current]
    assert {name: together.count(name) for name in stay} == dict.fromkeys(stay, 1)
    assert set(rest[current]) <= set(after)
    assert sorted(rest[current + 1]) == sorted(after)
    order = [name for name in in_passes(named(before), before, range(100))[current] if name in stay]
    assert [name for name in together if name in stay] == order


def test_the_turns_of_a_step_far_away_are_found_at_once() -> None:
    schedule = three()
    bucket, had = schedule.turn(10**9)
    assert had == pytest.approx(10**9 * [41 / 4, 7 / 2, 19 / 30][bucket] / (41 / 4 + 7 / 2 + 19 / 30), rel=1e-6)


def fixed(length: int, batch_size: int, rank: int = 0, world_size: int = 1) -> FixedBatches:
    return FixedBatches([Bucket("all", range(length), batch_size)], rank, world_size)


@pytest.mark.parametrize("length,batch_size,world_size", [(10, 4, 1), (10, 4, 2), (11, 4, 2), (1, 4, 3), (9, 2, 4)])
def test_fixed_batches_cover_everything_in_equal_steps(length: int, batch_size: int, world_size: int) -> None:
    ranks = [fixed(length, batch_size, rank, world_size) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    indices = [draw.index for rank in ranks for batch in rank for draw in batch]
    assert set(indices) == set(range(length))
    assert len(indices) == -(-length // world_size) * world_size
    places = [place for rank in ranks for batch in rank.places for place in batch]
    assert sorted(place for place in places if place is not None) == list(range(length))
    assert all(index == place for index, place in zip(indices, places, strict=True) if place is not None)


def test_one_rank_validates_each_sample_once_in_order() -> None:
    batches = list(fixed(10, 4))
    assert [[draw.index for draw in batch] for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_fixed_batches_do_not_mix_buckets() -> None:
    buckets = [Bucket("a", [0, 2, 4], 2), Bucket("b", [1, 3, 5, 6], 3)]
    assert [[draw.index for draw in batch] for batch in FixedBatches(buckets)] == [[0, 2], [4], [1, 3, 5], [6]]
    ranks = [[[draw.index for draw in batch] for batch in FixedBatches(buckets, rank, 2)] for rank in range(2)]
    assert ranks == [[[0, 4], [1, 5]], [[2, 0], [3, 6]]]
    assert FixedBatches(buckets).places == [[0, 1], [2], [3, 4, 5], [6]]
    assert [FixedBatches(buckets, rank, 2).places for rank in range(2)] == [[[0, 2], [3, 5]], [[1, None], [4, 6]]]


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
        single(1, batch_size=0)
    with pytest.raises(ValueError, match="0 samples"):
        Schedule([Bucket("a", [], 1)], 1, 0)
    with pytest.raises(ValueError, match="rank 2 is not among 2"):
        StreamBatches(single(1, 1, world_size=2), rank=2)
    with pytest.raises(IndexError, match="-1"):
        SampleOrder(1, 0)[-1]
