import json
from pathlib import Path

import pytest

from eval.suites.prompt_files import read_prompts
from eval.video_folder import match_videos


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_metadata_says_which_prompt_a_file_is_of(tmp_path: Path) -> None:
    touch(tmp_path, "0000_a.mp4", "0001_b.mp4", "sheet.png")
    lines = [{"file_name": "0000_a.mp4", "text": 'a / "b" \U0001f600'}, {"file_name": "0001_b.mp4", "text": "x" * 300}]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = match_videos(tmp_path, [lines[0]["text"], lines[1]["text"], "missing"])
    assert [(match.path.name, match.prompt) for match in found.videos] == [
        ("0000_a.mp4", 'a / "b" \U0001f600'),
        ("0001_b.mp4", "x" * 300),
    ]
    assert found.problems == [("missing", "no video of this prompt")]


def test_names_say_it_with_and_without_the_number_of_the_sample(tmp_path: Path) -> None:
    touch(tmp_path, "a red bird-0.mp4", "a red bird-1.mp4", "sub/a blue bird.mp4", "who.mp4", "notes.txt")
    found = match_videos(tmp_path, ["a red bird", "a blue bird"])
    assert [(match.path.name, match.prompt, match.sample) for match in found.videos] == [
        ("a red bird-0.mp4", "a red bird", 0),
        ("a red bird-1.mp4", "a red bird", 1),
        ("a blue bird.mp4", "a blue bird", 0),
    ]
    assert found.problems == [
        ("notes.txt", "it is no video, by its suffix"),
        ("who.mp4", "it matches none of the 2 prompts"),
    ]


def test_names_from_which_characters_were_left_out_or_that_were_cut_off(tmp_path: Path) -> None:
    slash, long = 'light/dark: a "study"', "a very long prompt " * 20
    touch(tmp_path, "light_dark_ a _study_-0.mp4", long[:200].strip() + ".mp4")
    found = match_videos(tmp_path, [slash, long.strip()])
    assert {match.prompt for match in found.videos} == {slash, long.strip()}
    two = match_videos(tmp_path, [long.strip(), long.strip() + " again"])
    assert not two.videos  # the beginning is that of both
    assert any("its name fits 2 prompts" in reason for _, reason in two.problems)


def test_a_folder_that_says_nothing_is_taken_in_order_only_if_asked_and_says_so(tmp_path: Path) -> None:
    prompts = [f"prompt {letter}" for letter in "abcdefghijkl"]
    touch(tmp_path, *(f"clip_{number}.mp4" for number in range(12)), "notes.txt")
    assert match_videos(tmp_path, prompts).videos == []
    found = match_videos(tmp_path, prompts, by_order=True)
    assert {match.path.name: match.prompt for match in found.videos} == {
        f"clip_{number}.mp4": prompt for number, prompt in enumerate(prompts)
    }
    assert found.problems == [("notes.txt", "it is no video, by its suffix")]
    [note] = found.notes
    assert "in their order" in note and "clip_11.mp4 is 'prompt l'" in note
    # One video too many, one that is named after a prompt, or metadata: then the order says nothing.
    assert match_videos(tmp_path, prompts[1:], by_order=True).videos == []
    (tmp_path / "clip_3.mp4").rename(tmp_path / "prompt d.mp4")
    assert len(match_videos(tmp_path, prompts, by_order=True).videos) == 1
    (tmp_path / "prompt d.mp4").rename(tmp_path / "clip_3.mp4")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "clip_3.mp4", "text": "else"}\n')
    found = match_videos(tmp_path, prompts, by_order=True)
    assert found.videos == [] and not found.notes
    assert ("clip_3.mp4", "its text is none of the 12 prompts: 'else'") in found.problems


def test_order_within_a_prompt_is_that_of_the_numbers(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a bird-{number}.mp4" for number in (10, 2, 0, 9)))
    found = match_videos(tmp_path, ["a bird"]).videos
    assert [(match.path.name, match.sample) for match in found] == [
        (f"a bird-{number}.mp4", sample) for sample, number in enumerate((0, 2, 9, 10))
    ]


def test_each_subfolder_may_have_its_own_metadata(tmp_path: Path) -> None:
    touch(tmp_path, "x/0.mp4", "y/0.mp4", "y/poster.jpg", "z/x.mp4")
    for name, text in (("x", "one"), ("y", "two")):
        (tmp_path / name / "metadata.jsonl").write_text(json.dumps({"file_name": "0.mp4", "text": text}))
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "z/x.mp4", "text": " one "}))
    found = match_videos(tmp_path, ["one", "two"])
    assert [(match.path.relative_to(tmp_path).as_posix(), match.prompt, match.sample) for match in found.videos] == [
        ("x/0.mp4", "one", 0),
        ("y/0.mp4", "two", 0),
        ("z/x.mp4", "one", 1),
    ]
    assert found.problems == [("y/poster.jpg", "it is an image of which metadata.jsonl says nothing")]


def test_every_file_is_matched_or_listed(tmp_path: Path) -> None:
    names = ["a-0.mp4", "b.mp4", "c.webm", "d.xyz", "sub/e.mp4", "poster.png", "a.mp4.part"]
    touch(tmp_path, *names)
    found = match_videos(tmp_path, ["a", "c", "q"])
    listed = [match.path.relative_to(tmp_path).as_posix() for match in found.videos] + [n for n, _ in found.problems]
    assert sorted(listed) == sorted([*names, "q"])


def test_without_prompts_the_names_are_the_prompts(tmp_path: Path) -> None:
    touch(tmp_path, "clip-3.mp4", "2001-a space odyssey.mp4")
    assert [match.prompt for match in match_videos(tmp_path).videos] == ["2001-a space odyssey", "clip"]


def test_files_that_metadata_names_and_are_not_there_are_listed(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "gone.mp4", "text": "x"}\n')
    assert match_videos(tmp_path).problems == [("gone.mp4", "metadata.jsonl names it, and it is not there")]
    for line in ('{"file": "gone.mp4"}', '{"file_name": "x.mp4", "text": null}', "[1]", "{"):
        (tmp_path / "metadata.jsonl").write_text(line + "\n")
        with pytest.raises(ValueError, match=r"line 1 is no object with file_name and text"):
            match_videos(tmp_path)
    (tmp_path / "metadata.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"metadata\.jsonl is not UTF-8 text"):
        match_videos(tmp_path)
    with pytest.raises(FileNotFoundError, match="give a folder of videos"):
        match_videos(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "one\n\n two \n"),
        ("p.csv", "id,prompt\n1,one\n2,two\n"),
        ("p.jsonl", '{"text": "one"}\n{"text": "two"}\n'),
        ("p.json", '["one", {"prompt": "two"}]'),
    ],
)
def test_lists_of_prompts(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_prompts(tmp_path / name) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", "", "holds no prompt"),
        ("p.doc", "x", "is no list of prompts: choose out of .txt"),
        ("p.csv", "a,b\n1,2\n", "has no column prompt, text, caption or prompt_en; its columns: a, b"),
        ("p.csv", "prompt\none\n\x07\n", "line 3: '\\x07' holds characters that are no text"),
        ("p.jsonl", '{"text": "one"}\n{oops\n', "line 2 is no JSON"),
        ("p.jsonl", '{"text": 5}\n', "line 1: 5 is no prompt"),
        ("p.json", "{}", "is no list: write a JSON list"),
    ],
)
def test_bad_lists_are_refused_by_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError) as caught:
        read_prompts(tmp_path / name)
    assert message in str(caught.value)
