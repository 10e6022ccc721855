"""Settings of single and vector environments, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType
from typing import Any

from sana_wm_gym.camera.keys import SANA_WM_2026_06
from sana_wm_gym.camera.picture import Picture
from sana_wm_gym.checks import require_choice
from sana_wm_gym.envs.start import Lens
from sana_wm_gym.envs.tasks.task import Task
from sana_wm_gym.world.world_model import WorldModel, WorldSpec

METADATA: Mapping[str, Any] = MappingProxyType(
    {"render_modes": ["rgb_array", "rgb_array_list"], "render_fps": 16}
)
"""Gymnasium's, of environments of either kind."""
SINGLE_METADATA: Mapping[str, Any] = MappingProxyType(
    {**METADATA, "render_modes": [*METADATA["render_modes"], "human"]}
)
"""Gymnasium's, of a single environment, which may have a window."""


@dataclass(frozen=True, eq=False)
class EnvConfig:
    """The keyword arguments of an environment.

    Attributes:
        world: Name of a world (see `catalogue.load_world`: a name of the catalogue such as "tiny",
            its ground truth "twin", "procedural" or "sana-wm-streaming", a world file, a
            "package.module:object", or an entry point), or a world of your own.
        world_kwargs: JSON values for what loads a world by its name.
        task: Name of `envs.tasks.TASKS` or a task of your own. Its parts join the observation,
            which is then a flat `Dict`; its numbers join `info`.
        image: Where rollouts begin unless given in reset options: a picture file, a PIL image, an
            array or a tensor (see `camera.picture.rgb_picture`), resized and cropped about its
            centre to the world's frame. The released worlds need one.
        intrinsics: (fx, fy, cx, cy) in pixels of `image`, or what estimates them from it, such as
            `world.released.intrinsics.load_pi3x(path)`; None assumes `world.spec.intrinsics` for
            the cropped frame.
        prompt: Scene text, unless given in reset options. None takes the prompt of each
            episode's own start; "" is empty. Where surfaces of the world vary, it names variants,
            such as "red gate, blue door", and a drawn start shows what it names.
        action_mode: "continuous": `Box(-1, 1, (5,))`, the body twist (yaw, pitch, right, down,
            forward) as a fraction of the world's limits. "planar": `Box(-1, 1, (3,))`, only (yaw,
            right, forward) of it. "discrete": `Discrete(13)` over `camera.DISCRETE_ACTIONS`.
            "keys": `MultiBinary(8)` in the order of `camera.CONTROL_NAMES`. A world that is driven
            by keys alone takes the last two.
        actions_per_chunk: 1 holds an action over the chunk; another divisor of its frames takes
            as many in turn, and the action space gets a leading axis.
        key_map: Profile of `camera.KEY_MAPS` that keys and action strings follow.
        observation: What is observed: one or more of "frame" (last frame of the chunk), "frames"
            (all of them), "latent" (last latent frame, flattened) and "pose" (first three rows of
            the last c2w, flattened). One name gives that `Box`, several a flat `Dict`.
        observation_size: (height, width), or one number for both, that "frame" is resized to by
            area averaging.
        max_episode_steps: Steps (chunks) after which an episode is truncated; None takes the
            task's. `gymnasium.make` keeps this argument for its `TimeLimit`; see `SanaWMEnv`.
        render_mode: None, "rgb_array" (last frame), "rgb_array_list" (every frame of the chunk)
            or, of a single environment, "human": a window shows every frame of the chunk.

    Raises:
        ValueError: There is no such render mode. What else does not fit is found when the
            environment is made.
    """

    world: str | PathLike[str] | WorldModel[Any] = "tiny"
    world_kwargs: Mapping[str, Any] | None = None
    task: str | Task = "free_roam"
    image: Picture | None = None
    intrinsics: Lens | None = None
    prompt: str | None = None
    action_mode: str = "continuous"
    actions_per_chunk: int = 1
    key_map: str = SANA_WM_2026_06.name
    observation: str | Sequence[str] = ("frame",)
    observation_size: int | tuple[int, int] | None = None
    max_episode_steps: int | None = None
    render_mode: str | None = None

    def __post_init__(self) -> None:
        require_choice("render_mode", self.render_mode, (None, *SINGLE_METADATA["render_modes"]))

    def render_fps(self, spec: WorldSpec) -> int:
        """Rate at which the frames that `render` returns play in real time, to the nearest integer
        (Gymnasium takes no other) of at least 1."""
        # In "rgb_array" mode there is one frame per chunk.
        frames = spec.frames_per_chunk if self.render_mode == "rgb_array" else 1
        return max(1, round(spec.fps / frames))
