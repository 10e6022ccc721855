"""Observations as tensors that are made on the world's device, and stay there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from sana_wm_gym.envs.observations import LATENT_BOUND, pose_part
from sana_wm_gym.envs.simulation import Simulation, shown_once
from sana_wm_gym.envs.snapshot import Episode, Shown
from sana_wm_gym.world.tensors import GivesTensors, resized, stacked, to_tensors
from sana_wm_gym.world.world_model import CHUNK_FRAMES, WorldModel

Array = npt.NDArray[Any]
Tensor = Any
"""A torch tensor; environments leave torch to their worlds."""


class TensorView:
    """What `Simulation.observe` gives, as tensors.

    Of a world that gives tensors (`GivesTensors`) frames and latents do not pass through host
    memory. Poses are sent there, and a task's parts once, as long as the task shows the same
    arrays. What another world shows is made on the host and sent as a whole.

    Numbers are the same, but where `observation_size` resizes frames: there bytes differ by one
    at most, as `resized` says.

    Args:
        world: Whose device the tensors are on.
        rows: Number of episodes that go on side by side.
    """

    def __init__(self, world: WorldModel[Any], rows: int) -> None:
        self._device = getattr(world, "device", "cpu")
        self._rows = rows
        # Arrays by identity with what was made of them, the one used last at the end.
        self._sent: OrderedDict[int, tuple[Array, Tensor]] = OrderedDict()

    def observe(self, simulation: Simulation, episodes: Sequence[Episode]) -> list[Any]:
        """What the agent sees in each episode. Read only: `batch` and `alone` make copies."""
        if not episodes:
            return []
        world = simulation.world
        if not isinstance(world, GivesTensors):
            return self._from_host(simulation, episodes)
        parts = self._seen(world, simulation, episodes) | self._wanted(simulation, episodes)
        seen = [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
        flat = isinstance(simulation.observation_space, spaces.Dict)
        return seen if flat else [next(iter(row.values())) for row in seen]

    def batch(self, simulation: Simulation, observations: Sequence[Any]) -> Any:
        """New tensors with a row for each observation."""
        return stacked(observations)

    def alone(self, observation: Any) -> Any:
        """New tensors of one observation."""
        if isinstance(observation, dict):
            return {name: part.clone() for name, part in observation.items()}
        return observation.clone()

    def numbers(self, values: Array) -> Tensor:
        """Numbers or truth values, one per row, of which nobody else keeps the array."""
        return to_tensors(values, self._device)

    def _seen(
        self, world: GivesTensors, simulation: Simulation, episodes: Sequence[Episode]
    ) -> dict[str, Sequence[Tensor]]:
        """The view's parts, each with a tensor per episode."""
        view = simulation.view
        frames = []
        if view.shows("frame") or view.shows("frames"):
            frames = self._frames(world, episodes, view.shows("frames"))
        parts: dict[str, Sequence[Tensor]] = {}
        for name, kind in view.kinds.items():
            if kind == "frame":
                parts[name] = [resized(clip[-1], view.size) for clip in frames]
            elif kind == "frames":
                # Before the first chunk only one frame exists; it stands for the whole clip.
                whole = (CHUNK_FRAMES, -1, -1, -1)
                parts[name] = [clip.expand(whole) for clip in frames]
            elif kind == "latent":
                latents = stacked(world.last_latent_tensors([e.world for e in episodes]))
                parts[name] = latents.flatten(1).clamp(-LATENT_BOUND, LATENT_BOUND)
            else:
                poses = np.stack([pose_part(episode.c2w[-1]) for episode in episodes])
                parts[name] = to_tensors(poses, self._device)
        return parts

    def _frames(
        self, world: GivesTensors, episodes: Sequence[Episode], whole: bool
    ) -> list[Tensor]:
        """Each episode's last chunk, uint8 [24 or 1, H, W, 3]; of a chunk that is not wanted
        `whole`, at least the last frame. Decoded in one batch, and each of them only once."""

        def make(states: list[Any]) -> list[Tensor]:
            if whole:
                return world.frame_tensors(states)
            return [frame[None] for frame in world.last_frame_tensors(states)]

        return shown_once(episodes, lambda e: self._known(e, whole), make, Shown.keep_tensor)

    def _known(self, episode: Episode, whole: bool) -> Tensor | None:
        tensor = episode.shown.tensor_of(episode.world)
        if tensor is not None and not (whole and episode.chunk > 0 and len(tensor) == 1):
            return tensor
        shown = episode.shown
        frames = shown.of(episode.world) if whole else shown.last_of(episode.world)
        if frames is None:
            return None
        return to_tensors(np.array(frames if whole else frames[None]), self._device)

    def _wanted(
        self, simulation: Simulation, episodes: Sequence[Episode]
    ) -> dict[str, list[Tensor]]:
        """The task's parts, each with a tensor per episode."""
        shown = [simulation.task.observe(episode.task) for episode in episodes]
        space: Any = simulation.observation_space
        sent = {n: [self._send(row[n], space[n].dtype) for row in shown] for n in shown[0]}
        # A step may end and begin an episode in every row.
        while len(self._sent) > 2 * self._rows * len(sent):
            self._sent.popitem(last=False)
        return sent

    def _send(self, array: Array, dtype: npt.DTypeLike) -> Tensor:
        """The array on the device; the same tensor for the same array."""
        known, tensor = self._sent.pop(id(array), (None, None))
        if known is not array:
            tensor = to_tensors(np.array(array, dtype), self._device)
        self._sent[id(array)] = (array, tensor)
        return tensor

    def _from_host(self, simulation: Simulation, episodes: Sequence[Episode]) -> list[Any]:
        space = simulation.observation_space
        empty: Any = create_empty_array(space, len(episodes))
        batch = to_tensors(concatenate(space, simulation.observe(episodes), empty), self._device)
        if not isinstance(batch, Mapping):
            return list(batch)
        return [{name: part[i] for name, part in batch.items()} for i in range(len(episodes))]
