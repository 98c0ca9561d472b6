"""The page in a real browser: the whole way of a rater, at the size of a desk and of a hand.

Conditions are asked again and again from outside: the page's own policy lets nobody evaluate text within it.
"""

import json
import shutil
import threading
import time
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

READY = "['left', 'right'].every((id) => document.getElementById(id).readyState >= 3)"
TIMES = "['left', 'right'].map((id) => document.getElementById(id).currentTime)"

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


def until(page: Any, condition: str) -> None:
    end = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def until_done(page: Any, text: str) -> None:
    until(page, f"document.getElementById('count').textContent.startsWith('{text}')")


def begin(page: Any, name: str) -> None:
    page.fill("#name", name)
    page.click("#start button")
    page.wait_for_selector("#arena:visible")
    until(page, READY)


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
    # Both play, pause and step together, a frame of these videos at a time.
    until(page, "frame < 0.2 && document.getElementById('left').currentTime > 0.2")
    page.keyboard.press(" ")
    assert page.evaluate("['left', 'right'].every((id) => document.getElementById(id).paused)")
    page.keyboard.press("r")
    page.keyboard.press(" ")
    page.keyboard.press(".")
    left, right = page.evaluate(TIMES)
    assert left == right
    page.click("#forward")
    assert page.evaluate(TIMES) == [pytest.approx(left + 0.125, abs=0.01)] * 2  # 8 frames a second
    page.click("#back")
    assert page.evaluate(TIMES) == [pytest.approx(left, abs=0.01)] * 2
    page.click("#play")
    until(page, "['left', 'right'].every((id) => !document.getElementById(id).paused)")
    # A mouse, twice on Next: one vote.
    page.click("[data-question=quality] [data-answer=left]")
    page.click("[data-question=text] [data-answer=tie]")
    assert page.get_attribute("[data-question=quality] [data-answer=left]", "aria-pressed") == "true"
    page.dblclick("#next")
    until_done(page, "1 of 3")
    # A reload goes on with the next one.
    page.reload()
    until_done(page, "1 of 3")
    assert page.inner_text("#prompt") != shown
    # A key that presses the button with the focus does that, and nothing else.
    page.focus("[data-question=quality] [data-answer=tie]")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press(" ")
    assert page.get_attribute("[data-question=quality] [data-answer=right]", "aria-pressed") == "true"
    assert len(server.ballots.votes()) == 1 and page.evaluate("playing")
    page.evaluate("document.activeElement.blur()")
    # Keys alone.
    for key in ("3", "6", "Enter"):
        page.keyboard.press(key)
    until_done(page, "2 of 3")
    page.keyboard.press("s")
    page.keyboard.type("1 both are black ,.r")  # keys of the page are letters here
    page.keyboard.press("Enter")
    page.wait_for_selector("#end:visible")
    votes = server.ballots.votes()
    assert [(vote.quality, vote.text, vote.skipped) for vote in votes] == [
        ("left", "tie", ""),
        ("right", "right", ""),
        ("", "", "1 both are black ,.r"),
    ]
    assert page.inner_text("#end").count("3 comparisons") == 1
    page.reload()
    page.wait_for_selector("#end:visible")
    page.click("#end button")
    page.wait_for_selector("#start:visible")
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
        side = "left" if server.study.tasks("ben")[0].left == "model1" else "right"
        assert f"The {side} video cannot be played" in page.inner_text("#problem")
        # Nobody answers for what they have not seen.
        for key in "16":
            page.keyboard.press(key)
        assert page.evaluate("Object.keys(answers).length") == 0
        assert page.is_disabled("#next") and page.is_disabled("[data-question=text] [data-answer=tie]")
        page.click("#again")  # tries again, and it still cannot be played
        page.wait_for_selector("#problem:visible")
        page.click("#skip")
        until_done(page, "1 of 3")
        [vote] = server.ballots.votes()
        assert f"The {side} video cannot be played" in vote.skipped and vote.quality == vote.text == ""
        server.shutdown()


def test_on_a_phone_wide_videos_stand_one_above_the_other_and_narrow_ones_beside(
    browser: Any, study: Study, tmp_path: Path
) -> None:
    wide = tmp_path / "wide.mp4"
    write_mp4(wide, torch.zeros(3, 8, 36, 64), 8)
    for videos, stacked in ((study.videos, False), (dict.fromkeys(study.videos, wide), True)):
        path = tmp_path / str(stacked) / "votes.jsonl"
        with ArenaServer(Study(videos, study.models, study.prompts), Ballots(path)) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            page, wrong = opened(browser, server.address, "hand")
            begin(page, "anna")
            boxes = [page.locator(name).bounding_box() for name in ("#left", "#right")]
            assert (boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]) == stacked
            assert page.inner_text("[data-question=text] [data-answer=left]").startswith("Upper" if stacked else "Left")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            for button in page.locator("#arena button:visible").all():
                assert button.bounding_box()["height"] >= 40  # for thumbs
            assert page.locator("#next").bounding_box()["y"] + 44 <= SIZES["hand"]["height"]  # no scrolling for a vote
            answer(page, "right", "left")
            until_done(page, "1 of 3")
            assert (server.ballots.votes()[0].quality, server.ballots.votes()[0].text) == ("right", "left")
            assert wrong == []
            server.shutdown()


def test_an_open_page_goes_on_when_the_server_was_started_again(browser: Any, study: Study, tmp_path: Path) -> None:
    with ArenaServer(study, Ballots(tmp_path / "votes.jsonl")) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        page, _ = opened(browser, server.address, "desk")
        begin(page, "anna")
        port = server.server_address[1]
        server.shutdown()
    with ArenaServer(study, Ballots(tmp_path / "votes.jsonl"), port=port) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        answer(page, "left", "right")
        until_done(page, "1 of 3")
        assert len(server.ballots.votes()) == 1
        server.shutdown()


def test_a_second_window_of_a_rater_counts_nothing_twice_and_says_so(browser: Any, server: ArenaServer) -> None:
    first, second = (opened(browser, server.address, "desk")[0] for _ in range(2))
    for page in (first, second):
        begin(page, "anna")
    answer(first, "left", "left")
    until_done(first, "1 of 3")
    answer(second, "right", "right")
    until_done(second, "1 of 3")
    assert "the first answer counts" in second.inner_text("#problem")
    assert [vote.quality for vote in server.ballots.votes()] == ["left"]


def test_a_vote_that_the_server_cannot_keep_is_not_lost_in_silence(browser: Any, server: ArenaServer) -> None:
    page, _ = opened(browser, server.address, "hand")
    begin(page, "anna")
    page.route("**/api/vote", lambda route: route.abort())
    answer(page, "left", "left")
    page.wait_for_selector("#problem:visible")
    assert "was not kept" in page.inner_text("#problem")
    page.unroute("**/api/vote")
    page.click("#next")
    until_done(page, "1 of 3")
    assert len(server.ballots.votes()) == 1


@pytest.mark.parametrize(("size", "link"), [("desk", False), ("hand", True)])
def test_the_page_without_a_server_keeps_votes_and_gives_them_back(
    browser: Any, study: Study, tmp_path: Path, size: str, link: bool
) -> None:
    file, key = write_static_page(study, tmp_path / "arena.html", link=link)
    page, wrong = opened(browser, file.as_uri(), size)
    begin(page, "anna")
    answer(page, "right", "tie")
    until_done(page, "1 of 3")
    page.reload()
    until_done(page, "1 of 3")
    for end in ("2 of 3", "3 of 3"):
        answer(page, "left", "right")
        until_done(page, end)
    page.wait_for_selector("#end:visible")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "votes.json")
    votes = read_votes([tmp_path / "votes.json"], json.loads(key.read_text()))
    assert len(votes) == 3 and {vote.prompt for vote in votes} == set(PROMPTS)
    assert [vote.quality for vote in votes] == ["right", "left", "left"]
    assert {vote.left for vote in votes} | {vote.right for vote in votes} == {"model0", "model1"}
    assert wrong == []
