"""The single-file PPO: its arithmetic, and that it learns where there is something to see."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toy_world import ToyWorld

from sana_wm_gym import cli
from sana_wm_gym.agents import ppo_latent
from sana_wm_gym.agents.training.learner import RandomPolicy
from sana_wm_gym.camera import MotionLimits
from sana_wm_gym.envs import SanaWMVectorEnv
from sana_wm_gym.envs.tasks import ImageGoal
from sana_wm_gym.world.world_model import WorldSpec

SPEC = WorldSpec(
    name="toy",
    height=8,
    width=8,
    fps=16.0,
    frames_per_chunk=24,
    latent_shape=(4, 2, 2),
    intrinsics=(8.0, 8.0, 4.0, 4.0),
    limits=MotionLimits(),
    scenes=(0,),
)


def toy_env(rows: int, task="image_goal"):
    return SanaWMVectorEnv(
        rows, ToyWorld(SPEC, decodes=False), task=task, observation=("latent",), as_torch=True
    )


def rollout(values, rewards, terminated, over):
    """One world's rollout as `advantages` takes it."""
    columns = (torch.tensor(part)[:, None] for part in (values, rewards, terminated, over))
    values, rewards, terminated, over = columns
    rest = dict.fromkeys(("views", "actions", "log_probs", "idle"), torch.zeros(0))
    return ppo_latent.LatentRollout(
        values=values, rewards=rewards, terminated=terminated, over=over, **rest
    )


def test_advantages_are_returns_less_values_where_lambda_is_one():
    """Goal after two steps; a step that only begins; cut short after two more; runs on."""
    values = [0.5, 0.25, 9.0, 0.3, 0.1, 0.7, 0.2, 0.4]
    rewards = [1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 5.0]
    ended = [False, True, False, False, False, False, False]
    over = [False, True, False, False, True, False, False]
    gamma = 0.5
    got = ppo_latent.advantages(rollout(values, rewards, ended, over), gamma, 1.0)[:, 0].tolist()
    assert got[0] == pytest.approx(1 + gamma * 2 - 0.5)  # nothing after the goal
    assert got[1] == pytest.approx(2 - 0.25)
    assert got[3] == pytest.approx(3 + gamma * (4 + gamma * 0.7) - 0.3)  # the last view's value
    assert got[4] == pytest.approx(4 + gamma * 0.7 - 0.1)
    assert got[6] == pytest.approx(5 + gamma * 0.4 - 0.2)
    # Where lambda is 0 each is one TD error.
    short = ppo_latent.advantages(rollout(values, rewards, ended, over), gamma, 0.0)[:, 0].tolist()
    assert short[3] == pytest.approx(3 + gamma * 0.1 - 0.3)
    assert short[1] == pytest.approx(2 - 0.25)


def test_idle_steps_teach_nothing():
    """Whatever is in a step that only began an episode, the improved policy is the same."""
    torch.manual_seed(0)
    settings = ppo_latent.LatentPPOConfig(update_epochs=2, num_minibatches=2)
    steps, worlds = 6, 3
    views = torch.randn(steps + 1, worlds, 8, 2, 2)
    idle = torch.zeros(steps, worlds, dtype=torch.bool)
    idle[2, 1] = True
    over = idle.roll(-1, 0)
    numbers = [torch.randn(steps, worlds) for _ in range(2)]
    values, actions = torch.randn(steps + 1, worlds), torch.randn(steps, worlds, 5)

    def improved(junk: float) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        policy = ppo_latent.LatentPolicy((4, 2, 2), 5, settings)
        seen, drawn, rewards = views.clone(), actions.clone(), numbers[1].clone()
        seen[2, 1], drawn[2, 1], rewards[2, 1] = junk, junk, junk
        known = values.clone()
        known[2, 1] = 0.0  # the terminal view's own value, which does count
        data = ppo_latent.LatentRollout(seen, known, drawn, numbers[0], rewards, over, over, idle)
        optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
        ppo_latent.update(policy, optimizer, data, settings)
        return policy.state_dict()

    one, other = improved(0.0), improved(7.0)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_policy_looks_at_the_leading_channels_of_view_and_goal():
    settings = ppo_latent.LatentPPOConfig(channels=3)
    policy = ppo_latent.LatentPolicy((4, 2, 2), 5, settings)
    latent, goal = torch.randn(2, 16), torch.randn(2, 16)
    seen = policy.views({"latent": latent, "goal": goal})
    assert seen.shape == (2, 6, 2, 2)
    assert torch.equal(seen[1, :3], latent[1].reshape(4, 2, 2)[:3])
    assert torch.equal(seen[1, 3:], goal[1].reshape(4, 2, 2)[:3])
    assert (
        ppo_latent.LatentPolicy((4, 2, 2), 5, ppo_latent.LatentPPOConfig(channels=12)).channels == 4
    )
    actions, _ = policy.predict({"latent": 1e3 * latent.numpy(), "goal": goal.numpy()})
    assert actions.shape == (2, 5) and abs(actions).max() <= 1


def test_it_learns_where_latents_hold_the_pose():
    """Two thousand steps beat random actions by far; nothing is decoded on the way."""
    env = toy_env(16, ImageGoal(chunks=(1,), success_distance_m=0.5))
    settings = ppo_latent.LatentPPOConfig(total_timesteps=2000, seed=1)
    updates = []
    policy = ppo_latent.learn(env, settings, lambda policy, log: updates.append(log.steps))
    assert updates == sorted(set(updates)) and updates[-1] >= 2000
    random = RandomPolicy(env.single_action_space, 0)
    by_random, learned, again = (
        ppo_latent.evaluate(env, one, 48).summary()["is_success"]
        for one in (random, policy, policy)
    )
    assert learned.low > by_random.high
    assert learned == again  # the same goals each time


def test_log_rows_add_up():
    env = toy_env(3)
    logs = []
    settings = ppo_latent.LatentPPOConfig(num_envs=3, total_timesteps=90, num_steps=20)
    ppo_latent.learn(env, settings, lambda policy, log: logs.append(log))
    rows, log = logs[-1].rows, logs[-1]
    assert sum(row["length"] for row in rows) <= log.steps < sum(r["length"] for r in rows) + 24
    assert all(1 <= row["length"] <= 8 and (row["length"] == 8 or row["success"]) for row in rows)
    assert all((row["spl"] > 0) == bool(row["success"]) for row in rows)


@pytest.fixture
def small(monkeypatch):
    """The command, in the toy world."""
    monkeypatch.setattr(
        ppo_latent,
        "SanaWMVectorEnv",
        lambda rows, world, **rest: SanaWMVectorEnv(rows, ToyWorld(SPEC, decodes=False), **rest),
    )
    return ["--total-timesteps", "60", "--num-envs", "4", "--num-steps", "8", "--episodes", "6"]


def test_the_command_writes_its_files_and_twice_the_same(small, tmp_path, capsys):
    for name in ("one", "two"):
        assert ppo_latent.main([*small, "--out", str(tmp_path / name), "--seed", "2"]) == 0
    assert ppo_latent.main([*small, "--out", str(tmp_path / "other"), "--seed", "3"]) == 0
    assert "held-out goals" in capsys.readouterr().out
    files = {path.name for path in (tmp_path / "one").glob("[!.]*")}
    assert files == {"episodes.csv", "policy.safetensors", "summary.json"}
    for name in ("episodes.csv", "policy.safetensors"):
        one, two, other = ((tmp_path / run / name).read_bytes() for run in ("one", "two", "other"))
        assert one == two != other
    with (tmp_path / "one" / "episodes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and set(rows[0]) == {"step", "env_index", "length", "return", "spl", "success"}
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    settings = ppo_latent.LatentPPOConfig(**summary["settings"])
    assert settings.seed == 2
    assert 0 <= summary["policy"]["low"] <= summary["policy"]["success"] <= 1
    policy = ppo_latent.LatentPolicy((4, 2, 2), 3, settings)
    policy.load_state_dict(load_file(tmp_path / "one" / "policy.safetensors"))
    assert isinstance(policy, nn.Module)


def test_help_explains_settings(capsys):
    with pytest.raises(SystemExit) as end:
        ppo_latent.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for word in ("--channels", "--num-envs", "--gae-lambda", "leading latent channels", "(0.5)"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--total-timesteps", "0"], "total_timesteps is 0, expected 1"),
        (["--gamma", "1.5"], "gamma is 1.5, expected 0 to 1"),
        (["--seed", "-1"], "seed is -1, expected 0 to 999"),
        (["--world", "nowhere"], "unknown world 'nowhere'"),
        (["--world", "procedural"], "cannot be observed as ['latent']"),
    ],
)
def test_bad_settings_are_one_line(arguments, message, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["ppo-latent", *arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists()
