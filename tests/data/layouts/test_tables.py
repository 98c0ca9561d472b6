"""Tables of clips: Hugging Face metadata files, Open-Sora's CSV, manifests; as jsonl, csv and parquet."""

import datetime
import json
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from lingen_kit.data.clip import Index, split
from lingen_kit.data.layouts import list_clips, read_index
from lingen_kit.data.layouts.tables import number_or_text
from lingen_kit.errors import MissingPackage
from tests.data.layouts.conftest import Fill, write_lines


def captions(index: Index) -> list[tuple[str, str]]:
    return [(clip.name, clip.caption) for clip in index.clips]


def reasons(index: Index) -> dict[str, str]:
    return {Path(path).name: reason for path, reason in index.unusable}


def test_metadata_captions(fill: Fill) -> None:
    root = fill("a.mp4", "in/b.mp4", "c.mp4", captions=False)
    row = {"file_name": "in/b.mp4", "text": " two ", "score": 1, "tags": ["x"], "none": None}
    write_lines(root / "metadata.jsonl", row, "", {"file_name": "./a.mp4", "text": "one", "fps": float("nan")})
    index = read_index(root)
    assert captions(index) == [("a.mp4", "one"), ("in/b.mp4", "two")]
    assert [clip.attributes for clip in index.clips] == [{}, {"score": 1, "tags": ["x"]}]
    assert [clip.path for clip in index.clips] == [root / "a.mp4", root / "in/b.mp4"]
    assert index.ignored == [(str(root / "c.mp4"), "not listed in metadata.jsonl")]
    assert index.unusable == []
    assert index.layout == "metadata.jsonl of a Hugging Face VideoFolder: 2 videos"


def write_table(path: Path, rows: list[dict[str, object]]) -> Path:
    match path.suffix:
        case ".jsonl":
            write_lines(path, *rows)
        case ".csv":
            lines = [",".join(rows[0]), *(",".join(json.dumps(value) for value in row.values()) for row in rows)]
            path.write_text("\n".join(lines) + "\n")
        case ".parquet":
            parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("whole_folder", [True, False], ids=["folder", "manifest"])
def test_all_tables_say_the_same(fill: Fill, suffix: str, whole_folder: bool) -> None:
    root = fill("a.mp4", "b.jpg", captions=False)
    rows: list[dict[str, object]] = [
        {"file_name": "a.mp4", "caption": "one, two", "start": 0.5, "end": 2, "aes": 5.25, "count": 3, "id": "007"},
        {"file_name": "b.jpg", "caption": "a photo", "start": float("nan"), "end": None, "aes": float("nan"),
         "count": 4, "id": "x"},
    ]  # fmt: skip
    table = write_table(root / f"metadata{suffix}", rows)
    if suffix == ".csv":
        table.write_text(table.read_text().replace("null", ""))
    index = read_index(root if whole_folder else table, ("video", "image"))
    assert index.unusable == []
    first, second = index.clips
    assert (first.name, first.caption, first.start, first.end) == ("a.mp4#0.5-2", "one, two", 0.5, 2.0)
    assert first.attributes == {"aes": 5.25, "count": 3, "id": "007"}
    assert (second.name, second.start, second.end) == ("b.jpg", 0.0, None)
    assert second.attributes == {"count": 4, "id": "x"}
    assert json.loads(json.dumps(first.attributes)) == first.attributes
    kind = f"metadata{suffix} of a Hugging Face VideoFolder, captions from caption"
    assert index.layout == f"{kind if whole_folder else f'the clips that metadata{suffix} lists'}: 1 video, 1 image"


def test_parquet_types_become_plain_json(fill: Fill) -> None:
    root = fill("a.mp4", captions=False)
    row = {"file_name": "a.mp4", "text": "one", "day": datetime.date(2020, 2, 3), "price": Decimal("1.5"),
           "raw": b"\0", "box": {"x": [1, float("inf")]}, "image": {"bytes": b"\0", "path": "x"}}  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist([row]), root / "metadata.parquet")
    [clip] = read_index(root).clips
    assert clip.attributes == {"day": "2020-02-03", "price": 1.5, "box": {"x": [1, None]}}


def test_metadata_files_speak_for_their_folders(fill: Fill) -> None:
    root = fill("train/a.mp4", "train/deep/b.mp4", "test/c.mp4", "loose/d.mp4", captions=False)
    write_lines(root / "train/metadata.jsonl", *({"file_name": n, "text": n} for n in ("a.mp4", "deep/b.mp4")))
    (root / "train/metadata.csv").write_text("file_name,text\na.mp4,other\n")
    write_lines(root / "test/metadata.jsonl", {"file_name": "c.mp4", "text": "three"})
    index = read_index(root)
    assert captions(index) == [("test/c.mp4", "three"), ("train/a.mp4", "a.mp4"), ("train/deep/b.mp4", "deep/b.mp4")]
    assert dict(index.ignored) == {
        str(root / "train/metadata.csv"): "beside it is metadata.jsonl, which counts",
        str(root / "loose/d.mp4"): "no metadata file is in its folder or above",
    }
    assert index.layout == (
        "2 files metadata.jsonl of a Hugging Face VideoFolder, parts by folder: test, train: 3 videos"
    )
    assert [clip.name for clip in split(index.clips, 0.1)[1]] == ["test/c.mp4"]


def test_huge_numbers_and_deep_values_cost_their_row_only(fill: Fill) -> None:
    root = fill("ok.mp4", "huge.mp4", "deep.mp4", "caption.mp4", captions=False)
    deep = "[" * 970 + "]" * 970
    write_lines(
        root / "metadata.jsonl",
        {"file_name": "ok.mp4", "text": "one", "facts": [[[1]]]},
        f'{{"file_name": "huge.mp4", "text": "one", "start": {10**400}}}',
        f'{{"file_name": "deep.mp4", "text": "one", "facts": {"[" * 500 + "]" * 500}}}',
        f'{{"file_name": "caption.mp4", "text": {deep}}}',
        f'{{"file_name": "caption.mp4", "text": "one", "facts": {deep}}}',
        f'{{"text": {deep}}}',
    )
    index = read_index(root)
    assert [(clip.caption, clip.attributes) for clip in index.clips] == [("one", {"facts": [[[1]]]})]
    reasons = [reason for _, reason in index.unusable]
    assert reasons[0].startswith("its start is 1000") and "no number of seconds" in reasons[0]
    assert index.unusable[1] == (f"{root / 'metadata.jsonl'}, line 3", "a value in it is nested too deeply to be read")
    assert len(reasons) == 5


def test_bad_rows_cost_their_clip_only(fill: Fill, tmp_path: Path) -> None:
    root = fill("ok.mp4", "long.mp4", "none.mp4", "number.mp4", "late.mp4", "word.mp4", "half.mp4", captions=False)
    (root / "dangling.mp4").symlink_to("gone.mp4")
    (tmp_path / "outside.mp4").write_bytes(b"")
    entries: list[dict[str, object] | str] = [
        {"file_name": "ok.mp4", "text": "one"},
        {"file_name": "long.mp4", "text": "x" * 100_000},
        {"file_name": "none.mp4", "text": None},
        {"file_name": "number.mp4", "text": 3},
        {"file_name": "late.mp4", "text": "one", "start": 2, "end": 1.5},
        {"file_name": "word.mp4", "text": "one", "start": "soon"},
        {"file_name": "half.mp4", "text": "cut \ud83d"},
        {"file_name": "dangling.mp4", "text": "one"},
        {"file_name": "gone.mp4", "text": "one"},
        {"file_name": "../outside.mp4", "text": "one"},
        {"file_name": str(tmp_path / "outside.mp4"), "text": "one"},
        {"file_name": "https://host/a.mp4", "text": "one"},
        {"file_name": "zero\0.mp4", "text": "one"},
        {"file_name": "n" * 300 + ".mp4", "text": "one"},
        {"file_name": "\ud83d.mp4", "text": "one"},
        {"text": "one"},
        '{"file_name": "cut.mp4", "te',
        "[1, 2]",
        '{"file_name": "big.mp4", "text": ' + "[" * 100_000,
    ]
    write_lines(root / "metadata.jsonl", *entries)
    index = read_index(root)
    assert captions(index) == [("ok.mp4", "one")]
    assert len(index.unusable) == 18
    said = [reason for _, reason in index.unusable]
    assert said[:14] == [
        "no caption: its text is longer than 20,000 characters (metadata.jsonl, line 2)",
        "no caption: its text is null (metadata.jsonl, line 3)",
        "no caption: its text is no text: 3 (metadata.jsonl, line 4)",
        "its end, 1.5 s, is not after its start, 2 s (metadata.jsonl, line 5)",
        "its start is 'soon', which is no number of seconds (metadata.jsonl, line 6)",
        r"no caption: its text holds half of a character (a lone surrogate): cut \ud83d (metadata.jsonl, line 7)",
        "it is a link to gone.mp4, where nothing is (metadata.jsonl, line 8)",
        "there is no such file (metadata.jsonl, line 9)",
        f"it leads out of the folder; set data.root to {root / 'metadata.jsonl'} itself to allow that"
        " (metadata.jsonl, line 10)",
        f"it leads out of the folder; set data.root to {root / 'metadata.jsonl'} itself to allow that"
        " (metadata.jsonl, line 11)",
        "it is a URL, and only shards are read from URLs; download it and give its path (metadata.jsonl, line 12)",
        "its name holds a zero character (metadata.jsonl, line 13)",
        "File name too long (metadata.jsonl, line 14)",
        "its name is not UTF-8; rename it (metadata.jsonl, line 15)",
    ]
    places = [path for path, _ in index.unusable[14:]]
    assert places == [f"{root / 'metadata.jsonl'}, line {number}" for number in (16, 17, 18, 19)]
    assert [reason.partition(";")[0][:40] for reason in said[14:]] == [
        "it has no file_name: {'text': 'one'}",
        "it is not valid JSON (Unterminated strin",
        "it is not a JSON object: [1, 2]",
        "it is no JSON that can be read",
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("word", ["NaN", "nan", "None", "null", "<NA>", "<na>", " nan "])
def test_words_for_nothing_are_no_captions(fill: Fill, suffix: str, word: str) -> None:
    root = fill("a.mp4", "b.mp4", captions=False)
    write_table(
        root / f"metadata{suffix}",
        [{"file_name": "a.mp4", "text": word}, {"file_name": "b.mp4", "text": "Nan, my aunt"}],
    )
    index = read_index(root)
    assert captions(index) == [("b.mp4", "Nan, my aunt")]
    assert reasons(index)["a.mp4"].startswith(f"no caption: its text is {word.strip()!r}, which stands for none (")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_values_for_nothing_are_no_captions(fill: Fill, suffix: str) -> None:
    root = fill("a.mp4", captions=False)
    write_table(root / f"metadata{suffix}", [{"file_name": "a.mp4", "text": float("nan")}])
    assert reasons(list_clips(root))["a.mp4"].startswith("no caption: its text is no text: nan (")
    write_table(root / f"metadata{suffix}", [{"file_name": "a.mp4", "text": None}])
    assert reasons(list_clips(root))["a.mp4"].startswith("no caption: its text is null (")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_spreadsheets_have_separators_of_their_own(fill: Fill, separator: str) -> None:
    root = fill("a.mp4", "b.mp4", captions=False)
    rows = [["path", "text", "start"], ["a.mp4", "one, two", "1.5"], ["b.mp4", "three", ""], ["b.mp4", "four", "", ""]]
    (root / "list.csv").write_text("".join(separator.join(row) + "\n" for row in rows))
    for given in (root, root / "list.csv"):
        index = read_index(given)
        assert captions(index) == [("a.mp4#1.5-", "one, two"), ("b.mp4", "three")]
        assert ("semicolon" if separator == ";" else "tab") in index.unusable[0][1]


def test_a_file_has_one_path_however_rows_spell_it(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill("in/a.mp4", captions=False)
    names = ["in/a.mp4", "./in/a.mp4", "in/./a.mp4", "in//a.mp4", str(root / "in/a.mp4")]
    rows = [{"file_name": name, "text": "x", "start": 2 * i, "end": 2 * i + 1} for i, name in enumerate(names)]
    bad = [{"file_name": name, "text": ""} for name in names]
    write_lines(root / "list.jsonl", *rows, *bad)
    for given in (root / "list.jsonl", Path("list.jsonl"), Path("../clips/list.jsonl")):
        monkeypatch.chdir(root)
        index = read_index(given)
        [path] = {str(clip.path) for clip in index.clips}
        assert {place for place, _ in index.unusable} == {path}
        assert {clip.file_name for clip in index.clips} == {"in/a.mp4"}
        assert index.layout.endswith(": 5 clips of 1 video, 5 not usable")


def test_a_manifest_may_name_files_anywhere(fill: Fill, tmp_path: Path) -> None:
    root = fill("a.mp4", "b.mp4", captions=False)
    (tmp_path / "lists").mkdir()
    manifest = write_lines(
        tmp_path / "lists" / "kept.jsonl",
        {"file_name": "../clips/a.mp4", "text": "one", "start": 1, "end": 2.5},
        {"file_name": "../clips/a.mp4", "text": "two", "start": 1.25},
        {"file_name": str(root / "b.mp4"), "text": "three"},
        {"file_name": "gone.mp4", "text": "four"},
    )
    index = read_index(manifest)
    assert [(clip.name, clip.start, clip.end) for clip in index.clips] == [
        ("../clips/a.mp4#1-2.5", 1.0, 2.5),
        ("../clips/a.mp4#1.25-", 1.25, None),
        (str(root / "b.mp4"), 0.0, None),
    ]
    assert all(clip.path.samefile(root / clip.path.name) for clip in index.clips)
    assert reasons(index) == {"gone.mp4": "there is no such file (kept.jsonl, line 4)"}
    assert index.layout == "the clips that kept.jsonl lists: 3 clips of 2 videos, 1 not usable"
    inside = write_lines(root / "kept.jsonl", {"file_name": str(root / "b.mp4"), "text": "three"})
    assert [clip.name for clip in read_index(inside).clips] == ["b.mp4"]


def test_stretches_of_a_file_stay_on_one_side(fill: Fill) -> None:
    root = fill(*(f"{number}.mp4" for number in range(20)), captions=False)
    rows = [{"file_name": f"{n}.mp4", "text": "one", "start": s, "end": s + 1} for n in range(20) for s in range(5)]
    training, validation = split(read_index(write_lines(root / "clips.jsonl", *rows)).clips, 0.3)
    assert len(training) + len(validation) == 100
    assert {clip.path for clip in training}.isdisjoint(clip.path for clip in validation)


def test_files_listed_twice(fill: Fill) -> None:
    root = fill("a.mp4", "b.mp4", captions=False)
    rows = [("a.mp4", "one"), ("a.mp4", "two"), ("b.mp4", "three"), ("./a.mp4", "one")]
    write_lines(root / "metadata.jsonl", *({"file_name": name, "text": text} for name, text in rows))
    index = read_index(root)
    assert captions(index) == [("a.mp4", "one"), ("a.mp4", "two"), ("b.mp4", "three")]
    assert index.ignored == [(str(root / "a.mp4"), "listed twice with the same text; used once: a.mp4")]
    assert index.layout.endswith(": 3 clips of 2 videos")


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "dos"])
def test_lines_end_at_line_feeds_alone(fill: Fill, end: str) -> None:
    root = fill("a.mp4", "b.mp4", captions=False)
    lines = ['{"file_name": "a.mp4", "text": "one\u2028two\x85three"}', '{"file_name": "b.mp4", "text": "four"}', ""]
    (root / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
    assert [caption for _, caption in captions(read_index(root))] == ["one\u2028two\x85three", "four"]


def test_open_sora_csv(fill: Fill, tmp_path: Path) -> None:
    root = fill("a.mp4", "in/b.mp4", "c.mp4", captions=False)
    (tmp_path / "far.mp4").write_bytes(b"")
    (root / "meta.csv").write_text(
        "path,text,num_frames,height,width,aspect_ratio,fps\n"
        'a.mp4,"one, ""two""\nthree",51,240,426,0.56,nan\n'
        f"{root}/in/b.mp4,four,,240,426,0.56,24.0\n"
        f"{tmp_path}/far.mp4,five,1,2,3,4,5\n"
        "a.mp4,six, seven,51,240,426,0.56,25\n"
        "a.mp4,,51,240,426,0.56,25\n"
    )
    (root / "scores.csv").write_text("path,score\na.mp4,3\n")
    index = read_index(root)
    assert captions(index) == [
        (str(tmp_path / "far.mp4"), "five"),
        ("a.mp4", 'one, "two"\nthree'),
        ("in/b.mp4", "four"),
    ]
    assert index.clips[1].attributes == {"num_frames": 51, "height": 240, "width": 426, "aspect_ratio": 0.56}
    assert index.clips[2].attributes == {"height": 240, "width": 426, "aspect_ratio": 0.56, "fps": 24.0}
    assert [reason for _, reason in index.unusable] == [
        "it has 8 cells, for 7 columns; a text with a comma stands in quotation marks",
        "no caption: its text is empty (meta.csv, line 7)",
    ]
    assert index.unusable[0][0] == f"{root / 'meta.csv'}, line 6"
    assert index.layout == "meta.csv, a table as Open-Sora has it: 3 videos, 2 not usable"
    (root / "other.csv").write_text("path,text\na.mp4,one\n")
    with pytest.raises(ValueError, match=r"holds 2 tables of clips; set data\.root to one of them: .*meta.*other\.csv"):
        read_index(root)
    assert captions(read_index(root / "other.csv")) == [("a.mp4", "one")]


def test_a_quotation_mark_never_closed_costs_what_it_swallows(fill: Fill) -> None:
    root = fill("a.mp4", "b.mp4", captions=False)
    rows = ["path,text", "a.mp4,one", 'b.mp4,"two', *(["a.mp4," + "x" * 1000] * 140), "b.mp4,three"]
    (root / "meta.csv").write_text("\n".join(rows) + "\n")
    index = read_index(root)
    assert ("a.mp4", "one") in captions(index)
    assert ("b.mp4", "three") in captions(index)
    [(place, reason)] = index.unusable
    assert place.endswith("meta.csv, line 3")
    assert "is a quotation mark never closed?" in reason


@pytest.mark.parametrize(
    "name,content,message",
    [
        ("metadata.csv", b"file,text\na.mp4,one\n", r"has no column file_name or path; its columns are: file, text"),
        ("metadata.csv", b"path,label\na.mp4,one\n", r"has no column text or caption or prompt; its .*: path, label"),
        ("metadata.jsonl", b'{"file_name": "a.mp4"}\n', r"no column text or caption or prompt; its .*: file_name"),
        ("metadata.jsonl", b"\n", r"has no rows; a row names a file \(file_name\) and its caption"),
        ("metadata.csv", b"", r"has no rows"),
        ("metadata.jsonl", b'\n{"text": "\xff"}\n', r"metadata\.jsonl is not UTF-8 text: byte 11, in line 2"),
        ("metadata.csv", b"path,text\na.mp4,caf\xe9\n", r"metadata\.csv is not UTF-8 text: byte 19, in line 2"),
        ("metadata.parquet", b"PAR1", r"metadata\.parquet is no parquet file that can be read"),
    ],
)
def test_tables_that_are_none_say_why(fill: Fill, name: str, content: bytes, message: str) -> None:
    root = fill("a.mp4", captions=False)
    (root / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_index(root)


def test_parquet_without_pyarrow_says_what_to_install(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill("a.mp4", captions=False)
    write_table(root / "metadata.parquet", [{"file_name": "a.mp4", "text": "one"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackage, match=r'needs pyarrow: pip install "lingen_kit\[parquet\]"'):
        read_index(root)


def test_metadata_that_cannot_be_opened_is_not_passed_over(fill: Fill) -> None:
    root = fill("a.mp4")
    (root / "metadata.jsonl").symlink_to("gone.jsonl")
    with pytest.raises(FileNotFoundError, match=r"metadata\.jsonl"):
        read_index(root)


@pytest.mark.parametrize(
    "cell,value",
    [("12", 12), ("-3", -3), ("007", "007"), ("0.5", 0.5), (".5", 0.5), ("1e3", 1000.0), ("1e999", None),
     ("nan", None), ("NaN", None), ("", None), (" ", None), ("-", "-"), (".", "."), ("1_000", "1_000"), ("a b", "a b"),
     ("1.2.3", "1.2.3")],
)  # fmt: skip
def test_cells_are_numbers_texts_or_nothing(cell: str, value: object) -> None:
    assert number_or_text(cell) == value
    assert type(number_or_text(cell)) is type(value)
