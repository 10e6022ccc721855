"""How well does a world follow the camera? SANA-WM-Bench, or a small bench whose truth is known.

sana-wm bench run --help
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sana_wm_gym.evaluation.bench.build import FULL_FRAMES, build_bench
from sana_wm_gym.evaluation.bench.hub import bench_root
from sana_wm_gym.evaluation.bench.reader import list_scenes
from sana_wm_gym.evaluation.bench.results import MethodFolder, MethodInfo, write_method_info
from sana_wm_gym.evaluation.control.config import ControlConfig
from sana_wm_gym.evaluation.control.generate import OpenedWorld, open_world, weights_digest
from sana_wm_gym.evaluation.control.report import run
from sana_wm_gym.evaluation.control.run_folder import (
    claim,
    read_json,
    refuse_mix,
    scoring_identity,
)
from sana_wm_gym.evaluation.control.scene_job import SceneJob
from sana_wm_gym.files import write_json
from sana_wm_gym.hydra_settings import CONF, run_command
from sana_wm_gym.jobs import shard_of, single_threaded
from sana_wm_gym.provenance import provenance
from sana_wm_gym.world.world_model import WorldSpec

_BUILT_SCENES = 10


def benchmark(config: ControlConfig, console: Console) -> int:
    """Run or resume a benchmark; returns the exit status.

    Raises:
        ValueError: A setting makes no sense, there is no such world or bench, or the folder holds
            another run.
        FileNotFoundError: A file of weights or a bench is missing.
        ImportError: An optional package is missing; the message names it.
    """
    single_threaded()
    opened = open_world(config.world)
    method, who = MethodFolder(config.root / config.name), identity(config, opened)
    claim(config.root, who)
    bench = _bench(config, opened.world.spec, console)
    entries = [
        entry for split in config.splits for entry in list_scenes(bench, split)[: config.scenes]
    ]
    _describe(method, config, opened)
    jobs = [
        SceneJob(
            entry,
            config.root,
            config.scoring,
            method.video(entry.split, entry.id),
            config.world,
            config.seed,
        )
        for entry in entries
    ]
    mine = {job.key for job in shard_of(jobs, config.shard, config.shards)}
    # The last shard to finish reports on all of them.
    ready = [job for job in jobs if job.key in mine or job.file("scenes").is_file()]
    return run(
        ready,
        config.root,
        method,
        config.name,
        {**provenance("sana-wm bench run"), "run": who},
        config.launch,
        console,
        pending=len(jobs) - len(ready),
    )


def identity(config: ControlConfig, opened: OpenedWorld) -> dict[str, Any]:
    """What all results of a run share, as plain values."""
    bench = "built"  # its name, wherever it lies; that its files are the same is checked by scene
    if config.bench is not None:
        revision = config.revision
        bench = f"{config.bench}@{revision}" if revision else Path(config.bench).name
    return {
        "world": opened.world.spec.name,
        "kind": opened.kind,
        "weights_sha256": None if opened.weights is None else weights_digest(opened.weights),
        "bench": bench,
        "seed": config.seed,
        **scoring_identity(config.scoring),
    }


def _bench(config: ControlConfig, spec: WorldSpec, console: Console) -> Path:
    """Folder of the bench, built or fetched if need be."""
    if config.bench is not None:
        return bench_root(
            config.bench, config.revision, splits=config.splits, offline=config.offline
        )
    root, scenes = config.root / "bench", config.scenes or _BUILT_SCENES
    chunks = config.chunks or (FULL_FRAMES - 1) // spec.frames_per_chunk
    wanted = {"world": spec.name, "scenes": scenes, "chunks": chunks, "seed": config.seed}
    built = read_json(root / "built.json")
    if built is not None:
        refuse_mix("this bench", root, built, wanted)
        return root
    with console.status("building a bench with known truth"):
        build_bench(root, spec, scenes, chunks * spec.frames_per_chunk + 1, config.seed)
    write_json(root / "built.json", wanted)
    return root


def _describe(method: MethodFolder, config: ControlConfig, opened: OpenedWorld) -> None:
    spec = opened.world.spec
    variant = "renderer" if opened.weights is None else opened.weights.name
    size, extra = f"{spec.width}x{spec.height}", {"seed": config.seed}
    write_method_info(method, MethodInfo(spec.name, variant, spec.fps, size, extra=extra))


def main(arguments: Sequence[str]) -> int:
    """Command line; returns 0 if every scene was scored, 1 if not."""
    # Hydra takes a bare comma for a sweep over two runs; here it lists splits of one.
    listed = [*map(_listed, arguments)]
    return run_command("camera_control", _run, listed, f"{CONF}.benchmarks")


def _run(config: ControlConfig, console: Console, settings: Any) -> int:
    return benchmark(config, console)


def _listed(argument: str) -> str:
    key, sign, value = argument.partition("=")
    bare = sign and key == "split" and value[:1] not in ("[", "'", '"')
    return f"{key}=[{value}]" if bare else argument
