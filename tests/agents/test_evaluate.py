"""Evaluations: the same episodes for every policy and world, and intervals that mean something."""

from __future__ import annotations

import json
import pkgutil
import re
import shutil
import sys
import textwrap
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
from scipy import stats
from small_runs import QUIET, SMALL, WORLD
from stable_baselines3 import PPO

from sana_wm_gym.agents.evaluate import evaluate
from sana_wm_gym.agents.policy import load_policy, trained_policy
from sana_wm_gym.agents.train import train
from sana_wm_gym.agents.training.config import TrainAgentConfig
from sana_wm_gym.agents.training.learner import RandomPolicy, build_learner, make_env
from sana_wm_gym.agents.training.run_folder import open_run
from sana_wm_gym.agents.training.saved_settings import KNOWN
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.tasks import ImageGoal
from sana_wm_gym.evaluation.episodes import (
    Evaluation,
    draw_start,
    evaluate_policy,
    play_episode,
    read_evaluation,
)
from sana_wm_gym.evaluation.intervals import estimate
from sana_wm_gym.files import write_json
from sana_wm_gym.hydra_settings import CONF, conf_folder, instantiated
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

TASK = ImageGoal(max_episode_steps=3)


class Steady:
    """Always the same motion; ignores what it observes."""

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
        return np.tile(np.float32([0.3, 0, 0, 0, 0.7]), (len(observation["frame"]), 1)), None


def env_of(world: Any, num_envs: int = 2) -> Any:
    env = {"action_mode": "continuous"}
    return make_env(TrainAgentConfig(world, "x", SMALL, TASK, env=env, num_envs=num_envs))


@pytest.fixture(scope="module")
def env() -> Any:
    return env_of(WORLD)


def evaluation_of(policy: Any, env: Any, episodes: int, **changes: Any) -> Evaluation:
    simulation = env.vector_env.simulation
    settings = {"batch_size": 2, **changes}
    return evaluate_policy(policy, simulation, range(5, 5 + episodes), WORLD, **settings)


def test_an_evaluation_is_what_the_environment_returns(env: Any) -> None:
    single = SanaWMEnv(WORLD, task=TASK)
    for result in evaluation_of(Steady(), env, 3).episodes:
        options = {"start": draw_start(WORLD, result.seed)}
        action = np.float32([0.3, 0, 0, 0, 0.7])
        played = play_episode(single, lambda _: action, result.seed, options)  # noqa: B023
        assert result.episode_return == pytest.approx(played.episode_return, abs=1e-12)
        assert result.length == played.length
        assert dict(result.info) == {name: played.info[name] for name in result.info}


def test_episodes_do_not_depend_on_their_batch(env: Any) -> None:
    assert evaluation_of(Steady(), env, 3, batch_size=1) == evaluation_of(
        Steady(), env, 3, batch_size=3
    )
    # The first of many episodes are those of a few.
    assert evaluation_of(Steady(), env, 2).episodes == evaluation_of(Steady(), env, 3).episodes[:2]


def test_nothing_random_is_left_over(env: Any) -> None:
    learner = build_learner(SMALL, env, 0, "cpu")
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    drawn = evaluation_of(learner, env, 2, deterministic=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.manual_seed(4)
    assert evaluation_of(learner, env, 2, deterministic=False) == drawn
    assert evaluation_of(learner, env, 2) != drawn


def test_a_random_policy_is_a_function_of_its_seed(env: Any) -> None:
    one, same, other = (
        evaluation_of(RandomPolicy(env.action_space, seed), env, 2) for seed in (0, 0, 1)
    )
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


def test_an_evaluation_survives_json(env: Any, tmp_path: Path) -> None:
    found, path = evaluation_of(Steady(), env, 2), tmp_path / "evaluation.json"
    write_json(path, found.document())
    assert read_evaluation(path) == found
    whole = json.loads(path.read_text())
    for episodes in ([], [7], [{}], [{**whole["episodes"][0], "length": "x"}], None):
        path.write_text(json.dumps({**whole, "episodes": episodes}))
        with pytest.raises(ValueError, match=r"evaluation\.json"):
            read_evaluation(path)


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
        "task.max_episode_steps=1",
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
        given = [f"checkpoint={checkpoint}", "episodes=2", "videos=1", *overrides]
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


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that appears when `harm` is imported; it has a function, a class and a world."""
    path = tmp_path / "marker"
    code = f"""
        from pathlib import Path
        from sana_wm_gym.agents.extractors import CoarseViews
        from sana_wm_gym.world.catalogue import load_world as load
        Path({str(path)!r}).touch()
        world = load("twin")
    """
    (tmp_path / "harm.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "harm", raising=False)
    return path


@pytest.mark.parametrize(
    ("known", "other"),
    [
        ('"sana_wm_gym.world.catalogue.load_world"', '"harm.load"'),  # called
        ('"sana_wm_gym.agents.extractors.CoarseViews"', '"harm.CoarseViews"'),  # looked up
        ('"name": "twin"', '"name": "harm:world"'),  # a world that is code
        ('"eval_every": 2560', '"eval_every": "${oc.create:{_target_: harm.load}}"'),
    ],
)
def test_code_that_a_run_names_is_imported_with_trust_alone(
    known: str, other: str, trained: Path, tmp_path: Path, marker: Path, capsys: Any
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    text = file.read_text()
    assert known in text
    file.write_text(text.replace(known, other))
    with pytest.raises(ValueError, match=r"settings of .* are refused: "):
        load_policy(tmp_path / "run")
    assert not marker.exists()
    if "oc.create" in other:  # text, whether trusted or not
        with pytest.raises(ValueError, match="eval_every is"):
            load_policy(tmp_path / "run", trust=True)
        assert not marker.exists()
        return
    load_policy(tmp_path / "run", trust=True)
    assert marker.exists()
    [name] = re.findall(r"harm[.:]\w+", other)
    assert capsys.readouterr().err.count(f"trust=true imports {name}") == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"seed": 0', '"sead": 0'),
        lambda text: text.replace('"num_envs": 1', '"num_envs": "many"'),
        lambda text: " " * 2_000_000 + text,
    ],
)
def test_damaged_settings_are_one_error(damage: Any, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    file.write_text(damage(file.read_text()))
    with pytest.raises(ValueError, match=str(tmp_path / "run")):
        load_policy(tmp_path / "run")


def test_saved_settings_are_rebuilt_from_every_choice_of_conf() -> None:
    """What training can be given by name, and nothing that runs other code."""
    named = set()
    for group in ("world", "task", "agent"):
        for path in (conf_folder() / group).glob("*.yaml"):
            named |= set(re.findall(r"(?:_target_|path): ([\w.]+)", path.read_text()))
    assert named - KNOWN == {"hydra.utils.get_class"}
    assert all(map(pkgutil.resolve_name, KNOWN))


def test_a_policy_trained_on_a_gpu_acts_without_one(trained: Path) -> None:
    run = open_run(trained)
    elsewhere = replace(run, config=replace(run.config, device="cuda:99"))
    assert trained_policy(elsewhere)[0] is not None
    with pytest.raises(ValueError, match="device is 'cuda:99'"):
        load_policy(trained, device="cuda:99")


def test_a_policy_loads_in_two_lines(trained: Path) -> None:
    policy = load_policy(trained)
    env = SanaWMEnv("twin", task="image_goal", action_mode="planar", observation=("frame",))
    observation, _ = env.reset(seed=1)
    action, _ = policy.predict(observation, deterministic=True)
    assert env.action_space.contains(action)
    batch = {name: part[None] for name, part in observation.items()}
    assert np.array_equal(policy.predict(batch, deterministic=True)[0], action[None])
    exported = PPO.load(trained / "policy.zip", device="cpu")
    assert np.array_equal(exported.predict(observation, deterministic=True)[0], action)


def test_a_damaged_checkpoint_is_named(trained: Path) -> None:
    run = open_run(trained)
    assert run.checkpoint is not None
    file = run.checkpoint / "learner.safetensors"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match="damaged"):
            trained_policy(run)
        file.write_bytes(b"")
        with pytest.raises(ValueError, match=r"learner\.safetensors is truncated, damaged"):
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
        view = simulation.observation_space.sample()
        batch = {name: part[None] for name, part in view.items()}
        return np.stack([policy.predict(view)[0], policy.predict(batch)[0][0]])

    assert np.array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))
