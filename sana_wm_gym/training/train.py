"""Train the embedded world: `python -m sana_wm_gym.training.train [name=value ...]`.

Renders walks through the shipped maps, fits the codec, trains the generator and writes a
checkpoint every few minutes. Killed at any point and started again with the same `folder`, it
goes on from the last checkpoint. Under `torchrun --nproc-per-node N` the processes share one run,
each with clips of its own. `conf/train.yaml` holds the recipe; `--help` lists what can be set.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict

import hydra
import numpy as np
import torch
import torch.distributed as dist
from omegaconf import DictConfig
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import nn

from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.state import GeneratorState, detach
from sana_wm_gym.training.config import TrainConfig
from sana_wm_gym.training.dataset import Episode, encode_walks, episodes
from sana_wm_gym.training.objective import View, chunk_loss
from sana_wm_gym.training.run import WINDOW, Run
from sana_wm_gym.training.validation import held_out_clips, rollout_psnr

LOG_EVERY = 25
VALIDATION_CHUNKS = 4


class Stream:
    """One episode in progress and the generator's state in it."""

    def __init__(self, source: Iterator[Episode]) -> None:
        self.source = source
        self.episode = next(source)
        self.index = 0
        self.state: GeneratorState | None = None
        self.lost = False

    def turn(self) -> None:
        """Start a new episode if this one is over or its memory is no longer finite."""
        if self.index >= self.episode.chunks or self.lost:
            self.lost = False
            self.episode, self.index, self.state = next(self.source), 0, None


class Trainer:
    """One process's share of a run: its clips, its noise, its steps."""

    def __init__(self, run: Run, rank: int) -> None:
        config = run.config
        self.run = run
        size = (config.size, config.size)
        spec = run.world().spec
        self.view = View(size, (config.size // 8, config.size // 8), spec.intrinsics)
        self.rng = np.random.default_rng([config.seed, run.done, rank])
        self.generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([config.seed, run.done, rank]).generate_state(1)[0])
        )
        data = [
            encode_walks(
                run.folder / "walks",
                run.codec,
                config.scenes,
                chunks,
                range(sum(config.walks[:tier]), sum(config.walks[: tier + 1])),
                config.size,
                config.start_radius,
            )
            for tier, chunks in enumerate(config.lengths)
        ]
        self.streams = [
            Stream(episodes(data, config.batch, config.length_weights, self.rng))
            for _ in range(config.streams)
        ]
        weights = run.codec.scale.pow(config.objective.channel_power)
        self.channel_weights = weights / weights.mean()
        self.plan = ChunkPlan(window=WINDOW)

    def gradients(self, progress: float) -> list[tuple[float, float]]:
        """Add the gradients of one step; returns (loss, latent error) of its chunks."""
        config, objective = self.run.config, self.run.config.objective
        ramp = (progress - objective.own_history_from) / objective.own_history_ramp
        own = objective.own_history * min(1.0, max(0.0, ramp))
        stream = self.streams[self.run.done % config.streams]
        stream.turn()
        losses, record = [], []
        chunks = min(config.unroll, stream.episode.chunks - stream.index)
        for position in range(chunks):
            loss, plain, stream.state = chunk_loss(
                self.run.model,
                stream.episode,
                stream.index,
                stream.state,
                self.plan,
                self.view,
                self.channel_weights,
                objective,
                own,
                self.rng,
                self.generator,
                config.autocast,
                last=position == chunks - 1,
            )
            losses.append(loss)
            if torch.isfinite(loss):
                record.append((float(loss.detach()), float(plain)))
            else:
                stream.lost = True
            stream.index += 1
        torch.stack(losses).mean().backward()
        assert stream.state is not None
        stream.state = detach(stream.state)
        return record


def average_gradients(model: nn.Module) -> None:
    """Replace each gradient by its mean over all processes."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(mean.view_as(gradient))


def shared_clock(hours: float) -> float:
    """The first process's clock, so that all stop at the same step."""
    clock = torch.tensor([hours], dtype=torch.float64)
    dist.broadcast(clock, 0)
    return float(clock)


def train(config: TrainConfig) -> None:
    """Run or resume a training run."""
    shared = "WORLD_SIZE" in os.environ
    if shared:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if shared else 0
    torch.set_num_threads(config.threads)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), disable=rank > 0
    ) as bar:
        run = Run(config, bar.print if rank == 0 else lambda _: None)
        trainer = Trainer(run, rank)
        task = bar.add_task("training", total=config.hours)
        bar.update(task, completed=run.hours)
        if rank == 0:
            (run.folder / "config.json").write_text(json.dumps(asdict(config), indent=2))
        _loop(run, trainer, shared, rank, bar, task)


def _loop(run: Run, trainer: Trainer, shared: bool, rank: int, bar: Progress, task: TaskID) -> None:
    config = run.config
    size = (config.size, config.size)
    clips = held_out_clips(
        config.scenes,
        config.validation_clips,
        VALIDATION_CHUNKS,
        trainer.view.intrinsics,
        size,
        config.start_radius,
    )
    began = saved = validated = time.time()
    hours_before = run.hours
    recent: list[tuple[float, float]] = []
    while run.hours < config.hours:
        progress = run.hours / config.hours
        recent += trainer.gradients(progress)
        if shared:
            average_gradients(run.model)
        norm = run.optimizer.step(run.done, progress)
        decay = min(config.optimizer.ema, (run.done + 1) / (run.done + 10))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(run.average.parameters()), list(run.model.parameters()), 1 - decay
            )
        run.done += 1
        run.hours = hours_before + (time.time() - began) / 3600
        if shared:
            run.hours = shared_clock(run.hours)
        if rank > 0:
            continue
        over = run.hours >= config.hours
        if run.done % LOG_EVERY == 0 or over:
            loss, plain = np.mean(recent, axis=0) if recent else (np.nan, np.nan)
            row = {
                "step": run.done,
                "hours": round(run.hours, 4),
                "loss": round(float(loss), 5),
                "latent_mse": round(float(plain), 5),
                "gradient": round(norm, 3),
                "rate": round(run.optimizer.rate(run.done, progress), 4),
            }
            run.append("loss.csv", row)
            bar.update(task, completed=run.hours, description=f"step {run.done} loss {loss:.4f}")
            recent.clear()
        if time.time() - saved > 60 * config.save_minutes or over:
            run.save()
            saved = time.time()
        if time.time() - validated > 60 * config.validate_minutes or over:
            score = rollout_psnr(run.world(), clips, seed=0)
            row = {"step": run.done, "hours": round(run.hours, 4)}
            for name in ("own", "shuffled", "repeat"):
                for chunk, value in enumerate(getattr(score, name), start=1):
                    row[f"{name}_{chunk}"] = round(float(value), 2)
            run.append("validation.csv", row)
            bar.print(str(row))
            validated = time.time()


@hydra.main(config_path="../../conf", config_name="train", version_base="1.3")
def main(settings: DictConfig) -> None:
    """Command line."""
    train(hydra.utils.instantiate(settings, _convert_="object"))


if __name__ == "__main__":
    main()
