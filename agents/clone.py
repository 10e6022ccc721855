"""Behaviour cloning: learn a policy from a recorded dataset by regression, and evaluate it.

sana-wm clone dataset=image_goal/expert-v0
sana-wm clone --help
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from rich.console import Console
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecTransposeImage
from torch import Tensor, nn

from sana_wm_gym import ENV_IDS
from sana_wm_gym.checks import require_integer, require_number
from sana_wm_gym.envs.dataset import open_dataset, read_episodes
from sana_wm_gym.envs.sana_wm_env import simulation_in
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.evaluation.episodes import Evaluation, Observations, evaluate_policy
from sana_wm_gym.files import atomic_path, write_json, write_text
from sana_wm_gym.hydra_settings import run_command
from sana_wm_gym.ownership import owned
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, progress
from sana_wm_gym.world.catalogue import load_world

from .extractors import StackedViews, parts_of

Steps = tuple[Observations, Tensor]
"""Observations before some steps, and the actions taken, [steps, n]."""


@dataclass(frozen=True)
class CloneConfig:
    """One policy learned from a dataset. `conf/clone.yaml` holds the defaults.

    Attributes:
        dataset: Name of a recorded dataset.
        folder: Where everything goes.
        datasets: Folder it is in; None takes MINARI_DATASETS_PATH, else Minari's own place.
        epochs: Passes over the demonstrations.
        batch_size: Steps per gradient step.
        learning_rate: Of Adam.
        features: Width of the encoder's output.
        held_out: Fraction of episodes that the loss is measured on, in (0, 1).
        episodes: Of the evaluation in the dataset's own environment, 0 for none; episode i has
            seed `eval_seed + i`, as in `sana-wm evaluate`.
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
        for name in ("epochs", "batch_size", "features", "threads"):
            require_integer(name, getattr(self, name), 1)
        for name in ("episodes", "eval_seed", "videos", "seed"):
            require_integer(name, getattr(self, name), 0)
        require_number("learning_rate", self.learning_rate, 0, ends="(]")
        require_number("held_out", self.held_out, 0, 1, ends="()")


def make_policy(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any], features: int = 128
) -> ActorCriticPolicy:
    """An untrained policy of stable-baselines3 that reads the stacked images of an observation.

    Args:
        observation_space: Of one environment.
        action_space: A one-dimensional box.
        features: Width of the encoder's output.

    Raises:
        ValueError: Actions or parts of the observation are no such boxes, or no image is observed.
    """
    if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1:
        raise ValueError(f"action space is {action_space}, expected a box of one axis")
    parts: dict[str, spaces.Space[Any]] = {
        name: VecTransposeImage.transpose_space(part) if is_image_space(part) else part
        for name, part in parts_of(observation_space).items()
    }
    return ActorCriticPolicy(
        parts[""] if "" in parts else spaces.Dict(parts),
        action_space,
        lambda _: 0.0,  # `fit` has an optimizer of its own
        net_arch={"pi": [features], "vf": []},
        activation_fn=nn.ReLU,
        features_extractor_class=StackedViews,
        features_extractor_kwargs={"features_dim": features},
    )


def steps_of(dataset: Any, episodes: npt.NDArray[np.intp]) -> Steps:
    """Steps of episodes of a `minari.MinariDataset`."""
    found = read_episodes(dataset, episodes.tolist())
    observations = [one.observations for one in found]
    # The last observation of an episode is followed by no action.
    if isinstance(observations[0], dict):
        seen: Observations = {
            name: np.concatenate([one[name][:-1] for one in observations])
            for name in observations[0]
        }
    else:
        seen = np.concatenate([one[:-1] for one in observations])
    actions = np.concatenate([one.actions for one in found]).astype(np.float32)
    return seen, torch.from_numpy(actions)


def fit(
    policy: ActorCriticPolicy, train: Steps, held_out: Steps, config: CloneConfig, console: Console
) -> list[dict[str, float]]:
    """Train `policy` in place.

    Returns:
        For each epoch "loss" (mean over its steps) and "held_out": mean squared errors of
        actions, in fractions of the world's limits squared. Epoch 0 is before training.
    """
    rng = np.random.default_rng(config.seed)
    optimizer = torch.optim.Adam(policy.parameters(), config.learning_rate)

    def error(steps: Steps) -> Tensor:
        observations, _ = policy.obs_to_tensor(steps[0])
        return nn.functional.mse_loss(policy.get_distribution(observations).mode(), steps[1])

    def measured(steps: Steps) -> float:
        with torch.no_grad():
            return float(error(steps))

    rows = [{"epoch": 0.0, "loss": measured(train), "held_out": measured(held_out)}]
    seen, actions = train
    with progress(console) as bars:
        for epoch in bars.track(range(1, config.epochs + 1), description="cloning"):
            order, total = torch.from_numpy(rng.permutation(len(actions))), 0.0
            for batch in order.split(config.batch_size):
                index = batch.numpy()
                part = (
                    {k: v[index] for k, v in seen.items()}
                    if isinstance(seen, dict)
                    else seen[index]
                )
                loss = error((part, actions[batch]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(batch)
            losses = {"loss": total / len(order), "held_out": measured(held_out)}
            rows.append({"epoch": float(epoch), **losses})
    return rows


def simulation_of_dataset(dataset: Any) -> Simulation:
    """What a `minari.MinariDataset` was recorded in, made by its id. Unlike
    `recover_environment`, it imports neither the entry point nor the wrappers that the file names.

    Raises:
        ValueError: It is none of this project's, or its world is code.
    """
    spec = dataset.env_spec
    if spec is None or spec.id not in ENV_IDS:
        found = None if spec is None else spec.id
        raise ValueError(
            f"dataset {dataset.id} was recorded in {found!r}, expected one of {', '.join(ENV_IDS)}"
        )
    try:
        load_world(spec.kwargs.get("world", "tiny"), code=False)
        env = gym.make(spec.id, max_episode_steps=spec.max_episode_steps, **spec.kwargs)
    except TypeError as error:
        raise ValueError(f"dataset {dataset.id} has another environment: {error}") from error
    return simulation_in(env)


def clone(
    config: CloneConfig, console: Console, settings: Any = None
) -> tuple[list[dict[str, float]], Evaluation | None]:
    """Train on a dataset, write policy and losses, and evaluate it if `episodes` is not 0.

    Raises:
        ValueError: Too few episodes, or actions or observations that cannot be cloned.
        FileNotFoundError: There is no such dataset.
        ImportError: Minari is not installed.
        FolderInUseError: Another process works in the folder.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    dataset, folder = open_dataset(config.dataset, config.datasets), Path(config.folder)
    if dataset.total_episodes < 2:
        raise ValueError(
            f"{config.dataset} has {dataset.total_episodes} episodes, expected at least 2: "
            "one to train on and one to hold out"
        )
    simulation = simulation_of_dataset(dataset) if config.episodes else None
    policy = make_policy(dataset.observation_space, dataset.action_space, config.features)
    order = np.random.default_rng(config.seed).permutation(dataset.total_episodes)
    kept = min(max(1, round(config.held_out * len(order))), len(order) - 1)
    held_out, train = (steps_of(dataset, part) for part in (order[:kept], order[kept:]))
    with owned(folder):
        losses = fit(policy, train, held_out, config, console)
        with atomic_path(folder / "policy.pt") as partial:
            torch.save(policy.state_dict(), partial)
        write_text(folder / "losses.csv", Table.of("losses", losses, digits=9).csv())
        evaluation = None
        if simulation is not None:
            evaluation = evaluate_policy(
                policy,
                simulation,
                range(config.eval_seed, config.eval_seed + config.episodes),
                simulation.world,
                videos=folder / "videos",
                num_videos=config.videos,
            )
            evaluation.table(f"clone: {evaluation.task} in {evaluation.world}").print(console)
        document = {
            **provenance("sana-wm clone"),
            "settings": asdict(config),
            "steps": len(train[1]),
            "held_out_steps": len(held_out[1]),
            "losses": losses,
            "evaluation": None if evaluation is None else evaluation.document(),
        }
        write_json(folder / "clone.json", document)
        for name in ("loss", "held_out"):
            change = f"{losses[0][name]:.4f} before, {losses[-1][name]:.4f} after"
            console.print(f"{name}: {change} {config.epochs} epochs", highlight=False)
        console.print(f"wrote {config.folder}", highlight=False, soft_wrap=True)
    return losses, evaluation


def main(arguments: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    return run_command("clone", clone, arguments)
