"""A world model as a Gymnasium environment: one step is one latent chunk of 24 frames."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.camera.keys import SANA_WM_2026_06, KeyState
from sana_wm_gym.camera.trajectory import CameraState, CameraTrajectory, integrate
from sana_wm_gym.envs.actions import action_view
from sana_wm_gym.envs.observations import Observation, observation_view
from sana_wm_gym.envs.snapshot import Episode, Snapshot, generator, identity
from sana_wm_gym.envs.start import Picture, default_options, start_choice, with_defaults
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.world_model import CHUNK_FRAMES, WorldModel

Info = dict[str, Any]
Transition = tuple[Observation, float, bool, bool, Info]


class SanaWMEnv(gym.Env[Any, Any]):
    """Move a camera through a world and see what it answers.

    `info` holds "c2w", the commanded camera-to-world poses of the chunk relative to the first
    frame, float64 [24, 4, 4] ([1, 4, 4] after reset); "intrinsics", (fx, fy, cx, cy) in pixels of
    the world's frames, float64 [4]; "chunk_index", the number of chunks so far.

    Everything that changes is in one `Episode` value, replaced at the end of a successful step,
    so a step that fails changes nothing. The world itself is shared by all environments of a
    process. A world gives no reward: `reward` is 0.0, tasks are wrappers.

    Args:
        world: Name ("tiny", "procedural" or "sana-wm-streaming") or a world of your own.
        image: Where rollouts begin unless reset options say otherwise: a picture file or uint8
            [H, W, 3], resized and cropped about its centre to the world's frame. The released
            worlds need one.
        intrinsics: (fx, fy, cx, cy) in pixels of `image`; None assumes `world.spec.intrinsics`
            for the cropped frame. Either way `info` tells what is used.
        prompt: Scene text, unless reset options say otherwise.
        action_mode: "continuous": `Box(-1, 1, (5,))`, the body twist (yaw, pitch, right, down,
            forward) as a fraction of the world's limits. "discrete": `Discrete(13)` over
            `camera.DISCRETE_ACTIONS`. "keys": `MultiBinary(8)` in the order of
            `camera.CONTROL_NAMES`.
        actions_per_chunk: 1 holds an action over the chunk; 3 takes one per latent frame, and the
            action space gets a leading axis of 3.
        key_map: Profile of `camera.KEY_MAPS` that keys and action strings follow.
        observation: What is observed: one or more of "frame" (last frame of the chunk), "frames"
            (all 24), "latent" (last latent frame, flattened) and "pose" (first three rows of the
            last c2w, flattened). One name gives that `Box`, several a flat `Dict`.
        observation_size: (height, width) that "frame" is resized to by area averaging.
        horizon: Chunks after which an episode is truncated.
        render_mode: None, "rgb_array" (last frame) or "rgb_array_list" (every frame of the chunk).

    Raises:
        ValueError: A name is unknown or a number out of range.
        FileNotFoundError: `image`, or the world of this name, is not on this machine.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's own type)
        "render_modes": ["rgb_array", "rgb_array_list"],
        "render_fps": 16.0,
    }
    render_modes: ClassVar[tuple[str | None, ...]] = (None, "rgb_array", "rgb_array_list")

    def __init__(
        self,
        world: str | WorldModel[Any] = "tiny",
        *,
        image: Picture | None = None,
        intrinsics: Sequence[float] | None = None,
        prompt: str | None = None,
        action_mode: str = "continuous",
        actions_per_chunk: int = 1,
        key_map: str = SANA_WM_2026_06.name,
        observation: Sequence[str] = ("frame",),
        observation_size: tuple[int, int] | None = None,
        horizon: int = 40,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in self.render_modes:
            raise ValueError(f"render_mode is {render_mode!r}, expected one of {self.render_modes}")
        if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
            raise ValueError(f"horizon is {horizon!r}, expected an integer >= 1")
        self.world: WorldModel[Any] = load_world(world) if isinstance(world, str) else world
        spec = self.world.spec
        self._defaults = default_options(image, intrinsics, prompt, spec)
        self._actions = action_view(action_mode, actions_per_chunk, key_map, spec.limits)
        self._view = observation_view(observation, observation_size, spec)
        self.action_space = self._actions.space
        self.observation_space = self._view.space
        self.horizon = horizon
        self.render_mode = render_mode
        # Recorders that keep one frame per step see one frame per chunk in "rgb_array" mode.
        fps = spec.fps / CHUNK_FRAMES if render_mode == "rgb_array" else spec.fps
        self.metadata = {**type(self).metadata, "render_fps": fps}
        self._episode: Episode | None = None
        self._decoded: tuple[Episode, npt.NDArray[np.uint8]] | None = None
        self._closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin a rollout.

        Args:
            seed: Same seed, same start and noise, whatever other environments do.
            options: `scene` (int) and `prompt` (str) to draw a start there; or `image` (uint8
                [H, W, 3]), with `intrinsics`, `prompt`, `scene`, `scene_c2w`; or a whole `start`.
                What they leave open is as the environment was made.

        Raises:
            ValueError: An option is unknown or does not fit; the running rollout stays.
        """
        self._require_open()
        choice = start_choice(with_defaults(options, self._defaults), self.world.spec)
        super().reset(seed=seed)
        # Drawn first, so that the noise of a seed does not depend on how the start was chosen.
        noise_seed = int(self.np_random.integers(2**31))
        start = choice.start(self.world, self.np_random)
        episode = Episode(
            world=self.world.begin(start, noise_seed),
            camera=CameraState(),
            keys=KeyState(),
            intrinsics=start.intrinsics,
            c2w=np.eye(4)[None],
            chunk=0,
        )
        observation = self._observe(episode)
        self._episode = episode
        return observation, _info(episode)

    def step(self, action: Any) -> Transition:
        """Move the camera for one chunk.

        Raises:
            ValueError: The action is not in the action space; nothing has changed.
            ResetNeeded: There is no running rollout, or it was truncated.
        """
        episode = self._running()
        controls, keys = self._actions.chunk(action, episode.keys)
        return self._move(episode, controls, keys)

    def step_string(self, text: str) -> Transition:
        """`step` with an action string of 24 frames, such as "w-12,dw-12", in any action mode.

        Raises:
            ValueError: The string has an error (it says where) or another number of frames.
            ResetNeeded: There is no running rollout, or it was truncated.
        """
        episode = self._running()
        controls, keys = self._actions.text(text, episode.keys)
        return self._move(episode, controls, keys)

    def step_controls(self, controls: Controls) -> Transition:
        """`step` with the motion of each of the 24 frames, in any action mode.

        Raises:
            ValueError: Another number of frames.
            ResetNeeded: There is no running rollout, or it was truncated.
        """
        episode = self._running()
        if len(controls) != CHUNK_FRAMES:
            raise ValueError(f"controls have {len(controls)} frames, expected {CHUNK_FRAMES}")
        return self._move(episode, controls, KeyState())

    def _move(self, episode: Episode, controls: Controls, keys: KeyState) -> Transition:
        spec = self.world.spec
        poses, camera = integrate(episode.camera, controls, self._actions.pitch_limit)
        path = CameraTrajectory(
            np.concatenate([episode.c2w[-1:], poses]),
            np.array(episode.intrinsics),
            spec.width,
            spec.height,
        )
        [state] = self.world.advance([episode.world], [path])
        after = Episode(state, camera, keys, episode.intrinsics, poses, episode.chunk + 1)
        observation = self._observe(after)
        self._episode = after
        return observation, 0.0, False, after.chunk >= self.horizon, _info(after)

    def render(self) -> Any:
        """The last frame, uint8 [H, W, 3], or the list of all frames of the last chunk."""
        episode = self._begun()
        if self.render_mode is None:
            gym.logger.warn("render() needs render_mode='rgb_array' or 'rgb_array_list'")
            return None
        frames = self._frames(episode).copy()
        return frames[-1] if self.render_mode == "rgb_array" else list(frames)

    def close(self) -> None:
        """Forget the rollout. The world stays loaded for other environments."""
        self._closed = True
        self._episode = self._decoded = None

    def snapshot(self) -> Snapshot:
        """The whole state as a value: world, camera, key inertia and random generator."""
        state = self.np_random.bit_generator.state
        return Snapshot(self._begun(), dict(state), identity(self.world.spec))

    def restore(self, snapshot: Snapshot) -> tuple[Observation, Info]:
        """Continue from a snapshot, bit for bit.

        Returns:
            Observation and info as they were when it was taken.

        Raises:
            ValueError: It was made in another world.
        """
        self._require_open()
        snapshot.check_fits(self.world.spec)
        observation = self._observe(snapshot.episode)
        self.np_random = generator(snapshot.rng)
        self._episode = snapshot.episode
        return observation, _info(snapshot.episode)

    def branch(self, n: int) -> list[SanaWMEnv]:
        """`n` independent environments that stand where this one stands and share its world.

        They are bare: wrappers around this one are not repeated. The future depends on the state
        and the actions alone, so branches differ where their actions differ.

        Raises:
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError(f"given n = {n}, expected >= 0")
        here = self.snapshot()
        branches = [copy.copy(self) for _ in range(n)]
        for env in branches:
            # Spaces carry generators for sampling; the generator of `env` is set by `restore`.
            env.action_space = copy.deepcopy(self.action_space)
            env.observation_space = copy.deepcopy(self.observation_space)
            env.restore(here)
        return branches

    def _observe(self, episode: Episode) -> Observation:
        return self._view.observe(
            pixels=lambda: self._frames(episode),
            latents=lambda: self.world.latents(episode.world),
            c2w=episode.c2w[-1],
        )

    def _frames(self, episode: Episode) -> npt.NDArray[np.uint8]:
        """The last chunk's frames, decoded once and only when someone asks."""
        if self._decoded is None or self._decoded[0] is not episode:
            self._decoded = (episode, self.world.frames(episode.world))
        return self._decoded[1]

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("the environment is closed, expected an open one")

    def _begun(self) -> Episode:
        self._require_open()
        if self._episode is None:
            raise ResetNeeded("there is no rollout yet, expected reset() first")
        return self._episode

    def _running(self) -> Episode:
        episode = self._begun()
        if episode.chunk >= self.horizon:
            raise ResetNeeded(
                f"the rollout was truncated at its horizon of {self.horizon} chunks, "
                "expected reset() first"
            )
        return episode


def _info(episode: Episode) -> Info:
    return {
        "c2w": episode.c2w.copy(),
        "intrinsics": np.array(episode.intrinsics, dtype=np.float64),
        "chunk_index": episode.chunk,
    }
