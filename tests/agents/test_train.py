"""Training runs: what they leave, how they go on after a stop, and what they refuse."""

from __future__ import annotations

import csv
import inspect
import json
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("stable_baselines3")
pytest.importorskip("hydra")

from functools import partial

from hydra import compose, initialize_config_module
from rich.console import Console
from stable_baselines3 import DQN, PPO, SAC, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm

from sana_wm_gym import cli
from sana_wm_gym.agents.extractors import CoarseViews
from sana_wm_gym.agents.training.config import EvaluationConfig, TrainAgentConfig
from sana_wm_gym.agents.training.learner import RandomPolicy, build_learner, make_env
from sana_wm_gym.agents.training.learning import learn
from sana_wm_gym.agents.training.loggers import CsvTable, Tensorboard, Wandb, read_rows
from sana_wm_gym.envs.tasks import TASKS, ImageGoal, Sparse, ThumbnailGoal
from sana_wm_gym.hydra_settings import CONF, conf_folder, instantiated
from sana_wm_gym.video import probe
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

WORLD = ProceduralWorld(size=(16, 16), scenes=(8,), start_radius=0.7)
TASK = ImageGoal(horizon=2, chunks=(1,))
NETWORK = {
    "net_arch": [8],
    "features_extractor_class": CoarseViews,
    "features_extractor_kwargs": {"features_dim": 8},
}
SMALL = partial(PPO, n_steps=4, batch_size=8, n_epochs=1, policy_kwargs=NETWORK)
JUDGED = EvaluationConfig(episodes=2, batch_size=2, videos=0)
QUIET = Console(quiet=True)


def config(folder: Path, **changes: Any) -> TrainAgentConfig:
    values: dict[str, Any] = {
        "agent": SMALL,
        "task": TASK,
        "num_envs": 2,
        "steps": 32,
        "evaluation": JUDGED,
    }
    values |= {"eval_episodes": 2, "eval_every": 16, **changes}
    return TrainAgentConfig(WORLD, str(folder), **values)


def run(folder: Path, **changes: Any) -> bytes:
    """Metrics of a run of the small world, from where it stands to its end."""
    learn(config(folder, **changes), {"run": "small"}, "", QUIET)
    return (folder / "metrics.csv").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, evaluation=replace(JUDGED, videos=1))
    return folder


def test_a_run_leaves_what_it_promises(whole: Path) -> None:
    with (whole / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["timesteps"]) for row in rows] == [0, 8, 16, 24, 32]
    assert [row["eval/return"] != "" for row in rows] == [True, False, True, False, True]
    assert all(row["train/loss"] for row in rows[1:])
    # Two rows of two chunks each: four episodes in every rollout of 2 x 4 steps, fewer if a goal
    # is reached early, never less than two.
    episodes = [int(row["episodes"]) for row in rows]
    assert all(after - before >= 2 for before, after in zip(episodes, episodes[1:], strict=False))
    document = json.loads((whole / "metrics.json").read_text())
    assert document["rows"] == read_rows(whole / "metrics.csv")
    assert {"command", "commit", "device", "date", "run"} <= document.keys()
    assert not any(name.endswith("_s") for name in rows[0])  # no clocks among what is compared
    last = json.loads((whole / "evaluation.json").read_text())
    assert [one["seed"] for one in last["episodes"]] == [10000, 10001]
    [video] = (whole / "videos" / "last").iterdir()
    assert probe(video).frames == 1 + 24 * last["episodes"][0]["length"]
    assert len(list((whole / "checkpoints").iterdir())) == 1
    # The export is stable-baselines3's own and acts like the run's policy.
    assert PPO.load(whole / "policy.zip", device="cpu").num_timesteps == 32


def test_a_finished_run_is_not_run_again(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    run(whole, evaluation=replace(JUDGED, videos=1))
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_hindsight_needs_goals_that_can_be_swapped(tmp_path: Path) -> None:
    agent = partial(
        SAC,
        learning_starts=8,
        batch_size=4,
        buffer_size=100,
        replay_buffer_class=HerReplayBuffer,
        policy_kwargs=NETWORK,
    )
    env = {"action_mode": "continuous"}
    with pytest.raises(ValueError, match="image_goal_her"):
        run(tmp_path / "refused", agent=agent, env=env)
    task = ThumbnailGoal(walk=TASK)
    hindsight = config(tmp_path, agent=agent, steps=12, env=env, task=task)
    evaluation = learn(hindsight, {}, "", QUIET)
    assert evaluation.task == "image_goal_her"


def test_a_random_policy_leaves_a_run_too(tmp_path: Path) -> None:
    run(tmp_path, agent=partial(RandomPolicy))
    [row] = read_rows(tmp_path / "metrics.csv")
    assert row["timesteps"] == 0 and row["eval/return"] is not None
    assert (tmp_path / "evaluation.json").is_file()


def test_folders_do_not_mix_runs(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    with pytest.raises(ValueError, match='run was "small", now "other"'):
        learn(config(whole), {"run": "other"}, "", QUIET)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


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
        *(("train", wrong) for wrong in ("foo=1", "agent=nobody", "world=nowhere", "task.near=-1")),
        ("train", "agent.gama=2"),
        ("train", "agent.gamma=2"),
        ("train", "launcher=joblib"),
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
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


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


@settings(max_examples=15)
@given(
    st.lists(st.dictionaries(st.sampled_from("xyz"), st.floats(allow_nan=False)), min_size=1),
    st.data(),
)
def test_a_table_cut_back_and_written_again_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, float]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("table")
    table = CsvTable(folder / "a.csv")
    states = [table.state]
    for row in rows:
        table.write({"step": 1, **row})
        states.append(table.state)
    kept = data.draw(st.integers(0, len(rows)))
    (folder / "b.csv").write_bytes((folder / "a.csv").read_bytes() + b"1,")
    again = CsvTable(folder / "b.csv", *states[kept])
    for row in rows[kept:]:
        again.write({"step": 1, **row})
    assert (folder / "b.csv").read_bytes() == (folder / "a.csv").read_bytes()


def test_events_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    sink = Tensorboard().open(tmp_path, {}, 0)
    sink.write({"return": 1.0}, {"return": None}, 3)
    sink.close()
    assert list((tmp_path / "tensorboard").iterdir())


class FakeWandb:
    """Remembers what it is told."""

    Settings = dict

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.rows: list[Any] = []

    def init(self, **asked: Any) -> FakeWandb:
        self.asked = asked
        return self

    def log(self, row: Any, step: int) -> None:
        self.rows.append((step, row))

    def finish(self) -> None: ...


def test_wandb_stays_offline_and_goes_on_with_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    sink = Wandb().open(tmp_path, {"seed": 0}, 0)
    sink.write({"return": 1.0}, {}, 8)
    assert fake.asked["mode"] == "offline" and fake.rows == [(8, {"return": 1.0})]
    first = fake.asked["id"]
    Wandb().open(tmp_path, {"seed": 0}, 8)
    assert fake.asked["id"] == first
    Wandb().open(tmp_path, {"seed": 1}, 0)
    assert fake.asked["id"] != first


@pytest.mark.parametrize(
    ("logger", "module"),
    [(Wandb(), "wandb"), (Tensorboard(), "torch.utils.tensorboard")],
)
def test_a_missing_package_says_what_to_install(
    logger: Any, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install sana_wm_gym\[agents\]"):
        logger.open(tmp_path, {}, 0)
