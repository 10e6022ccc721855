"""A training run from settings to its last evaluation, going on where it was stopped."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from stable_baselines3.common.logger import Logger as LearnerLog

from agents.training.algorithms import Policy, RandomPolicy
from agents.training.checkpoint import (
    latest_checkpoint,
    random_state,
    read_checkpoint,
    replay_of,
    restore_random_state,
    rows_of,
    save_checkpoint,
)
from agents.training.config import TrainConfig
from agents.training.environments import Rows, make_rows
from agents.training.evaluation import Evaluation, evaluate_policy
from agents.training.learner_state import learner_state, restore_learner, set_parameters
from agents.training.loggers import CsvTable, Sink, read_rows
from agents.training.replay import load_replay, save_replay
from agents.training.run_folder import RunFolder
from agents.training.saved_run import SavedRun
from agents.training.watch import TIMING_COLUMNS, Books, Watch, columns, evaluation_row
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.files import write_json
from sana_wm_gym.provenance import provenance
from sana_wm_gym.world.world_model import WorldModel


def learn(
    config: TrainConfig, settings: Mapping[str, Any], text: str, console: Console
) -> Evaluation:
    """Train, or go on training, and judge the result.

    Args:
        config: The run.
        settings: What its results depend on, as JSON values.
        text: All settings, as config.yaml keeps them.
        console: Where progress is told.

    Returns:
        The evaluation at the end.

    Raises:
        ValueError: Settings do not go together, the folder holds another run, or what a stopped
            run left is damaged.
        ImportError: A package is missing; says what to install.
    """
    torch.set_num_threads(config.threads)
    folder = RunFolder(config.root)
    rows = make_rows(config.world, config.task, config.agent, config.env, config.num_envs)
    learner = config.agent.build(rows.env, config.seed, config.device)
    folder.claim(settings, text)
    if folder.finished:
        return Evaluation.of(json.loads(folder.evaluation.read_text(encoding="utf-8")))
    if isinstance(learner, RandomPolicy):
        _record_chance(config, settings, folder, rows, learner)
    else:
        run = _Run(config, settings, folder, rows, learner, console)
        run.go(latest_checkpoint(folder.checkpoints))
    evaluation = evaluate_policy(
        learner,
        rows.simulation,
        config.evaluation,
        config.evaluation.last_episodes,
        config.world,
        folder.path / "videos" / "last",
    )
    write_json(
        folder.evaluation, {**provenance("agents.train"), "run": settings, **evaluation.document()}
    )
    last = latest_checkpoint(folder.checkpoints)
    if last is not None:
        # By far the largest thing in the folder, and nothing will go on from it.
        shutil.rmtree(replay_of(last), ignore_errors=True)
    return evaluation


def trained_policy(
    run: SavedRun, world: WorldModel[Any] | None = None
) -> tuple[Policy, Simulation]:
    """The policy of a run, ready to act, and the simulation it acts in.

    Args:
        run: The run, opened.
        world: Where it shall act; None for the world of the run.

    Raises:
        FileNotFoundError: The run has no checkpoint yet.
        ValueError: The checkpoint is damaged or of other networks, or the world does not fit.
    """
    config = run.config
    place = config.world if world is None else world
    rows = make_rows(place, config.task, config.agent, config.env, num_envs=1)
    # The run's seed, so that runs that act by chance do not all act alike.
    learner = config.agent.build(rows.env, config.seed, config.device)
    if not isinstance(learner, RandomPolicy):
        if run.checkpoint is None:
            raise FileNotFoundError(f"the run in {run.folder} has no checkpoint yet")
        set_parameters(learner, read_checkpoint(run.checkpoint), run.checkpoint, config.device)
    return learner, rows.simulation


class _Run:
    """One run of a learner, with its open files."""

    def __init__(
        self,
        config: TrainConfig,
        settings: Mapping[str, Any],
        folder: RunFolder,
        rows: Rows,
        learner: Any,
        console: Console,
    ) -> None:
        self.config, self.settings, self.folder = config, settings, folder
        self.rows, self.learner, self.console = rows, learner, console
        self.metrics: CsvTable | None = None
        self.timings: CsvTable | None = None
        self.books = Books([0.0] * config.num_envs, [0] * config.num_envs)
        self.checkpoint_s = 0.0
        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps  {task.fields[said]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.bar = self.progress.add_task("", total=config.steps, said="")
        self.sink: Sink | None = None

    def go(self, checkpoint: Path | None) -> None:
        """Learn what is left to learn."""
        self.learner.set_logger(LearnerLog(None, []))
        try:
            if checkpoint is not None:
                self._resume(checkpoint)
            left = self.config.steps - self.learner.num_timesteps
            if left > 0:
                watch = Watch(self.books, self.config.agent.row_every, self._boundary)
                with self.progress:
                    self.learner.learn(
                        left, watch, log_interval=None, reset_num_timesteps=checkpoint is None
                    )
        finally:
            for file in (self.metrics, self.timings, self.sink):
                if file is not None:
                    file.close()

    def _boundary(self, watch: Watch) -> None:
        config, step = self.config, self.learner.num_timesteps
        began = time.perf_counter()
        evaluation = self._evaluated(step)
        watch.seconds["evaluation_s"] = time.perf_counter() - began
        if self.metrics is None or self.timings is None:
            assert evaluation is not None
            heads = columns(evaluation, config.agent.columns)
            self.metrics = CsvTable(self.folder.metrics, heads)
            self.timings = CsvTable(self.folder.timings, TIMING_COLUMNS)
        if self.sink is None:
            self.sink = config.logger.open(self.folder.path, self.settings, step)
        learned = {k: float(v) for k, v in self.learner.logger.name_to_value.items()}
        self.learner.logger.dump(step)
        row = {
            **watch.finished.row(),
            "timesteps": step,
            "episodes": self.books.episodes,
            **learned,
            **evaluation_row(evaluation),
        }
        self.metrics.write(row)
        self.timings.write({"timesteps": step, **watch.seconds, "checkpoint_s": self.checkpoint_s})
        self.sink.write({k: row.get(k) for k in self.metrics.columns[1:]}, step)
        began = time.perf_counter()
        self._save(step)
        _document(self.folder, self.settings)
        self.checkpoint_s = time.perf_counter() - began
        self._tell(step, watch, evaluation)

    def _evaluated(self, step: int) -> Evaluation | None:
        """An evaluation where one is due: first, last, and every so many steps."""
        settings, last = self.config.evaluation, self.books.evaluated
        if last >= 0 and step - last < settings.every and step < self.config.steps:
            return None
        self.books.evaluated = step
        return evaluate_policy(
            self.learner,
            self.rows.simulation,
            settings,
            settings.episodes,
            self.config.world,
            self.folder.path / "videos" / f"step-{step:010d}",
        )

    def _save(self, step: int) -> None:
        assert self.metrics is not None and self.timings is not None
        values = {
            **learner_state(self.learner),
            "random": random_state(),
            "books": asdict(self.books),
            "metrics_bytes": self.metrics.length,
            "timings_bytes": self.timings.length,
        }
        save_checkpoint(self.folder.checkpoints, step, values, self._write)

    def _write(self, checkpoint: Path, earlier: Path | None) -> None:
        self.rows.save(rows_of(checkpoint))
        replay = getattr(self.learner, "replay_buffer", None)
        if replay is not None:
            before = None if earlier is None else replay_of(earlier)
            save_replay(replay, self._slots, replay_of(checkpoint), before)

    @property
    def _slots(self) -> int:
        """Steps so far of each environment, which is what a replay memory counts."""
        return int(self.learner.num_timesteps) // self.config.num_envs

    def _resume(self, checkpoint: Path) -> None:
        learner, values = self.learner, read_checkpoint(checkpoint)
        restore_learner(learner, values, checkpoint, self.config.device)
        replay = getattr(learner, "replay_buffer", None)
        if replay is not None:
            load_replay(replay, self._slots, replay_of(checkpoint))
        self.books = Books(**values["books"])
        self.rows.restore(rows_of(checkpoint))
        self.metrics = CsvTable(self.folder.metrics, None, values["metrics_bytes"])
        self.timings = CsvTable(self.folder.timings, None, values["timings_bytes"])
        self.console.print(f"going on at step {learner.num_timesteps}")
        # Last, since building and restoring may have drawn numbers.
        restore_random_state(values["random"])

    def _tell(self, step: int, watch: Watch, evaluation: Evaluation | None) -> None:
        told = watch.finished.row()
        said = [f"{name} {told[name]:.3f}" for name in ("return", "is_success") if name in told]
        self.progress.update(self.bar, completed=step, said="  ".join(said))
        if evaluation is not None:
            told_by = evaluation.summary()
            names = [name for name in ("return", "is_success") if name in told_by]
            line = ", ".join(f"{name} {told_by[name]}" for name in names)
            self.console.print(
                f"{step:>9} steps  evaluated: {line}", highlight=False, soft_wrap=True
            )


def _record_chance(
    config: TrainConfig,
    settings: Mapping[str, Any],
    folder: RunFolder,
    rows: Rows,
    policy: Policy,
) -> None:
    """The one row of a run that learns nothing."""
    judged = config.evaluation
    evaluation = evaluate_policy(policy, rows.simulation, judged, judged.episodes, config.world)
    table = CsvTable(folder.metrics, columns(evaluation, ()))
    row = {"timesteps": 0, "episodes": 0, **evaluation_row(evaluation)}
    table.write(row)
    table.close()
    _document(folder, settings)
    sink = config.logger.open(folder.path, settings, 0)
    sink.write({name: value for name, value in row.items() if name != "timesteps"}, 0)
    sink.close()


def _document(folder: RunFolder, settings: Mapping[str, Any]) -> None:
    rows = read_rows(folder.metrics)
    write_json(
        folder.path / "metrics.json",
        {**provenance("agents.train"), "run": settings, "rows": rows},
    )
