"""The fixtures of the data's own tests, for its verbs."""

from tests.data.conftest import real_videos

__all__ = ["real_videos"]
