"""Cover positions and headings; optionally, revisits are rewarded by image similarity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.checks import require_integer, require_number
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.tasks.image_goal import PoseDistance
from sana_wm_gym.envs.tasks.task import Episodes, Numbers, Rngs, Setting, Shapes, StepResult, Task
from sana_wm_gym.metrics.image import ssim

_NEVER = -1
_THUMBNAIL = 32
_DISTANCE = PoseDistance()


@dataclass(frozen=True, eq=False)
class ExploreState:
    """What has been seen so far.

    Attributes:
        seen: Chunk in which each cell was last seen, or -1: int64 [side, side, sectors].
        poses: Ends of the chunks that are remembered for revisits, float64 [k, 4, 4].
        pictures: What they showed, uint8 [k, 32, 32, 3].
        similarity: Sum over revisits so far.
        revisits: Their number.
    """

    seen: npt.NDArray[np.int64]
    poses: npt.NDArray[np.float64]
    pictures: npt.NDArray[np.uint8]
    similarity: float = 0.0
    revisits: int = 0


@dataclass(frozen=True)
class Explore(Task):
    """Cover view cells: positions on a grid, times headings.

    A cell is a square of `cell` metres on the floor plan and a heading sector; the first frame is
    in the middle of one. Cells count up to `rings` squares from the start in each direction, since
    a world model has no walls. All poses of a chunk count. The reward is the number of cells seen
    for the first time / `scale`.

    With a `bonus`, coming back is rewarded too. A revisit is a chunk that ends in a cell last seen
    `away` or more chunks ago, of which there is a picture from the end of a chunk; it earns `bonus`
    times the SSIM, cut at 0, of the new picture with the one taken nearest to it, both as
    thumbnails. Views inside a cell differ, so even a perfect world stays below 1: compare with the
    procedural one. Without a bonus nothing is decoded for this.

    `info` has "cells", "coverage" (their fraction of all cells that count), "revisits" so far and
    "revisit_similarity", the mean SSIM over them (0 where there are none).

    Attributes:
        max_episode_steps: Chunks after which an episode is truncated.
        cell: Side of a square in metres.
        sectors: Number of heading sectors.
        rings: Squares on each side of the first one that count.
        scale: Cells that are worth a reward of one.
        bonus: Reward for a revisit that looks the same; 0 for none.
        away: Chunks after which coming back is a revisit.
    """

    name: ClassVar[str] = "explore"
    needs_camera: ClassVar[bool] = True
    State: ClassVar[type[Any]] = ExploreState
    max_episode_steps: int = 40
    cell: float = 0.5
    sectors: int = 8
    rings: int = 4
    scale: float = 4.0
    bonus: float = 0.0
    away: int = 4

    def __post_init__(self) -> None:
        for name, low in (("max_episode_steps", 1), ("sectors", 1), ("rings", 0), ("away", 1)):
            require_integer(f"Explore.{name}", getattr(self, name), low)
        require_number("Explore.cell", self.cell, 0.0, ends="(]")
        require_number("Explore.scale", self.scale, 0.0, ends="(]")
        require_number("Explore.bonus", self.bonus, 0.0)

    @property
    def shapes(self) -> Shapes:  # type: ignore[override]
        """Of cells, poses and pictures."""
        pictures = (None, _THUMBNAIL, _THUMBNAIL, 3)
        return {"seen": self.grid, "poses": (None, 4, 4), "pictures": pictures}

    @property
    def grid(self) -> tuple[int, int, int]:
        """Squares to the right, squares ahead, heading sectors."""
        side = 2 * self.rings + 1
        return side, side, self.sectors

    def begin(self, setting: Setting, episodes: Episodes, rngs: Rngs) -> list[ExploreState]:
        """One cell is seen: the first frame's. Nothing is drawn."""
        blank = ExploreState(
            seen=np.full(self.grid, _NEVER, np.int64),
            poses=np.zeros((0, 4, 4)),
            pictures=np.zeros((0, _THUMBNAIL, _THUMBNAIL, 3), np.uint8),
        )
        return [self._seen(blank, setting, episode) for episode in episodes]

    def evaluate(
        self, setting: Setting, before: Episode, after: Episode
    ) -> tuple[ExploreState, StepResult]:
        """New cells, and whether an old one still looks as it did."""
        old: ExploreState = before.task
        new = self._seen(old, setting, after)
        fresh = int((new.seen != _NEVER).sum()) - int((old.seen != _NEVER).sum())
        reward = fresh / self.scale + self.bonus * (new.similarity - old.similarity)
        return new, StepResult(reward)

    def info(self, setting: Setting, episode: Episode) -> Numbers:
        """Cells and revisits so far."""
        state: ExploreState = episode.task
        cells = int((state.seen != _NEVER).sum())
        return {
            "cells": cells,
            "coverage": cells / state.seen.size,
            "revisits": state.revisits,
            "revisit_similarity": float(state.similarity / max(state.revisits, 1)),
        }

    def cells(self, c2w: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Cells that poses are in, relative to the first frame's: those that count, each once.

        Args:
            c2w: Poses relative to the first frame, float64 [n, 4, 4].

        Returns:
            Flat indices into `grid`, int64 [m], in rising order.
        """
        sector = 2 * math.pi / self.sectors
        # Rounding puts the first frame in the middle of its square and of its sector.
        squares = np.rint(c2w[:, (0, 2), 3] / self.cell)
        heading = np.rint(np.arctan2(c2w[:, 0, 2], c2w[:, 2, 2]) / sector) % self.sectors
        counts = (np.abs(squares) <= self.rings).all(axis=1)
        across, ahead = (squares[counts] + self.rings).astype(np.int64).T
        index = np.ravel_multi_index((across, ahead, heading[counts].astype(np.int64)), self.grid)
        return np.unique(index)

    def _seen(self, old: ExploreState, setting: Setting, episode: Episode) -> ExploreState:
        """The state after the last chunk of `episode`."""
        seen = old.seen.copy()
        seen.flat[self.cells(episode.c2w)] = episode.chunk
        if self.bonus == 0.0:
            return ExploreState(seen, old.poses, old.pictures)
        picture = cv2.resize(
            setting.frames([episode], last=True)[0],
            (_THUMBNAIL, _THUMBNAIL),
            interpolation=cv2.INTER_AREA,
        )
        pose = episode.c2w[-1]
        similarity = self._similarity(old, pose, np.asarray(picture), episode.chunk)
        return ExploreState(
            seen,
            np.concatenate([old.poses, pose[None]]),
            np.concatenate([old.pictures, picture[None]]),
            old.similarity + (similarity or 0.0),
            old.revisits + (similarity is not None),
        )

    def _similarity(
        self,
        old: ExploreState,
        pose: npt.NDArray[np.float64],
        picture: npt.NDArray[np.uint8],
        chunk: int,
    ) -> float | None:
        """SSIM of a revisit, 0 to 1; None where this is none."""
        here = self.cells(pose[None])
        last = old.seen.flat[here[0]] if len(here) else _NEVER
        if last == _NEVER or chunk - last < self.away:
            return None
        taken = [i for i, p in enumerate(old.poses) if np.array_equal(self.cells(p[None]), here)]
        if not taken:
            return None
        nearest = min(taken, key=lambda i: _DISTANCE.between(pose, old.poses[i]))
        return max(0.0, ssim(picture, old.pictures[nearest]))
