"""A training run from its settings to its last evaluation, resuming where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from sana_wm_gym.envs.sb3 import SanaWMVecEnv
from sana_wm_gym.evaluation.episodes import (
    EpisodeStatistics,
    Evaluation,
    read_evaluation,
    scalars,
)
from sana_wm_gym.files import write_json
from sana_wm_gym.ownership import owned
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import progress

from .checkpoint import (
    latest_checkpoint,
    read_checkpoint,
    replay_of,
    restore_environments,
    save_checkpoint,
    save_environments,
)
from .config import TrainAgentConfig
from .learner import RandomPolicy, build_learner, make_env
from .loggers import CsvOutputFormat, read_rows
from .run_folder import claim
from .sb3_state import (
    learner_state,
    load_replay,
    random_state,
    restore_learner,
    restore_random_state,
    save_replay,
)


def learn(
    config: TrainAgentConfig, settings: Mapping[str, Any], text: str, console: Console
) -> Evaluation:
    """Train, or resume training, and evaluate the result.

    Args:
        config: The run.
        settings: What its results depend on, as JSON values.
        text: All settings, as config.yaml keeps them.
        console: Where progress is shown.

    Raises:
        ValueError: Settings do not go together, the folder holds another run, or what a stopped
            run left is damaged.
        FolderInUseError: Another process works in the folder.
        ImportError: A package is missing.
    """
    torch.set_num_threads(config.threads)
    folder, env = config.root, make_env(config)
    learner = build_learner(config.agent, env, config.seed, config.device)
    with owned(folder):
        claim(folder, settings, text)
        finished = folder / "evaluation.json"
        if finished.is_file():
            return read_evaluation(finished)
        return AgentRunCallback(config, settings, env, learner, console).train()


@dataclass
class Counters:
    """Counts of a run that go into its checkpoints."""

    returns: list[float]  # rewards so far of the running episode of each sub-environment
    lengths: list[int]  # its steps so far
    episodes: int = 0  # finished
    logged_at: int = -1  # timesteps at the last row of metrics, -1 before any
    evaluated_at: int = -1  # likewise at the last evaluation


class AgentRunCallback(BaseCallback):
    """Counts episodes at every step; between rollouts logs, evaluates and saves a checkpoint.

    There the last rollout has been learned from and the next has not begun, so metrics are dumped
    here, not by the algorithm's `log_interval`. Arguments are those of `learn`.
    """

    def __init__(
        self,
        config: TrainAgentConfig,
        settings: Mapping[str, Any],
        env: SanaWMVecEnv,
        learner: Any,
        console: Console,
    ) -> None:
        super().__init__()
        self.config, self.settings, self.console = config, settings, console
        self.env, self.learner = env, learner
        self.counters = Counters([0.0] * config.num_envs, [0] * config.num_envs)
        self.finished: list[EpisodeStatistics] = []
        self.progress = progress(console)
        self.checkpoint_s = 0.0
        self._rollout_began = self._rollout_ended = time.perf_counter()

    def train(self) -> Evaluation:
        """Take the steps that are left, and evaluate. A policy that does not learn takes none."""
        config, learner = self.config, self.learner
        checkpoint = latest_checkpoint(config.root / "checkpoints")
        values = {} if checkpoint is None else read_checkpoint(checkpoint)
        if checkpoint is not None:
            restore_learner(learner, values, checkpoint, config.device)
            self._restore(values, checkpoint)
        start = self._step
        self.csv = CsvOutputFormat(config.root, values.get("csv"))
        formats: list[KVWriter] = [self.csv]
        if config.logger is not None:
            formats.append(config.logger.open(config.root, self.settings, start))
        self.log = Logger(str(config.root), formats)
        try:
            if isinstance(learner, RandomPolicy):
                self._log_row(self._evaluation())
                return self._finish()
            learner.set_logger(self.log)
            if checkpoint is not None:  # last, since restoring draws numbers
                restore_random_state(values["random"])
            if start < config.steps:
                with self.progress:
                    self.bar = self.progress.add_task("", total=config.steps, completed=start)
                    learner.learn(
                        config.steps - start,
                        self,
                        log_interval=None,
                        reset_num_timesteps=checkpoint is None,
                    )
            learner.save(config.root / "policy.zip")
            return self._finish()
        finally:
            self.log.close()

    def _finish(self) -> Evaluation:
        """The evaluation at the end; the run is finished when it is written."""
        folder, simulation = self.config.root, self.env.vector_env.simulation
        found = self.config.evaluation.run(
            self.learner, simulation, self.config.world, folder / "videos" / "last"
        )
        facts = {**provenance("sana-wm train"), "run": self.settings}
        write_json(folder / "metrics.json", {**facts, "rows": read_rows(folder / "metrics.csv")})
        write_json(folder / "evaluation.json", {**facts, **found.document()})
        return found

    def _on_step(self) -> bool:
        counters = self.counters
        outcomes = zip(self.locals["rewards"], self.locals["dones"], strict=True)
        for index, (reward, done) in enumerate(outcomes):
            counters.returns[index] += float(reward)
            counters.lengths[index] += 1
            if done:
                info = scalars(self.locals["infos"][index])
                counted = counters.returns[index], counters.lengths[index]
                self.finished.append(EpisodeStatistics(-1, *counted, info))
                counters.episodes += 1
                counters.returns[index], counters.lengths[index] = 0.0, 0
        return True

    def _on_rollout_start(self) -> None:
        last = self.counters.logged_at
        if last < 0 or self.num_timesteps - last >= self.config.log_every:
            self._at_boundary()

    def _on_rollout_end(self) -> None:
        self._rollout_ended = time.perf_counter()

    def _on_training_end(self) -> None:
        if self.num_timesteps > self.counters.logged_at:
            self._at_boundary()

    @property
    def _step(self) -> int:
        return int(getattr(self.learner, "num_timesteps", 0))

    def _at_boundary(self) -> None:
        began, record = time.perf_counter(), self.log.record
        record("time/rollout_s", max(0.0, self._rollout_ended - self._rollout_began))
        record("time/update_s", began - max(self._rollout_ended, self._rollout_began))
        self.counters.logged_at = self._step
        evaluation = self._evaluation()
        record("time/evaluation_s", time.perf_counter() - began)
        record("time/checkpoint_s", self.checkpoint_s)
        self._log_row(evaluation)
        began = time.perf_counter()
        self._save()
        self.checkpoint_s = time.perf_counter() - began
        self.finished = []
        self._rollout_began = self._rollout_ended = time.perf_counter()

    def _evaluation(self) -> Evaluation | None:
        """An evaluation where one is due: first, last, and every so many steps."""
        config, step, last = self.config, self._step, self.counters.evaluated_at
        if last >= 0 and step - last < config.eval_every and step < config.steps:
            return None
        self.counters.evaluated_at = step
        settings = replace(config.evaluation, episodes=config.eval_episodes)
        videos = config.root / "videos" / f"step-{step:010d}"
        return settings.run(self.learner, self.env.vector_env.simulation, config.world, videos)

    def _log_row(self, evaluation: Evaluation | None) -> None:
        row: dict[str, float | None] = {"episodes": self.counters.episodes}
        if self.finished:
            row["return"] = fmean(one.episode_return for one in self.finished)
            row["length"] = fmean(one.length for one in self.finished)
            columns, _ = self.csv.tables["metrics"].state
            for name in self.finished[0].info:
                if f"eval/{name}" in columns:  # the task's numbers, and no other part of `info`
                    row[name] = fmean(float(one.info[name]) for one in self.finished)
        for name, found in {} if evaluation is None else evaluation.summary().items():
            row[f"eval/{name}"] = found.mean
            row[f"eval/{name}_low"], row[f"eval/{name}_high"] = found.low, found.high
        for name, value in row.items():
            if value is not None:
                self.log.record(name, value)
        self.log.dump(self._step)
        self._show(row)

    def _show(self, row: Mapping[str, float | None]) -> None:
        names = ("return", "is_success")
        if self.progress.tasks:
            recent = [f"{name} {row[name]:.3f}" for name in names if name in row]
            text = "steps  " + "  ".join(recent)
            self.progress.update(self.bar, completed=self._step, description=text)
        found = [f"{name} {row[f'eval/{name}']:.3f}" for name in names if f"eval/{name}" in row]
        if found:
            line = f"{self._step:>9} steps  evaluated: {', '.join(found)}"
            self.console.print(line, highlight=False, soft_wrap=True)

    def _save(self) -> None:
        values = {
            **learner_state(self.learner),
            "random": random_state(),
            "counters": asdict(self.counters),
            "csv": self.csv.state,
        }
        save_checkpoint(self.config.root / "checkpoints", self._step, values, self._write)

    def _write(self, checkpoint: Path, earlier: Path | None) -> None:
        save_environments(self.env, checkpoint)
        buffer = getattr(self.learner, "replay_buffer", None)
        if buffer is not None:
            before = None if earlier is None else replay_of(earlier)
            save_replay(buffer, self._slots, replay_of(checkpoint), before)

    def _restore(self, values: Mapping[str, Any], checkpoint: Path) -> None:
        buffer = getattr(self.learner, "replay_buffer", None)
        if buffer is not None:
            load_replay(buffer, self._slots, replay_of(checkpoint))
        self.counters = Counters(**values["counters"])
        restore_environments(self.env, checkpoint)
        self.console.print(f"resuming at step {self._step}")

    @property
    def _slots(self) -> int:
        """Steps so far of each sub-environment, which is what a replay buffer counts."""
        return self._step // self.config.num_envs
