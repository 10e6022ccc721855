"""Observations of a batch: as arrays, or as tensors that are made on the world's device."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.world.tensors import stacked, to_tensors
from sana_wm_gym.world.world_model import WorldModel

Array = npt.NDArray[Any]
Tensor = Any
"""A torch tensor; environments leave torch to their worlds."""


class TensorView:
    """What `Simulation.observe` returns, as tensors.

    Frames and latents that the world makes as tensors do not pass through host memory. Other parts
    are sent to its device, the task's once as long as the task returns the same arrays. Numbers are
    the same, but for resized frames, whose bytes differ by one at most.

    Args:
        world: Whose device the tensors are on.
        rows: Number of sub-environments.
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
        rows = simulation.look(episodes, simulation.view, convert=list)
        parts = {name: self._on_device([row[name] for row in rows]) for name in rows[0]}
        shown = [simulation.task.observe(episode.task) for episode in episodes]
        space: Any = simulation.observation_space
        parts |= {n: [self._send(row[n], space[n].dtype) for row in shown] for n in shown[0]}
        # A step may end and begin an episode in every sub-environment.
        while len(self._sent) > 2 * self._rows * len(shown[0]):
            self._sent.popitem(last=False)
        seen = [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
        return seen if isinstance(space, spaces.Dict) else next(iter(parts.values()))

    def batch(self, simulation: Simulation, observations: Sequence[Any]) -> Any:
        """New tensors, one row per observation."""
        return stacked(observations)

    def alone(self, observation: Any) -> Any:
        """New tensors of one observation."""
        if isinstance(observation, dict):
            return {name: part.clone() for name, part in observation.items()}
        return observation.clone()

    def _on_device(self, column: list[Any]) -> list[Tensor]:
        if isinstance(column[0], np.ndarray):
            return list(to_tensors(np.stack(column), self._device))
        return column

    def _send(self, array: Array, dtype: npt.DTypeLike) -> Tensor:
        """The array on the device; the same tensor for the same array."""
        known, tensor = self._sent.pop(id(array), (None, None))
        if known is not array:
            tensor = to_tensors(np.array(array, dtype), self._device)
        self._sent[id(array)] = (array, tensor)
        return tensor
