"""What a task is: a goal, a reward and an end, apart from the world it is set in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym import values
from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.envs.actions import Command
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.observations import ObservationView
from sana_wm_gym.world.world_model import WorldSpec

Arrays = dict[str, npt.NDArray[Any]]
Numbers = Mapping[str, float | bool]
Episodes = Sequence[Episode]
Rngs = Sequence[np.random.Generator]
Shapes = Mapping[str, tuple[int | None, ...]]


@dataclass(frozen=True)
class StepResult:
    """A step as a task evaluates it.

    Attributes:
        reward: Of this step.
        terminated: The task has ended the episode, by success or otherwise.
    """

    reward: float
    terminated: bool = False


class Setting(Protocol):
    """What a task sees of where it is set; a `Simulation` is one."""

    @property
    def spec(self) -> WorldSpec:
        """Of the world."""

    @property
    def view(self) -> ObservationView:
        """Parts of the world that are observed."""

    def move(self, episodes: Episodes, commands: Sequence[Command]) -> list[Episode]:
        """Episodes one chunk on, all in one batch, past the task."""

    def frames(self, episodes: Episodes, last: bool = False) -> list[npt.NDArray[np.uint8]]:
        """Frames of each episode's last chunk, uint8 [n, H, W, 3]; with `last` only the last."""

    def look(self, episodes: Episodes, view: ObservationView) -> list[dict[str, Any]]:
        """The world's parts of a view of each episode. Read only."""


class Task:
    """A goal, a reward and an end. Holds settings alone; what changes is in `episode.task`.

    A task's state is a frozen dataclass of arrays and numbers. Everything random in it comes from
    the generator handed to `begin`, so that an episode is a function of its seed. Methods that a
    task does not define are as here: no state, nothing added or disturbed, reward 0, no end. A
    setting out of its range is a ValueError.

    Attributes:
        name: Short name, as in `gym.make(..., task=name)`.
        max_episode_steps: Steps after which an episode is truncated, unless the environment is
            given another number.
        needs_camera: It cannot be set in a world that is driven by keys alone.
        State: Type of its state; None for none.
        shapes: Shapes of the state's arrays, where they are known; None stands for any length.
    """

    name: ClassVar[str]
    max_episode_steps: int
    needs_camera: ClassVar[bool] = False
    State: ClassVar[type[Any] | None] = None
    shapes: ClassVar[Shapes] = {}

    def renamed(self, view: ObservationView) -> ObservationView:
        """The view under the part names that the task's observations have.

        Raises:
            ValueError: The task cannot be set with this view.
        """
        return view

    def spaces(self, setting: Setting) -> dict[str, spaces.Space[Any]]:
        """Parts that this task adds to the observation, by name; may be empty.

        Raises:
            ValueError: The task cannot be set in this world or with this observation.
        """
        return {}

    def begin(self, setting: Setting, episodes: Episodes, rngs: Rngs) -> list[Any]:
        """States at the start of new episodes, one per episode and generator.

        Called for all environments that are reset together, so that goals can be imagined in one
        batch. State i depends on episode i and generator i alone.
        """
        return [None] * len(episodes)

    def disturb(self, state: Any, chunk: int, controls: Controls) -> Controls:
        """The motion that really happens when the agent commands `controls` for chunk `chunk`."""
        return controls

    def evaluate(self, setting: Setting, before: Episode, after: Episode) -> tuple[Any, StepResult]:
        """The task's next state, and reward and end of the step from `before` to `after`.

        `before.task` is the state so far; `after.task` is still the same.
        """
        return before.task, StepResult(0.0)

    def info(self, setting: Setting, episode: Episode) -> Numbers:
        """Numbers to report in `info`; `episode.task` is the state there.

        Names and types are the same at reset and after every step.
        """
        return {}

    def observe(self, state: Any) -> Arrays:
        """Arrays for the parts that `spaces` names. Read only.

        The same array again means that it need not be sent to a device again.
        """
        return {}

    def pack(self, state: Any) -> Arrays:
        """The state as named arrays, enough for `unpack` to give it back."""
        return values.pack(state)

    def unpack(self, arrays: Arrays) -> Any:
        """Inverse of `pack`.

        Raises:
            ValueError: An array is missing, unknown or of the wrong shape.
        """
        if self.State is not None:
            return values.unpack(self.State, arrays, shapes=self.shapes)
        if arrays:
            raise ValueError(f"given task arrays {sorted(arrays)}, expected none")
        return None


@dataclass(frozen=True)
class FreeRoam(Task):
    """No task: every reward is 0 and nothing ends but time."""

    name: ClassVar[str] = "free_roam"
    max_episode_steps: int = 40
