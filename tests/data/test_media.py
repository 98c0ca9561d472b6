"""Files and parts of archives: their bytes, and plain words for those that cannot be opened."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from lingen_kit.data.decode import probe, read_clip, stream
from lingen_kit.data.media import FilePart, UnreadableVideo, kind_of, open_bytes, require_file
from tests.data.conftest import Encode, read_numbers


def archive(path: Path, members: dict[str, bytes]) -> dict[str, FilePart]:
    """A tar of some members, and each of them as a part of it."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with tarfile.open(path) as tar:
        return {entry.name: FilePart(path, entry.name, entry.offset_data, entry.size) for entry in tar}


@pytest.mark.parametrize(
    "name,kind", [("a.MP4", "video"), ("a.b.webm", "video"), ("a.JPG", "image"), ("a.txt", None), ("mp4", None)]
)
def test_kind_goes_by_the_name(tmp_path: Path, name: str, kind: str | None) -> None:
    assert kind_of(name) == kind_of(tmp_path / name) == kind_of(FilePart(tmp_path / "a.tar", name, 0, 1)) == kind


def test_part_reads_as_a_file_of_its_own(tmp_path: Path) -> None:
    content = bytes(range(256)) * 300
    part = archive(tmp_path / "a.tar", {"before": b"x" * 700, "it": content, "after": b"y" * 900})["it"]
    with open_bytes(part) as file:
        assert file.read() == content
        assert file.read(1) == b""
        assert file.seek(-3, io.SEEK_END) == len(content) - 3
        assert file.read(100) == content[-3:]
        file.seek(1000)
        file.seek(24, io.SEEK_CUR)
        assert file.read(2) == content[1024:1026]
        assert file.seek(10**9) == 10**9
        assert file.read(1) == b""
    assert file.closed


def test_video_in_an_archive_gives_the_frames_of_the_file(encode: Encode, tmp_path: Path) -> None:
    files = {path.name: path for path in (encode("a"), encode("b", count=40))}
    parts = archive(tmp_path / "clips.tar", {name: path.read_bytes() for name, path in files.items()})
    size = {"height": 48, "width": 64}
    before = len(os.listdir("/proc/self/fd"))
    for name, path in files.items():
        assert probe(parts[name]) == probe(path)
        for start in (0.0, 0.7, 1.1):
            clip = read_clip(parts[name], frames=5, fps=30, start=start, **size)
            assert read_numbers(clip) == list(range(round(start * 30), round(start * 30) + 5))
            assert clip.equal(read_clip(path, frames=5, fps=30, start=start, **size))
        assert [time for time, _ in stream(parts[name])] == [time for time, _ in stream(path)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_reading_a_part_does_not_read_all_of_it(
    encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encode(count=60).read_bytes()
    # Free space of a megabyte at the end of an mp4, as some recorders leave it.
    content += (1 << 20).to_bytes(4, "big") + b"free" + bytes((1 << 20) - 8)
    part = archive(tmp_path / "a.tar", {"a.mp4": content})["a.mp4"]
    read = 0
    from lingen_kit.data import media

    original = media._Window.readinto

    def counting(self: media._Window, buffer: object) -> int:
        nonlocal read
        count = original(self, buffer)
        read += count
        return count

    monkeypatch.setattr(media._Window, "readinto", counting)
    clip = read_clip(part, frames=4, fps=30, start=1.0, height=48, width=64)
    assert read_numbers(clip) == [30, 31, 32, 33]
    assert 0 < read < (1 << 20)


def test_what_cannot_be_opened_is_said_plainly(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "some.tar").write_bytes(b"abc")
    cases: dict[str | Path | FilePart, str] = {
        tmp_path / "none.mp4": "there is no such file",
        tmp_path / "empty.mp4" / "below.mp4": "there is no such file",
        tmp_path / "pipe.mp4": "pipe",
        Path("/dev/zero"): "device",
        tmp_path / "folder.mp4": "folder",
        tmp_path / "empty.mp4": "empty",
        tmp_path / "loop.mp4": "symbolic links",
        tmp_path / ("n" * 300): "too long",
        "nul\0.mp4": "null",
        FilePart(tmp_path / "none.tar", "a.mp4", 0, 10): "there is no such file",
        FilePart(tmp_path / "some.tar", "a.mp4", 1, 10): "some.tar ends before",
        FilePart(tmp_path / "some.tar", "a.mp4", 1, 0): "empty",
    }
    for source, reason in cases.items():
        for read in (
            require_file,
            probe,
            lambda source: read_clip(source, frames=1, fps=8, height=8, width=8),
            lambda source: list(stream(source)),
        ):
            with pytest.raises(UnreadableVideo, match=reason) as caught:
                read(source)
            assert caught.value.path == str(source)


def test_a_file_that_is_not_ours_to_read(tmp_path: Path) -> None:
    """In a process without the rights of root, which reads everything."""
    tmp_path.chmod(0o755)
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"secret")
    path.chmod(0)
    script = (
        "import os, sys\n"
        "from lingen_kit.data.media import require_file\n"
        "folder = os.open(sys.argv[1], os.O_PATH)\n"
        "os.fchdir(folder)\n"
        "os.geteuid() or os.seteuid(65534)\n"
        "try: require_file('secret.mp4')\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "cannot read secret.mp4: permission denied\n", done.stderr
