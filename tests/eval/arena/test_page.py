"""The page in a real browser: the whole way of a rater, at the size of a desk and of a hand."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.arena.server import ArenaServer
from eval.arena.static_page import write_static_page
from eval.arena.study import Study, read_study
from eval.arena.votes import Ballots, read_votes
from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.video import write_mp4

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROMPTS = ["a red circle <b>moves</b> left", "a blue square that stays", "a green ring"]
SIZES = {"desk": {"width": 1280, "height": 900}, "hand": {"width": 390, "height": 844}}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to drive")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("study")
    for model in range(2):
        lines = []
        for number, prompt in enumerate(PROMPTS):
            video = MovingShapesDataset(seed=model)[number]["video"]
            write_mp4(root / f"model{model}" / f"{number}.mp4", torch.cat([video, video], 1)[:, : 8 + 4 * model], 8)
            lines.append(json.dumps({"file_name": f"{number}.mp4", "text": prompt}))
        (root / f"model{model}" / "metadata.jsonl").write_text("\n".join(lines))
    return read_study([root / "model0", root / "model1"], PROMPTS)


@pytest.fixture
def server(study: Study, tmp_path: Path) -> Iterator[ArenaServer]:
    with ArenaServer(study, Ballots(tmp_path / "votes.jsonl")) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def opened(browser: Any, address: str, size: str) -> tuple[Any, list[str]]:
    page = browser.new_context(viewport=SIZES[size], has_touch=size == "hand", accept_downloads=True).new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.set_default_timeout(15_000)
    page.goto(address)
    return page, wrong


def begin(page: Any, name: str) -> None:
    page.fill("#name", name)
    page.click("#start button")
    page.wait_for_selector("#arena:visible")
    page.wait_for_function("['left', 'right'].every((id) => document.getElementById(id).readyState >= 3)")


def answer(page: Any, quality: str, text: str) -> None:
    page.click(f"[data-question=quality] [data-answer={quality}]")
    page.click(f"[data-question=text] [data-answer={text}]")
    page.click("#next")


@pytest.mark.parametrize("size", list(SIZES))
def test_the_whole_way_of_a_rater(browser: Any, server: ArenaServer, size: str) -> None:
    page, wrong = opened(browser, server.address, size)
    begin(page, "anna")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    shown = page.inner_text("#prompt")
    assert shown in PROMPTS  # with its <b> as text
    assert page.is_disabled("#next")
    # Both play, pause and step together.
    page.wait_for_function("document.getElementById('left').currentTime > 0.2")
    page.keyboard.press(" ")
    assert page.evaluate("['left', 'right'].every((id) => document.getElementById(id).paused)")
    before = page.evaluate("document.getElementById('right').currentTime")
    page.click("#back")
    page.wait_for_function(f"document.getElementById('right').currentTime < {before}")
    # A mouse, twice on Next: one vote.
    page.click("[data-question=quality] [data-answer=left]")
    page.click("[data-question=text] [data-answer=tie]")
    assert page.get_attribute("[data-question=quality] [data-answer=left]", "aria-pressed") == "true"
    page.dblclick("#next")
    page.wait_for_function("document.getElementById('count').textContent.startsWith('1 of 3')")
    # A reload goes on with the next one.
    page.reload()
    page.wait_for_function("document.getElementById('count').textContent.startsWith('1 of 3')")
    assert page.inner_text("#prompt") != shown
    # Keys alone.
    for key in ("3", "6", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("document.getElementById('count').textContent.startsWith('2 of 3')")
    page.click("#skip")
    page.wait_for_selector("#end:visible")
    votes = server.ballots.votes()
    assert [(vote.quality, vote.text, vote.skipped) for vote in votes] == [
        ("left", "tie", ""),
        ("right", "right", ""),
        ("", "", "cannot be judged"),
    ]
    assert {vote.prompt for vote in votes} == set(PROMPTS)
    assert wrong == []


def test_a_video_that_cannot_be_played_is_named_and_the_reason_kept(browser: Any, study: Study, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    videos = {place: broken if place[0] == "model1" else path for place, path in study.videos.items()}
    with ArenaServer(Study(videos, study.models, study.prompts), Ballots(tmp_path / "votes.jsonl")) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        page, _ = opened(browser, server.address, "desk")
        page.fill("#name", "ben")
        page.click("#start button")
        page.wait_for_selector("#problem:visible")
        page.click("#skip")
        page.wait_for_function("document.getElementById('count').textContent.startsWith('1 of 3')")
        assert "cannot be played here" in server.ballots.votes()[0].skipped
        server.shutdown()


def test_a_vote_that_the_server_cannot_keep_is_not_lost_in_silence(browser: Any, server: ArenaServer) -> None:
    page, _ = opened(browser, server.address, "hand")
    begin(page, "anna")
    page.route("**/api/vote", lambda route: route.abort())
    answer(page, "left", "left")
    page.wait_for_selector("#problem:visible")
    assert "was not kept" in page.inner_text("#problem")
    page.unroute("**/api/vote")
    page.click("#next")
    page.wait_for_function("document.getElementById('count').textContent.startsWith('1 of 3')")
    assert len(server.ballots.votes()) == 1


def test_the_page_without_a_server_keeps_votes_and_gives_them_back(browser: Any, study: Study, tmp_path: Path) -> None:
    file, key = write_static_page(study, tmp_path / "arena.html")
    page, wrong = opened(browser, file.as_uri(), "desk")
    begin(page, "anna")
    answer(page, "right", "tie")
    page.wait_for_function("document.getElementById('count').textContent.startsWith('1 of 3')")
    page.reload()
    page.wait_for_function("document.getElementById('count').textContent.startsWith('1 of 3')")
    for end in ("2 of 3", "3 of 3"):
        answer(page, "left", "right")
        page.wait_for_function(f"document.getElementById('count').textContent.startsWith('{end}')")
    page.wait_for_selector("#end:visible")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "votes.json")
    votes = read_votes([tmp_path / "votes.json"], json.loads(key.read_text()))
    assert len(votes) == 3 and {vote.prompt for vote in votes} == set(PROMPTS)
    assert [vote.quality for vote in votes] == ["right", "left", "left"]
    assert {vote.left for vote in votes} | {vote.right for vote in votes} == {"model0", "model1"}
    assert wrong == []
