"""Tasks: a goal, a reward and an end, apart from the world they are set in."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sana_wm_gym.envs.tasks.explore import Explore
from sana_wm_gym.envs.tasks.follow import Follow
from sana_wm_gym.envs.tasks.image_goal import ImageGoal, PoseDistance, Shaped, Sparse
from sana_wm_gym.envs.tasks.inspect_point import Inspect
from sana_wm_gym.envs.tasks.task import FreeRoam, StepResult, Task
from sana_wm_gym.envs.tasks.thumbnail_goal import ThumbnailGoal

TASKS: Mapping[str, Callable[[], Task]] = MappingProxyType(
    {
        "free_roam": FreeRoam,
        "image_goal": ImageGoal,
        "image_goal_her": ThumbnailGoal,
        "follow": Follow,
        "explore": Explore,
        "inspect": Inspect,
    }
)
"""Tasks by name, with their default settings."""


__all__ = [
    "TASKS",
    "Explore",
    "Follow",
    "FreeRoam",
    "ImageGoal",
    "Inspect",
    "PoseDistance",
    "Shaped",
    "Sparse",
    "StepResult",
    "Task",
    "ThumbnailGoal",
]
