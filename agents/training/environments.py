"""The environments of a run: many rows of one world to learn in, a simulation to be judged in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.training.algorithms import Agent
from agents.training.config import EnvSettings
from sana_wm_gym.envs.sb3 import SanaWMVecEnv
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.envs.snapshot import Snapshot
from sana_wm_gym.envs.tasks import Task
from sana_wm_gym.envs.tasks.task import Relabels
from sana_wm_gym.envs.vector_env import SanaWMVectorEnv
from sana_wm_gym.world.world_model import WorldModel


@dataclass(frozen=True)
class Rows:
    """Environments that learn together, in one batch.

    Attributes:
        env: They, as stable-baselines3 takes them.
    """

    env: SanaWMVecEnv

    @property
    def simulation(self) -> Simulation:
        """What they are made of."""
        return self.env.vector_env.simulation

    def save(self, folder: Path) -> None:
        """Write the state of every row to a new folder."""
        folder.mkdir()
        for row in range(self.env.num_envs):
            snapshot = self.env.vector_env.snapshot(row)
            snapshot.save(_file(folder, row), self.simulation.world, self.simulation.task)

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            FileNotFoundError: A row is missing.
            ValueError: A file is damaged, or of another world or task.
        """
        self.env.reset()  # rows stand somewhere before they are put elsewhere
        for row in range(self.env.num_envs):
            path = _file(folder, row)
            snapshot = Snapshot.load(path, self.simulation.world, self.simulation.task)
            self.env.vector_env.restore(row, snapshot)


def make_rows(
    world: WorldModel[Any], task: Task, agent: Agent, env: EnvSettings, num_envs: int
) -> Rows:
    """Environments of a run, not yet reset.

    Raises:
        ValueError: World, task, observation and agent do not go together.
    """
    if agent.relabels and not isinstance(task, Relabels):
        raise ValueError(
            f"given task {task.name!r}; goals of this agent must be pictures that can stand in "
            "for each other: task=image_goal_her"
        )
    vector = SanaWMVectorEnv(
        num_envs,
        world,
        task=task,
        action_mode=agent.action_mode,
        observation=tuple(env.observation),
        observation_size=env.observation_size,
        horizon=env.horizon,
        autoreset_mode="Disabled",
    )
    return Rows(SanaWMVecEnv(vector))


def _file(folder: Path, row: int) -> Path:
    return folder / f"{row:04d}.safetensors"
