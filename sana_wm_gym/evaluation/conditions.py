"""A learned world, and ablations of it, on the same clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rich.progress import Progress

from sana_wm_gym.evaluation.held_out import (
    Frames,
    HeldOutClip,
    chunk_errors,
    mean_psnr,
    repeat_first,
    roll,
    truth_of,
)
from sana_wm_gym.evaluation.variant_scores import score_variants, surface_views
from sana_wm_gym.evaluation.world_scores import PsnrErrors, through_codec
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import NoiseSchedule, self_forcing
from sana_wm_gym.world.procedural.appearance import prompt_of
from sana_wm_gym.world.world_model import WorldSpec

_SEVERAL_STEPS = (1000, 500, 0)
_SEVERAL_STEPS_CLIPS = 8


@dataclass
class Roller:
    """Rolls clips out in one world, by default with first frames at their true pose if
    `true_anchors`; `broken` counts chunks with a latent that is NaN or infinite."""

    world: SanaWorld
    seed: int
    true_anchors: bool
    bar: Progress
    broken: int = 0

    def __call__(
        self,
        clips: Sequence[HeldOutClip],
        title: str,
        *,
        shuffled: bool = False,
        true_anchors: bool = False,
        schedule: NoiseSchedule | None = None,
    ) -> Frames:
        """Frames [b, n + 1, H, W, 3] under the clips' own or under each other's commands, by
        default with the world's own schedule."""
        chunks = (len(clips[0].c2w) - 1) // self.world.spec.frames_per_chunk
        task = self.bar.add_task(title, total=chunks)

        def after(states: list[Any]) -> None:
            self.broken += sum(not bool(torch.isfinite(state.latents).all()) for state in states)
            self.bar.advance(task)

        anchors = true_anchors or self.true_anchors
        world = replace(self.world, schedule=schedule or self.world.schedule)
        return roll(world, clips, self.seed, shuffled=shuffled, true_anchors=anchors, after=after)

    def scored(self, clips: Sequence[HeldOutClip], title: str) -> tuple[PsnrErrors, Frames]:
        """Errors next to those of the baselines, and the frames under own commands."""
        own, shuffled = self(clips, title), self(clips, f"{title}, shuffled", shuffled=True)
        truth, chunk = truth_of(clips), self.world.spec.frames_per_chunk
        videos = (own, shuffled, repeat_first(truth), through_codec(self.world.codec, truth))
        return PsnrErrors(*(chunk_errors(video, truth, chunk) for video in videos)), own


def with_prompts(clips: Sequence[HeldOutClip], prompts: Sequence[str]) -> list[HeldOutClip]:
    """The clips under other prompts; first frames and ground truth stay."""
    pairs = zip(clips, prompts, strict=True)
    return [replace(clip, start=replace(clip.start, prompt=prompt)) for clip, prompt in pairs]


def wrong_prompt(spec: WorldSpec, appearance: Sequence[int]) -> str:
    """A prompt that names another variant of every surface."""
    pairs = zip(spec.surfaces, appearance, strict=True)
    return prompt_of(spec.surfaces, [(v + 1) % len(s.variants) for s, v in pairs])


def conditions_of(
    roller: Roller, clips: Sequence[HeldOutClip], own: Frames
) -> list[dict[str, Any]]:
    """PSNR and variants of the clips as they are (frames `own`), a baseline, and ablations."""
    spec, views, truth = roller.world.spec, surface_views(clips), truth_of(clips)
    found: list[dict[str, Any]] = []

    def score(name: str, frames: Frames) -> None:
        errors = chunk_errors(frames, truth[: len(frames)], spec.frames_per_chunk)
        variants = score_variants(views, frames, spec.surfaces)
        row = {"name": name, "clips": len(frames), "psnr_own": mean_psnr(errors).tolist()}
        found.append(row | {"variants": variants and asdict(variants)})

    score("own prompt", own)
    score("repeat first frame", repeat_first(truth))
    if not roller.true_anchors and roller.world.localiser is not None:
        score("true anchor", roller(clips, "true anchor", true_anchors=True))
    silent, empty = with_prompts(clips, [""] * len(clips)), own
    if spec.surfaces:
        empty = roller(silent, "empty prompt")
        score("empty prompt", empty)
        wrong = with_prompts(clips, [wrong_prompt(spec, clip.start.appearance) for clip in clips])
        score("every word wrong", roller(wrong, "every word wrong"))
    few = slice(min(_SEVERAL_STEPS_CLIPS, len(clips)))
    score("empty prompt, first clips", empty[few])
    levels = ", ".join(f"{level:g}" for level in _SEVERAL_STEPS[:-1])
    frames = roller(silent[few], "several steps", schedule=self_forcing(_SEVERAL_STEPS))
    score(f"the same, steps at {levels}", frames)
    return found
