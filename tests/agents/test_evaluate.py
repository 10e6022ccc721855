"""Evaluations: the same episodes for every policy and world, and intervals that mean something."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("stable_baselines3")
pytest.importorskip("hydra")

from functools import partial

from hydra import compose, initialize_config_module
from rich.console import Console
from scipy import stats
from stable_baselines3 import PPO

from sana_wm_gym.agents.evaluate import evaluate
from sana_wm_gym.agents.extractors import CoarseViews
from sana_wm_gym.agents.train import train
from sana_wm_gym.agents.training.config import TrainAgentConfig
from sana_wm_gym.agents.training.learner import RandomPolicy, build_learner, make_env
from sana_wm_gym.agents.training.learning import trained_policy
from sana_wm_gym.agents.training.run_folder import known_targets, open_run
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.tasks import ImageGoal
from sana_wm_gym.evaluation.episodes import Evaluation, draw_start, evaluate_policy, play_episode
from sana_wm_gym.evaluation.intervals import estimate
from sana_wm_gym.hydra_settings import CONF, instantiated
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

WORLD = ProceduralWorld(size=(16, 16), scenes=(8,), start_radius=0.7)
TASK = ImageGoal(horizon=3)
QUIET = Console(quiet=True)
AGENT = partial(
    PPO,
    n_steps=4,
    batch_size=8,
    n_epochs=1,
    policy_kwargs={"net_arch": [8], "features_extractor_class": CoarseViews},
)


class Steady:
    """Always the same motion; does not ask who is looking."""

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
        return np.tile(np.float32([0.3, 0, 0, 0, 0.7]), (len(observation["frame"]), 1)), None


def env_of(world: Any, num_envs: int = 2) -> Any:
    env = {"action_mode": "continuous"}
    return make_env(TrainAgentConfig(world, "", AGENT, TASK, env=env, num_envs=num_envs))


@pytest.fixture(scope="module")
def env() -> Any:
    return env_of(WORLD)


def judge(policy: Any, env: Any, episodes: int, **changes: Any) -> Evaluation:
    simulation = env.vector_env.simulation
    settings = {"batch_size": 2, **changes}
    return evaluate_policy(policy, simulation, range(5, 5 + episodes), WORLD, **settings)


def test_an_evaluation_is_what_the_environment_returns(env: Any) -> None:
    single = SanaWMEnv(WORLD, task=TASK)
    for result in judge(Steady(), env, 3).episodes:
        options = {"start": draw_start(WORLD, result.seed)}
        action = np.float32([0.3, 0, 0, 0, 0.7])
        played = play_episode(single, lambda _: action, result.seed, options)  # noqa: B023
        assert result.episode_return == pytest.approx(played.episode_return, abs=1e-12)
        assert result.length == played.length
        assert dict(result.info) == {name: played.info[name] for name in result.info}


def test_episodes_do_not_depend_on_their_batch(env: Any) -> None:
    assert judge(Steady(), env, 3, batch_size=1) == judge(Steady(), env, 3, batch_size=3)
    # The first of many episodes are those of a few.
    assert judge(Steady(), env, 2).episodes == judge(Steady(), env, 3).episodes[:2]


def test_nothing_random_is_left_over(env: Any) -> None:
    learner = build_learner(AGENT, env, 0, "cpu")
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    drawn = judge(learner, env, 2, deterministic=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.manual_seed(4)
    assert judge(learner, env, 2, deterministic=False) == drawn
    assert judge(learner, env, 2) != drawn


def test_a_random_policy_is_a_function_of_its_seed(env: Any) -> None:
    one, same, other = (judge(RandomPolicy(env.action_space, seed), env, 2) for seed in (0, 0, 1))
    assert one == same != other


def test_a_world_and_its_twin_set_the_same_episodes() -> None:
    """Same starts, same hidden walks to the goal; only the pictures are the world's own."""
    tiny, truth = load_world("tiny"), load_world("twin")
    simulations = [env_of(world, 1).vector_env.simulation for world in (tiny, truth)]
    for seed in (0, 1):
        starts = [draw_start(world, seed) for world in (tiny, truth)]
        assert np.array_equal(starts[0].image, starts[1].image)
        assert np.array_equal(starts[0].scene_c2w, starts[1].scene_c2w)
        goals = [
            simulation.begin([{"start": starts[0]}], [np.random.default_rng(seed)])[0].task
            for simulation in simulations
        ]
        assert np.array_equal(goals[0].c2w, goals[1].c2w)
        assert not np.array_equal(goals[0].picture, goals[1].picture)


def test_an_evaluation_survives_json(env: Any) -> None:
    found = judge(Steady(), env, 2)
    assert Evaluation.of(json.loads(json.dumps(found.document()))) == found


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_interval_of_a_fraction_holds_it_and_stays_one(values: list[bool]) -> None:
    found = estimate(values)
    assert found.low is not None and found.high is not None
    assert 0 <= found.low <= found.mean <= found.high <= 1
    # Even a clean sheet leaves doubt.
    assert found.high - found.low > 0
    more = estimate(values * 4)
    assert more.low is not None and more.high is not None
    assert more.high - more.low < found.high - found.low


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_the_interval_of_a_mean_is_students(values: list[float]) -> None:
    found = estimate(values)
    spread = stats.sem(values)
    if spread > 1e-9:
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), spread)
        assert (found.low, found.high) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    else:
        assert found.low == pytest.approx(found.high, abs=1e-6)


def test_one_number_has_no_interval() -> None:
    found = estimate([2.5])
    assert (found.mean, found.low, found.high, found.count) == (2.5, None, None, 1)
    for bad in ([], [float("nan")]):
        with pytest.raises(ValueError, match="finite numbers"):
            estimate(bad)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run in the twin."""
    folder = tmp_path_factory.mktemp("run")
    overrides = [
        "world=twin",
        f"folder={folder}",
        "task.horizon=1",
        "num_envs=1",
        "steps=4",
        "agent.n_steps=4",
        "++agent.batch_size=4",
        "agent.n_epochs=1",
        "eval_episodes=1",
        "evaluation.episodes=2",
        "evaluation.videos=0",
    ]
    with initialize_config_module(CONF, version_base="1.3"):
        settings = compose("agents", overrides)
        train(instantiated(settings), QUIET, settings)
    return folder


def settings_of(checkpoint: Path, *overrides: str) -> Any:
    with initialize_config_module(CONF, version_base="1.3"):
        given = [f"checkpoint={checkpoint}", "episodes=2", "videos=1", "place=null", *overrides]
        return compose("evaluate", given)


def test_a_saved_policy_plays_as_it_did(trained: Path) -> None:
    last = json.loads((trained / "evaluation.json").read_text())
    [checkpoint] = (trained / "checkpoints").iterdir()
    for where in (trained, checkpoint):
        evaluate(instantiated(settings_of(where)), QUIET)
        again = json.loads((trained / "evaluations" / "own" / "evaluation.json").read_text())
        assert again["episodes"] == last["episodes"]
        assert again["checkpoint"] == checkpoint.name
    assert (trained / "evaluations" / "own" / "videos" / "episode-10000.mp4").is_file()


def test_a_policy_moves_to_another_world(trained: Path, tmp_path: Path) -> None:
    evaluate(instantiated(settings_of(trained, "world=tiny", f"folder={tmp_path}")), QUIET)
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert (found["world"], found["starts_from"]) == ("tiny", "twin")
    run = open_run(trained)
    policy, simulation = trained_policy(run, ProceduralWorld(size=(32, 48)))
    with pytest.raises(ValueError, match="first frame"):
        evaluate_policy(policy, simulation, [5], run.config.world)


def test_settings_that_name_strange_code_are_not_run(trained: Path) -> None:
    text = (trained / "config.yaml").read_text()
    assert "os.system" not in known_targets()
    strange = {
        "sana_wm_gym.world.catalogue.load_world": "os.system",  # called
        "sana_wm_gym.agents.extractors.CoarseViews": "os.system",  # looked up
        "name: twin": "name: os:system",  # a world that is code
    }
    for known, other in strange.items():
        assert known in text
        (trained / "config.yaml").write_text(text.replace(known, other))
        try:
            with pytest.raises(ValueError, match=r"name os.system, .*trust=true"):
                open_run(trained)
        finally:
            (trained / "config.yaml").write_text(text)


def test_a_damaged_checkpoint_is_said_to_be(trained: Path) -> None:
    run = open_run(trained)
    assert run.checkpoint is not None
    file = run.checkpoint / "learner.pt"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match="damaged"):
            trained_policy(run)
        other = replace(run.config, agent=partial(PPO, policy_kwargs={"net_arch": [9]}))
        file.write_bytes(whole)
        with pytest.raises(ValueError, match="other networks"):
            trained_policy(replace(run, config=other))
    finally:
        file.write_bytes(whole)


def test_random_policies_act_by_the_seed_of_their_run(trained: Path) -> None:
    run = open_run(trained)

    def actions(seed: int) -> np.ndarray:
        config = replace(run.config, agent=partial(RandomPolicy), seed=seed)
        policy, simulation = trained_policy(replace(run, config=config))
        views = {n: box.sample()[None] for n, box in simulation.observation_space.spaces.items()}
        return np.concatenate([policy.predict(views)[0] for _ in range(3)])

    assert np.array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))
