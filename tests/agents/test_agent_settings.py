"""Settings of agents: every choice can be made, and a wrong one is one line."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("hydra")

from hydra import compose, initialize_config_module
from small_runs import EVALUATION, QUIET, SMALL, WORLD, config
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sana_wm_gym import cli
from sana_wm_gym.agents.training.config import EvaluationConfig
from sana_wm_gym.agents.training.learner import build_learner, make_env
from sana_wm_gym.agents.training.learning import learn
from sana_wm_gym.agents.training.loggers import Wandb
from sana_wm_gym.envs.tasks import TASKS, ImageGoal, Sparse
from sana_wm_gym.hydra_settings import CONF, conf_folder, instantiated


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EvaluationConfig(episodes=0), "episodes is 0"),
        (lambda: EvaluationConfig(videos=True), "videos is True"),
        (lambda: Wandb(mode="on"), "logger.mode is 'on'"),
        (lambda: config(Path(), num_envs=0), "num_envs is 0"),
        (lambda: config(Path(), steps=1.5), "steps is 1.5"),
    ],
)
def test_settings_are_checked(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (partial(PPO, gama=0.5), "gama"),
        (partial(PPO, batch_size=1), "batch_size"),
        (partial(PPO, n_steps=4, batch_size=7), "a divisor of 8"),
        (partial(DQN, buffer_size=10), "action space"),
    ],
)
def test_arguments_that_sb3_refuses_are_value_errors(agent: Any, message: str) -> None:
    env = make_env(config(Path()))
    with pytest.raises(ValueError, match=message):
        build_learner(agent, env, 0, "cpu")


def test_an_observation_without_images_needs_no_other_agent() -> None:
    env = make_env(config(Path(), task=TASKS["inspect"](), env={"observation": ["pose"]}))
    assert build_learner(SMALL, env, 0, "cpu").policy.features_dim > 0


@pytest.mark.parametrize(
    ("command", "override"),
    [
        *(
            ("train", wrong)
            for wrong in ("foo=1", "agent=nobody", "world=nowhere", "task.success_distance_m=-1")
        ),
        ("train", "agent.gama=2"),
        ("train", "agent.gamma=2"),
        ("train", "launcher=joblib"),
        ("train", "folder="),
        ("train", "folder=null"),
        ("train", "device=cuda:99"),
        ("train", "+env.size=84"),
        ("evaluate", "episodes=2"),
        ("evaluate", "checkpoint=nowhere"),
        ("evaluate", "agent=ppo"),
        ("plan", "planner.elites=77"),
    ],
)
def test_a_wrong_setting_is_one_line_and_status_2(
    command: str,
    override: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if override.startswith("launcher"):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main([command, override]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1


def test_every_choice_of_every_group_can_be_made() -> None:
    with initialize_config_module(CONF, version_base="1.3"):
        for group in ("world", "task", "agent", "logger"):
            for path in sorted((conf_folder() / group).glob("*.yaml")):
                extra = ["world.name=procedural"] if path.stem == "named" else []
                cfg = compose("agents", [f"{group}={path.stem}", "folder=x", *extra])
                made = instantiated(cfg[group])
                if group == "agent" and path.stem != "random":
                    assert issubclass(made.func, BaseAlgorithm)
                    # Files list what differs from the algorithm's defaults, and nothing else.
                    known = inspect.signature(made.func).parameters
                    assert not [k for k, v in made.keywords.items() if known[k].default == v]


def test_poses_alone_teach_to_orbit_a_point(tmp_path: Path) -> None:
    """A twentieth of the documented run: no whole orbit yet, but far from random actions."""
    orbits = {}
    for agent in ("ppo_pose", "random"):
        with initialize_config_module(CONF, version_base="1.3"):
            chosen = [f"agent={agent}", "task=inspect", "steps=1000", f"folder={tmp_path / agent}"]
            cfg = compose("agents", [*chosen, "eval_episodes=1", "evaluation.videos=0"])
        how = replace(EVALUATION, episodes=16, batch_size=16)
        env = {"action_mode": "continuous", "observation": ["pose"]}
        run = replace(instantiated(cfg), world=WORLD, log_every=1000, evaluation=how, env=env)
        orbits[agent] = learn(run, {}, "", QUIET).summary()["orbit_deg"].mean
    assert orbits["ppo_pose"] > 10 > 0 > orbits["random"]


def test_tasks_of_conf_are_the_defaults() -> None:
    """So that a task means the same by name, in `gym.make`, as by group."""
    with initialize_config_module(CONF, version_base="1.3"):
        for name, make in TASKS.items():
            if name == "free_roam":
                continue
            task = instantiated(compose("agents", [f"task={name}"]).task)
            assert _plain(task) == _plain(make())
        sparse = instantiated(compose("agents", ["task=image_goal_sparse"]).task)
        assert _plain(sparse) == _plain(ImageGoal(reward=Sparse()))


def _plain(task: Any) -> Any:
    if is_dataclass(task) and not isinstance(task, type):
        values = {part.name: _plain(getattr(task, part.name)) for part in fields(task)}
        return {"": type(task).__name__, **values}
    return list(task) if isinstance(task, tuple) else task
