"""Copies are found, and what only looks alike is not."""

import math
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lingen_kit.data.curation import Candidate, NearDuplicates
from tests.data.curation.footage import pan, photograph, resized, write

Make = Callable[..., Candidate]
Series = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, five kinds of copies of it, and clips of other scenes."""
    out = tmp_path_factory.mktemp("copies")
    write(out / "original.mp4", pan("coffee", 4, 0.2))
    write(out / "encoded.mp4", pan("coffee", 4, 0.2), crf=38)
    write(out / "small.mkv", resized(pan("coffee", 4, 0.2), 96, 54))
    write(out / "stretched.mp4", resized(pan("coffee", 4, 0.2), 240, 180))
    write(out / "trimmed.mp4", pan("coffee", 2.6, 0.2, begin=0.87))
    write(out / "brighter.mp4", (np.minimum(f.astype(int) + 12, 255).astype(np.uint8) for f in pan("coffee", 4, 0.2)))
    write(out / "other.mp4", pan("chelsea", 4, 0.2))
    write(out / "third.mp4", pan("rocket", 4, 0.2))
    write(out / "mirrored.mp4", (f[:, ::-1] for f in pan("coffee", 4, 0.2)))
    return out


def test_copies_form_one_group(folder: Path, series: Callable, candidate: Make) -> None:
    paths = sorted(folder.iterdir())
    each = NearDuplicates()
    clips = [candidate(path.name, scores={"sharpness": float(path.name == "small.mkv")}) for path in paths]
    measured = {path.name: series(path, each) for path in paths}
    dropped = each.choose(clips, [], measured)
    copies = {"original.mp4", "encoded.mp4", "small.mkv", "stretched.mp4", "trimmed.mp4", "brighter.mp4"}
    assert set(dropped) == copies - {"small.mkv"}
    assert all(reason.startswith("near-duplicate of small.mkv (") for reason in dropped.values())
    assert each.report() == {"groups": [sorted(copies)]}


def random_series(rng: np.random.Generator, count: int = 16) -> Series:
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    return {"times": np.arange(count) / 4, "hashes": hashes, "spread": np.full(count, 50.0)}


def copy_of(series: Series, rng: np.random.Generator, bits: int, skip: int = 0) -> Series:
    """The same with some bits of each hash turned, and the first samples left out."""
    hashes = series["hashes"][skip:].copy()
    for place in range(len(hashes)):
        for bit in rng.choice(64, bits, replace=False):
            hashes[place] ^= np.uint64(1) << np.uint64(bit)
    return {"times": np.arange(len(hashes)) / 4, "hashes": hashes, "spread": np.full(len(hashes), 50.0)}


@pytest.mark.parametrize(("bits", "same"), [(0, True), (4, True), (8, True), (20, False)])
def test_the_tolerance_is_in_bits(bits: int, same: bool, candidate: Make) -> None:
    rng = np.random.default_rng(bits)
    one = random_series(rng)
    clips = [candidate(name, scores={"sharpness": 1.0}) for name in ("a.mp4", "b.mp4")]
    dropped = NearDuplicates().choose(clips, [], {"a.mp4": one, "b.mp4": copy_of(one, rng, bits)})
    assert bool(dropped) == same


def test_too_short_an_overlap_is_none(candidate: Make) -> None:
    rng = np.random.default_rng(0)
    one = random_series(rng)
    other = random_series(rng)
    other["hashes"][:7] = one["hashes"][-7:]  # 1.75 of 4 seconds
    clips = [candidate(name, scores={"sharpness": 1.0}) for name in ("a.mp4", "b.mp4")]
    measured = {"a.mp4": one, "b.mp4": other}
    assert not NearDuplicates(min_overlap=2.0).choose(clips, [], measured)
    assert NearDuplicates(min_overlap=1.5).choose(clips, [], measured)


def test_pictures_without_anything_on_them_are_no_copies(candidate: Make) -> None:
    rng = np.random.default_rng(0)
    one = random_series(rng)
    one["spread"][:] = 1.0
    clips = [candidate(name, scores={"sharpness": 1.0}) for name in ("a.mp4", "b.mp4")]
    assert not NearDuplicates().choose(clips, [], {"a.mp4": one, "b.mp4": one})


def test_parts_of_one_file_are_left_alone(candidate: Make) -> None:
    rng = np.random.default_rng(0)
    one = random_series(rng)
    clips = [candidate("a.mp4", scores={"sharpness": 1.0}), candidate("a.mp4", scores={"sharpness": 2.0})]
    clips[1].name = "a.mp4#2-4"
    measured = {clip.name: one for clip in clips}
    assert not NearDuplicates().choose(clips, [], measured)
    assert set(NearDuplicates(within_files=True).choose(clips, [], measured)) == {"a.mp4"}


def test_a_person_has_the_last_word(candidate: Make) -> None:
    rng = np.random.default_rng(0)
    one = random_series(rng)
    worse, better, unwanted = (candidate(name, scores={"sharpness": float(i)}) for i, name in enumerate("abc"))
    measured = dict.fromkeys("abc", one)
    worse.decision = "keep"
    assert set(NearDuplicates().choose([worse, better], [], measured)) == {"b"}
    unwanted.decision = "drop"
    dropped = NearDuplicates().choose([better], [unwanted], measured)
    assert "near-duplicate of c, which a person dropped" in dropped["b"]


def test_a_crowd_of_copies_is_one_group(candidate: Make) -> None:
    rng = np.random.default_rng(0)
    one = random_series(rng)
    names = [f"{number:04}" for number in range(300)]
    clips = [candidate(name, scores={"sharpness": 1.0}) for name in names]
    dropped = NearDuplicates().choose(clips, [], {name: copy_of(one, rng, 2) for name in names})
    assert set(dropped) == set(names[1:])


def test_the_cost_grows_with_the_clips_not_with_their_pairs(candidate: Make) -> None:
    """Eight times the clips, among which are no copies, may not take sixty-four times as long."""
    rng = np.random.default_rng(0)
    took = []
    for count in (1000, 8000):
        names = [str(number) for number in range(count)]
        clips = [candidate(name, scores={"sharpness": 1.0}) for name in names]
        measured = {name: random_series(rng, 8) for name in names}
        began = time.process_time()
        assert not NearDuplicates().choose(clips, [], measured)
        took.append(time.process_time() - began)
    assert took[1] < 30 * took[0]


def by_matrix(each: NearDuplicates, one: np.ndarray, other: np.ndarray) -> tuple[float, float] | None:
    """The comparison with all distances at once, which needs their memory."""
    least = max(1, min(round(each.min_overlap * each.fps), math.ceil(0.8 * min(len(one), len(other)))))
    bits = np.bitwise_count(one[:, None] ^ other[None, :]).astype(np.float32)
    padded = np.pad(bits, ((0, 0), (1, 1)), constant_values=64)
    near = np.minimum(np.minimum(padded[:, :-2], padded[:, 2:]), bits)
    best = None
    for shift in range(least - len(one), len(other) - least + 1):
        line = np.diagonal(near, shift)
        agree = (line <= each.max_distance).sum()
        if agree >= max(least, 0.8 * len(line)) and (best is None or line.mean() < best[0]):
            best = float(line.mean()), len(line) / each.fps
    return best


def test_shift_by_shift_is_the_same_as_all_at_once() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        whole = random_series(rng, int(rng.integers(1, 40)))
        start, end = sorted(rng.integers(0, len(whole["hashes"]) + 1, 2))
        part = copy_of(whole, rng, int(rng.integers(0, 12)))["hashes"][start : end + 1]
        each = NearDuplicates(max_distance=int(rng.integers(0, 25)), min_overlap=float(rng.choice([0.25, 1, 2])))
        for one, other in ((whole["hashes"], part), (part, whole["hashes"])):
            if len(one) and len(other):
                expected = by_matrix(each, one, other)
                assert each._compare(one, other) == expected
                found += expected is not None
    assert 50 < found < 550


def test_films_are_compared_in_little_memory() -> None:
    """4800 hashes are 20 minutes; all their distances would be 23 million."""
    hashes = random_series(np.random.default_rng(0), 4800)["hashes"]
    tracemalloc.start()
    assert NearDuplicates()._compare(hashes, hashes) == (0.0, 1199.75)  # of equal shifts the first
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_hashes_of_photographs_are_far_apart() -> None:
    from lingen_kit.data.curation.near_duplicates import perceptual_hash

    names = ["astronaut", "chelsea", "coffee", "rocket", "camera", "motorcycle_left"]
    hashes = [perceptual_hash(photograph(name, 300)[..., 1]) for name in names]
    apart = [(a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > 16 and 26 < np.mean(apart) < 38
    assert all(hash_.bit_count() == 32 for hash_ in hashes)


def test_tolerances_that_take_all_for_copies_are_refused() -> None:
    with pytest.raises(ValueError, match="max_distance 30 must be 0 to 24"):
        NearDuplicates(max_distance=30)
