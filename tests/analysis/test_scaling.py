"""Exponents and crossings of curves whose law is known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingen_kit.analysis.scaling import crossings, fit_power_law, mean_ratio

SIZES = (64, 256, 1024, 8192)


def _law(exponent: float, factor: float, sizes: tuple[int, ...] = SIZES) -> list[tuple[float, float]]:
    return [(size, factor * size**exponent) for size in sizes]


@given(st.floats(0, 3), st.floats(1e-9, 1e9))
def test_a_power_law_is_recovered(exponent: float, factor: float) -> None:
    law = fit_power_law(_law(exponent, factor))
    assert law.exponent == pytest.approx(exponent, abs=1e-9)
    assert law.factor == pytest.approx(factor, rel=1e-6)


def test_noise_is_averaged_in_log_space() -> None:
    noisy = [(size, cost * factor) for (size, cost), factor in zip(_law(2, 1, (1, 2, 4)), (2, 0.5, 2), strict=True)]
    assert fit_power_law(noisy).exponent == pytest.approx(2)
    assert fit_power_law(noisy).factor == pytest.approx(2 ** (1 / 3))


@given(st.floats(0, 1), st.floats(1.1, 3), st.floats(100, 8000))
def test_two_laws_cross_where_they_are_equal(slow: float, fast: float, where: float) -> None:
    linear, quadratic = _law(slow, where ** (fast - slow)), _law(fast, 1)
    assert [c.first_is_cheaper_after for c in crossings(linear, quadratic)] == [True]
    assert [c.first_is_cheaper_after for c in crossings(quadratic, linear)] == [False]
    assert crossings(linear, quadratic)[0].size == pytest.approx(where, rel=1e-6)


def test_no_crossing_outside_the_range_of_both() -> None:
    assert crossings(_law(1, 1), _law(2, 1)) == []  # they meet at size 1
    assert crossings(_law(1, 1000, (64, 512)), _law(2, 1, (64, 8192))) == []  # at 1000, which one never saw
    assert crossings(_law(1, 1, (1, 2)), _law(2, 1, (8, 16))) == []


def test_curves_measured_at_other_sizes_cross_between_their_points() -> None:
    found = crossings(_law(1, 1000, (64, 3000)), _law(2, 1, (100, 500, 8192)))
    assert [c.size for c in found] == pytest.approx([1000])


def test_touching_is_not_crossing() -> None:
    level, dip = [(1, 1), (2, 1), (4, 1)], [(1, 2), (2, 1), (4, 2)]
    assert crossings(level, dip) == []
    through = crossings(level, [(1, 2), (2, 1), (4, 0.5)])
    assert [c.size for c in through] == pytest.approx([2])


def test_mean_ratio() -> None:
    assert mean_ratio(_law(1, 3), _law(1, 1)) == pytest.approx(3)
    assert mean_ratio(_law(1, 1, (1, 4)), _law(0, 1, (1, 4))) == pytest.approx(2)
    assert mean_ratio(_law(1, 1, (1, 2)), _law(1, 1, (4, 8))) is None


@pytest.mark.parametrize(
    "curve", [[], [(1, 1)], [(1, 1), (1, 2)], [(2, 1), (1, 2)], [(1, 0), (2, 1)], [(0, 1), (2, 1)]]
)
def test_what_is_no_curve_is_refused(curve: list) -> None:
    with pytest.raises(ValueError, match="curve"):
        fit_power_law(curve)


def test_logarithms_keep_extremes_apart() -> None:
    assert math.isfinite(fit_power_law([(1e-300, 1e300), (1e300, 1e-300)]).exponent)
