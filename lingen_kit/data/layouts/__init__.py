"""Layouts of data sets on disk and on the web: what each holds, before anything is decoded."""

from lingen_kit.data.layouts.detect import list_clips, read_index
from lingen_kit.data.layouts.shard_index import write_shard_index

__all__ = ["list_clips", "read_index", "write_shard_index"]
