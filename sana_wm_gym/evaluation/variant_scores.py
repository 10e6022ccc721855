"""Which variant of a varying surface do generated frames show? The one whose rendering has the
smallest squared error over the surface's pixels in all frames with enough of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.evaluation.held_out import Frames, HeldOutClip
from sana_wm_gym.world.procedural.appearance import Surface
from sana_wm_gym.world.procedural.renderer import render, render_geometry
from sana_wm_gym.world.procedural.scenes import generate_scene, with_appearance

LEAST_COVERAGE = 0.03
"""Fraction of a frame's pixels."""


@dataclass(frozen=True)
class SurfaceView:
    """One surface in one clip.

    Attributes:
        clip: Index of the clip.
        surface: Index of the surface.
        true: Its variant in the ground truth.
        in_first_frame: Whether the first frame, which is given, shows any of it.
        frames: Later frames in which it covers enough, intp [m].
        mask: Its pixels in them, bool [m, H, W].
        variants: These k pixels as each variant shows them, uint8 [variants, k, 3].
    """

    clip: int
    surface: int
    true: int
    in_first_frame: bool
    frames: npt.NDArray[np.intp]
    mask: npt.NDArray[np.bool_]
    variants: Frames

    def errors(self, video: Frames) -> tuple[npt.NDArray[np.float64], float]:
        """Sums of squared errors of generated frames [n, H, W, 3] against each variant
        [variants], and against the mean of the variants."""
        made = video[self.frames][self.mask].astype(np.float32)
        shown = self.variants.astype(np.float32)
        squared = ((made - shown) ** 2).sum(axis=(1, 2), dtype=np.float64)
        mean = ((made - shown.mean(axis=0)) ** 2).sum(dtype=np.float64)
        return squared, float(mean)


def surface_views(clips: Sequence[HeldOutClip]) -> list[SurfaceView]:
    """Every pair of a clip and a surface that covers enough of a frame after the first."""
    views = []
    for index, clip in enumerate(clips):
        start = clip.start
        assert start.scene is not None and start.scene_c2w is not None
        scene = with_appearance(generate_scene(start.scene), start.appearance)
        poses, lens = start.scene_c2w @ clip.c2w, np.array(start.intrinsics)
        size = start.image.shape[0], start.image.shape[1]
        seen = render_geometry(scene, poses, lens, size)[1]
        for number, surface in enumerate(scene.surfaces):
            mask = seen == number
            coverage = mask.mean(axis=(1, 2))
            frames = 1 + np.flatnonzero(coverage[1:] >= LEAST_COVERAGE)
            if not len(frames):
                continue
            shown = []
            for variant in range(len(surface.variants)):
                other = [*start.appearance]
                other[number] = variant
                video = render(with_appearance(scene, other), poses[frames], lens, size)
                shown.append(video[mask[frames]])
            views.append(
                SurfaceView(
                    clip=index,
                    surface=number,
                    true=start.appearance[number],
                    in_first_frame=bool(mask[0].any()),
                    frames=frames,
                    mask=mask[frames],
                    variants=np.stack(shown),
                )
            )
    return views


@dataclass(frozen=True)
class VariantScore:
    """Which variants generated frames show.

    Attributes:
        pairs: Number of pairs of a clip and a surface.
        true: Fraction of them whose nearest variant is that of the ground truth.
        hidden_pairs: Pairs whose first frame does not show the surface.
        hidden_true: `true` over these; None where there are none.
        decided: Fraction of pairs that are nearer to one variant than to the mean of variants.
        surfaces: Per surface, the number of its pairs and `true` over them.
    """

    pairs: int
    true: float
    hidden_pairs: int
    hidden_true: float | None
    decided: float
    surfaces: dict[str, tuple[int, float]]


def score_variants(
    views: Sequence[SurfaceView], frames: Frames, surfaces: Sequence[Surface]
) -> VariantScore | None:
    """Scores of generated frames [b, n, H, W, 3] of the first b clips; None if nothing varies."""
    views = [view for view in views if view.clip < len(frames)]
    if not views:
        return None
    right, decided = [], []
    for view in views:
        errors, mean = view.errors(frames[view.clip])
        right.append(int(errors.argmin()) == view.true)
        decided.append(bool(errors.min() < mean))
    hidden = [true for view, true in zip(views, right, strict=True) if not view.in_first_frame]
    total = Counter(view.surface for view in views)
    found = Counter(view.surface for view, true in zip(views, right, strict=True) if true)
    return VariantScore(
        pairs=len(views),
        true=float(np.mean(right)),
        hidden_pairs=len(hidden),
        hidden_true=float(np.mean(hidden)) if hidden else None,
        decided=float(np.mean(decided)),
        surfaces={surfaces[i].name: (total[i], found[i] / total[i]) for i in sorted(total)},
    )
