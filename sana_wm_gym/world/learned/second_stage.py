"""The refiner after the generator: chunk by chunk within a world's step, or a whole clip at once.

The generator continues from its own latents; only what is shown changes. In a step, a chunk is a
block of the refiner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from sana_wm_gym.models.refiner import Refiner, RefinerState
from sana_wm_gym.models.text import PromptEmbedding
from sana_wm_gym.world.learned.sampler import chunk_noise


@dataclass(frozen=True)
class Refinement:
    """The second stage's part of a rollout's state.

    Attributes:
        memory: The refiner's past.
        text: The prompt as the refiner reads it, [1, l, c].
    """

    memory: RefinerState
    text: PromptEmbedding


@dataclass(frozen=True)
class SecondStage:
    """A refiner and what encodes its prompts.

    Attributes:
        refiner: Computes on the generator's device. For a world, chunk-causal.
        caption: Encodes a prompt.
    """

    refiner: Refiner
    caption: Callable[[str], PromptEmbedding]

    def begin(self, first: Tensor, prompt: str) -> Refinement:
        """Before the first chunk, from the first image's latent [1, c, h, w]."""
        text = self._text(prompt, first)
        return Refinement(self.refiner.begin(first, text), text)

    def with_prompt(self, past: Refinement, prompt: str) -> Refinement:
        """What is known of a rollout, with another prompt from here on."""
        return replace(past, text=self._text(prompt, past.text.features))

    def refine(
        self, latents: Tensor, past: Refinement, seed: int, chunk: int
    ) -> tuple[Tensor, Refinement]:
        """Refined latents of a chunk [1, c, f, h, w], and what is known after it.

        The noise is a function of (seed, chunk), and other than the generator's.
        """
        noise = chunk_noise(seed, -1 - chunk, tuple(latents.shape)).to(latents)
        refined, memory = self.refiner(latents, noise, past.text, past.memory)
        return refined, Refinement(memory, past.text)

    def refine_clip(self, latents: Tensor, prompt: str, seed: int) -> Tensor:
        """A whole clip [1, c, f, h, w] with all frames but the first image's refined, cut into
        the blocks of the refiner's plan. The noise is a function of the seed.

        Raises:
            ValueError: There is no frame after the first.
        """
        rest = tuple(latents[0, :, 1:].shape)
        noise = chunk_noise(seed, -1, rest)[None].to(latents)
        return self.refiner.refine(latents, noise, self._text(prompt, latents))

    def _text(self, prompt: str, like: Tensor) -> PromptEmbedding:
        text = self.caption(prompt)
        return PromptEmbedding(text.features.to(like), text.mask.to(like.device))
