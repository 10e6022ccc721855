"""`schedules.json`: noise tables, staggered chunks and chunk plans of every sampler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.parity_checks.check import Check, Outcome, Skip, close, equal
from benchmarks.parity_checks.files import entry, read_json
from sana_wm_gym.world.learned import schedule

TOLERANCE = 1e-6
DEFAULT_CHUNK = 3


def check(path: Path) -> Iterator[Outcome]:
    """Compare every entry of the file.

    Raises:
        GoldenError: The file is not readable or a record lacks what defines it.
    """
    content = read_json(path)
    for section, value in content.items():
        if section == "flow_euler_ltx":
            for record in value:
                yield from _shifted(section, record)
        elif section == "flow_dpm_solver_time_uniform_flow":
            for record in value:
                yield from _time_grid(section, record)
        elif section == "chunk_flow_euler":
            for record in value:
                yield from _staggered(section, record)
        elif section == "self_forcing":
            for record in value:
                yield from _self_forcing(section, record)
        elif section == "refiner":
            yield from _table(section, value, schedule.refiner())
        elif section == "self_forcing_segments":
            plans = {int(frames): tuple(plan) for frames, plan in value.items()}
            chunk = _chunk_of(plans, extra=0)
            for frames, plan in plans.items():
                ours = schedule.first_takes_remainder(frames, chunk)
                yield equal(f"{section}/{frames}", ours, plan)
        elif section == "chunk_index_first_chunk_plus_one":
            plans = {int(frames): (*starts, int(frames)) for frames, starts in value.items()}
            chunk = _chunk_of(plans, extra=1)
            for frames, plan in plans.items():
                ours = schedule.first_chunk_plus_one(frames, chunk)
                yield equal(f"{section}/{frames}", ours, plan)
        elif section != "diffusers_version":
            yield Skip(section, "not a known section")


def _shifted(section: str, record: Mapping[str, Any]) -> Iterator[Outcome]:
    steps, shift = entry(record, "steps", int, section), entry(record, "shift", float, section)
    name = f"{section}/{steps} steps, shift {shift:g}"
    yield from _table(name, record, schedule.flow_euler_ltx(steps, shift))


def _time_grid(section: str, record: Mapping[str, Any]) -> Iterator[Outcome]:
    steps, shift = entry(record, "steps", int, section), entry(record, "shift", float, section)
    ours = schedule.time_uniform_flow(steps, shift)
    yield _close(f"{section}/{steps} steps, shift {shift:g}/t", ours.sigmas, record["t"])


def _self_forcing(section: str, record: Mapping[str, Any]) -> Iterator[Outcome]:
    if "denoising_step_list" not in record:
        yield from _shifted(section, record)
        return
    steps = record["denoising_step_list"]
    yield from _table(f"{section}/{steps}", record, schedule.self_forcing(steps))


def _table(name: str, record: Mapping[str, Any], ours: schedule.NoiseSchedule) -> Iterator[Outcome]:
    for key, value in record.items():
        if key in ("sigmas", "sigmas_float32"):
            yield _close(f"{name}/{key}", ours.sigmas, value)
        elif key == "timesteps":
            yield _close(f"{name}/{key}", ours.timesteps, value)
        elif key == "timesteps_seen_by_network":
            yield equal(f"{name}/{key}", ours.network_timesteps, tuple(value))
        elif key == "save_pass_timestep":
            yield equal(f"{name}/{key}", int(ours.sigmas[-1]), value)
        elif key not in ("steps", "shift", "denoising_step_list", "note"):
            yield Skip(f"{name}/{key}", "not a known entry")


def _staggered(section: str, record: Mapping[str, Any]) -> Iterator[Outcome]:
    frames, steps = (entry(record, key, int, section) for key in ("latent_frames", "steps"))
    shift = entry(record, "shift", float, section)
    starts = tuple(entry(record, "chunk_index", list, section))
    interval = entry(record, "interval_k", float, section)
    chunk = _chunk_of({frames: (*starts, frames)}, extra=1)
    ours = schedule.chunk_flow_euler(frames, chunk, steps, shift, interval)
    name = f"{section}/{frames} frames, {steps} steps, shift {shift:g}"

    yield equal(f"{name}/chunk_index", ours.plan[:-1], starts)
    if "chunks" in record:
        chunks = [list(pair) for pair in pairwise(ours.plan)]
        yield equal(f"{name}/chunks", chunks, record["chunks"])
    if "chunk_start_steps" in record:
        yield equal(f"{name}/chunk_start_steps", ours.starts, tuple(record["chunk_start_steps"]))
    if "total_global_steps" in record:
        yield equal(f"{name}/total_global_steps", ours.global_steps, record["total_global_steps"])
    if "base_timesteps" in record:
        yield _close(f"{name}/base_timesteps", ours.noise.timesteps, record["base_timesteps"])
    if "active_prefix_frames_per_global_step" in record:
        prefix = [ours.active_frames(step) for step in range(ours.global_steps)]
        key = "active_prefix_frames_per_global_step"
        yield equal(f"{name}/{key}", prefix, record[key])
    if "per_global_step_chunk_timesteps" in record:
        yield _ragged(f"{name}/per_global_step_chunk_timesteps", ours, record)


def _ragged(name: str, ours: schedule.StaggeredSchedule, record: Mapping[str, Any]) -> Check:
    theirs = record["per_global_step_chunk_timesteps"]
    mine = [ours.chunk_timesteps(step) for step in range(ours.global_steps)]
    if [len(row) for row in mine] != [len(row) for row in theirs]:
        return equal(name, [len(row) for row in mine], [len(row) for row in theirs])
    return _close(name, np.concatenate(mine), np.concatenate(theirs))


def _close(name: str, ours: Any, reference: Any) -> Check:
    return close(name, np.asarray(ours), np.asarray(reference, dtype=np.float64), TOLERANCE)


def _chunk_of(plans: Mapping[int, tuple[int, ...]], extra: int) -> int:
    """Chunk size of a set of plans; the file does not state it.

    Args:
        plans: Boundaries by number of frames, all made with one chunk size.
        extra: Frames that the first chunk has beyond the chunk size.
    """
    for plan in plans.values():
        if len(plan) > 3:
            return plan[2] - plan[1]
    for plan in plans.values():
        if len(plan) == 3:
            return plan[1] - extra if extra else plan[2] - plan[1]
    return DEFAULT_CHUNK
