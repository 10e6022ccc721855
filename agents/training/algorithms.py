"""Learning algorithms as settings: stable-baselines3's, with hyperparameters checked at start.

Every class here is one algorithm and its hyperparameters. `build` hands them to stable-baselines3,
which does the learning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3 import DQN, HerReplayBuffer
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from agents.extractors import CoarseViews, StackedViews, is_picture

Observations = npt.NDArray[Any] | dict[str, npt.NDArray[Any]]

_PPO_COLUMNS = (
    "train/loss",
    "train/policy_gradient_loss",
    "train/value_loss",
    "train/entropy_loss",
    "train/approx_kl",
    "train/clip_fraction",
    "train/explained_variance",
    "train/std",
    "train/learning_rate",
)


class Policy(Protocol):
    """What acts; every algorithm of stable-baselines3 does."""

    def predict(
        self,
        observation: Observations,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...] | None]:
        """Actions for a batch of observations, and the policy's memory after them."""
        ...


class Agent(Protocol):
    """Settings of an agent.

    Attributes:
        relabels: It needs a task whose goals can be relabelled, such as `ThumbnailGoal`.
        columns: What it logs about learning, beside returns.
        row_every: Least number of steps between rows of metrics, and so between checkpoints; 1 for
            one per rollout.
    """

    relabels: ClassVar[bool]
    columns: ClassVar[tuple[str, ...]]
    row_every: ClassVar[int]

    @property
    def action_mode(self) -> str:
        """Of the environment."""
        ...

    def check(self, num_envs: int) -> None:
        """Raise where the settings do not go with so many environments.

        Raises:
            ValueError: Says what would.
        """
        ...

    def build(self, env: VecEnv, seed: int, device: str) -> Any:
        """The learner, or for an agent that does not learn its `Policy`.

        Raises:
            ImportError: A package is missing; says what to install.
            ValueError: It cannot act in this environment.
        """
        ...


@dataclass(frozen=True)
class Network:
    """What a policy sees with.

    Pictures of the observation are stacked along channels, so that a goal image is compared with
    the view place by place: coarsely (`agents.extractors.CoarseViews`) or pixel by pixel
    (`agents.extractors.StackedViews`).

    Attributes:
        features: Numbers that the observation is reduced to.
        layers: Widths of the layers after it, for policy and value apart; may be empty.
        cells: Rows and columns that pictures are averaged to first; null leaves them whole.
    """

    features: int = 128
    layers: Sequence[int] = ()
    cells: int | None = 8

    def __post_init__(self) -> None:
        if min(self.features, *self.layers, 1 if self.cells is None else self.cells) < 1:
            raise ValueError(
                f"given network.features={self.features}, layers={list(self.layers)} and "
                f"cells={self.cells}, expected positive numbers"
            )

    def policy(self, space: spaces.Space[Any]) -> tuple[str, dict[str, Any]]:
        """Name of stable-baselines3's policy for observations of `space`, and its settings."""
        arguments: dict[str, Any] = {"net_arch": list(self.layers)}
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
        pictures = any(isinstance(part, spaces.Box) and is_picture(part) for part in parts)
        if pictures:
            settings = {"features_dim": self.features}
            if self.cells is None:
                arguments["features_extractor_class"] = StackedViews
            else:
                arguments["features_extractor_class"] = CoarseViews
                settings["cells"] = self.cells
            arguments["features_extractor_kwargs"] = settings
        if isinstance(space, spaces.Dict):
            return "MultiInputPolicy", arguments
        return "CnnPolicy" if pictures else "MlpPolicy", arguments


@dataclass(frozen=True)
class PPO:
    """Proximal policy optimisation.

    Attributes:
        action_mode: "continuous", "planar", "discrete" or "keys".
        learning_rate: Of Adam, at the start.
        learning_rate_end: The same at the end of the run; it falls in a straight line.
        rollout: Steps of each environment between updates.
        batch_size: Steps per gradient; divides num_envs * rollout.
        epochs: Passes over a rollout.
        gamma: Discount per chunk. A chunk is 1.5 s and a shaped reward tells at once whether it
            was well spent, so little is gained by looking far ahead and much variance is added.
        gae_lambda: Bias against variance of advantages.
        clip_range: Largest change of a probability ratio.
        entropy: Weight of the entropy bonus.
        value: Weight of the value loss.
        max_grad_norm: Gradients are clipped to it.
        target_kl: Updates stop above it; null never stops.
        noise: Standard deviation of continuous actions before learning.
        network: What the policy sees with.
    """

    relabels: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = _PPO_COLUMNS
    row_every: ClassVar[int] = 1

    action_mode: str = "planar"
    learning_rate: float = 2e-3
    learning_rate_end: float = 0.0
    rollout: int = 16
    batch_size: int = 64
    epochs: int = 6
    gamma: float = 0.5
    gae_lambda: float = 0.9
    clip_range: float = 0.2
    entropy: float = 0.0
    value: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = None
    noise: float = 0.5
    network: Network = field(default_factory=Network)

    def __post_init__(self) -> None:
        _require(self, whole=("rollout", "batch_size", "epochs"), positive=("learning_rate",))
        _require(self, share=("gamma", "gae_lambda"), not_negative=("entropy", "value"))
        _require(self, not_negative=("learning_rate_end",))
        _require(self, positive=("clip_range", "max_grad_norm", "noise"))

    def check(self, num_envs: int) -> None:
        """Raise where a rollout is not a whole number of batches.

        Raises:
            ValueError: Says what would be.
        """
        steps = num_envs * self.rollout
        if steps % self.batch_size:
            raise ValueError(
                f"given agent.batch_size={self.batch_size} for rollouts of {num_envs} x "
                f"{self.rollout} = {steps} steps, expected a divisor of {steps}"
            )

    def build(self, env: VecEnv, seed: int, device: str) -> Any:
        """stable-baselines3's PPO."""
        return SB3PPO(**self._arguments(env, seed, device))

    def _arguments(self, env: VecEnv, seed: int, device: str) -> dict[str, Any]:
        policy, policy_kwargs = self.network.policy(env.observation_space)
        policy_kwargs["log_std_init"] = math.log(self.noise)
        return {
            "policy": policy,
            "env": env,
            "learning_rate": LinearSchedule(self.learning_rate, self.learning_rate_end, 1.0),
            "n_steps": self.rollout,
            # With fewer environments than in training, as when the policy only acts, a rollout
            # may be smaller than a batch.
            "batch_size": min(self.batch_size, env.num_envs * self.rollout),
            "n_epochs": self.epochs,
            "gamma": self.gamma,
            "gae_lambda": self.gae_lambda,
            "clip_range": self.clip_range,
            "ent_coef": self.entropy,
            "vf_coef": self.value,
            "max_grad_norm": self.max_grad_norm,
            "target_kl": self.target_kl,
            "policy_kwargs": policy_kwargs,
            "seed": seed,
            "device": device,
        }


@dataclass(frozen=True)
class RecurrentPPO(PPO):
    """PPO whose policy remembers earlier views (sb3-contrib). Settings as in `PPO`.

    Attributes:
        memory: Width of the LSTM.
    """

    memory: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self, whole=("memory",))

    def build(self, env: VecEnv, seed: int, device: str) -> Any:
        """sb3-contrib's RecurrentPPO.

        Raises:
            ImportError: sb3-contrib is missing.
        """
        try:
            from sb3_contrib import RecurrentPPO as Learner
        except ImportError as error:
            raise ImportError(
                "agent=recurrent_ppo needs sb3-contrib: pip install sana_wm_gym[agents]"
            ) from error
        arguments = self._arguments(env, seed, device)
        arguments["policy"] = arguments["policy"].replace("Policy", "LstmPolicy")
        arguments["policy_kwargs"]["lstm_hidden_size"] = self.memory
        return Learner(**arguments)


@dataclass(frozen=True)
class DeepQ:
    """DQN over the 13 discrete actions.

    Attributes:
        action_mode: "discrete".
        learning_rate: Of Adam.
        buffer_size: Steps remembered; at 64 x 64 with a goal, 50 kB each.
        learning_starts: Steps of chance before learning.
        batch_size: Steps per gradient.
        gamma: Discount per chunk.
        train_every: Steps of each environment between updates.
        gradients: Gradients per update; -1 for as many as steps were taken.
        target_every: Steps between copies to the target network.
        exploration_share: Share of the run over which exploration falls.
        exploration_end: Chance of a random action after that.
        network: What the policy sees with.
    """

    relabels: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ("train/loss", "train/learning_rate")
    row_every: ClassVar[int] = 1024

    action_mode: str = "discrete"
    learning_rate: float = 3e-4
    buffer_size: int = 20_000
    learning_starts: int = 1_000
    batch_size: int = 128
    gamma: float = 0.97
    train_every: int = 1
    gradients: int = 4
    target_every: int = 1_000
    exploration_share: float = 0.4
    exploration_end: float = 0.05
    network: Network = field(default_factory=lambda: Network(layers=(64,)))

    def __post_init__(self) -> None:
        whole = ("buffer_size", "learning_starts", "batch_size", "train_every", "target_every")
        _require(self, whole=whole, positive=("learning_rate",))
        _require(self, share=("gamma", "exploration_share", "exploration_end"))
        _require_gradients(self.gradients)
        if self.action_mode != "discrete":
            raise ValueError(f"given agent.action_mode={self.action_mode!r}; DQN needs 'discrete'")

    def check(self, num_envs: int) -> None:
        """Any number of environments will do."""

    def build(self, env: VecEnv, seed: int, device: str) -> Any:
        """stable-baselines3's DQN."""
        policy, policy_kwargs = self.network.policy(env.observation_space)
        return DQN(
            policy,  # type: ignore[arg-type, unused-ignore]
            env,
            learning_rate=self.learning_rate,
            buffer_size=self.buffer_size,
            learning_starts=self.learning_starts,
            batch_size=self.batch_size,
            gamma=self.gamma,
            train_freq=self.train_every,
            gradient_steps=self.gradients,
            target_update_interval=self.target_every,
            exploration_fraction=self.exploration_share,
            exploration_final_eps=self.exploration_end,
            policy_kwargs=policy_kwargs,
            seed=seed,
            device=device,
        )


@dataclass(frozen=True)
class SacHer:
    """Soft actor-critic with hindsight: episodes that missed their goal count as successes for
    the views they did reach.

    Attributes:
        action_mode: "continuous".
        learning_rate: Of Adam.
        buffer_size: Steps remembered.
        learning_starts: Steps of chance before learning; at least one episode of every
            environment.
        batch_size: Steps per gradient.
        gamma: Discount per chunk.
        tau: Share of the network that the target takes over at every update.
        train_every: Steps of each environment between updates.
        gradients: Gradients per update; -1 for as many as steps were taken.
        relabelled: Goals from later in the episode, for each true one.
        network: What the policy sees with.
    """

    relabels: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = (
        "train/actor_loss",
        "train/critic_loss",
        "train/ent_coef",
        "train/learning_rate",
    )
    row_every: ClassVar[int] = 1024

    action_mode: str = "continuous"
    learning_rate: float = 3e-4
    buffer_size: int = 20_000
    learning_starts: int = 1_000
    batch_size: int = 128
    gamma: float = 0.95
    tau: float = 0.02
    train_every: int = 1
    gradients: int = 4
    relabelled: int = 4
    network: Network = field(default_factory=lambda: Network(layers=(64,)))

    def __post_init__(self) -> None:
        whole = ("buffer_size", "learning_starts", "batch_size", "train_every", "relabelled")
        _require(self, whole=whole, positive=("learning_rate",), share=("gamma", "tau"))
        _require_gradients(self.gradients)
        if self.action_mode != "continuous":
            raise ValueError(
                f"given agent.action_mode={self.action_mode!r}; SAC needs 'continuous'"
            )

    def check(self, num_envs: int) -> None:
        """Any number of environments will do."""

    def build(self, env: VecEnv, seed: int, device: str) -> Any:
        """stable-baselines3's SAC with its HerReplayBuffer."""
        policy, policy_kwargs = self.network.policy(env.observation_space)
        return SB3SAC(
            policy,  # type: ignore[arg-type, unused-ignore]
            env,
            learning_rate=self.learning_rate,
            buffer_size=self.buffer_size,
            learning_starts=self.learning_starts,
            batch_size=self.batch_size,
            gamma=self.gamma,
            tau=self.tau,
            train_freq=self.train_every,
            gradient_steps=self.gradients,
            replay_buffer_class=HerReplayBuffer,
            replay_buffer_kwargs={
                "n_sampled_goal": self.relabelled,
                "goal_selection_strategy": "future",
            },
            policy_kwargs=policy_kwargs,
            seed=seed,
            device=device,
        )


@dataclass(frozen=True)
class Random:
    """Actions of chance: what any policy must beat.

    Attributes:
        action_mode: That of the policies it is compared with: among fewer motions, chance gets
            further.
    """

    relabels: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ()
    row_every: ClassVar[int] = 1

    action_mode: str = "planar"

    def check(self, num_envs: int) -> None:
        """Any number of environments will do."""

    def build(self, env: VecEnv, seed: int, device: str) -> RandomPolicy:
        """A policy that draws from the action space."""
        return RandomPolicy(env.action_space, seed)


class RandomPolicy:
    """Draws every action from the action space, whatever it sees.

    Args:
        space: Of one action.
        seed: Source of the draws.
    """

    def __init__(self, space: spaces.Space[Any], seed: int) -> None:
        self._space = space
        self._space.seed(seed)

    def predict(
        self,
        observation: Observations,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], None]:
        """A new draw for every row; nothing else has a say."""
        one = next(iter(observation.values())) if isinstance(observation, Mapping) else observation
        return np.stack([np.asarray(self._space.sample()) for _ in range(len(one))]), None


def _require(
    settings: Any,
    *,
    whole: Sequence[str] = (),
    positive: Sequence[str] = (),
    share: Sequence[str] = (),
    not_negative: Sequence[str] = (),
) -> None:
    """Check settings of an agent by name."""
    names = {entry.name for entry in fields(settings)}
    assert names.issuperset([*whole, *positive, *share, *not_negative])
    for name in (*whole, *positive, *share, *not_negative):
        value = getattr(settings, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in whole:
            good, expected = isinstance(value, int) and number and value >= 1, "a whole number >= 1"
        elif not number or not math.isfinite(value):
            good, expected = False, "a finite number"
        elif name in positive:
            good, expected = value > 0, "a number > 0"
        elif name in share:
            good, expected = 0 <= value <= 1, "a number from 0 to 1"
        else:
            good, expected = value >= 0, "a number >= 0"
        if not good:
            raise ValueError(f"given agent.{name}={value!r}; expected {expected}")


def _require_gradients(value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < -1 or value == 0:
        raise ValueError(f"given agent.gradients={value!r}; expected a whole number >= 1, or -1")
