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


def test_without_prompts_the_names_are_the_prompts(tmp_path: Path) -> None:
    touch(tmp_path, "clip-3.mp4", "2001-a space odyssey.mp4")
    assert [match.prompt for match in match_videos(tmp_path).videos] == ["2001-a space odyssey", "clip"]


def test_files_that_metadata_names_and_are_not_there_are_listed(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "gone.mp4", "text": "x"}\n')
    assert match_videos(tmp_path).problems == [("gone.mp4", "metadata.jsonl names it, and it is not there")]
    (tmp_path / "metadata.jsonl").write_text('{"file": "gone.mp4"}\n')
    with pytest.raises(ValueError, match=r"line 1 is no object with file_name and text"):
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
