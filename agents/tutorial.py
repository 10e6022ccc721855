"""From `gym.make` to a video of a trained policy, in about a minute on one core.

The task is `Inspect`: walk around a point, keep the distance, keep looking at it. Its reward is
geometry, so the policy is trained where steps are cheapest, in the ground-truth twin of the world
with nothing rendered, some 600 steps a second. Then it acts in the learned world, and every frame
is recorded there. Learning from pixels takes longer: docs/training_agents.md.

    sana-wm tutorial                          # writes outputs/tutorial
    sana-wm tutorial --steps 2000 --world procedural

Writes OUT/video/episode-0000.mp4 (every frame of one orbit) and OUT/summary.json: how far around
the point the policy came in held-out episodes of the twin, in degrees of the 180 wanted, next to
random actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console
from stable_baselines3 import PPO

from sana_wm_gym.envs import ChunkVideoRecorder, SanaWMVectorEnv
from sana_wm_gym.envs.sb3 import SanaWMVecEnv
from sana_wm_gym.evaluation.episodes import Policy, evaluate_policy, play_episode
from sana_wm_gym.files import write_json
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.tables import progress
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.world_model import WorldModel

from .training.learner import RandomPolicy

ID = "SanaWM/Inspect-v0"
HELD_OUT = 1_000_000
"""First seed of the held-out episodes."""


def first_step(world: WorldModel[Any]) -> tuple[Any, dict[str, Any]]:
    """Observation and info after one random step: the whole interface."""
    env = gym.make(ID, world=world)
    env.action_space.seed(0)
    env.reset(seed=0)
    observation, _, _, _, info = env.step(env.action_space.sample())
    env.close()
    return observation, info


def make_env(world: WorldModel[Any], num_envs: int) -> SanaWMVecEnv:
    """Sub-environments that share a batch. No frame is observed, so none is rendered."""
    return SanaWMVecEnv(SanaWMVectorEnv(num_envs, world, task="inspect", observation=("pose",)))


def train(env: SanaWMVecEnv, steps: int, seed: int, console: Console) -> PPO:
    """A policy after so many steps of all sub-environments together."""
    env.seed(seed)
    model = PPO(
        "MultiInputPolicy",
        env,
        learning_rate=lambda left: 3e-3 * left,
        n_steps=8,
        batch_size=64,
        gamma=0.6,  # a step's reward follows from the last few actions
        gae_lambda=0.9,
        policy_kwargs={"net_arch": [32], "log_std_init": -0.7},
        seed=seed,
        device="cpu",
    )
    with progress(console) as bars:
        bar = bars.add_task("training", total=steps)

        def advance(variables: dict[str, Any], _: dict[str, Any]) -> bool:
            bars.update(bar, completed=variables["self"].num_timesteps)
            return True

        return model.learn(steps, callback=advance)


def evaluate(env: SanaWMVecEnv, policy: Policy, episodes: int = 16) -> dict[str, float]:
    """Mean orbit and success rate over held-out episodes."""
    simulation = env.vector_env.simulation
    seeds = range(HELD_OUT, HELD_OUT + episodes)
    summary = evaluate_policy(policy, simulation, seeds, simulation.world).summary()
    return {
        "episodes": episodes,
        "orbit_deg": round(summary["orbit_deg"].mean, 1),
        "success": round(summary["is_success"].mean, 3),
    }


def record(world: WorldModel[Any], policy: Policy, seed: int, folder: Path) -> dict[str, float]:
    """Record every frame of one episode; returns where it ended."""
    bare = gym.make(ID, world=world, observation=("pose",), render_mode="rgb_array_list")
    env = ChunkVideoRecorder(bare, folder)

    def act(observation: Any) -> Any:
        batch = {name: part[None] for name, part in observation.items()}
        return np.asarray(policy.predict(batch, deterministic=True)[0][0], np.float32)

    result = play_episode(env, act, seed)
    env.close()
    return {"chunks": result.length, "orbit_deg": round(result.info["orbit_deg"], 1)}


def run(world: WorldModel[Any], steps: int, seed: int, out: Path, console: Console) -> None:
    """Take a first step, train, evaluate, record."""
    observation, info = first_step(world)
    shapes = {name: part.shape for name, part in observation.items()}
    console.print(f"an observation is {shapes}; info has {', '.join(sorted(info))}")
    env = make_env(ProceduralWorld.twin(world.spec), 16)
    policy = train(env, steps, seed, console)
    summary = {
        "steps": policy.num_timesteps,
        "random": evaluate(env, RandomPolicy(env.action_space, seed)),
        "policy": evaluate(env, policy),
        f"recorded in {world.spec.name}": record(world, policy, HELD_OUT, out / "video"),
    }
    env.close()
    write_json(out / "summary.json", summary)
    for name, figures in summary.items():
        console.print(f"{name}: {figures}")
    console.print(f"wrote {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = FlagParser("sana-wm tutorial", __doc__)
    parser.add_argument("--world", default="tiny", help="world to act in at the end (tiny)")
    parser.add_argument("--steps", type=int, default=20_000, help="training steps (20000)")
    parser.add_argument("--seed", type=int, default=0, help="of policy and training (0)")
    parser.add_argument("--out", type=Path, default=Path("outputs/tutorial"), help="folder")
    given = parser.parse_args(arguments)
    if given.steps < 1 or not 0 <= given.seed < 2**31:
        parser.error("expected --steps of at least 1 and --seed from 0 to 2^31 - 1")
    run(load_world(given.world), given.steps, given.seed, given.out, Console())
    return 0
