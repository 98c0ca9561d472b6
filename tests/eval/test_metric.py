import numpy as np

from eval.metric import Memo, Recent


def test_a_chunk_is_asked_about_once() -> None:
    asked = []
    memo = Memo(lambda frames: asked.append(frames) or len(asked))
    one, other = (np.zeros((2, 4, 4, 3), np.uint8) for _ in range(2))
    assert [memo(one), memo(one), memo(other), memo(other), memo(one)] == [1, 1, 2, 2, 3]


def test_frames_cut_out_of_a_chunk_are_known_by_their_place() -> None:
    asked = []
    recent = Recent(lambda *frames: asked.append(frames) or len(asked), size=3)
    chunk = np.zeros((4, 4, 4, 3), np.uint8)
    assert [recent(chunk[0]), recent(chunk[0]), recent(chunk[1]), recent(chunk[0], chunk[1])] == [1, 1, 2, 3]
    assert recent(chunk[1], chunk[0]) == 4 and recent(chunk[0]) == 5  # the oldest is forgotten
    assert recent(chunk[0][:2]) == 6  # another cut from the same place


def test_no_later_frame_is_taken_for_one_that_is_remembered() -> None:
    recent = Recent(lambda frame: int(frame[0, 0, 0]), size=8)
    for value in range(200):  # memory of a chunk that is gone is given to the next one
        chunk = np.full((2, 16, 16, 3), value % 256, np.uint8)
        assert recent(chunk[0]) == value % 256
        assert recent(chunk[1]) == value % 256
        del chunk
