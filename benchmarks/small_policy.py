"""A policy of the size that libraries give to images: alone, acting, and learning."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm_gym.camera.controls import TWIST_NAMES

TIERS = ("environment", "with inference", "with training")
_UPDATE_EVERY, _EPOCHS = 8, 4


class SmallPolicy(nn.Module):
    """A convolutional actor and critic of the size that stable-baselines3 gives to images."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(512),
            nn.ReLU(),
        )
        self.mean = nn.Linear(512, len(TWIST_NAMES))
        self.value = nn.Linear(512, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Action means [b, 5] and values [b] of frames, uint8 [b, H, W, 3]."""
        features = self.trunk(frames.movedim(-1, 1).float() / 255)
        return self.mean(features).tanh(), self.value(features)[:, 0]


class Agent:
    """A policy in an environment, at one of the three tiers."""

    def __init__(self, env: gym.Env[Any, Any], tier: str, seed: int) -> None:
        self.env, self.tier = env, tier
        self.env.action_space.seed(seed)
        torch.manual_seed(seed)
        self.policy = SmallPolicy()
        self.frames, _ = env.reset(seed=seed)
        with torch.no_grad():
            self.policy(torch.from_numpy(self.frames[-1:]))  # sizes the lazy layer
        self.optimizer = torch.optim.Adam(self.policy.parameters(), 3e-4)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def step(self) -> None:
        """One environment step, and what the tier adds to it."""
        # The policy looks at the last frame of the chunk, as policies do.
        observed = torch.from_numpy(self.frames[-1])
        if self.tier == TIERS[0]:
            action = self.env.action_space.sample()
        else:
            with torch.no_grad():
                mean, _ = self.policy(observed[None])
            action = (mean[0] + 0.3 * torch.randn_like(mean[0])).clamp(-1, 1).numpy()
        self.frames, _, terminated, truncated, _ = self.env.step(action)
        if self.tier == TIERS[2]:
            self.seen.append((observed, torch.from_numpy(action)))
            if len(self.seen) == _UPDATE_EVERY:
                self._learn()
        if terminated or truncated:
            self.frames, _ = self.env.reset()

    def _learn(self) -> None:
        """Epochs of an actor-critic update over the last steps; returns are drawn at random,
        because the cost of an update does not depend on them."""
        frames, actions = (torch.stack(part) for part in zip(*self.seen, strict=True))
        returns = torch.randn(len(self.seen))
        for _ in range(_EPOCHS):
            mean, value = self.policy(frames)
            advantage = (returns - value).detach()
            log_ratio = -((actions - mean) ** 2).sum(-1)
            loss = F.mse_loss(value, returns) - (advantage * log_ratio).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.seen.clear()
