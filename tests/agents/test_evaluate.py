"""Evaluations: the same episodes for every policy and world, and intervals that mean something."""

from __future__ import annotations

import io
import json
import sys
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

from hydra import compose, initialize_config_dir
from rich.console import Console
from scipy import stats

from agents.evaluate import evaluate
from agents.train import train
from agents.training.algorithms import PPO, Network, Random, RandomPolicy
from agents.training.command import CONF, run_command
from agents.training.config import EnvSettings, EvaluateConfig, EvaluationSettings
from agents.training.environments import make_rows
from agents.training.evaluation import Evaluation, evaluate_policy
from agents.training.intervals import estimate
from agents.training.learning import trained_policy
from agents.training.saved_run import known_targets, open_run
from agents.training.worlds import draw_start, open_world
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.tasks import ImageGoal
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

WORLD = ProceduralWorld(size=(16, 16), scenes=(8,), start_radius=0.7)
TASK = ImageGoal(horizon=3)
AGENT = PPO(
    action_mode="continuous",
    rollout=4,
    batch_size=8,
    epochs=1,
    network=Network(features=8, layers=(8,)),
)
SETTINGS = EvaluationSettings(rows=2, videos=0, seed=5)


class Steady:
    """Always the same motion; does not ask who is looking."""

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
        return np.tile(np.float32([0.3, 0, 0, 0, 0.7]), (len(observation["frame"]), 1)), None


@pytest.fixture(scope="module")
def rows() -> Any:
    return make_rows(WORLD, TASK, AGENT, EnvSettings(), 2)


def judge(policy: Any, place: Any, episodes: int, **changes: Any) -> Evaluation:
    settings = replace(SETTINGS, **changes)
    return evaluate_policy(policy, place.simulation, settings, episodes, WORLD)


def test_an_evaluation_is_what_the_environment_would_say(rows: Any) -> None:
    found = judge(Steady(), rows, 3).episodes
    env = SanaWMEnv(WORLD, task=TASK)
    for result in found:
        env.reset(seed=result.seed, options={"start": draw_start(WORLD, result.seed)})
        rewards, over, info = [], False, {}
        while not over:
            action = np.float32([0.3, 0, 0, 0, 0.7])
            _, reward, terminated, truncated, info = env.step(action)
            rewards.append(reward)
            over = terminated or truncated
        assert result.ret == pytest.approx(sum(rewards), abs=1e-12)
        assert result.length == len(rewards)
        assert dict(result.info) == {name: info[name] for name in result.info}


def test_episodes_do_not_depend_on_their_batch(rows: Any) -> None:
    assert judge(Steady(), rows, 3, rows=1) == judge(Steady(), rows, 3, rows=3)
    # The first of many episodes are those of a few.
    assert judge(Steady(), rows, 2).episodes == judge(Steady(), rows, 3).episodes[:2]


def test_nothing_random_is_left_over(rows: Any) -> None:
    learner = AGENT.build(rows.env, 0, "cpu")
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    drawn = judge(learner, rows, 2, deterministic=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.manual_seed(4)
    assert judge(learner, rows, 2, deterministic=False) == drawn
    assert judge(learner, rows, 2) != drawn


def test_chance_is_a_function_of_its_seed(rows: Any) -> None:
    one, same, other = (
        judge(RandomPolicy(rows.env.action_space, seed), rows, 2) for seed in (0, 0, 1)
    )
    assert one == same != other


def test_a_world_and_its_twin_set_the_same_episodes() -> None:
    """Same starts, same hidden walks to the goal; only the pictures are the world's own."""
    tiny, truth = open_world("tiny"), open_world("twin")
    rows = [make_rows(world, TASK, AGENT, EnvSettings(), 1) for world in (tiny, truth)]
    for seed in (0, 1):
        starts = [draw_start(world, seed) for world in (tiny, truth)]
        assert np.array_equal(starts[0].image, starts[1].image)
        assert np.array_equal(starts[0].scene_c2w, starts[1].scene_c2w)
        goals = [
            row.simulation.begin([{"start": starts[0]}], [np.random.default_rng(seed)])[0].task
            for row in rows
        ]
        assert np.array_equal(goals[0].c2w, goals[1].c2w)
        assert not np.array_equal(goals[0].picture, goals[1].picture)


def test_an_evaluation_survives_json(rows: Any) -> None:
    found = judge(Steady(), rows, 2)
    assert Evaluation.of(json.loads(json.dumps(found.document()))) == found


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_interval_of_a_share_holds_it_and_stays_a_share(values: list[bool]) -> None:
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


def test_one_number_says_nothing_of_its_spread() -> None:
    found = estimate([2.5])
    assert (found.mean, found.low, found.high, found.count) == (2.5, None, None, 1)
    assert str(found) == "2.5"
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
        "agent.rollout=4",
        "agent.batch_size=4",
        "agent.epochs=1",
        "agent.network.features=8",
        "evaluation.episodes=1",
        "evaluation.last_episodes=2",
        "evaluation.videos=0",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert train(compose("agents", overrides)) == 0
    return folder


def settings_of(checkpoint: Path, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = [f"checkpoint={checkpoint}", "episodes=2", "videos=1", "place=null", *overrides]
        return compose("evaluate", given)


def test_a_saved_policy_plays_as_it_did(trained: Path) -> None:
    last = json.loads((trained / "evaluation.json").read_text())
    [checkpoint] = (trained / "checkpoints").iterdir()
    for where in (trained, checkpoint):
        assert evaluate(settings_of(where)) == 0
        again = json.loads((trained / "evaluations" / "own" / "evaluation.json").read_text())
        assert again["episodes"] == last["episodes"]
        assert again["checkpoint"] == checkpoint.name
    assert (trained / "evaluations" / "own" / "videos" / "episode-10000.mp4").is_file()


def test_a_policy_moves_to_another_world(trained: Path, tmp_path: Path) -> None:
    assert evaluate(settings_of(trained, "world=tiny", f"folder={tmp_path}")) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert (found["world"], found["starts_from"]) == ("tiny", "twin")
    run = open_run(trained)
    policy, simulation = trained_policy(run, ProceduralWorld(size=(32, 48)))
    with pytest.raises(ValueError, match="first frame"):
        evaluate_policy(policy, simulation, SETTINGS, 1, run.config.world)


def test_settings_that_name_strange_code_are_not_run(trained: Path) -> None:
    text = (trained / "config.yaml").read_text()
    changed = text.replace("agents.training.worlds.open_world", "os.system")
    assert changed != text and "os.system" not in known_targets()
    (trained / "config.yaml").write_text(changed)
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
        other = replace(run.config, agent=replace(run.config.agent, network=Network(features=9)))
        file.write_bytes(whole)
        with pytest.raises(ValueError, match="other networks"):
            trained_policy(replace(run, config=other))
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "overrides", [[], ["checkpoint=nowhere"], ["checkpoint=x", "episodes=0"], ["agent=ppo"]]
)
def test_a_wrong_setting_is_one_line_and_status_2(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *overrides])
    with pytest.raises(SystemExit) as stop:
        run_command("evaluate", evaluate)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def test_settings_of_an_evaluation() -> None:
    wanted = EvaluateConfig("run", episodes=3, seed=4, rows=5, videos=6, deterministic=False)
    assert wanted.settings.last_episodes == 3
    with pytest.raises(ValueError, match="rows=0"):
        EvaluateConfig("run", rows=0)


def test_a_table_is_shown(rows: Any) -> None:
    console = Console(record=True, width=80, file=io.StringIO())
    judge(Steady(), rows, 2).show(console, "title")
    text = console.export_text()
    assert "is_success" in text and "title" in text


def test_chance_acts_by_the_seed_of_its_run(trained: Path) -> None:
    run = open_run(trained)

    def actions(seed: int) -> np.ndarray:
        config = replace(run.config, agent=Random(), seed=seed)
        policy, simulation = trained_policy(replace(run, config=config))
        views = {n: box.sample()[None] for n, box in simulation.observation_space.spaces.items()}
        return np.concatenate([policy.predict(views)[0] for _ in range(3)])

    assert np.array_equal(actions(1), actions(1))
    assert not np.array_equal(actions(1), actions(2))
