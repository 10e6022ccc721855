"""Train the embedded world: `sana-wm train-world [name=value ...]`.

Fits the codec and the localiser, renders walks through the map, trains the generator and writes a
checkpoint every `save_every` steps. Killed at any point and started again with the same `folder`,
it resumes from the last checkpoint. Under `torchrun --nproc-per-node N -m sana_wm_gym train-world`
the processes share one run, each with clips of its own. `conf/train.yaml` holds the recipe;
`--help` lists what can be set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import Progress, TaskID
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sana_wm_gym.evaluation.held_out import (
    chunk_errors,
    held_out_clips,
    mean_psnr,
    repeat_first,
    roll,
    truth_of,
)
from sana_wm_gym.files import write_json
from sana_wm_gym.hydra_settings import run_command
from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.state import GeneratorState, detach
from sana_wm_gym.tables import progress
from sana_wm_gym.training.config import TrainConfig
from sana_wm_gym.training.dataset import WalkEncoder, episodes
from sana_wm_gym.training.objective import Objective, View, WalkBatch
from sana_wm_gym.training.run import WINDOW, TrainingRun

LOG_EVERY = 25
VALIDATION_CHUNKS = 4


@dataclass
class Stream:
    """One episode in progress and the generator's state in it."""

    source: Iterator[WalkBatch]
    episode: WalkBatch
    index: int = 0
    state: GeneratorState | None = None
    lost: bool = False

    def renew(self) -> None:
        """Start a new episode if this one is over or its memory is no longer finite."""
        if self.index >= self.episode.chunks or self.lost:
            self.lost = False
            self.episode, self.index, self.state = next(self.source), 0, None


class Trainer:
    """One process's part of a run: its clips, its noise, its steps."""

    def __init__(
        self, run: TrainingRun, rank: int, track: Callable[[list[range]], Iterable[range]] = iter
    ) -> None:
        config = run.config
        self.run = run
        spec = run.world().spec
        cells = config.size // config.codec.patch
        frequencies = tuple(config.frequencies)
        view = View(spec.size, (cells, cells), spec.intrinsics, frequencies, run.captions)
        entropy = [config.seed, run.done, rank]
        self.rng = np.random.default_rng(entropy)
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        self.generator = torch.Generator().manual_seed(seed)
        encoder = WalkEncoder(config, run.codec, run.localiser, track)
        data = [encoder(*each) for each in zip(config.lengths, config.walks, strict=True)]
        # Walks are encoded on the CPU; held-out rollouts are made where the generator is.
        for part in (run.codec, run.localiser):
            if part is not None:
                part.to(config.device)
        sources = [episodes(data, config, self.rng) for _ in range(config.streams)]
        self.streams = [Stream(source, next(source)) for source in sources]
        weights = run.codec.scale.pow(config.objective.channel_power)
        weights = (weights / weights.mean()).to(config.device)
        plan = ChunkPlan(window=WINDOW)
        self.objective = Objective(config.objective, view, weights, plan, config.autocast)

    def gradients(self) -> list[tuple[float, float]]:
        """Add the gradients of one step; returns (loss, latent error) of its chunks."""
        config = self.run.config
        stream = self.streams[self.run.done % config.streams]
        stream.renew()
        losses, record = [], []
        for _ in range(min(config.unroll, stream.episode.chunks - stream.index)):
            at = stream.episode, stream.index, stream.state
            loss, plain, stream.state = self.objective(
                self.run.model, *at, self.rng, self.generator
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
    flat = nn.utils.parameters_to_vector(gradients)
    dist.all_reduce(flat)
    nn.utils.vector_to_parameters(flat / dist.get_world_size(), gradients)


def train(config: TrainConfig) -> None:
    """Run or resume a training run."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if processes > 1 else 0
    torch.set_num_threads(config.threads)
    with progress(Console(quiet=rank > 0)) as bar:
        run = TrainingRun(config, bar.print)
        if rank == 0:
            write_json(run.folder / "config.json", asdict(config))
        trainer = Trainer(run, rank, lambda shards: bar.track(shards, description="walks"))
        task = bar.add_task("training", total=config.steps, completed=run.done)
        _loop(run, trainer, processes, rank, bar, task)


def _loop(
    run: TrainingRun, trainer: Trainer, processes: int, rank: int, bar: Progress, task: TaskID
) -> None:
    config = run.config
    spec = run.world().spec
    clips = held_out_clips(spec, config.validation_clips, VALIDATION_CHUNKS)
    truth, chunk = truth_of(clips), spec.frames_per_chunk
    clock = time.process_time()
    recent: list[tuple[float, float]] = []
    while run.done < config.steps:
        recent += trainer.gradients()
        if processes > 1:
            average_gradients(run.model)
        norm = run.optimizer.step(run.done, config.steps)
        average_weights(run)
        run.done += 1
        now = time.process_time()
        run.cpu_hours += processes * (now - clock) / 3600
        clock = now
        if rank > 0:
            continue
        over = run.done >= config.steps
        begun = {"step": run.done, "cpu_hours": round(run.cpu_hours, 4)}
        if run.done % LOG_EVERY == 0 or over:
            loss, plain = np.mean(recent, axis=0) if recent else (np.nan, np.nan)
            row = {
                **begun,
                "loss": round(float(loss), 5),
                "latent_mse": round(float(plain), 5),
                "gradient": round(norm, 3),
                "rate": round(run.optimizer.rate(run.done, config.steps), 4),
            }
            run.append("loss.csv", row)
            bar.update(task, completed=run.done, description=f"step {run.done} loss {loss:.4f}")
            recent.clear()
        if run.done % config.save_every == 0 or over:
            run.save()
        if run.done % config.validate_every == 0 or over:
            videos = {"own": roll(run.world(), clips, seed=0), "repeat": repeat_first(truth)}
            row = begun | {
                f"{name}_{index}": round(float(value), 2)
                for name, frames in videos.items()
                for index, value in enumerate(mean_psnr(chunk_errors(frames, truth, chunk)), 1)
            }
            run.append("validation.csv", row)
            bar.print(str(row))


@torch.no_grad()
def average_weights(run: TrainingRun) -> None:
    """Move the averaged weights towards those in training; faster in a run's first steps."""
    decay = min(run.config.optimizer.ema, (run.done + 1) / (run.done + 10))
    average, current = list(run.average.parameters()), list(run.model.parameters())
    get_ema_multi_avg_fn(decay)(average, current, run.done)


def main(arguments: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    return run_command("train", lambda config, console, settings: train(config), arguments)
