import copy
import itertools
import json
import os
import re
import urllib.parse
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

from eval.comparison import write_comparison
from eval.paired import mean_difference, other_networks, unlike
from eval.report import write_report
from eval.report_parts import histogram, link, lower_is_better, places, poster
from lingen_kit.data.media import UnreadableVideo
from lingen_kit.video import write_mp4

CHROMIUM = Path("/usr/bin/chromium")
EVIL = "<script>document.title='owned'</script>"
NAMES = [
    "plain.mp4",
    f'it\'s "#1?" 100%25 & {EVIL.replace("/", "")}.mp4',
    "naïve \U0001f600 a:b.mp4",
    "sub dir/-dash.mp4",
    "x" * 251 + ".mp4",
    "small.mp4",
]
PROMPTS = ["a red ball", f"a {EVIL} & \"quoted\" 'cat'", "naïve \U0001f600", "a dash", "x " * 200, "a small square"]
FIGURES = ["subject_consistency", "imaging_quality/lite", "end_to_start_drift"]


def clip(path: Path, level: float, frames: int = 12, size: tuple[int, int] = (96, 160), fps: float = 12) -> None:
    """A bright bar that moves to the right over a plain ground."""
    video = torch.full((3, frames, *size), level - 0.5)
    for at in range(frames):
        left = at * size[1] // (frames + 2)
        video[:, at, :, left : left + size[1] // 8] = 1.0
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path.with_name("new.mp4"), video, fps, min_side=1).rename(path)


def scores(values: dict[str, float | None]) -> dict:
    return {
        name: {"value": value, "weight": 1.0, "why": "" if value is not None else f"too short {EVIL}", "details": {}}
        for name, value in values.items()
    }


def content_of(names=NAMES, prompts=PROMPTS, *, shift: float = 0.0, seed: int = 0) -> dict:
    generator = np.random.default_rng(seed)
    videos = []
    for name, prompt in sorted(zip(names, prompts, strict=True)):
        near, picture, drift = generator.random(3)
        values = {FIGURES[0]: 0.9 + near / 10 + shift, FIGURES[1]: 50 + 10 * picture, FIGURES[2]: drift / 10}
        size = {"height": 32, "width": 32} if name == "small.mp4" else {"height": 96, "width": 160}
        videos.append({"name": name, "prompt": prompt, "frames": 12, "fps": 12.0, **size, "scores": scores(values)})
    if len(videos) > 1:
        videos[-1]["scores"] |= scores({FIGURES[1]: None})
    return {
        "format": 1,
        "suite": {
            "suite": "custom",
            "weights": f"/weights/{EVIL}",
            "metrics": {
                FIGURES[0]: {"network": "vit_base_patch16_224.dino", "sha256": "a" * 64},
                FIGURES[1] + "+" + FIGURES[2]: {"network": "musiq"},
            },
        },
        "versions": {"lingen_kit": "0.4.0", "torch": "2.11.0"},
        "figures": {
            name: fmean(found)
            for name in FIGURES
            if (found := [v for video in videos if (v := video["scores"][name]["value"]) is not None])
        },
        "totals": {"quality_score": 0.8123},
        "refused": {"total_score": f"color was not computed {EVIL}"},
        "excluded": [{"name": f"broken{EVIL}.mp4", "reason": f"no moov atom {EVIL}"}],
        "videos": videos,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Videos of awkward names beside where pages go."""
    root = tmp_path_factory.mktemp("it's #1 & 100%")
    for at, name in enumerate(NAMES):
        clip(root / "videos" / name, at / len(NAMES), size=(32, 32) if name == "small.mp4" else (96, 160))
    return root / "videos"


@pytest.fixture(scope="module")
def browser():
    if find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a page from its file; at the end none of them may have complained or asked for anything but videos."""
    complaints, pages = [], []

    def visit(path: Path, width: int = 1280, height: int = 900, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield visit
    for page in pages:
        assert page.title() != "owned"
        page.close()
    assert not complaints


def overflow(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def column(page, place: int) -> list[str]:
    return page.locator(f"#videos tbody tr td:nth-child({place})").all_inner_texts()


@pytest.mark.parametrize("name", [*NAMES, "a\\b.mp4", "tab\tnew\nline.mp4", "\udcff.mp4", "..a/%2e%2e/b.mp4"])
def test_a_link_leads_a_browser_to_the_file_whatever_its_name(name, tmp_path):
    page, file = tmp_path / "out #1" / "deep" / "page.html", tmp_path / "videos?" / name
    # What a browser does (RFC 3986, 5.2): join with the page's own address, drop dot segments, decode.
    joined = urllib.parse.urlsplit(urllib.parse.urljoin(page.as_uri(), link(file, page)))
    assert not joined.query and not joined.fragment
    assert os.fsdecode(urllib.parse.unquote_to_bytes(joined.path)) == str(file)
    assert link(file, page).startswith("../../") and link(file, page).isascii()


def test_a_link_to_another_drive_is_a_file_uri(monkeypatch, tmp_path):
    def other_drive(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert link(tmp_path / "a #1.mp4", tmp_path / "page.html") == (tmp_path / "a #1.mp4").as_uri()


def test_a_poster_is_the_first_frame_and_a_missing_file_is_said(folder):
    import base64
    from io import BytesIO

    from PIL import Image

    address = poster(folder / "plain.mp4", 96, 160)
    picture = np.asarray(Image.open(BytesIO(base64.b64decode(address.split(",")[1]))))
    assert picture.shape == (96, 160, 3)
    assert picture[48, 10].min() > 230 and picture[48, 100].max() < 90  # the bar is at the left
    with pytest.raises(UnreadableVideo, match="nowhere"):
        poster(folder / "nowhere.mp4", 96, 160)


def test_numbers_have_four_digits_at_their_greatest():
    assert [places([value]) for value in (1.0, 0.98, 0.0512, 63.4, 100.0, 5000.0, 1e9, 1e-9)] == [
        4,
        4,
        5,
        2,
        2,
        0,
        0,
        6,
    ]
    assert places([0.1, -63.4]) == 2
    assert places([]) == places([0.0]) == 2


def test_a_histogram_holds_every_value_in_the_bar_where_it_lies():
    values = [0.0] * 3 + [0.5] * 1 + [1.0] * 6
    bars = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="[\d.]+" height="([\d.]+)"', histogram("x", values))
    heights = {int(float(x) // 10): float(height) for x, height in bars}
    assert set(heights) == {0, 12, 23}
    assert heights[0] / heights[23] == pytest.approx(3 / 6, abs=0.01)
    assert heights[12] / heights[23] == pytest.approx(1 / 6, abs=0.01)
    assert "mean 0.6500" in histogram("x", values)
    assert "1 value" in histogram("one", [7.0]) and "nan" not in histogram("one", [7.0])


def test_lower_is_better_by_what_made_the_figure_or_by_a_word_of_its_name():
    bare = {"suite": {}}
    assert all(lower_is_better(name, bare) for name in ("drift", "fvd", "end_to_start_drift", "fvd/i3d", "JEDi"))
    assert not any(lower_is_better(name, bare) for name in ("drifting_boats", "subject_consistency", "imaging_quality"))
    said = {"suite": {"metrics": {"fvd+color": {"better": "higher"}, "speed": {"better": "lower"}}}}
    assert [lower_is_better(name, said) for name in ("fvd", "color", "speed")] == [False, False, True]
    with pytest.raises(ValueError, match="'less'"):
        lower_is_better("speed", {"suite": {"metrics": {"speed": {"better": "less"}}}})


def test_the_interval_is_that_of_all_ways_to_draw_the_prompts_again():
    first = {"a": [0.1, 0.3], "b": [0.5], "c": [0.9], "d": [0.2], "e": [0.7], "only here": [5.0]}
    second = {"e": [0.6], "d": [0.6], "c": [1.1], "b": [0.4, 0.6, 0.8], "a": [0.25], "only there": [-5.0]}
    gaps = [0.25 - 0.2, 0.6 - 0.5, 1.1 - 0.9, 0.6 - 0.2, 0.6 - 0.7]
    everything = sorted(sum(draw) / 5 for draw in itertools.product(gaps, repeat=5))  # 3125, each as likely
    low, high = everything[round(0.025 * len(everything))], everything[round(0.975 * len(everything))]
    found = mean_difference(first, second)
    assert found.prompts == 5
    assert found.mean == pytest.approx(sum(gaps) / 5)
    assert found.low == pytest.approx(low, abs=0.011) and found.high == pytest.approx(high, abs=0.011)
    back = mean_difference(second, first)
    assert (back.mean, back.low) == (pytest.approx(-found.mean), pytest.approx(-found.high, abs=0.011))


def test_the_interval_of_many_prompts_is_the_normal_one_and_always_the_same():
    gaps = np.random.default_rng(5).normal(0.3, 2.0, 900)
    first, second = {at: [0.0] for at in range(900)}, {at: [gap] for at, gap in enumerate(gaps)}
    found = mean_difference(first, second)
    error = gaps.std() / 30
    assert found.low == pytest.approx(gaps.mean() - 1.96 * error, abs=0.05 * error)
    assert found.high == pytest.approx(gaps.mean() + 1.96 * error, abs=0.05 * error)
    assert mean_difference(first, second) == found


def test_no_shared_prompt_has_no_difference_and_one_has_no_interval():
    assert mean_difference({"a": [1.0]}, {"b": [1.0]}) is None
    found = mean_difference({"a": [1.0], "c": [0.0]}, {"a": [3.0], "b": [1.0]})
    assert (found.mean, found.low, found.high, found.prompts) == (2.0, None, None, 1)


def test_what_is_unlike_is_named_by_its_path_with_hashes_cut():
    one = {"a": {"x": 1, "hash": "0" * 64}, "gone": []}
    two = {"a": {"x": 2, "hash": "f" * 64}, "new": {"deep": None}}
    assert unlike(one, two) == [
        "a.x: 1 / 2",
        "a.hash: 000000000000... / ffffffffffff...",
        "gone: [] / not said",
        "new.deep: not said / None",
    ]
    assert unlike({"hash": "0" * 63 + "1"}, {"hash": "0" * 64}) == [f"hash: {'0' * 63}1 / {'0' * 64}"]
    assert unlike(one, copy.deepcopy(one)) == []


def test_other_networks_are_found_figure_by_figure():
    first = {"suite": {"metrics": {"a+b": {"net": "dino"}, "c": {"net": "clip"}}}}
    other = {"suite": {"metrics": {"a": {"net": "dino"}, "b+c": {"net": "clip"}, "d": {}}}}
    assert other_networks(first, other) == {"b": ["net: dino / clip"]}


def test_a_report_says_all_and_lets_nothing_from_files_through(folder):
    content = content_of()
    board = [{"name": EVIL, "ours": True, "figures": {EVIL: 97.1, "x": None}}]
    text = write_report(content, folder.parent / "report.html", folder, board).read_text(encoding="utf-8")
    assert text.count("<script") == 2 and EVIL not in text
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"data:[^\"')]+", "", text.split('id="data"')[0]))
    said = ["quality_score".replace("_", "_<wbr>"), "0.8123", "not given", "color was not computed", "no moov atom"]
    said += ["vit_<wbr>", "vit_base_patch16_224.dino", "a" * 64, "2.11.0", "too short"]
    assert [part for part in said[:5] + said[6:] if part not in text] == []


def test_best_and_worst_follow_what_is_better(folder):
    content = content_of()
    text = write_report(content, folder.parent / "ends.html", folder, n_best=2).read_text(encoding="utf-8")
    for place, (name, lower) in enumerate(zip(FIGURES, (False, False, True), strict=True)):
        section = text.split(f'id="figure-{place}"')[1].split("</section>")[0]
        shown = [int(at) for at in re.findall(r'data-video="(\d+)"', section)]
        values = [video["scores"][name]["value"] for video in content["videos"]]
        rising = sorted((at for at, value in enumerate(values) if value is not None), key=lambda at: values[at])
        best, worst = (rising[:2], rising[::-1][:2]) if lower else (rising[::-1][:2], rising[:2])
        assert shown == best + worst


def test_one_video_equal_videos_and_lost_videos_have_their_words(folder, tmp_path):
    one = write_report(content_of(["plain.mp4"], [""]), tmp_path / "one.html", folder).read_text(encoding="utf-8")
    assert "The only one" in one and "Worst" not in one and "&ndash;" not in one.split('id="data"')[0]
    same = content_of()
    for video in same["videos"]:
        video["scores"][FIGURES[0]]["value"] = 1.0
    assert "All 6 have the same value" in write_report(same, tmp_path / "same.html", folder).read_text(encoding="utf-8")
    (tmp_path / "empty").mkdir()
    lost = write_report(content_of(), tmp_path / "lost.html", tmp_path / "empty").read_text(encoding="utf-8")
    assert "the file is not in the folder" in lost and "<video" not in lost
    bare = write_report(content_of(), tmp_path / "bare.html", None).read_text(encoding="utf-8")
    assert "the page was made without the videos" in bare and "<video" not in bare


def test_a_name_that_is_no_unicode_can_be_reported(tmp_path):
    clip(tmp_path / "v" / "\udcff.mp4", 0.2)
    content = content_of(["\udcff.mp4"], ["\udcff"])
    text = write_report(content, tmp_path / "page.html", tmp_path / "v").read_text(encoding="utf-8")
    assert 'src="v/%FF.mp4"' in text


def test_bad_input_is_refused(folder, tmp_path):
    content = content_of()
    with pytest.raises(ValueError, match="no video"):
        write_report(content | {"videos": []}, tmp_path / "a.html", None)
    with pytest.raises(ValueError, match="is no folder"):
        write_report(content, tmp_path / "a.html", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="n_best is -1"):
        write_report(content, tmp_path / "a.html", folder, n_best=-1)
    with pytest.raises(ValueError, match="a row of the board has name"):
        write_report(content, tmp_path / "a.html", folder, [{"name": "x", "ours": False, "color": 1.0}])
    with pytest.raises(ValueError, match="two runs or more"):
        write_comparison([("a", content, folder)], tmp_path / "a.html")
    with pytest.raises(ValueError, match="two runs are called 'a'"):
        write_comparison([("a", content, folder), ("a", content, None)], tmp_path / "a.html")
    with pytest.raises(ValueError, match="the videos of b"):
        write_comparison([("a", content, folder), ("b", content, tmp_path / "nowhere")], tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def compared(folder: Path, out: Path, change=lambda other: None) -> str:
    first, other = content_of(), content_of(shift=-0.05, seed=3)
    change(other)
    write_comparison([(f"first {EVIL}", first, folder), ("second", other, folder)], out)
    return out.read_text(encoding="utf-8")


def embedded(text: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def test_runs_alike_are_compared_without_a_warning(folder, tmp_path):
    text = compared(folder, tmp_path / "page.html")
    assert "Not measured alike" not in text and EVIL not in text and text.count("<script") == 2
    data = embedded(text)
    assert [figure["name"] for figure in data["figures"]] == FIGURES
    assert [figure["lower"] for figure in data["figures"]] == [False, False, True]
    assert all(row["cells"][0]["name"] == row["cells"][1]["name"] for row in data["rows"])
    assert "includes 0" in text and "6 prompts" in text


def test_what_differs_in_the_making_is_named(folder, tmp_path):
    def change(other):
        other["suite"] |= {"suite": "vbench", "weights": None}
        other["suite"]["metrics"][FIGURES[0]] = {"network": "vit_small", "sha256": "b" * 64}
        other["versions"]["torch"] = "2.10.0"
        for video in other["videos"]:
            video["scores"]["color"] = video["scores"].pop(FIGURES[1])
        del other["figures"][FIGURES[1]]

    text = compared(folder, tmp_path / "page.html", change)
    warning = text.split('role="note"')[1].split("</div>")[0]
    named = ["suite: custom / vbench", "weights: ", "network: vit_base_patch16_224.dino / vit_small", "aaaaaaaaaaaa..."]
    named += ["version of torch: 2.11.0 / 2.10.0", f"has {FIGURES[1]}", "only second has color"]
    assert [part for part in named if part not in warning] == []
    assert [figure["name"] for figure in embedded(text)["figures"]] == [FIGURES[0], FIGURES[2]]
    assert text.count('class="mark"') == 1


def test_missing_prompts_are_listed_and_videos_pair_by_prompt_and_number(folder, tmp_path):
    first = content_of([f"{letter}-{at}.mp4" for letter in "ab" for at in range(2)], ["A", "A", "B", "B"])
    other = content_of(["0.mp4", "1.mp4", "2.mp4"], ["B", "C", "A"], seed=2)
    text = write_comparison([("one", first, None), ("two", other, None)], tmp_path / "p.html").read_text("utf-8")
    rows = embedded(text)["rows"]
    assert [(row["prompt"], row["sample"], *(cell and cell["name"] for cell in row["cells"])) for row in rows] == [
        ("A", 1, "a-0.mp4", "2.mp4"),
        ("A", 2, "a-1.mp4", None),
        ("B", 1, "b-0.mp4", "0.mp4"),
        ("B", 2, "b-1.mp4", None),
        ("C", 0, None, "1.mp4"),
    ]
    missing = text.split("<h2>Missing</h2>")[1].split("<h2")[0]
    assert "<b>one</b>: 1 prompt missing, 1 video left out" in missing and "<li>C</li>" in missing
    assert "<b>two</b>: 2 videos fewer of prompts that it has, 1 video left out" in missing


def test_a_figure_of_whole_sets_has_a_difference_and_no_interval(folder, tmp_path):
    first, other = content_of(), content_of(seed=3)
    first["figures"]["fvd"], other["figures"]["fvd"] = 100.0, 90.0
    text = write_comparison([("a", first, None), ("b", other, None)], tmp_path / "p.html").read_text("utf-8")
    row = next(row for row in text.split("<tr>") if ">fvd<" in row)
    assert "-10.00" in row and "no interval" in row and "<b class=best>90.00</b>" in row


def test_the_report_plays_sorts_searches_and_opens_a_video(folder, open_page):
    content = content_of()
    board = [{"name": "a", "ours": False, "figures": {"x": 3.0}}, {"name": "b", "ours": True, "figures": {"x": None}}]
    board += [{"name": "c", "ours": False, "figures": {"x": 9.0}}]
    page = open_page(write_report(content, folder.parent / "report.html", folder, board))
    video = page.locator(".frame video").first
    assert video.get_attribute("preload") == "none" and video.get_attribute("poster").startswith("data:image/jpeg")
    page.locator(".frame .go").first.click()
    page.wait_for_function("document.querySelector('.frame video').currentTime > 0.2")
    page.locator(".frame .go").first.click()
    assert video.evaluate("video => video.paused")
    # Every video can be loaded from its address, whatever its name.
    loaded = page.evaluate(
        """() => Promise.all([...document.querySelectorAll('.frame video')].map(video => new Promise(done => {
        video.onloadeddata = () => done(video.videoWidth > 0); video.onerror = () => done(false); video.load();
        video.preload = 'auto'; })))"""
    )
    assert loaded and all(loaded)
    names = sorted(video["name"] for video in content["videos"])
    assert column(page, 1) == names
    page.locator("#videos th button", has_text="video").click()
    assert column(page, 1) == names[::-1]
    picture = [video["scores"][FIGURES[1]]["value"] for video in content["videos"]]
    falling = [f"{value:.2f}" for value in sorted((v for v in picture if v is not None), reverse=True)]
    head = page.locator("#videos th", has_text="imaging")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 4) == [*falling, "\u2013"]
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 4) == [*falling[::-1], "\u2013"]
    page.fill("#search", "QUOTED")
    assert column(page, 2) == [PROMPTS[1]]
    page.locator("#videos tbody button").click()
    page.wait_for_function("document.querySelector('dialog video').currentTime > 0.1")
    assert page.locator("dialog h2").inner_text() == NAMES[1]
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog video", state="detached")
    # The leaderboard: who has no value comes last either way.
    page.locator("#board th button").click()
    assert page.locator("#board tbody th").all_inner_texts() == ["c", "a", "b"]
    page.locator("#board th button").click()
    assert page.locator("#board tbody th").all_inner_texts() == ["a", "c", "b"]
    assert page.locator("#board tr.ours th").inner_text() == "b"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_no_page_is_wider_than_its_window(folder, open_page, width, scheme):
    first, other = content_of(), content_of(seed=3)
    board = [{"name": "m" * 80, "ours": True, "figures": {f"figure_{at}": 50.0 for at in range(16)}}]
    runs = [(f"{'long-name' * 9} {at}", [first, other][at % 2], folder) for at in range(7)]
    report = open_page(write_report(first, folder.parent / "wide.html", folder, board), width, scheme=scheme)
    side = open_page(write_comparison(runs, folder.parent / "wide7.html"), width, scheme=scheme)
    assert overflow(report) == 0 and overflow(side) == 0
    # Seven models do not fit: head and rows scroll together.
    side.locator("#rows .cells").nth(1).evaluate("node => { node.scrollLeft = 200; }")
    side.wait_for_function("document.querySelector('.models').scrollLeft === 200")
    assert side.locator("#rows .cells").last.evaluate("node => node.scrollLeft") == 200


def test_rows_play_in_step_and_step_by_frames(folder, tmp_path, open_page):
    prompts = ["one", "two", "three"]
    for run, fps, frames in (("a", 12, 18), ("b", 24, 24)):
        for at, prompt in enumerate(prompts):
            clip(tmp_path / run / f"{prompt}.mp4", at / 3, frames, fps=fps)
    contents = [content_of([f"{prompt}.mp4" for prompt in prompts], prompts, seed=at) for at in range(2)]
    for content, fps in zip(contents, (12.0, 24.0), strict=True):
        for video in content["videos"]:
            video["fps"] = fps
    runs = [("a", contents[0], tmp_path / "a"), ("b", contents[1], tmp_path / "b")]
    page = open_page(write_comparison(runs, tmp_path / "page.html"), height=700)
    times = "[...document.querySelectorAll('.prompt')][0].querySelectorAll('video')"
    row = page.locator(".prompt").first
    row.get_by_text("Play").click()
    page.wait_for_function(f"[...{times}].every(video => video.currentTime > 0.4)")
    a, b = page.evaluate(f"[...{times}].map(video => video.currentTime)")
    assert abs(a - b) < 0.12
    # The shorter one waits for the longer one, then both begin again.
    page.wait_for_function(f"{times}[1].ended && {times}[0].currentTime > 1.1")
    page.wait_for_function(f"[...{times}].every(video => !video.ended && video.currentTime < 0.9)")
    row.get_by_text("Pause").click()
    assert page.evaluate(f"[...{times}].every(video => video.paused)")
    page.evaluate(f"{times}.forEach(video => {{ video.currentTime = 0; }})")
    for _ in range(3):
        row.get_by_label("one frame on").click()
        page.wait_for_function(f"[...{times}].every(video => !video.seeking)")
    assert row.locator("output").inner_text() == "frame 4"
    assert page.evaluate(f"[...{times}].map(video => video.currentTime)") == pytest.approx(
        [3.5 / 12, 3.5 / 12], abs=1e-3
    )
    row.get_by_label("one frame back").click()
    page.wait_for_function(f"Math.abs({times}[0].currentTime - 2.5 / 12) < 1e-3")
    # All: only rows in view play, and each row names its best.
    page.locator("#all").click()
    page.wait_for_function("[...document.querySelectorAll('video')].filter(video => !video.paused).length >= 2")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function("[...document.querySelectorAll('.prompt')].at(-1).querySelector('video').currentTime > 0.1")
    page.locator("#all").click()
    page.wait_for_function("[...document.querySelectorAll('video')].every(video => video.paused)")
    best = (
        page.locator(".prompt")
        .first.locator(".cell")
        .evaluate_all("cells => cells.map(cell => [...cell.querySelectorAll('dd')].map(dd => dd.className === 'best'))")
    )
    values = [content["videos"][0]["scores"] for content in contents]
    assert page.locator(".prompt h3").first.inner_text() == contents[0]["videos"][0]["prompt"]
    for place, name in enumerate(FIGURES):
        pair = [side[name]["value"] for side in values]
        if None not in pair:
            assert [best[0][place], best[1][place]] == [
                value == (min if name.endswith("drift") else max)(pair) for value in pair
            ]


def test_a_video_that_cannot_be_played_is_said_and_the_others_go_on(folder, tmp_path, browser):
    clip(tmp_path / "a" / "x.mp4", 0.3)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.mp4").write_bytes(b"no video")
    runs = [(run, content_of(["x.mp4"], ["x"]), tmp_path / run) for run in "ab"]
    page = browser.new_page()
    page.goto(write_comparison(runs, tmp_path / "page.html").as_uri())
    page.locator(".prompt .play").click()
    page.wait_for_function("document.querySelector('video').currentTime > 0.2")
    page.wait_for_selector("text=This browser cannot play it.")
    page.close()


@pytest.mark.slow
def test_five_thousand_videos_stay_usable(open_page, tmp_path):
    names = [f"{at:05d} {'a long name ' * 6}.mp4" for at in range(5000)]
    content = content_of(names, [f"prompt {at % 1000}" for at in range(5000)])
    for name in names:
        (tmp_path / name).touch()
    path = write_report(content, tmp_path / "report.html", tmp_path)
    assert path.stat().st_size < 3_000_000
    page = open_page(path)
    assert page.locator("video").count() == 2 * 3 * len(FIGURES)
    assert page.locator("#videos tbody tr").count() == 50
    took = page.evaluate(
        """() => { const begin = performance.now(); document.querySelectorAll('#videos th button')[2].click();
        document.body.offsetHeight; return performance.now() - begin; }"""
    )
    assert took < 2000
    greatest = max(video["scores"][FIGURES[0]]["value"] for video in content["videos"])
    assert column(page, 3)[0] == f"{greatest:.4f}"
    page.locator("#pager button").last.click()
    assert page.locator("#pager span").inner_text() == "51\u2013100 of 5,000 videos"
