"""Behaviour cloning: learn a policy from a recorded dataset by regression, and evaluate it.

python -m agents.clone dataset=image_goal/expert-v0
python -m agents.clone --help
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from rich.console import Console
from torch import Tensor, nn

from agents.command import instantiated, run_command
from agents.extractors import StackedViews, is_picture
from sana_wm_gym.checks import require_integer, require_number
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.dataset import open_dataset
from sana_wm_gym.evaluation.episodes import Evaluation, Observations, evaluate_policy
from sana_wm_gym.files import atomic_path, write_json, write_text
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, progress


@dataclass(frozen=True)
class CloneConfig:
    """One policy learnt from a dataset. `conf/clone.yaml` holds the defaults.

    Attributes:
        dataset: Name of a recorded dataset.
        datasets: Folder it is in; None takes MINARI_DATASETS_PATH, else Minari's own place.
        folder: Where everything goes.
        epochs: Passes over the demonstrations.
        batch_size: Steps per gradient step.
        learning_rate: Of Adam.
        features: Width of the encoder's output.
        held_out: Fraction of episodes that the loss is measured on, in (0, 1).
        episodes: Of the evaluation in the dataset's own environment, 0 for none; episode i has
            seed `eval_seed + i`, as in `agents.evaluate`.
        eval_seed: First seed of the evaluation.
        videos: Number of its episodes that are recorded as videos.
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
            require_integer(name, getattr(self, name), low)
        require_number("learning_rate", self.learning_rate, 0, ends="(]")
        require_number("held_out", self.held_out, 0, 1, ends="()")


class Clone(nn.Module):
    """Observation in, action out.

    Args:
        observation_space: Of one environment.
        action_space: A one-dimensional box.
        features: Width of the encoder's output.

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
        self.encoder = StackedViews(channels_first(observation_space), features)
        self.head = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(), nn.Linear(features, action_space.shape[0])
        )

    def forward(self, observation: Mapping[str, Tensor] | Tensor) -> Tensor:
        """Actions [batch, n], not yet cut to their box, of what `tensors` made."""
        return self.head(self.encoder(observation))

    def tensors(self, observation: Observations) -> Any:
        """A batch of observations as the network takes them: pictures in [0, 1], channels first."""
        if isinstance(observation, dict):
            return {name: self._tensor(part) for name, part in observation.items()}
        return self._tensor(observation)

    def predict(
        self,
        observation: Observations,
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

    observations: Observations
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
            seen: Observations = {
                name: np.concatenate([one.observations[name][:-1] for one in found])
                for name in found[0].observations
            }
        else:
            seen = np.concatenate([one.observations[:-1] for one in found])
        actions = np.concatenate([one.actions for one in found])
        return Demonstrations(seen, actions.astype(np.float32))


def fit(
    policy: Clone,
    train: Demonstrations,
    held_out: Demonstrations,
    config: CloneConfig,
    console: Console,
) -> list[dict[str, float]]:
    """Train `policy` in place.

    Returns:
        For each epoch "loss" (mean over its steps) and "held_out": mean squared errors of
        actions, in fractions of the world's limits squared. Epoch 0 is before training.
    """
    rng = np.random.default_rng(config.seed)
    optimiser = torch.optim.Adam(policy.parameters(), config.learning_rate)
    rows = [{"epoch": 0.0, "loss": _loss(policy, train), "held_out": _loss(policy, held_out)}]
    with progress(console) as bars:
        for epoch in bars.track(range(1, config.epochs + 1), description="cloning"):
            order, total = rng.permutation(len(train)), 0.0
            for first in range(0, len(order), config.batch_size):
                batch = train.rows(order[first : first + config.batch_size])
                loss = _error(policy, batch)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += float(loss.detach()) * len(batch)
            rows.append(
                {
                    "epoch": float(epoch),
                    "loss": total / len(order),
                    "held_out": _loss(policy, held_out),
                }
            )
    return rows


def run(config: CloneConfig, console: Console) -> tuple[list[dict[str, float]], Evaluation | None]:
    """Train on a dataset, write the policy and its losses, and evaluate it.

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
            "one to train on and one to hold out"
        )
    policy = Clone(dataset.observation_space, dataset.action_space, config.features)
    order = np.random.default_rng(config.seed).permutation(dataset.total_episodes)
    kept = min(max(1, round(config.held_out * len(order))), len(order) - 1)
    held_out, train = (Demonstrations.of(dataset, part) for part in (order[:kept], order[kept:]))
    losses = fit(policy, train, held_out, config, console)
    save(policy, folder / "policy.pt")
    write_text(folder / "losses.csv", Table.of("losses", losses, digits=9).csv())
    evaluation = None
    if config.episodes:
        env = dataset.recover_environment().unwrapped
        assert isinstance(env, SanaWMEnv)
        evaluation = evaluate_policy(
            policy,
            env.simulation,
            range(config.eval_seed, config.eval_seed + config.episodes),
            env.world,
            videos=folder / "videos",
            num_videos=config.videos,
        )
    document = {
        **provenance("agents.clone"),
        "settings": asdict(config),
        "steps": len(train),
        "held_out_steps": len(held_out),
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


def clone(settings: Any) -> int:
    """Clone as hydra's settings say; returns the exit status.

    Raises:
        ValueError: A setting is invalid.
        FileNotFoundError: There is no such dataset.
        ImportError: A package is missing.
    """
    config = instantiated(settings)
    assert isinstance(config, CloneConfig)
    console = Console()
    losses, evaluation = run(config, console)
    for name in ("loss", "held_out"):
        console.print(
            f"{name}: {losses[0][name]:.4f} before, {losses[-1][name]:.4f} after "
            f"{config.epochs} epochs",
            highlight=False,
        )
    if evaluation is not None:
        evaluation.table(f"clone: {evaluation.task} in {evaluation.world}").print(console)
    console.print(f"wrote {config.folder}", highlight=False, soft_wrap=True)
    return 0


def main() -> None:
    """Command line; ends the process with 0, or 2 if a setting is wrong."""
    run_command("clone", clone)


if __name__ == "__main__":
    main()
