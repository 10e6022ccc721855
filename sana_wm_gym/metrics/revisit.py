"""Does a place look the same when the camera comes back to it?

A trajectory names pairs of frames with almost the same pose. The two pictures a video shows there
are compared with PSNR and box-window SSIM, and with LPIPS where its weights are at hand. A video
that never moves is perfect in this: read it next to the pose errors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.revisits import RevisitPair
from sana_wm_gym.checks import require_integer
from sana_wm_gym.metrics.image import psnr, ssim
from sana_wm_gym.metrics.matching import is_reached, video_index
from sana_wm_gym.metrics.perceptual import ImageDistance, Unavailable

MAX_PAIRS = 5

Image = npt.NDArray[np.uint8]
Video = Sequence[Image] | Image  # frames [n, height, width, 3], in memory or read as needed


@dataclass(frozen=True)
class RevisitPairScore:
    """How alike a video looks at two instants.

    Attributes:
        frame_a: Index into the commanded poses.
        frame_b: Index into the commanded poses.
        video_a: Frame of the video at that time.
        video_b: Frame of the video at that time.
        psnr_db: Peak 255 over all channels, 100 for identical pictures.
        ssim: 11x11 box window, -1 to 1.
        lpips: AlexNet distance; None where it was not computed.
    """

    frame_a: int
    frame_b: int
    video_a: int
    video_b: int
    psnr_db: float
    ssim: float
    lpips: float | None = None


@dataclass(frozen=True)
class RevisitScore:
    """Revisits of one video.

    Attributes:
        pairs: Those that were compared.
        asked: Pairs that were to be compared, at most `MAX_PAIRS`.
        skipped: How many of those were left out, by reason: `one_frame` where both instants fall
            on the same video frame, `beyond_video` where the video ends before one of them.
        lpips_absent: Why there is no LPIPS, or None where there is.
    """

    pairs: tuple[RevisitPairScore, ...]
    asked: int
    skipped: Mapping[str, int]
    lpips_absent: str | None

    @property
    def means(self) -> RevisitMeans | None:
        """Plain means over the pairs; None where no pair could be compared."""
        return RevisitMeans.of(self.pairs) if self.pairs else None

    def to_dict(self) -> dict[str, object]:
        """Plain values for json. Without LPIPS its keys are missing and the reason is given."""
        values = {
            "pairs": [_without_none(pair) for pair in self.pairs],
            "pairs_asked": self.asked,
            "pairs_scored": len(self.pairs),
            "skipped": dict(self.skipped),
            "mean": None if self.means is None else _without_none(self.means),
        }
        absent = self.lpips_absent
        return values if absent is None else {**values, "lpips_absent": absent}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> RevisitScore:
        """Inverse of `to_dict`, for results read back from disk.

        Raises:
            KeyError: A key is missing.
        """
        pairs = tuple(RevisitPairScore(**row) for row in values["pairs"])
        skipped = dict(values["skipped"])
        return RevisitScore(pairs, values["pairs_asked"], skipped, values.get("lpips_absent"))


@dataclass(frozen=True)
class RevisitMeans:
    """Means of the pair numbers, over pairs or over scenes.

    Attributes:
        psnr_db: Mean of PSNRs, dB.
        ssim: Mean SSIM.
        lpips: Mean LPIPS; None unless every part has one.
        n: Pairs or scenes that were averaged.
    """

    psnr_db: float
    ssim: float
    lpips: float | None
    n: int

    @staticmethod
    def of(parts: Sequence[RevisitPairScore] | Sequence[RevisitMeans]) -> RevisitMeans:
        """Plain mean of one or more parts."""
        distances = [part.lpips for part in parts if part.lpips is not None]
        return RevisitMeans(
            fmean(part.psnr_db for part in parts),
            fmean(part.ssim for part in parts),
            fmean(distances) if len(distances) == len(parts) else None,
            len(parts),
        )


@dataclass(frozen=True)
class RevisitSummary:
    """Revisits of a split.

    Attributes:
        split: Mean over all pairs of all scenes, so scenes with more pairs weigh more; None
            without any pair. `n` counts pairs.
        categories: Per category, the mean over the means of its scenes. `n` counts scenes.
        scenes_asked: Scenes given.
        scenes_scored: Of those, the ones with at least one pair.
        pairs_asked: Pairs that were to be compared.
        pairs_scored: Of those, the ones that were.
        skipped: Pairs left out, by reason.
        lpips_absent: Reasons why scenes have no LPIPS, each once.
    """

    split: RevisitMeans | None
    categories: Mapping[str, RevisitMeans]
    scenes_asked: int
    scenes_scored: int
    pairs_asked: int
    pairs_scored: int
    skipped: Mapping[str, int]
    lpips_absent: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain values for json; LPIPS is missing where it was not computed."""
        return {
            **asdict(self),
            "split": None if self.split is None else _without_none(self.split),
            "categories": {name: _without_none(means) for name, means in self.categories.items()},
        }


def _without_none(value: RevisitPairScore | RevisitMeans) -> dict[str, object]:
    return {name: one for name, one in asdict(value).items() if one is not None}


def best_pairs(pairs: Iterable[RevisitPair], limit: int = MAX_PAIRS) -> tuple[RevisitPair, ...]:
    """The pairs with the smallest quality value, best first; equal ones keep their order.

    Raises:
        ValueError: `limit` is below 1.
    """
    require_integer("limit", limit, 1)
    return tuple(sorted(pairs, key=lambda pair: pair.quality)[:limit])


def score_revisits(
    frames: Video,
    pairs: Iterable[RevisitPair],
    reference_fps: float,
    video_fps: float,
    *,
    lpips: ImageDistance | Unavailable = Unavailable("LPIPS was not asked for"),  # noqa: B008
    limit: int = MAX_PAIRS,
) -> RevisitScore:
    """Compare what a video shows at the two instants of each pair.

    Args:
        frames: uint8 RGB pictures [height, width, 3], all of one size; anything with a length and
            frames by index, so a file may be read as needed.
        pairs: Revisits of the commanded path; the best `limit` are compared.
        reference_fps: Rate that the pairs' indices count at, Hz.
        video_fps: Rate of `frames`, Hz. Instants are matched by time.
        lpips: What `load_lpips` returned, or another distance.
        limit: Most pairs to compare.

    Raises:
        ValueError: No frames, a rate that is not positive, a negative index, or pictures that are
            not uint8 of one size.

    Source: revisit memory in SANA-WM (arXiv 2605.15178), table 8, and its released evaluator.
    """
    require_integer("number of video frames", len(frames), 1)
    chosen = best_pairs(pairs, limit)
    distance = None if isinstance(lpips, Unavailable) else lpips
    scores: list[RevisitPairScore] = []
    skipped: Counter[str] = Counter()
    for pair in chosen:
        instants = (pair.frame_a, pair.frame_b)
        a, b = (video_index(i, reference_fps, video_fps, len(frames)) for i in instants)
        if not all(is_reached(i, reference_fps, video_fps, len(frames)) for i in instants):
            skipped["beyond_video"] += 1
        elif a == b:
            skipped["one_frame"] += 1
        else:
            first, second = frames[a], frames[b]
            similarity = psnr(second, first), ssim(second, first)
            gap = None if distance is None else distance(first, second)
            scores.append(RevisitPairScore(*instants, a, b, *similarity, gap))
    return RevisitScore(
        tuple(scores),
        len(chosen),
        dict(skipped),
        lpips.reason if isinstance(lpips, Unavailable) else None,
    )


def summarise_revisits(
    scores: Mapping[str, RevisitScore], category_of: Callable[[str], str]
) -> RevisitSummary:
    """Split and category means, as the benchmark forms them.

    Args:
        scores: One per scene, keyed by scene id.
        category_of: Category of a scene id.
    """
    by_category: dict[str, list[RevisitMeans]] = {}
    skipped: Counter[str] = Counter()
    for scene, score in scores.items():
        skipped.update(score.skipped)
        if score.means is not None:
            by_category.setdefault(category_of(scene), []).append(score.means)
    pairs = [pair for score in scores.values() for pair in score.pairs]
    absent = {score.lpips_absent for score in scores.values() if score.lpips_absent is not None}
    return RevisitSummary(
        split=RevisitMeans.of(pairs) if pairs else None,
        categories={name: RevisitMeans.of(means) for name, means in sorted(by_category.items())},
        scenes_asked=len(scores),
        scenes_scored=sum(len(means) for means in by_category.values()),
        pairs_asked=sum(score.asked for score in scores.values()),
        pairs_scored=len(pairs),
        skipped=dict(skipped),
        lpips_absent=tuple(sorted(absent)),
    )
