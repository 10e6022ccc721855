"""The two released generators that make a whole clip at once: bidirectional and chunk-causal.

Every step of theirs reads all frames begun so far, so the whole camera trajectory has to be known
in advance: `generate` in place of a world's `advance`.

    dit/                 generator, safetensors
    vae/                 config.json and safetensors
    gemma-2-2b-it/       text encoder
    config.yaml          optional; its text_encoder.chi_prompt goes before diffusers' copy
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.state import map_tensors
from sana_wm_gym.models.text import PromptEmbedding
from sana_wm_gym.models.transformer import Conditioning, SanaWM, SanaWMConfig
from sana_wm_gym.models.vae import VideoVae, to_uint8
from sana_wm_gym.weights.generator import load_generator
from sana_wm_gym.weights.names import RELEASED, Variant
from sana_wm_gym.weights.prompt_cache import PromptCache
from sana_wm_gym.weights.vae_folder import read_video_vae
from sana_wm_gym.world import sampler, schedule
from sana_wm_gym.world.captions import (
    TEXT,
    chi_prompt,
    default_prompts,
    fingerprint,
    generator_captions,
)
from sana_wm_gym.world.conditioning import chunk_conditioning
from sana_wm_gym.world.world_model import CHUNK_FRAMES, FRAMES_PER_LATENT, LATENTS_PER_CHUNK

STEPS, SHIFT, GUIDANCE = 60, 9.8, 5.0
"""Of the released command line."""

Encode = Callable[[str], PromptEmbedding]
Sample = Callable[[sampler.Flow, Tensor, Tensor, Conditioning], Tensor]
"""Flow, noise [b, c, f, h, w], first latent [b, c, h, w], conditioning to clean latents."""


@dataclass(frozen=True)
class OfflineGenerator:
    """A generator of whole clips.

    Attributes:
        model: Predicts velocities.
        vae: On the same device.
        caption: Encodes a prompt.
        negative: Encodes a negative prompt.
        sample: The sampler.
        group: Frames must be `group` k + 1.
        guidance: How far the prompt pushes away from the negative prompt.
    """

    model: SanaWM
    vae: VideoVae
    caption: Encode
    negative: Encode
    sample: Sample
    group: int
    guidance: float = GUIDANCE

    @torch.inference_mode()
    def generate(
        self,
        image: npt.NDArray[np.uint8],
        trajectory: CameraTrajectory,
        prompt: str,
        *,
        negative_prompt: str = "",
        seed: int = 42,
    ) -> npt.NDArray[np.uint8]:
        """A clip along a camera trajectory.

        Args:
            image: First frame, uint8 [H, W, 3].
            trajectory: Poses of all frames, relative to the first; for frames of the image's size.
            prompt: Scene text.
            negative_prompt: What not to show.
            seed: All noise is a function of it.

        Returns:
            uint8 [n, H, W, 3], one frame per pose; the first is `image` through the VAE.

        Raises:
            ValueError: The image does not fit trajectory or VAE, or the number of poses is not
                `group` k + 1 with k >= 1.
        """
        size = (trajectory.height, trajectory.width)
        if image.dtype != np.uint8 or image.shape != (*size, 3):
            raise ValueError(
                f"given a first frame {image.dtype} {image.shape}; expected uint8 {(*size, 3)}"
            )
        count = len(trajectory)
        if count <= 1 or (count - 1) % self.group:
            raise ValueError(f"given {count} poses; expected {self.group} k + 1, k >= 1")
        weight = next(self.model.parameters())
        pixels = torch.from_numpy(image.copy()).float()[None] / 255
        first = self.vae.encode_image(pixels).to(weight)
        cameras = chunk_conditioning(
            trajectory.c2w[None],
            trajectory.intrinsics[None],
            size,
            (first.shape[2], first.shape[3]),
            first=True,
        )
        text = [encode(words) for encode, words in self._prompts(prompt, negative_prompt)]
        conditioning = replace(
            map_tensors(lambda part: part.to(weight.device).repeat_interleave(2, 0), cameras),
            text=torch.cat([part.features for part in text]).to(weight),
            text_mask=torch.cat([part.mask for part in text]).to(weight.device),
        )
        latents = (count - 1) // FRAMES_PER_LATENT + 1
        noise = sampler.chunk_noise(seed, 0, (first.shape[1], latents, *first.shape[2:]))
        flow = sampler.Guidance(self.model, self.guidance)
        clean = self.sample(flow, noise[None].to(weight), first, conditioning)
        return np.asarray(to_uint8(self.vae.decode_clip(clean))[0].cpu().numpy())

    def _prompts(self, prompt: str, negative: str) -> list[tuple[Encode, str]]:
        return [(self.negative, negative), (self.caption, prompt)]


def bidirectional(steps: int = STEPS, shift: float = SHIFT) -> Sample:
    """Every frame sees every other in each step."""
    levels = schedule.flow_euler_ltx(steps, shift)
    return lambda flow, noise, first, conditioning: sampler.flow_euler_ltx(
        flow, noise, first, conditioning, levels
    )


def chunk_causal(steps: int = STEPS, shift: float = SHIFT) -> Sample:
    """Chunks see what came before; later ones start later."""

    def sample(flow: sampler.Flow, noise: Tensor, first: Tensor, given: Conditioning) -> Tensor:
        levels = schedule.chunk_flow_euler(noise.shape[2], LATENTS_PER_CHUNK, steps, shift)
        plan = ChunkPlan(starts=levels.plan[:-1])
        return sampler.chunk_flow_euler(flow, noise, first, given, plan, levels)

    return sample


def load_offline(
    folder: Path,
    variant: Variant,
    *,
    config: SanaWMConfig = RELEASED,
    steps: int = STEPS,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str | None = None,
    prompts: Path | None = None,
) -> OfflineGenerator:
    """Load a generator of whole clips from a folder laid out as above.

    Args:
        folder: Where the parts are.
        variant: Bidirectional or chunk-causal.
        config: Size of the generator.
        steps: Denoising steps.
        dtype: Type of generator, VAE and latents.
        device: Where they go; None is the GPU if there is one.
        prompts: Folder of encoded prompts; None is `default_prompts()`.

    Raises:
        FileNotFoundError: A part is missing.
        ImportError: diffusers or transformers is not installed.
        ValueError: The streaming variant, a damaged file, one of another variant, or too little
            memory.
    """
    if variant is Variant.STREAMING or config.text_channels is None:
        raise ValueError(f"given the {variant} variant; whole clips are made by the other two")
    folder = Path(folder)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    settings, text = folder / "config.yaml", folder / TEXT
    cache = PromptCache(default_prompts() if prompts is None else prompts)
    captions = partial(
        generator_captions,
        cache,
        f"{TEXT}@{fingerprint(text)}",
        text if text.is_dir() else None,
        channels=config.text_channels,
        device=str(device),
    )
    causal = variant is Variant.CHUNK_CAUSAL
    return OfflineGenerator(
        model=load_generator(folder / "dit", variant, config=config, dtype=dtype, device=device),
        vae=read_video_vae(folder / "vae", dtype, device),
        caption=captions(partial(chi_prompt, settings if settings.is_file() else None)),
        negative=captions(str),
        sample=chunk_causal(steps) if causal else bidirectional(steps),
        group=CHUNK_FRAMES if causal else FRAMES_PER_LATENT,
    )
