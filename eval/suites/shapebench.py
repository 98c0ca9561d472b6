"""ShapeBench: VBench's dimensions in a closed world where a prompt states its truth and no network is needed to judge.

A video of moving shapes is judged by what its pixels show. Its prompt is a sentence of the grammar in
`lingen_kit/data/shapes_grammar.py`, so what it should show is known exactly.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from eval.metric import Metric, Score
from eval.shapes.dimensions import quality_score, semantic_score, totals
from eval.shapes.metric import ShapeJudgement
from eval.suite import Prompt, Suite, Summary
from lingen_kit.data.shapes import MovingShapesDataset
from lingen_kit.data.shapes_grammar import parse

__all__ = ["ShapeBench"]


class ShapeBench(Suite):
    """Videos of moving shapes, judged against the truth that their prompts state.

    The prompts are combinations of shape, color and action that training never showed, spread evenly over the words.
    Where words are left open they are those of the data that the model was trained on, if that is known, and else all.

    Args:
        num: How many prompts.
        samples: Videos a prompt.
        judge: Who looks: formulas on the pixels, or a small network that was trained on clips of all words.
        shapes: Words of the prompts: circle, square, triangle, cross, ring.
        colors: white, red, pink, blue, silver, purple, orange, green, gray, yellow, black, grey.
        sizes: small, large.
        actions: moves left, moves right, moves up, moves down, bounces, rotates, grows, shrinks, stays.
        backgrounds: navy, teal, beige, maroon, olive.
        objects: Least and greatest number of objects, within 1 to 3.
        held_out: Share of the combinations that training never shows.
        seed: Another seed gives other prompts.
    """

    name = "shapebench"

    def __init__(
        self,
        num: int = 64,
        samples: int = 1,
        judge: Literal["formulas", "network"] = "formulas",
        shapes: list[str] | None = None,
        colors: list[str] | None = None,
        sizes: list[str] | None = None,
        actions: list[str] | None = None,
        backgrounds: list[str] | None = None,
        objects: tuple[int, int] | None = None,
        held_out: float | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("num", num), ("samples", samples)):
            if value < 1:
                raise ValueError(f"ShapeBench: {name} is {value}; it must be at least 1")
        self.num, self.samples, self.judge, self.seed = num, samples, judge, seed
        self.grammar: dict[str, Any] = {
            "shapes": shapes,
            "colors": colors,
            "sizes": sizes,
            "actions": actions,
            "backgrounds": backgrounds,
            "objects": objects,
            "held_out": held_out,
        }
        self._dataset()  # refuses unknown words

    def suited_to(self, grammar: Mapping[str, Any]) -> "ShapeBench":
        """The same with the words that are left open taken from a data set's options."""
        words = {name: grammar.get(name) if value is None else value for name, value in self.grammar.items()}
        return ShapeBench(num=self.num, samples=self.samples, judge=self.judge, seed=self.seed, **words)

    def metrics(self) -> Sequence[Metric]:
        """One look at each video gives all figures."""
        return [ShapeJudgement(self.judge)]

    def prompts(self) -> Sequence[Prompt]:
        """Held-out prompts."""
        return [Prompt(text, samples=self.samples) for text, _ in self._dataset().held_out_prompts(self.num, self.seed)]

    def prompt_of(self, text: str) -> Prompt:
        """Any sentence of the grammar will do.

        Raises:
            ValueError: If it is none.
        """
        parse(text)
        return Prompt(text, samples=self.samples)

    def summarize(self, scores: Mapping[str, Sequence[tuple[Prompt, Score]]]) -> Summary:
        """All figures, and the totals if no dimension is missing."""
        figures = super().summarize(scores).figures
        given: dict[str, float] = {}
        refused: dict[str, str] = {}
        for name, score in (("quality_score", quality_score), ("semantic_score", semantic_score)):
            try:
                given[name] = score(figures)
            except ValueError as error:
                refused[name] = refused["total_score"] = str(error)
        return Summary(figures, given if refused else totals(figures), refused)

    def settings(self) -> dict[str, Any]:
        """The judge; which prompts there are does not change what a video is worth."""
        return super().settings() | {"judge": self.judge}

    def _dataset(self) -> MovingShapesDataset:
        chosen = {name: value for name, value in self.grammar.items() if value is not None}
        return MovingShapesDataset(split="validation", **chosen)
