"""The refiner after the generator: chunk by chunk within a world's step, or a whole clip at once.

The generator goes on from its own latents, so the camera and its memory are what they are without
this stage; only what is shown changes. In a step, a chunk is a block of the refiner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sana_wm_gym.models.refiner import Refiner, RefinerPlan, RefinerState
from sana_wm_gym.models.text import PromptEmbedding
from sana_wm_gym.weights.components import load_refiner, load_refiner_text
from sana_wm_gym.weights.plan import Precision
from sana_wm_gym.weights.prompt_cache import PromptCache
from sana_wm_gym.world.learned.captions import Captions
from sana_wm_gym.world.learned.precision import quantise_refiner
from sana_wm_gym.world.learned.sampler import chunk_noise
from sana_wm_gym.world.released.files import ReleaseFiles
from sana_wm_gym.world.released.offload import Offload, offloaded


@dataclass(frozen=True)
class Refinement:
    """What the second stage knows of a rollout.

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


def load_second_stage(
    files: ReleaseFiles,
    plan: RefinerPlan,
    cache: PromptCache,
    *,
    dtype: torch.dtype,
    device: torch.device,
    offload: Offload,
    precision: Precision,
) -> SecondStage:
    """The second stage of a release.

    Args:
        files: Where its parts are.
        plan: How a clip is cut and what a block sees.
        cache: Prompts that are encoded already.
        dtype: Type of weights that are not quantised.
        device: Where the refiner works.
        offload: Where it rests, and where its text encoder runs.
        precision: Of its weights.

    Raises:
        FileNotFoundError: A part is missing.
        ImportError: A library is missing; says which.
        ValueError: A file is damaged, or a quantised refiner is to be offloaded.
    """
    if files.refiner is None or files.refiner_text is None:
        raise FileNotFoundError(
            "no second stage; expected the refiner and its text encoder beside the generator "
            "(refiner_diffusers/ and gemma3_12b/ of the streaming release, refiner/ and "
            "refiner/text_encoder/ of the others)"
        )
    small = precision is not Precision.BF16
    if small and offload.refiner is not None:
        raise ValueError(
            f"given a refiner in {precision} that rests on {offload.refiner}; a "
            "quantised one stays where it works"
        )
    home = str(device) if offload.refiner is None else offload.refiner
    refiner = load_refiner(files.refiner / "transformer", plan, dtype, "cpu" if small else home)
    quantise_refiner(refiner, precision, device)
    if offload.refiner is not None:
        offloaded(refiner, device, "begin", "denoise", "remember", "forward", "refine")
    text_device = str(device) if offload.text is None else offload.text
    load = partial(
        load_refiner_text, files.refiner_text, files.refiner / "connectors", device=text_device
    )
    channels = refiner.transformer.config.caption_channels
    return SecondStage(refiner, Captions(cache, files.refiner_encoder, str, load, channels))
