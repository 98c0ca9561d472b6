"""Tokens of prompts that a frozen text encoder need not encode again.

Letters: L text tokens, E channels.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor


class PromptCache:
    """The tokens of the prompts that were asked for last, in memory of the CPU, and always those of the empty prompt.

    A prompt that is kept is encoded by itself. In a batch with others its numbers would depend, in the last digits, on
    the padding that they bring; so a resumed run, whose cache is empty, would not repeat one that nobody disturbed.

    Args:
        size: Prompts to keep besides the empty one. They are drawn in random order: keep all of the data, or none.
    """

    def __init__(self, size: int) -> None:
        """Start empty."""
        self.size = size
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def tokens(self, prompts: Sequence[str], encode: Callable[[list[str]], list[Tensor]]) -> list[Tensor]:
        """Tokens `(L, E)` of each prompt, on whichever device they are.

        Args:
            prompts: Some of them may be equal.
            encode: Gives the tokens of prompts that differ.
        """
        found = {prompt: self._kept[prompt] for prompt in prompts if prompt in self._kept}
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        kept = missing if self.size else [prompt for prompt in missing if not prompt]
        for prompt in kept:
            found[prompt] = self._kept[prompt] = encode([prompt])[0].cpu()
        passing = [prompt for prompt in missing if prompt not in found]
        if passing:
            found.update(zip(passing, encode(passing), strict=True))
        self._forget(prompts)
        return [found[prompt] for prompt in prompts]

    def _forget(self, used: Sequence[str]) -> None:
        """Drop the prompts that were not asked for the longest time."""
        for prompt in (*used, ""):
            if prompt in self._kept:
                self._kept.move_to_end(prompt)
        while len(self._kept) > self.size + ("" in self._kept):
            self._kept.popitem(last=False)
