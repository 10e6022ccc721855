"""The two released generators that make a whole clip at once: bidirectional and chunk-causal.

Every step of theirs reads all frames begun so far, so the whole camera trajectory has to be known
in advance: `clip` in place of a world's `advance`. `replay` makes a world of one of them and a
plan. A second stage may refine the clip, all of it at once, before it is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.refiner import BIDIRECTIONAL as WHOLE_CLIP
from sana_wm_gym.models.state import map_tensors
from sana_wm_gym.models.text import PromptEmbedding
from sana_wm_gym.models.transformer import Conditioning, SanaWM
from sana_wm_gym.models.vae import VideoVae, to_uint8
from sana_wm_gym.weights.components import load_vae
from sana_wm_gym.weights.names import Variant
from sana_wm_gym.world.learned import sampler, schedule
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES, FRAMES_PER_LATENT, LATENTS_PER_CHUNK
from sana_wm_gym.world.learned.conditioning import chunk_conditioning
from sana_wm_gym.world.learned.second_stage import SecondStage
from sana_wm_gym.world.released.files import ReleaseFiles
from sana_wm_gym.world.released.loading import Loading
from sana_wm_gym.world.released.offload import offloaded
from sana_wm_gym.world.released.replay import Array, GeneratedClip, ReplayWorld
from sana_wm_gym.world.released.streaming import SIZE, released_spec
from sana_wm_gym.world.world_model import require_image

STEPS, SHIFT, GUIDANCE = 60, 9.8, 5.0
"""Of the released command line."""

Encode = Callable[[str], PromptEmbedding]
Sample = Callable[[sampler.Flow, Tensor, Tensor, Conditioning], Tensor]
"""Flow, noise [b, c, f, h, w], first latent [b, c, h, w], conditioning to clean latents."""


@dataclass(frozen=True)
class OfflineGenerator:
    """A generator of whole clips.

    Attributes:
        name: Of worlds made of it.
        model: Predicts velocities.
        vae: On the same device.
        caption: Encodes a prompt.
        negative: Encodes a negative prompt.
        sample: The sampler.
        group: Frames must be `group` k + 1.
        guidance: Scale of classifier-free guidance.
        second_stage: Refines the whole clip before it is decoded.
    """

    name: str
    model: SanaWM
    vae: VideoVae
    caption: Encode
    negative: Encode
    sample: Sample
    group: int
    guidance: float = GUIDANCE
    second_stage: SecondStage | None = None

    @torch.inference_mode()
    def clip(
        self,
        image: npt.NDArray[np.uint8],
        trajectory: CameraTrajectory,
        prompt: str,
        *,
        negative_prompt: str = "",
        seed: int = 42,
    ) -> GeneratedClip:
        """A clip along a camera trajectory.

        Args:
            image: First frame, uint8 [H, W, 3].
            trajectory: Poses of all frames, relative to the first; for frames of the image's size.
            prompt: Scene text.
            negative_prompt: What not to show.
            seed: All noise is a function of it.

        Returns:
            One frame per pose, the first of them `image` through the VAE, and the latent frames
            that were decoded; refined ones where there is a second stage.

        Raises:
            ValueError: The image does not fit trajectory or VAE, or the number of poses is not
                `group` k + 1 with k >= 1.
        """
        size, count = (trajectory.height, trajectory.width), len(trajectory)
        pixels = torch.from_numpy(require_image(image, size)).float()[None] / 255
        if count <= 1 or (count - 1) % self.group:
            raise ValueError(f"given {count} poses; expected {self.group} k + 1, k >= 1")
        weight = next(self.model.parameters())
        first = self.vae.encode_image(pixels).to(weight)
        cameras = chunk_conditioning(
            trajectory.c2w[None],
            trajectory.intrinsics[None],
            size,
            (first.shape[2], first.shape[3]),
            first=True,
        )
        text = [self.negative(negative_prompt), self.caption(prompt)]
        conditioning = replace(
            map_tensors(lambda part: part.to(weight.device).repeat_interleave(2, 0), cameras),
            text=torch.cat([part.features for part in text]).to(weight),
            text_mask=torch.cat([part.mask for part in text]).to(weight.device),
        )
        latents = (count - 1) // FRAMES_PER_LATENT + 1
        noise = sampler.chunk_noise(seed, 0, (first.shape[1], latents, *first.shape[2:]))
        flow = sampler.Guidance(self.model, self.guidance)
        clean = self.sample(flow, noise[None].to(weight), first, conditioning)
        if self.second_stage is not None:
            clean = self.second_stage.refine_clip(clean, prompt, seed)
        shown = to_uint8(self.vae.decode_clip(clean))[0]
        kept = clean[0].movedim(1, 0).float().contiguous()
        return GeneratedClip(shown.cpu().numpy(), kept.cpu().numpy())

    def replay(self, plan: Array, size: tuple[int, int] = SIZE) -> ReplayWorld:
        """A world that follows a plan: the clip is made by `begin`, then shown chunk by chunk.

        Args:
            plan: Poses relative to the first frame, float64 [24 k + 1, 4, 4].
            size: Frame (height, width) in pixels, multiples of the VAE's cell.

        Raises:
            ValueError: The plan or the size does not fit.
        """
        return ReplayWorld(self, released_spec(self.name, self.vae, size), plan)


def bidirectional(steps: int) -> Sample:
    """Every frame attends to every other in each step."""
    levels = schedule.flow_euler_ltx(steps, SHIFT)
    return lambda flow, noise, first, conditioning: sampler.denoise(
        flow, noise, first, conditioning, ChunkPlan(), None, levels
    )[0]


def chunk_causal(steps: int) -> Sample:
    """Chunks attend to earlier ones; later ones start later."""

    def sample(flow: sampler.Flow, noise: Tensor, first: Tensor, given: Conditioning) -> Tensor:
        levels = schedule.chunk_flow_euler(noise.shape[2], LATENTS_PER_CHUNK, steps, SHIFT)
        plan = ChunkPlan(starts=levels.plan[:-1])
        return sampler.chunk_flow_euler(flow, noise, first, given, plan, levels)

    return sample


def load_offline(
    files: ReleaseFiles,
    loading: Loading = Loading(),  # noqa: B008 - a frozen value
    *,
    steps: int = STEPS,
) -> OfflineGenerator:
    """Load a generator of whole clips.

    Args:
        files: Where its parts are: `BIDIRECTIONAL` or `CHUNK_CAUSAL` of `released.files`,
            `.within(folder)` or `.here()`.
        loading: Type, device, precision, offloading, second stage; see `Loading`.
        steps: Denoising steps.

    Raises:
        FileNotFoundError: A part is missing.
        ImportError: diffusers or transformers is not installed.
        ValueError: The streaming variant, a damaged file, one of another variant, or too little
            memory.
    """
    layout = files.layout
    caption, negative = (loading.captions(files, negative) for negative in (False, True))
    if layout.variant is Variant.STREAMING or caption is None or negative is None:
        raise ValueError(f"given the {layout.variant} variant; the other two make whole clips")
    vae = load_vae(VideoVae, files.vae, loading.dtype, loading.vae_place)
    if loading.offload.vae is not None:
        offloaded(vae, loading.place, "encode_image", "decode_clip")
    causal = layout.variant is Variant.CHUNK_CAUSAL
    return OfflineGenerator(
        name=layout.release + ("-refined" if loading.refined else ""),
        model=loading.generator(files),
        vae=vae,
        caption=caption,
        negative=negative,
        sample=chunk_causal(steps) if causal else bidirectional(steps),
        group=CHUNK_FRAMES if causal else FRAMES_PER_LATENT,
        second_stage=loading.second_stage(files, WHOLE_CLIP),
    )
