"""Behaviour cloning: do as the recorded one did. The smallest way to learn from a dataset."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from agents.extractors import StackedViews, is_picture
from agents.training.config import EvaluationSettings, require_whole
from agents.training.evaluation import Evaluation, evaluate_policy
from sana_wm_gym.checks import require_number
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.dataset import open_dataset
from sana_wm_gym.files import atomic_path, write_json
from sana_wm_gym.provenance import provenance

Observation = npt.NDArray[Any] | dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class CloneConfig:
    """One policy learnt from a dataset. `conf/clone.yaml` holds the defaults.

    Attributes:
        dataset: Name of a recorded dataset.
        datasets: Folder it is in; None takes MINARI_DATASETS_PATH, else Minari's own place.
        folder: Where everything goes.
        epochs: Passes over the demonstrations.
        batch_size: Steps per gradient.
        learning_rate: Of Adam.
        features: Numbers that an observation is reduced to.
        held_out: Share of episodes that the loss is measured on, in (0, 1).
        episodes: Of the evaluation in the dataset's own environment, 0 for none; episode i has
            seed `eval_seed + i`, as in `agents.evaluate`.
        eval_seed: First seed of the evaluation.
        videos: First so many episodes of it are filmed.
        seed: Of weights, split and batches.
        threads: Of torch.
    """

    dataset: str
    folder: str
    datasets: str | None = None
    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    features: int = 128
    held_out: float = 0.1
    episodes: int = 50
    eval_seed: int = 10_000
    videos: int = 1
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "features": 1, "episodes": 0, "eval_seed": 0}
        for name, low in {**least, "videos": 0, "seed": 0, "threads": 1}.items():
            require_whole(name, getattr(self, name), low)
        require_number("learning_rate", self.learning_rate, 0, ends="(]")
        require_number("held_out", self.held_out, 0, 1, ends="()")


class Clone(nn.Module):
    """Observation in, action out.

    Args:
        observation_space: Of one environment.
        action_space: A one-dimensional box.
        features: Numbers that an observation is reduced to.

    Raises:
        ValueError: Actions are no such box, or no picture is observed.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        features: int = 128,
    ) -> None:
        super().__init__()
        if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1:
            raise ValueError(f"given action space {action_space}, expected a box of one axis")
        self.actions = action_space
        self.eyes = StackedViews(channels_first(observation_space), features)
        self.hand = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(), nn.Linear(features, action_space.shape[0])
        )

    def forward(self, observation: Mapping[str, Tensor] | Tensor) -> Tensor:
        """Actions [batch, n], not yet cut to their box, of what `tensors` made."""
        return self.hand(self.eyes(observation))

    def tensors(self, observation: Observation) -> Any:
        """A batch of observations as the network takes them: pictures in [0, 1], channels first."""
        if isinstance(observation, dict):
            return {name: self._tensor(part) for name, part in observation.items()}
        return self._tensor(observation)

    def predict(
        self,
        observation: Observation,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], None]:
        """Actions for a batch of observations, as policies of stable-baselines3 give them."""
        with torch.no_grad():
            actions = self(self.tensors(observation)).numpy()
        return np.clip(actions, self.actions.low, self.actions.high), None

    def _tensor(self, part: npt.NDArray[Any]) -> Tensor:
        if part.dtype == np.uint8:
            return torch.from_numpy(part).movedim(-1, 1).float() / 255
        return torch.from_numpy(part).float()


def channels_first(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """A picture, or a flat dictionary with pictures in it, with the axis of colours in front."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({name: channels_first(part) for name, part in space.spaces.items()})
    if isinstance(space, spaces.Box) and is_picture(space):
        low, high = (np.moveaxis(bound, -1, 0) for bound in (space.low, space.high))
        return spaces.Box(low, high, dtype=np.uint8)
    return space


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """Steps of some episodes.

    Attributes:
        observations: What was seen before each step, parts first where there are several.
        actions: What was done, float32 [steps, n].
    """

    observations: Observation
    actions: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.actions)

    def rows(self, index: npt.NDArray[np.intp]) -> Demonstrations:
        """Some of the steps."""
        seen = self.observations
        if isinstance(seen, dict):
            return Demonstrations({k: v[index] for k, v in seen.items()}, self.actions[index])
        return Demonstrations(seen[index], self.actions[index])

    @staticmethod
    def of(dataset: Any, episodes: npt.NDArray[np.intp]) -> Demonstrations:
        """Steps of episodes of a `minari.MinariDataset`."""
        found = list(dataset.iterate_episodes(episodes))
        # The last observation of an episode is followed by no action.
        if isinstance(found[0].observations, dict):
            seen: Observation = {
                name: np.concatenate([one.observations[name][:-1] for one in found])
                for name in found[0].observations
            }
        else:
            seen = np.concatenate([one.observations[:-1] for one in found])
        actions = np.concatenate([one.actions for one in found])
        return Demonstrations(seen, actions.astype(np.float32))


def fit(
    policy: Clone,
    learn: Demonstrations,
    judge: Demonstrations,
    config: CloneConfig,
    console: Console,
) -> list[dict[str, float]]:
    """Learn `policy` in place.

    Returns:
        For each epoch "loss" (mean over its steps) and "held_out": mean squared errors of
        actions, in fractions of the world's limits squared. Epoch 0 is before learning.
    """
    rng = np.random.default_rng(config.seed)
    optimiser = torch.optim.Adam(policy.parameters(), config.learning_rate)
    rows = [{"epoch": 0.0, "loss": _loss(policy, learn), "held_out": _loss(policy, judge)}]
    for epoch in track(
        range(1, config.epochs + 1),
        "cloning",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        order, total = rng.permutation(len(learn)), 0.0
        for first in range(0, len(order), config.batch_size):
            batch = learn.rows(order[first : first + config.batch_size])
            loss = _error(policy, batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(batch)
        rows.append(
            {"epoch": float(epoch), "loss": total / len(order), "held_out": _loss(policy, judge)}
        )
    return rows


def clone(
    config: CloneConfig, console: Console
) -> tuple[list[dict[str, float]], Evaluation | None]:
    """Learn from a dataset, write the policy and how it did, and try it.

    Returns:
        Losses by epoch, and the evaluation where one was asked for.

    Raises:
        ValueError: Too few episodes, or actions or observations that cannot be cloned.
        FileNotFoundError: There is no such dataset.
        ImportError: Minari is not installed.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    dataset, folder = open_dataset(config.dataset, config.datasets), Path(config.folder)
    if dataset.total_episodes < 2:
        raise ValueError(
            f"{config.dataset} has {dataset.total_episodes} episodes, expected at least 2: "
            "one to learn from and one to judge by"
        )
    policy = Clone(dataset.observation_space, dataset.action_space, config.features)
    order = np.random.default_rng(config.seed).permutation(dataset.total_episodes)
    kept = min(max(1, round(config.held_out * len(order))), len(order) - 1)
    judge, learn = (Demonstrations.of(dataset, part) for part in (order[:kept], order[kept:]))
    losses = fit(policy, learn, judge, config, console)
    save(policy, folder / "policy.pt")
    _write_csv(folder / "losses.csv", losses)
    evaluation = None
    if config.episodes:
        env = dataset.recover_environment().unwrapped
        assert isinstance(env, SanaWMEnv)
        evaluation = evaluate_policy(
            policy,
            env.simulation,
            EvaluationSettings(seed=config.eval_seed, videos=config.videos),
            config.episodes,
            env.world,
            folder / "videos",
        )
    document = {
        **provenance("agents.clone"),
        "settings": asdict(config),
        "steps": len(learn),
        "held_out_steps": len(judge),
        "losses": losses,
        "evaluation": None if evaluation is None else evaluation.document(),
    }
    write_json(folder / "clone.json", document)
    return losses, evaluation


def save(policy: Clone, path: Path) -> None:
    """Write a policy's weights in one step."""
    with atomic_path(path) as partial:
        torch.save(policy.state_dict(), partial)


def load(policy: Clone, path: Path) -> None:
    """Read weights that `save` wrote into a policy of the same shape.

    Raises:
        FileNotFoundError: There is no such file.
        RuntimeError: It is of another shape.
    """
    policy.load_state_dict(torch.load(path, weights_only=True))


def _error(policy: Clone, steps: Demonstrations) -> Tensor:
    wanted = torch.from_numpy(steps.actions)
    return nn.functional.mse_loss(policy(policy.tensors(steps.observations)), wanted)


def _loss(policy: Clone, steps: Demonstrations) -> float:
    with torch.no_grad():
        return float(_error(policy, steps))


def _write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
