import pytest

from eval.aggregation import CUSTOM_QUALITY, QUALITY, SEMANTIC, custom_quality, normalized, quality, totals
from eval.leaderboard import leaderboard, placed

ROWS = [(suite, row) for suite in ("standard", "long", "custom") for row in leaderboard(suite)]


def test_all_published_rows_are_there() -> None:
    assert [len(leaderboard(suite)) for suite in ("standard", "long", "custom")] == [7, 7, 12]
    with pytest.raises(ValueError, match="no table 'short'; choose out of custom, long, standard"):
        leaderboard("short")


@pytest.mark.parametrize(("suite", "row"), ROWS, ids=[f"{suite}-{row.model}" for suite, row in ROWS])
def test_every_published_total_follows_from_its_own_columns(suite: str, row) -> None:
    if suite == "custom":
        assert 100 * custom_quality(row.figures) == pytest.approx(100 * row.figures["quality_score"], abs=0.02)
        return
    if row.model == "Mira":  # the supplement prints no semantic columns of it
        assert all(row.figures[name] is None for name in SEMANTIC)
        assert 100 * quality(row.figures) == pytest.approx(100 * row.figures["quality_score"], abs=0.02)
        return
    for name, value in totals(row.figures).items():
        assert 100 * value == pytest.approx(100 * row.figures[name], abs=0.02), name


@pytest.mark.parametrize("suite", ["standard", "long"])
def test_the_headers_as_printed_do_not_give_the_printed_totals(suite: str) -> None:
    """Under the supplement's own order of headers the last three quality columns are aesthetic, imaging, dynamic."""
    off = []
    for row in leaderboard(suite):
        figures = dict(row.figures)
        first, second, third = (figures[name] for name in ("dynamic_degree", "aesthetic_quality", "imaging_quality"))
        figures |= {"aesthetic_quality": first, "imaging_quality": second, "dynamic_degree": third}
        off.append(100 * abs(quality(figures) - (row.figures["quality_score"] or 0)))
    assert sum(error > 0.05 for error in off) >= 5 and max(off) > 1


def test_normalization_by_hand() -> None:
    assert normalized("motion_smoothness", 0.9975) == 1
    assert normalized("motion_smoothness", 0.706) == 0
    assert normalized("temporal_style", 0.182) == pytest.approx(0.5)
    assert normalized("motion_smoothness", 1.0) > 1  # not clipped
    assert normalized("color", 0.3) == 0.3


def test_a_missing_figure_refuses_the_total_by_name() -> None:
    figures = dict.fromkeys((*QUALITY, *SEMANTIC), 0.5)
    assert totals(figures)["semantic_score"] > 0.5
    with pytest.raises(ValueError, match=r"^scene is missing$"):
        totals({**figures, "scene": None})
    with pytest.raises(ValueError, match=r"^color, scene are missing$"):
        totals({name: value for name, value in figures.items() if name not in ("scene", "color")})
    with pytest.raises(ValueError, match="dynamic_degree is missing"):
        custom_quality({name: value for name, value in figures.items() if name != "dynamic_degree"})


def test_our_row_stands_where_it_belongs() -> None:
    figures = {name: 0.96 for name in CUSTOM_QUALITY}
    content = {"figures": figures, "totals": {"quality_score": 0.7854}}
    board = placed(content, "custom")
    assert board is not None
    names = [row["name"] for row in board.rows]
    place = names.index("this run")
    assert names[place - 1] == "LinGen 512p" and names[place + 1] == "Pika"
    assert [row["ours"] for row in board.rows].count(True) == 1
    assert "> this run" in board.text and "78.54" in board.text


def test_figures_of_other_extractors_are_not_placed() -> None:
    content = {"figures": {"subject_consistency/lite": 0.9}, "totals": {"quality_score/lite": 0.8}}
    assert placed(content, "custom") is None
    assert placed({"figures": {}, "totals": {"total_score": 0.5}}, "shapebench") is None
