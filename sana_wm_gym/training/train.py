"""Train the embedded world: `python -m sana_wm_gym.training.train`.

Renders walks through the shipped maps, fits the codec, trains the generator and writes a
checkpoint every few minutes. Killed at any point and started again with the same `folder`, it
goes on from the last checkpoint. Under `torchrun --nproc-per-node N` the processes share one run,
each with clips of its own.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
import torch.distributed as dist
from torch import Tensor, nn

from sana_wm_gym.models.codec import CodecConfig, PatchCodec
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import GeneratorState, detach
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.training.dataset import EncodedWalks, Episode, encode_walks, episodes
from sana_wm_gym.training.fit_codec import fit_linear
from sana_wm_gym.training.objective import ObjectiveConfig, View, chunk_loss
from sana_wm_gym.training.optimizer import Optimizer, OptimizerConfig
from sana_wm_gym.training.validation import held_out_clips, rollout_psnr
from sana_wm_gym.world.procedural import WALK_LIMITS
from sana_wm_gym.world.renderer import default_intrinsics
from sana_wm_gym.world.sana_world import SanaWorld
from sana_wm_gym.world.schedule import self_forcing
from sana_wm_gym.world.world_model import WorldSpec

TINY = SanaWMConfig(
    latent_channels=96,
    width=192,
    depth=6,
    heads=4,
    softmax_every=3,
    mlp_ratio=2.0,
    text_channels=None,
    position_entries=0,
    unread_entries=False,
)


@dataclass
class TrainConfig:
    """One training run.

    Attributes:
        folder: Where data, checkpoints and logs go.
        scenes: Maps to learn.
        walks: Training walks of one minute in each map.
        size: Frame height and width in pixels.
        batch: Clips per step.
        streams: Episodes that take turns, so that successive steps differ.
        unroll: Chunks per step through which gradients flow.
        lengths: Episode lengths in chunks.
        length_weights: How often each length is drawn.
        hours: Time to train for; noise, history and learning rate follow the share of it that is
            over.
        save_minutes: Time between checkpoints.
        validate_minutes: Time between held-out rollouts.
        seed: Source of weights, clips and noise.
        threads: CPU threads.
        autocast: Matrix products in bfloat16.
    """

    folder: str = "outputs/tiny"
    scenes: tuple[int, ...] = (5, 8)
    walks: int = 120
    size: int = 64
    batch: int = 8
    streams: int = 8
    unroll: int = 2
    lengths: tuple[int, ...] = (4, 6, 10, 20, 40)
    length_weights: tuple[float, ...] = (0.4, 0.3, 0.2, 0.07, 0.03)
    hours: float = 1.75
    save_minutes: float = 3.0
    validate_minutes: float = 8.0
    seed: int = 0
    threads: int = 1
    autocast: bool = True
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


def initialise(model: SanaWM, seed: int) -> None:
    """Weights for training from scratch: open residual gates, a memory that hardly forgets, and a
    first prediction of zero."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.ndim >= 2 and ".conv_k" not in name:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif name.endswith("bias") and not name.endswith("dt_bias"):
            nn.init.zeros_(parameter)
    for block in model.blocks:
        attention = block.attn
        nn.init.zeros_(attention.output_gate.weight)
        nn.init.constant_(attention.output_gate.bias, 1.278464542761074)
        nn.init.zeros_(block.mlp.t_conv.weight)
        with torch.no_grad():
            block.scale_shift_table[2] = 0.5
            block.scale_shift_table[5] = 0.5
        if hasattr(attention, "conv_k"):
            nn.init.zeros_(attention.beta_proj.weight)
            nn.init.constant_(attention.beta_proj.bias, 3.0)
            nn.init.zeros_(attention.gate_proj.weight)
    nn.init.normal_(model.t_block[1].weight, std=0.02)
    nn.init.zeros_(model.final_layer.linear.weight)


class Stream:
    """One episode in progress and the generator's state in it."""

    def __init__(self, source: Iterator[Episode]) -> None:
        self.source = source
        self.episode = next(source)
        self.index = 0
        self.state: GeneratorState | None = None

    def turn(self) -> None:
        """Start a new episode if this one is over."""
        if self.index >= self.episode.chunks:
            self.episode, self.index, self.state = next(self.source), 0, None


class Run:
    """Everything a step needs, and where it is saved."""

    def __init__(self, config: TrainConfig) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.folder = Path(config.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.codec = self._codec()
        self.model = SanaWM(TINY, EXACT)
        initialise(self.model, config.seed)
        self.average = SanaWM(TINY, EXACT).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizer = Optimizer(self.model, config.optimizer)
        self.done, self.hours = 0, 0.0
        self._resume()

    def _codec(self) -> PatchCodec:
        path = self.folder / "codec.safetensors"
        if path.exists():
            codec = PatchCodec(CodecConfig())
            codec.load_state_dict(load_file(path))
            return codec
        codec = fit_linear(CodecConfig(), self.config.scenes, 6, 480, self.config.size)
        save_atomically(codec.state_dict(), path)
        return codec

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.muon.load_state_dict(saved["muon"])
        self.optimizer.adamw.load_state_dict(saved["adamw"])
        self.done, self.hours = saved["step"], saved["hours"]

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each in one move."""
        path = self.folder / "checkpoint.pt"
        temporary = path.with_suffix(".partial")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "muon": self.optimizer.muon.state_dict(),
                "adamw": self.optimizer.adamw.state_dict(),
                "step": self.done,
                "hours": self.hours,
            },
            temporary,
        )
        os.replace(temporary, path)
        save_atomically(self.average.state_dict(), self.folder / "generator.safetensors")

    def world(self) -> SanaWorld:
        """The averaged weights as a world."""
        config = self.config
        return SanaWorld(
            WorldSpec(
                name="tiny",
                height=config.size,
                width=config.size,
                fps=16.0,
                latent_shape=(TINY.latent_channels, config.size // 8, config.size // 8),
                intrinsics=tuple(default_intrinsics(config.size, config.size)),
                limits=WALK_LIMITS,
                scenes=tuple(config.scenes),
            ),
            self.average,
            self.codec,
            self_forcing((1000, 960, 889, 727, 0)),
            MemoryWindow(2, True),
        )

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Add a row to a csv log."""
        path = self.folder / name
        fresh = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            if fresh:
                writer.writeheader()
            writer.writerow(row)


def save_atomically(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file under a temporary name, then rename."""
    temporary = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
    os.replace(temporary, path)


def average_gradients(model: nn.Module) -> None:
    """Replace each gradient by its mean over all processes."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(
        gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(mean.view_as(gradient))


def train(config: TrainConfig) -> None:
    """Run or resume a training run."""
    shared = "WORLD_SIZE" in os.environ
    if shared:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if shared else 0
    run = Run(config)
    (run.folder / "config.json").write_text(json.dumps(asdict(config), indent=2))
    data: EncodedWalks = encode_walks(
        run.folder / "walks", run.codec, config.scenes, config.walks, config.size
    )
    size = (config.size, config.size)
    view = View(size, (config.size // 8, config.size // 8), run.world().spec.intrinsics)
    rng = np.random.default_rng([config.seed, run.done, rank])
    generator = torch.Generator().manual_seed(
        (config.seed * 1_000_003 + run.done) * 1009 + rank
    )
    streams = [
        Stream(episodes(data, config.batch, config.lengths, config.length_weights, rng))
        for _ in range(config.streams)
    ]
    weights = run.codec.scale.pow(2 * config.objective.channel_power)
    weights = weights / weights.mean()
    plan = ChunkPlan(window=MemoryWindow(2, True))
    clips = held_out_clips(config.scenes, 16, 4, view.intrinsics, size)
    saved = validated = began = time.time()
    hours_before = run.hours
    recent: list[float] = []
    while run.hours < config.hours:
        progress = run.hours / config.hours
        objective = config.objective
        own = objective.own_history * min(
            1.0, max(0.0, (progress - objective.own_history_from) / 0.3)
        )
        stream = streams[run.done % config.streams]
        stream.turn()
        losses, state = [], stream.state
        chunks = min(config.unroll, stream.episode.chunks - stream.index)
        for position in range(chunks):
            loss, plain, state = chunk_loss(
                run.model,
                stream.episode,
                stream.index,
                state,
                plan,
                view,
                weights,
                objective,
                own,
                rng,
                generator,
                config.autocast,
                last=position == chunks - 1,
            )
            losses.append(loss)
            recent.append(float(plain))
            stream.index += 1
        torch.stack(losses).mean().backward()
        stream.state = detach(state)
        if shared:
            average_gradients(run.model)
        norm = run.optimizer.step(run.done, progress)
        decay = min(config.optimizer.ema, (run.done + 1) / (run.done + 10))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(run.average.parameters()), list(run.model.parameters()), 1 - decay
            )
        run.done += 1
        now = time.time()
        run.hours = hours_before + (now - began) / 3600
        if shared:
            clock = torch.tensor([run.hours])
            dist.broadcast(clock, 0)
            run.hours = float(clock)
        if rank > 0:
            continue
        if run.done % 25 == 0:
            row = {
                "step": run.done,
                "hours": round(run.hours, 4),
                "latent_mse": round(float(np.mean(recent)), 5),
                "gradient": round(norm, 3),
                "rate": run.optimizer.rate(run.done, progress),
            }
            run.append("loss.csv", row)
            print(row, flush=True)
            recent.clear()
        over = run.hours >= config.hours
        if now - saved > 60 * config.save_minutes or over:
            run.save()
            saved = time.time()
        if now - validated > 60 * config.validate_minutes or over:
            score = rollout_psnr(run.world(), clips, seed=0)
            row = {"step": run.done, "hours": round(run.hours, 4)}
            for name in ("own", "shuffled", "repeat"):
                for chunk, value in enumerate(getattr(score, name), start=1):
                    row[f"{name}_{chunk}"] = round(float(value), 2)
            run.append("validation.csv", row)
            print(row, flush=True)
            validated = time.time()


if __name__ == "__main__":
    import sys

    overrides = dict(argument.split("=", 1) for argument in sys.argv[1:])
    numbers = {k: (v if k == "folder" else json.loads(v)) for k, v in overrides.items()}
    train(TrainConfig(**numbers))
