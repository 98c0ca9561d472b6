"""A search on a Ray cluster of one machine."""

from collections.abc import Callable

import pytest

from lingen_kit.search.study import Study
from tests.search.conftest import VERBS

pytest.importorskip("ray", reason="the search on a cluster needs ray: pip install 'lingen_kit[ray]'")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_ray_trains_every_candidate_once_and_puts_the_proxy_to_the_test(make_study: Callable[..., Study]) -> None:
    from lingen_kit.search.ray_tune import run_on_ray

    losses = [1.0, 2.0, 3.0, 4.0]
    proxy = {"overrides": {"model.longer": 0.5}, "top": 1, "random": 2}
    study = make_study({"model.loss": losses}, trials=4, storage="journal", proxy=proxy)
    run_on_ray(study, VERBS, ["tests.search.fakes"], workers=2, threads=1, gpus=0)
    records = study.records()
    assert sorted(record.mean("validation/loss") for record in records) == pytest.approx([x + 1 / 3 for x in losses])
    assert sum(bool(record.longer) for record in records) == 3
    assert [path.read_text().count("begun") for path in study.folder.glob("trials/*/seed_0.begun")] == [1] * 4
