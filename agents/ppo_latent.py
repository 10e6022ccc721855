"""PPO in one file: reach the view in a goal image, seeing latents, with no frame ever decoded.

A world model thinks in latents, so an agent inside it may as well look at them. Many worlds are
stepped in one batch, tensors stay on the world's device from the network that dreams to the one
that acts, and everything between the two is below, to be read from top to bottom.

    python -m agents.ppo_latent --steps 20000 --seed 3 --out outputs/ppo_latent_3
    python -m agents.ppo_latent --help

Writes OUT/episodes.csv (a row for each finished episode of training), OUT/policy.safetensors and
OUT/summary.json (success of the policy and of random actions on the same held-out episodes). The
same seed on the same machine gives the same files.

Source: Schulman et al., arXiv 1707.06347 (PPO) and arXiv 1506.02438, eq. 16 (advantages).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save as serialized
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from sana_wm_gym.envs import SanaWMVectorEnv
from sana_wm_gym.files import write_bytes, write_json


def setting(default: Any, text: str) -> Any:
    """A dataclass field with a line of help."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """What a run depends on; `ValueError` for a number out of range."""

    world: str = setting("tiny", "world to train in; it must have latents")
    out: str = setting("outputs/ppo_latent", "folder to write")
    seed: int = setting(0, "of networks, actions and worlds; 0 to 999")
    steps: int = setting(20_000, "environment steps, over all worlds")
    num_envs: int = setting(16, "worlds stepped in one batch")
    rollout: int = setting(32, "steps of each world between two updates")
    channels: int = setting(
        12,
        "leading latent channels to look at. In tiny 4 of 48 hold colours and slopes of patches "
        "and are predicted well, the last 30 are mostly noise (docs/embedded_world.md)",
    )
    width: int = setting(128, "units of the last hidden layer")
    rate: float = setting(7e-4, "learning rate at the start; it falls linearly to 0")
    gamma: float = setting(0.5, "discount per step: the reward tells at once what one was worth")
    smoothing: float = setting(0.9, "lambda: 0 trusts the critic alone, 1 the returns alone")
    clip: float = setting(0.2, "how far an update may move the odds of an action from 1")
    epochs: int = setting(6, "passes over each rollout")
    batches: int = setting(4, "minibatches per pass")
    entropy: float = setting(0.001, "bonus for actions left to chance")
    episodes: int = setting(64, "held-out episodes that the result is judged on")

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            low, high = (0, 1) if isinstance(value, float) else (1, 1_000_000_000)
            low, high = (0, 999) if name == "seed" else (low, high)
            if not isinstance(value, str) and not low <= value <= high:
                raise ValueError(f"{name} is {value}, expected {low} to {high}")


class Policy(nn.Module):
    """Actor and critic over the leading latent channels of view and goal, one on the other."""

    def __init__(self, latent: tuple[int, int, int], actions: int, settings: Settings) -> None:
        super().__init__()
        self.latent, self.channels = latent, min(settings.channels, latent[0])
        inputs, cells = 2 * self.channels, -(-latent[1] // 2) * -(-latent[2] // 2)
        eyes = [nn.Conv2d(inputs, 64, 3, padding=1), nn.ReLU()]
        eyes += [nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()]
        self.body = nn.Sequential(*eyes, nn.Linear(64 * cells, settings.width), nn.ReLU())
        self.actor, self.critic = nn.Linear(settings.width, actions), nn.Linear(settings.width, 1)
        # The first actions are drawn around standing still, whatever is seen.
        nn.init.orthogonal_(self.actor.weight, 0.01)
        nn.init.zeros_(self.actor.bias)
        self.log_std = nn.Parameter(torch.full((actions,), -0.5))

    def look(self, observation: Mapping[str, Tensor]) -> Tensor:
        """What is used of an observation, [n, 2 channels, rows, columns]."""
        parts = [observation[name].reshape(-1, *self.latent) for name in ("latent", "goal")]
        return torch.cat([part[:, : self.channels] for part in parts], dim=1)

    def forward(self, views: Tensor) -> tuple[Distribution, Tensor]:
        """Distribution of actions [n, actions], and value [n], of each view."""
        # Channels differ thirtyfold in size; the logarithm evens that out.
        hidden = self.body(views.sign() * views.abs().log1p())
        around = Normal(self.actor(hidden), self.log_std.exp().expand(len(views), -1))
        return Independent(around, 1), self.critic(hidden)[:, 0]

    @torch.no_grad()
    def best(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The likeliest actions, [n, actions]."""
        return self(self.look(observation))[0].mean.clamp(-1, 1)


class Rollout(NamedTuple):
    """What happened in n worlds over t steps; tensors of [t, n] where nothing else is said."""

    views: Tensor  # before each step and after the last, [t + 1, n, ...]
    values: Tensor  # what the critic thought of them, [t + 1, n]
    actions: Tensor  # as drawn, before they are clipped to the action space, [t, n, ...]
    log_probs: Tensor  # of each action when it was drawn
    rewards: Tensor
    terminated: Tensor  # the goal was reached, so there is no future to count
    over: Tensor  # the episode ended, for that or any other reason
    idle: Tensor  # the step only began the next episode; its action went nowhere


def advantages(rollout: Rollout, gamma: float, smoothing: float) -> Tensor:
    """How much better each action was than the critic had thought, [t, n].

    The view after an episode's last step is still its own, because the next one begins in a step
    of its own: cut short, it is worth what the critic sees there, at the goal nothing more.
    """
    result = torch.zeros_like(rollout.rewards)
    later = torch.zeros_like(rollout.rewards[0])
    for t in reversed(range(len(result))):
        future = gamma * rollout.values[t + 1] * ~rollout.terminated[t]
        surprise = rollout.rewards[t] + future - rollout.values[t]
        result[t] = later = surprise + gamma * smoothing * later * ~rollout.over[t]
    return result


def improve(
    policy: Policy, optimizer: torch.optim.Optimizer, rollout: Rollout, settings: Settings
) -> None:
    """Make actions that turned out well more likely, a little."""
    gain = advantages(rollout, settings.gamma, settings.smoothing)
    target = gain + rollout.values[:-1]
    used = (~rollout.idle).flatten()
    parts = (rollout.views[:-1], rollout.actions, rollout.log_probs, gain, target)
    views, actions, old, gain, target = (part.flatten(0, 1)[used] for part in parts)
    for _ in range(settings.epochs):
        for batch in torch.randperm(len(views)).to(views.device).chunk(settings.batches):
            chosen, value = policy(views[batch])
            better = gain[batch] - gain[batch].mean()
            better = better / (better.std(correction=0) + 1e-8)
            odds = (chosen.log_prob(actions[batch]) - old[batch]).exp()
            near = odds.clamp(1 - settings.clip, 1 + settings.clip)
            # The smaller of the two, so that there is nothing to gain beyond `clip`.
            loss = -torch.minimum(odds * better, near * better).mean()
            loss = loss + 0.5 * (value - target[batch]).square().mean()
            loss = loss - settings.entropy * chosen.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
            optimizer.step()


class Diary:
    """A row for every finished episode of `worlds` worlds that are stepped together."""

    def __init__(self, worlds: int) -> None:
        self.steps = 0
        self.rows: list[dict[str, float]] = []
        self.returns, self.lengths = np.zeros(worlds), np.zeros(worlds, dtype=np.int64)

    def write(self, reward: Tensor, over: Tensor, idle: Tensor, info: Mapping[str, Any]) -> None:
        """Count one step of every world; a world that is idle only begins."""
        waits = idle.cpu().numpy()
        self.steps += int((~waits).sum())
        self.returns = np.where(waits, 0.0, self.returns + reward.cpu().numpy())
        self.lengths = np.where(waits, 0, self.lengths + 1)
        for i in over.nonzero()[:, 0].tolist():
            row = {"step": self.steps, "world": i, "length": int(self.lengths[i])}
            row |= {"return": round(float(self.returns[i]), 6), "spl": float(info["spl"][i])}
            self.rows.append({**row, "success": int(info["is_success"][i])})


def learn(
    env: SanaWMVectorEnv, settings: Settings, each: Callable[[Policy, Diary], None]
) -> Policy:
    """Act and improve by turns until `settings.steps` are taken; `each` is shown every turn."""
    torch.manual_seed(settings.seed)
    observation, _ = env.reset(seed=1000 * settings.seed)
    shape, device = env.world.spec.latent_shape, observation["latent"].device
    assert shape is not None, "an environment that shows latents has them"
    actions = len(env.single_action_space.sample())
    policy = Policy(shape, actions, settings).to(device)
    optimizer = torch.optim.Adam(policy.parameters(), settings.rate, eps=1e-5)
    view, over = policy.look(observation), torch.zeros(env.num_envs, device=device).bool()
    diary = Diary(env.num_envs)
    while diary.steps < settings.steps:
        optimizer.param_groups[0]["lr"] = settings.rate * (1 - diary.steps / settings.steps)
        kept = []
        with torch.no_grad():
            for _ in range(settings.rollout):
                chosen, value = policy(view)
                action, before, idle = chosen.sample(), view, over
                observation, reward, ended, cut, info = env.step(action.clamp(-1, 1))
                view, over, reward = policy.look(observation), ended | cut, reward.float()
                log_prob = chosen.log_prob(action)
                kept.append((before, value, action, log_prob, reward, ended, over, idle))
                diary.write(reward, over, idle, info)
            kept_views, values, *rest = (torch.stack(part) for part in zip(*kept, strict=True))
            views = torch.cat([kept_views, view[None]])
            values = torch.cat([values, policy(view)[1][None]])
        improve(policy, optimizer, Rollout(views, values, *rest), settings)
        each(policy, diary)
    return policy


def judge(
    env: SanaWMVectorEnv, act: Callable[[Mapping[str, Tensor]], Any], episodes: int
) -> dict[str, float]:
    """Success of held-out episodes, with its 95 % Wilson interval."""
    reached: list[bool] = []
    for first in range(0, episodes, env.num_envs):
        observation, _ = env.reset(seed=1_000_000 + first)  # training seeds are below
        success, running = np.zeros(env.num_envs, dtype=bool), np.ones(env.num_envs, dtype=bool)
        while running.any():
            observation, _, ended, cut, info = env.step(act(observation))
            success |= running & info["is_success"]
            running &= ~(ended | cut).cpu().numpy()
        reached += success.tolist()
    won = sum(reached[:episodes])
    interval = binomtest(won, episodes).proportion_ci(method="wilson")
    return {"success": won / episodes, "low": interval.low, "high": interval.high}


def table(rows: Sequence[Mapping[str, float]]) -> bytes:
    """The rows as csv, with a header."""
    lines: list[list[Any]] = [[*rows[0]], *([*row.values()] for row in rows)] if rows else []
    return "".join(",".join(map(str, line)) + "\n" for line in lines).encode()


def run(settings: Settings, console: Console) -> None:
    """Learn, judge, and write everything to `settings.out`."""
    env = SanaWMVectorEnv(
        settings.num_envs,
        settings.world,
        task="image_goal",
        action_mode="planar",  # goals are taken at the start's height and pitch
        observation=("latent",),
        as_torch=True,
    )
    env.action_space.seed(settings.seed)
    out = Path(settings.out)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=settings.steps)

        def each(policy: Policy, diary: Diary) -> None:
            lately = np.mean([row["success"] for row in diary.rows[-100:]] or [0])
            progress.update(bar, completed=diary.steps, description=f"{lately:.0%} reach the goal")
            write_bytes(out / "episodes.csv", table(diary.rows))
            write_bytes(out / "policy.safetensors", serialized(policy.state_dict()))

        policy = learn(env, settings, each)
    results = {
        "random": judge(env, lambda observation: env.action_space.sample(), settings.episodes),
        "policy": judge(env, policy.best, settings.episodes),
    }
    env.close()
    write_json(out / "summary.json", {"settings": asdict(settings), **results})
    for name, result in results.items():
        console.print(name, "reaches {success:.2f} ({low:.2f} to {high:.2f})".format(**result))
    console.print(f"of {settings.episodes} held-out goals; wrote {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 2 for settings that make no sense."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    for part in fields(Settings):
        text, name = f"{part.metadata['help']} ({part.default})", part.name.replace("_", "-")
        parser.add_argument(f"--{name}", type=type(part.default), default=part.default, help=text)
    try:
        run(Settings(**vars(parser.parse_args(arguments))), Console())
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
