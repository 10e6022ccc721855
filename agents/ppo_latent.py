"""PPO in one file: reach the view in a goal image from latents, with no frame ever decoded.

Sub-environments form one batch, and tensors stay on the world's device from the world model to
the policy. Everything between the two is below, to be read from top to bottom.

    sana-wm ppo-latent --total-timesteps 20000 --seed 3 --out outputs/ppo_latent_3
    sana-wm ppo-latent --help

Writes OUT/episodes.csv (a row for each finished episode of training), OUT/policy.safetensors and
OUT/summary.json (success of the policy and of random actions on the same held-out episodes). The
same seed on the same machine gives the same files.

Source: Schulman et al., arXiv 1707.06347 (PPO) and arXiv 1506.02438, eq. 16 (advantages).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from sana_wm_gym.envs import SanaWMVectorEnv
from sana_wm_gym.evaluation.episodes import Evaluation, Observations, Policy, evaluate_policy
from sana_wm_gym.files import write_json, write_text
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.ownership import owned
from sana_wm_gym.tables import Table, progress
from sana_wm_gym.tensor_files import write_tensors

from .training.learner import RandomPolicy


def setting(default: Any, text: str) -> Any:
    """A dataclass field with a line of help."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class LatentPPOConfig:
    """What a run depends on, by CleanRL's names; `ValueError` for a number out of range."""

    world: str = setting("tiny", "world to train in; it must have latents")
    out: str = setting("outputs/ppo_latent", "folder to write")
    seed: int = setting(0, "of networks, actions and worlds; 0 to 999")
    total_timesteps: int = setting(20_000, "environment steps, over all sub-environments")
    num_envs: int = setting(16, "sub-environments in one batch")
    num_steps: int = setting(32, "steps of each sub-environment per rollout")
    channels: int = setting(
        12,
        "leading latent channels that are used. In tiny 4 of 48 hold colours and slopes of patches "
        "and are predicted well, the last 30 are mostly noise (docs/embedded_world.md)",
    )
    width: int = setting(128, "units of the last hidden layer")
    learning_rate: float = setting(7e-4, "of Adam at the start; it falls linearly to 0")
    gamma: float = setting(0.5, "discount factor; the reward of a step is immediate")
    gae_lambda: float = setting(0.9, "of generalised advantage estimation")
    num_minibatches: int = setting(4, "per epoch")
    update_epochs: int = setting(6, "passes over each rollout")
    clip_coef: float = setting(0.2, "largest change of an action's probability ratio")
    ent_coef: float = setting(0.001, "weight of the entropy bonus")
    vf_coef: float = setting(0.5, "weight of the value loss")
    max_grad_norm: float = setting(0.5, "largest norm of the gradient")
    episodes: int = setting(64, "held-out episodes of the evaluation")

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            low, high = (0, 1) if isinstance(value, float) else (1, 1_000_000_000)
            low, high = (0, 999) if name == "seed" else (low, high)
            if not isinstance(value, str) and not low <= value <= high:
                raise ValueError(f"{name} is {value}, expected {low} to {high}")


class LatentPolicy(nn.Module):
    """Actor and critic over the leading latent channels of view and goal, one on the other."""

    def __init__(
        self, latent: tuple[int, int, int], actions: int, settings: LatentPPOConfig
    ) -> None:
        super().__init__()
        self.latent, self.channels = latent, min(settings.channels, latent[0])
        inputs, cells = 2 * self.channels, -(-latent[1] // 2) * -(-latent[2] // 2)
        encoder = [nn.Conv2d(inputs, 64, 3, padding=1), nn.ReLU()]
        encoder += [nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()]
        self.body = nn.Sequential(*encoder, nn.Linear(64 * cells, settings.width), nn.ReLU())
        self.actor, self.critic = nn.Linear(settings.width, actions), nn.Linear(settings.width, 1)
        # The first actions are drawn around no motion.
        nn.init.orthogonal_(self.actor.weight, 0.01)
        nn.init.zeros_(self.actor.bias)
        self.log_std = nn.Parameter(torch.full((actions,), -0.5))

    def views(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The part of an observation that is used, [n, 2 channels, height, width]."""
        parts = [observation[name].reshape(-1, *self.latent) for name in ("latent", "goal")]
        return torch.cat([part[:, : self.channels] for part in parts], dim=1)

    def forward(self, views: Tensor) -> tuple[Distribution, Tensor]:
        """Distribution of actions [n, actions], and value [n], of each view."""
        # Channels differ thirtyfold in size; the logarithm evens that out.
        hidden = self.body(views.sign() * views.abs().log1p())
        normal = Normal(self.actor(hidden), self.log_std.exp().expand(len(views), -1))
        return Independent(normal, 1), self.critic(hidden)[:, 0]

    @torch.no_grad()
    def predict(
        self, observation: Observations, *_: Any, deterministic: bool = True
    ) -> tuple[Any, None]:
        """The most likely actions [n, actions] and no memory, as stable-baselines3 returns them."""
        assert isinstance(observation, dict), "latents and goals are parts by name"
        device = self.log_std.device
        parts = {name: torch.as_tensor(part, device=device) for name, part in observation.items()}
        return self(self.views(parts))[0].mean.clamp(-1, 1).cpu().numpy(), None


class LatentRollout(NamedTuple):
    """t steps of n sub-environments; tensors of [t, n] unless noted."""

    views: Tensor  # before each step and after the last, [t + 1, n, ...]
    values: Tensor  # by the critic, [t + 1, n]
    actions: Tensor  # as sampled, before they are clipped to the action space, [t, n, ...]
    log_probs: Tensor  # of each action when it was drawn
    rewards: Tensor
    terminated: Tensor  # the goal was reached, so there is no future to count
    over: Tensor  # the episode ended, for that or any other reason
    idle: Tensor  # the step only began the next episode; its action went nowhere


def advantages(rollout: LatentRollout, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates, [t, n].

    The view after an episode's last step is still its own, because the next one begins in a step
    of its own: truncated, its value is the critic's there; terminated at the goal, 0.
    """
    result = torch.zeros_like(rollout.rewards)
    later = torch.zeros_like(rollout.rewards[0])
    for t in reversed(range(len(result))):
        future = gamma * rollout.values[t + 1] * ~rollout.terminated[t]
        td_error = rollout.rewards[t] + future - rollout.values[t]
        result[t] = later = td_error + gamma * gae_lambda * later * ~rollout.over[t]
    return result


def update(
    policy: LatentPolicy,
    optimizer: torch.optim.Optimizer,
    rollout: LatentRollout,
    settings: LatentPPOConfig,
) -> None:
    """One PPO update: make actions of positive advantage more likely, within the clip range."""
    advantage = advantages(rollout, settings.gamma, settings.gae_lambda)
    target = advantage + rollout.values[:-1]
    used = (~rollout.idle).flatten()
    parts = (rollout.views[:-1], rollout.actions, rollout.log_probs, advantage, target)
    views, actions, old, advantage, target = (part.flatten(0, 1)[used] for part in parts)
    for _ in range(settings.update_epochs):
        for batch in torch.randperm(len(views)).to(views.device).chunk(settings.num_minibatches):
            chosen, value = policy(views[batch])
            normalised = advantage[batch] - advantage[batch].mean()
            normalised = normalised / (normalised.std(correction=0) + 1e-8)
            ratio = (chosen.log_prob(actions[batch]) - old[batch]).exp()
            clipped = ratio.clamp(1 - settings.clip_coef, 1 + settings.clip_coef)
            # The smaller of the two: no incentive to move beyond the clip range.
            loss = -torch.minimum(ratio * normalised, clipped * normalised).mean()
            loss = loss + settings.vf_coef * (value - target[batch]).square().mean()
            loss = loss - settings.ent_coef * chosen.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), settings.max_grad_norm)
            optimizer.step()


class EpisodeLog:
    """A row for every finished episode of `num_envs` sub-environments."""

    def __init__(self, num_envs: int) -> None:
        self.steps = 0
        self.rows: list[dict[str, float]] = []
        self.returns, self.lengths = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)

    def add(self, reward: Tensor, over: Tensor, idle: Tensor, info: Mapping[str, Any]) -> None:
        """Count one step of each; an idle one only begins."""
        waits = idle.cpu().numpy()
        self.steps += int((~waits).sum())
        self.returns = np.where(waits, 0.0, self.returns + reward.cpu().numpy())
        self.lengths = np.where(waits, 0, self.lengths + 1)
        for i in over.nonzero()[:, 0].tolist():
            row = {"step": self.steps, "env_index": i, "length": int(self.lengths[i])}
            row |= {"return": round(float(self.returns[i]), 6), "spl": float(info["spl"][i])}
            self.rows.append({**row, "success": int(info["is_success"][i])})


def learn(
    env: SanaWMVectorEnv,
    settings: LatentPPOConfig,
    each: Callable[[LatentPolicy, EpisodeLog], None],
) -> LatentPolicy:
    """Alternate rollouts and updates, calling `each` after each update."""
    torch.manual_seed(settings.seed)
    observation, _ = env.reset(seed=1000 * settings.seed)
    shape, device = env.world.spec.latent_shape, observation["latent"].device
    assert shape is not None, "an environment that shows latents has them"
    actions = len(env.single_action_space.sample())
    policy = LatentPolicy(shape, actions, settings).to(device)
    optimizer = torch.optim.Adam(policy.parameters(), settings.learning_rate, eps=1e-5)
    view, over = policy.views(observation), torch.zeros(env.num_envs, device=device).bool()
    log = EpisodeLog(env.num_envs)
    while log.steps < settings.total_timesteps:
        left = 1 - log.steps / settings.total_timesteps
        optimizer.param_groups[0]["lr"] = settings.learning_rate * left
        kept = []
        with torch.no_grad():
            for _ in range(settings.num_steps):
                chosen, value = policy(view)
                action, before, idle = chosen.sample(), view, over
                observation, *numbers, info = env.step(action.clamp(-1, 1))
                reward, ended, cut = (torch.as_tensor(part, device=device) for part in numbers)
                view, over, reward = policy.views(observation), ended | cut, reward.float()
                log_prob = chosen.log_prob(action)
                kept.append((before, value, action, log_prob, reward, ended, over, idle))
                log.add(reward, over, idle, info)
            kept_views, values, *rest = (torch.stack(part) for part in zip(*kept, strict=True))
            views = torch.cat([kept_views, view[None]])
            values = torch.cat([values, policy(view)[1][None]])
        update(policy, optimizer, LatentRollout(views, values, *rest), settings)
        each(policy, log)
    return policy


def evaluate(env: SanaWMVectorEnv, policy: Policy, episodes: int) -> Evaluation:
    """Held-out episodes; training seeds are below theirs."""
    seeds = range(1_000_000, 1_000_000 + episodes)
    return evaluate_policy(policy, env.simulation, seeds, env.world, batch_size=env.num_envs)


def run(settings: LatentPPOConfig, console: Console) -> None:
    """Train, evaluate, and write everything to `settings.out`."""
    env = SanaWMVectorEnv(
        settings.num_envs,
        settings.world,
        task="image_goal",
        action_mode="planar",  # goals are taken at the start's height and pitch
        observation=("latent",),
        as_torch=True,
    )
    out = Path(settings.out)
    with owned(out), progress(console) as bars:
        bar = bars.add_task("", total=settings.total_timesteps)

        def each(policy: LatentPolicy, log: EpisodeLog) -> None:
            recent = np.mean([row["success"] for row in log.rows[-100:]] or [0])
            bars.update(bar, completed=log.steps, description=f"{recent:.0%} reach the goal")
            write_text(out / "episodes.csv", Table.of("episodes", log.rows, digits=6).csv())
            write_tensors(out / "policy.safetensors", "sana_wm_gym/policy/1", policy.state_dict())

        policy = learn(env, settings, each)
    policies: dict[str, Policy] = {
        "random": RandomPolicy(env.single_action_space, settings.seed),
        "policy": policy,
    }
    results = {}
    for name, one in policies.items():
        found = evaluate(env, one, settings.episodes).summary()["is_success"]
        results[name] = {"success": found.mean, "low": found.low, "high": found.high}
        console.print(f"{name} reaches {found}", highlight=False)
    env.close()
    write_json(out / "summary.json", {"settings": asdict(settings), **results})
    console.print(f"of {settings.episodes} held-out goals; wrote {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = FlagParser("sana-wm ppo-latent", __doc__)
    for part in fields(LatentPPOConfig):
        text, name = f"{part.metadata['help']} ({part.default})", part.name.replace("_", "-")
        parser.add_argument(f"--{name}", type=type(part.default), default=part.default, help=text)
    run(LatentPPOConfig(**vars(parser.parse_args(arguments))), Console())
    return 0
