"""From `gym.make` to a trained policy's film, in about a minute on one core.

The task is `Inspect`: walk round a point, keep your distance, keep looking at it. Its reward is
geometry, so the policy practises where steps are cheapest, in the ground-truth twin of the world
with nothing drawn, some 600 steps a second. Then it acts in the learned world, where every frame is
dreamt, and is filmed there. Learning from pixels takes longer: docs/training_agents.md.

    python -m agents.tutorial                          # writes outputs/tutorial
    python -m agents.tutorial --steps 2000 --world procedural

Writes OUT/film/episode-0000.mp4 (every frame of one orbit) and OUT/summary.json: how far round the
policy came in held-out episodes of the twin, in degrees of the 180 asked, beside random actions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from sana_wm_gym.envs import ChunkVideoRecorder, SanaWMVectorEnv
from sana_wm_gym.envs.sb3 import SanaWMVecEnv
from sana_wm_gym.files import write_json
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.world_model import WorldModel

ID = "SanaWM/Inspect-v0"
HELD_OUT = 1_000_000
"""First seed of the episodes that a policy is judged on."""

Act = Callable[[Any], npt.NDArray[np.float32]]
"""A batch of observations -> a batch of actions."""


def look_around(world: WorldModel[Any]) -> tuple[Any, dict[str, Any]]:
    """What an environment says after one random step. Nobody needs more to begin with."""
    env = gym.make(ID, world=world)
    env.action_space.seed(0)
    env.reset(seed=0)
    observation, _, _, _, info = env.step(env.action_space.sample())
    env.close()
    return observation, info


def make_rows(world: WorldModel[Any], rows: int) -> SanaWMVecEnv:
    """Environments that learn together. No frame is part of what they see, so none is drawn."""
    return SanaWMVecEnv(SanaWMVectorEnv(rows, world, task="inspect", observation=("pose",)))


def practise(env: SanaWMVecEnv, steps: int, seed: int, console: Console) -> PPO:
    """A policy after so many steps of all rows together."""
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
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("practising", total=steps)

        class Watch(BaseCallback):
            def _on_step(self) -> bool:
                progress.update(bar, completed=self.num_timesteps)
                return True

        return model.learn(steps, callback=Watch())


def judge(env: SanaWMVecEnv, act: Act) -> dict[str, float]:
    """Mean orbit and share of whole orbits, over one held-out episode per row."""
    env.seed(HELD_OUT)
    observation: Any = env.reset()
    degrees, running = np.zeros(env.num_envs), np.ones(env.num_envs, dtype=bool)
    success = np.zeros(env.num_envs, dtype=bool)
    while running.any():
        observation, _, over, infos = env.step(act(observation))
        degrees = np.where(running, [info["orbit_deg"] for info in infos], degrees)
        success |= running & [info["is_success"] for info in infos]
        running &= ~over
    return {
        "episodes": env.num_envs,
        "orbit_deg": round(float(degrees.mean()), 1),
        "success": round(float(success.mean()), 3),
    }


def film(world: WorldModel[Any], act: Act, seed: int, folder: Path) -> dict[str, float]:
    """Film one episode, every frame of it; where it ended."""
    bare = gym.make(ID, world=world, observation=("pose",), render_mode="rgb_array_list")
    env = ChunkVideoRecorder(bare, folder)
    observation, info = env.reset(seed=seed)
    over = False
    while not over:
        rows = {name: part[None] for name, part in observation.items()}
        observation, _, terminated, truncated, info = env.step(act(rows)[0])
        over = terminated or truncated
    env.close()
    return {"chunks": info["chunk_index"], "orbit_deg": round(info["orbit_deg"], 1)}


def run(world: WorldModel[Any], steps: int, seed: int, out: Path, console: Console) -> None:
    """Look, practise, judge, film."""
    observation, info = look_around(world)
    shapes = {name: part.shape for name, part in observation.items()}
    console.print(f"an observation is {shapes}; info tells {', '.join(sorted(info))}")
    env = make_rows(ProceduralWorld.twin(world.spec), 16)
    env.action_space.seed(seed)
    policy = practise(env, steps, seed, console)

    def chance(observation: Any) -> npt.NDArray[np.float32]:
        return np.stack([env.action_space.sample() for _ in range(env.num_envs)])

    def trained(observation: Any) -> npt.NDArray[np.float32]:
        return np.asarray(policy.predict(observation, deterministic=True)[0], np.float32)

    summary = {
        "steps": policy.num_timesteps,
        "random": judge(env, chance),
        "policy": judge(env, trained),
        f"filmed in {world.spec.name}": film(world, trained, HELD_OUT, out / "film"),
    }
    env.close()
    write_json(out / "summary.json", summary)
    for name, figures in summary.items():
        console.print(f"{name}: {figures}")
    console.print(f"wrote {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", default="tiny", help="world to act in at the end (tiny)")
    parser.add_argument("--steps", type=int, default=20_000, help="steps of practice (20000)")
    parser.add_argument("--seed", type=int, default=0, help="of policy and practice (0)")
    parser.add_argument("--out", type=Path, default=Path("outputs/tutorial"), help="folder")
    given = parser.parse_args(arguments)
    if given.steps < 1 or not 0 <= given.seed < 2**31:
        parser.error("expected --steps of at least 1 and --seed from 0 to 2^31 - 1")
    try:
        run(load_world(given.world), given.steps, given.seed, given.out, Console())
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
