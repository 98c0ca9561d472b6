"""Open-vocabulary detectors: where in a frame something is that words name.

OWLv2 (Minderer et al., arXiv 2306.09683) and Grounding DINO (Liu et al., arXiv 2303.05499), both through transformers.
They stand in for GRiT, whose classes and captions VBench reads: figures made with them bear their names. Both give each
box a score for each query; a box is of the query that it scores highest for, and boxes of one query that overlap by
more than half are one.

Letters: N frames, H height, W width, P boxes that a network proposes, Q queries, K boxes kept, L tokens.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from eval.metric import Frames
from eval.metrics.checkpoints import from_hub, hub_described

__all__ = ["Box", "Detector", "GroundingDino", "Owlv2"]

_OVERLAP = 0.5  # intersection over union from which two boxes of one query are one
_CONTEXT = 256  # tokens that Grounding DINO reads at once


class Box(NamedTuple):
    """Something found.

    Attributes:
        label: The query that it answers.
        score: How surely, from 0 to 1; each detector has a scale of its own.
        corners: Left, top, right and bottom in pixels.
    """

    label: str
    score: float
    corners: tuple[float, float, float, float]


class Detector(Protocol):
    """Finds what words name. Plain options that can be pickled; the network is loaded at the first call.

    Attributes:
        name: Appended to the names of figures, such as `owlv2`.
    """

    name: str

    def made_by(self) -> dict[str, Any]:
        """The network, its weights, and its thresholds."""
        ...

    def detect(self, frames: Frames, queries: Sequence[str]) -> list[list[Box]]:
        """What is in each of `(N, H, W, 3)` frames, the surest first; queries are nouns such as `red bicycle`."""
        ...


@dataclass(frozen=True)
class Owlv2:
    """OWLv2; queries are put as `a photo of a red bicycle`, as in its training.

    Args:
        model: Folder or repository of the Hugging Face hub.
        threshold: Least score of a box. Not calibrated against VBench's.
        device: Where the network runs.
    """

    model: str = "google/owlv2-base-patch16-ensemble"
    threshold: float = 0.2
    device: str = "cpu"
    name = "owlv2"

    def made_by(self) -> dict[str, Any]:
        """Network and threshold."""
        return {**hub_described(self.model), "threshold": self.threshold, "overlap": _OVERLAP}

    @torch.inference_mode()
    def detect(self, frames: Frames, queries: Sequence[str]) -> list[list[Box]]:
        """See `Detector`.

        Raises:
            MissingPackage: If transformers is not installed.
            ValueError: If the network is not here and cannot be fetched.
        """
        processor, network = _owlv2(self.model, self.device)
        words = processor.tokenizer([f"a photo of a {query}" for query in queries], padding="max_length", max_length=16)
        _check_length(max(map(len, words["input_ids"])), 16, queries)
        words = words.convert_to_tensors("pt").to(self.device)
        found = []
        for frame in frames:
            pixels = processor.image_processor(frame, return_tensors="pt")["pixel_values"].to(self.device)
            out = network(pixel_values=pixels, **words)
            # Frames are padded to squares below and on the right, and boxes are in parts of the square.
            side = max(frame.shape[:2])
            scores = out.logits[0].float().sigmoid().cpu()  # P Q
            found.append(
                _kept(out.pred_boxes[0].float().cpu(), scores, queries, (side, side), frame.shape[:2], self.threshold)
            )
        return found


@dataclass(frozen=True)
class GroundingDino:
    """Grounding DINO; all queries are put as one text, and a query's score is the mean over its tokens.

    That is how the network's authors measure it on data with classes; the usual threshold is on the best token instead.

    Args:
        model: Folder or repository of the Hugging Face hub.
        threshold: Least score of a box. Not calibrated against VBench's.
        device: Where the network runs.
    """

    model: str = "IDEA-Research/grounding-dino-tiny"
    threshold: float = 0.3
    device: str = "cpu"
    name = "grounding_dino"

    def made_by(self) -> dict[str, Any]:
        """Network and threshold."""
        return {**hub_described(self.model), "threshold": self.threshold, "overlap": _OVERLAP}

    @torch.inference_mode()
    def detect(self, frames: Frames, queries: Sequence[str]) -> list[list[Box]]:
        """See `Detector`.

        Raises:
            MissingPackage: If transformers is not installed.
            ValueError: If the network is not here and cannot be fetched, or a query has a full stop.
        """
        for query in queries:
            if "." in query:
                raise ValueError(f"a full stop ends a query of Grounding DINO, and {query!r} has one within")
        processor, network = _grounding_dino(self.model, self.device)
        words = processor.tokenizer(" ".join(f"{query.lower()}." for query in queries), return_tensors="pt")
        _check_length(words["input_ids"].shape[1], _CONTEXT, queries)
        share = _token_shares(words["input_ids"][0], processor.tokenizer, len(queries))  # L Q
        words = words.to(self.device)
        found = []
        for frame in frames:
            pixels = processor.image_processor(frame, return_tensors="pt").to(self.device)
            out = network(**pixels, **words)
            scores = out.logits[0, :, : len(share)].float().sigmoid().cpu() @ share  # P Q
            found.append(
                _kept(
                    out.pred_boxes[0].float().cpu(), scores, queries, frame.shape[:2], frame.shape[:2], self.threshold
                )
            )
        return found


def _token_shares(tokens: Tensor, tokenizer: Any, count: int) -> Tensor:
    """`(L, Q)`: for each query the tokens between the full stops around it, each with an equal share."""
    stop = tokenizer.convert_tokens_to_ids(".")
    ends = (tokens == stop).nonzero()[:, 0].tolist()
    shares = torch.zeros(len(tokens), count)
    start = 1  # after the token that begins the text
    for query, end in enumerate(ends):
        shares[start:end, query] = 1 / (end - start)
        start = end + 1
    return shares


def _kept(
    boxes: Tensor,
    scores: Tensor,
    queries: Sequence[str],
    size: tuple[int, int],
    frame: tuple[int, int],
    threshold: float,
) -> list[Box]:
    """The boxes that count.

    Args:
        boxes: `(P, 4)`, middle, width and height in parts of `size`.
        scores: `(P, Q)`.
        queries: Q of them.
        size: Height and width, in pixels, of what the boxes are parts of.
        frame: The same of the frame; what lies outside of it is cut off, and dropped if nothing is left.
        threshold: Least score.
    """
    best, which = scores.max(1)
    sure = best >= threshold
    best, which = best[sure], which[sure]
    tall, wide = size
    corners = box_convert(boxes[sure], "cxcywh", "xyxy") * torch.tensor([wide, tall, wide, tall])  # K 4
    height, width = frame
    corners = corners.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
    inside = (corners[:, 2:] > corners[:, :2]).all(1)  # a network may see things in what a frame was padded with
    best, which, corners = best[inside], which[inside], corners[inside]
    return [
        Box(queries[int(which[place])], float(best[place]), tuple(corners[place].tolist()))
        for place in batched_nms(corners, best, which, _OVERLAP)
    ]


def _check_length(tokens: int, limit: int, queries: Sequence[str]) -> None:
    if tokens > limit:
        raise ValueError(f"the detector reads {limit} tokens, and {', '.join(map(repr, queries))} are {tokens}")


@functools.cache
def _owlv2(model: str, device: str) -> tuple[Any, Any]:
    network = from_hub(model, "Owlv2ForObjectDetection").eval().requires_grad_(False).to(device)
    return from_hub(model, "Owlv2Processor"), network


@functools.cache
def _grounding_dino(model: str, device: str) -> tuple[Any, Any]:
    network = from_hub(model, "GroundingDinoForObjectDetection").eval().requires_grad_(False).to(device)
    return from_hub(model, "GroundingDinoProcessor"), network
