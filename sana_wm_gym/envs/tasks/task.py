"""What a task is: a goal, a reward and an end, apart from the world it is set in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.camera.controls import Controls

if TYPE_CHECKING:
    from sana_wm_gym.envs.observations import ObservationView
    from sana_wm_gym.envs.simulation import Simulation
    from sana_wm_gym.envs.snapshot import Episode

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Verdict:
    """What a task says of one step.

    Attributes:
        reward: Of this step.
        terminated: The episode is over, by success or otherwise; running out of time is not the
            task's business.
        info: Numbers to report in `info`, under the same names at every step.
    """

    reward: float
    terminated: bool = False
    info: Mapping[str, float | bool] = field(default_factory=dict)


class Task(Protocol):
    """A goal, a reward and an end. Holds settings alone; what changes is in `episode.task`.

    A task's state is a frozen value of its own type. Everything random in it comes from the
    generator handed to `begin`, so that an episode is a function of its seed.
    """

    @property
    def name(self) -> str:
        """Short name, as in `gym.make(..., task=name)`."""
        ...

    @property
    def horizon(self) -> int:
        """Chunks after which an episode is truncated, unless the environment says otherwise."""
        ...

    def spaces(self, simulation: Simulation) -> dict[str, spaces.Space[Any]]:
        """Parts that this task adds to the observation, by name; may be empty.

        Raises:
            ValueError: The task cannot be set in this world or with this observation.
        """
        ...

    def begin(
        self,
        simulation: Simulation,
        episodes: Sequence[Episode],
        rngs: Sequence[np.random.Generator],
    ) -> list[Any]:
        """States at the start of new episodes, one per episode and generator.

        Called for all environments that are reset together, so that goals that must be imagined
        can be imagined in one batch. State i depends on episode i and generator i alone.
        """
        ...

    def disturb(self, state: Any, chunk: int, controls: Controls) -> Controls:
        """The motion that really happens when the agent commands `controls` for chunk `chunk`."""
        ...

    def judge(self, simulation: Simulation, before: Episode, after: Episode) -> tuple[Any, Verdict]:
        """The task's next state, and what it says of the step from `before` to `after`.

        `before.task` is the state so far; `after.task` is still the same.
        """
        ...

    def observe(self, state: Any) -> Arrays:
        """Arrays for the parts that `spaces` names.

        Nobody writes in them. The same array again says that nothing has changed, so that it need
        not be sent to a device again.
        """
        ...

    def pack(self, state: Any) -> Arrays:
        """The state as named arrays, enough for `unpack` to give it back."""
        ...

    def unpack(self, arrays: Arrays) -> Any:
        """Inverse of `pack`.

        Raises:
            ValueError: An array is missing, unknown or of the wrong shape.
        """
        ...


@runtime_checkable
class RenamesView(Protocol):
    """What a task may offer besides: other names for the observed parts of the world."""

    def renamed(self, view: ObservationView) -> ObservationView:
        """The same view under the names that are expected.

        Raises:
            ValueError: The task cannot be set with this view.
        """
        ...


@runtime_checkable
class Relabels(Protocol):
    """What a task may offer besides: rewards for goals that another episode set itself."""

    def compute_reward(
        self, achieved_goal: npt.ArrayLike, desired_goal: npt.ArrayLike, info: Any
    ) -> npt.NDArray[np.float32]:
        """Reward of having achieved one thing when another was desired, for one or for many."""
        ...


@dataclass(frozen=True)
class FreeRoam:
    """No task: every reward is 0 and nothing ends but time.

    Attributes:
        horizon: Chunks after which an episode is truncated.
    """

    horizon: int = 40

    @property
    def name(self) -> str:
        """ "free_roam"."""
        return "free_roam"

    def spaces(self, simulation: Simulation) -> dict[str, spaces.Space[Any]]:
        """Nothing is added."""
        return {}

    def begin(
        self,
        simulation: Simulation,
        episodes: Sequence[Episode],
        rngs: Sequence[np.random.Generator],
    ) -> list[None]:
        """There is no state; nothing is drawn."""
        return [None] * len(episodes)

    def disturb(self, state: None, chunk: int, controls: Controls) -> Controls:
        """As commanded."""
        return controls

    def judge(
        self, simulation: Simulation, before: Episode, after: Episode
    ) -> tuple[None, Verdict]:
        """Reward 0."""
        return None, Verdict(0.0)

    def observe(self, state: None) -> Arrays:
        """Nothing is added."""
        return {}

    def pack(self, state: None) -> Arrays:
        """Nothing."""
        return {}

    def unpack(self, arrays: Arrays) -> None:
        """Nothing.

        Raises:
            ValueError: There are arrays.
        """
        if arrays:
            raise ValueError(f"given task arrays {sorted(arrays)}, expected none")
