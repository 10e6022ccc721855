"""How well does a world follow the camera? SANA-WM-Bench, or a small bench whose truth is known.

python -m benchmarks.camera_control --help
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from sana_wm_gym.evaluation.bench.build import build_bench
from sana_wm_gym.evaluation.bench.hub import bench_root
from sana_wm_gym.evaluation.bench.layout import SceneEntry, list_scenes
from sana_wm_gym.evaluation.bench.results import MethodFolder, MethodInfo, write_method_info
from sana_wm_gym.evaluation.control.config import ControlConfig
from sana_wm_gym.evaluation.control.jobs import Generated, Job
from sana_wm_gym.evaluation.control.launchers import single_threaded
from sana_wm_gym.evaluation.control.run_folder import RunFolder, differ, read_json
from sana_wm_gym.evaluation.control.running import run, scoring_identity
from sana_wm_gym.evaluation.control.worlds import OpenedWorld, open_world, weights_digest
from sana_wm_gym.files import write_json
from sana_wm_gym.provenance import provenance
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES
from sana_wm_gym.world.world_model import WorldSpec

_CONF = Path(__file__).parents[1] / "conf/benchmarks"  # no folder there is named as a setting
_BUILT_SCENES = 10


def benchmark(config: ControlConfig, console: Console) -> int:
    """Run or go on with a benchmark; returns the exit status.

    Raises:
        ValueError: A setting makes no sense, there is no such world or bench, or the folder holds
            another run.
        FileNotFoundError: A file of weights or a bench is missing.
        ImportError: An optional package is missing; says which.
    """
    single_threaded()
    opened = open_world(config.world)
    folder, method = RunFolder(config.root), config.root / config.name
    who = identity(config, opened)
    folder.claim(who)
    bench = _bench(config, opened.world.spec, console)
    entries = [
        entry for split in config.splits for entry in list_scenes(bench, split)[: config.scenes]
    ]
    _describe(method, config, opened)
    source = Generated(config.world, config.seed, method)
    jobs = [Job(entry, config.root, source, config.scoring) for entry in mine(entries, config)]
    return run(
        jobs,
        config.root,
        method,
        config.name,
        {**provenance("benchmarks.camera_control"), "run": who},
        config.workers,
        config.launch,
        console,
        pending=len(entries) - len(jobs),
    )


def identity(config: ControlConfig, opened: OpenedWorld) -> dict[str, Any]:
    """What all results of a run share, as plain values."""
    return {
        "world": opened.world.spec.name,
        "kind": opened.kind,
        "weights_sha256": None if opened.weights is None else weights_digest(opened.weights),
        "bench": _bench_name(config),
        "seed": config.seed,
        **scoring_identity(config.scoring),
    }


def _bench_name(config: ControlConfig) -> str:
    """What a bench is called wherever it lies; that its files are the same is checked by scene."""
    if config.bench is None:
        return "built"
    name = Path(config.bench).name
    return f"{config.bench}@{config.revision}" if config.revision else name


def mine(entries: list[SceneEntry], config: ControlConfig) -> list[SceneEntry]:
    """Scenes that this process runs, and those that another one has finished already."""
    folder = RunFolder(config.root)
    return [
        entry
        for index, entry in enumerate(entries)
        if index % config.shards == config.shard
        or folder.result_file(entry.split, entry.id).is_file()
    ]


def _bench(config: ControlConfig, spec: WorldSpec, console: Console) -> Path:
    """Folder of the bench, built or fetched if need be."""
    if config.bench is not None:
        return bench_root(
            config.bench, config.revision, splits=config.splits, offline=config.offline
        )
    root = config.root / "bench"
    record = root / "built.json"
    scenes = config.scenes or _BUILT_SCENES
    wanted = {
        "world": spec.name,
        "scenes": scenes,
        "chunks": config.chunks,
        "seed": config.seed,
    }
    built = read_json(record)
    if built is not None:
        differ("this bench", root, built, wanted)
        return root
    with console.status("building a bench with known truth"):
        frames = config.chunks * CHUNK_FRAMES + 1
        build_bench(root, spec, scenes, frames, config.seed)
    write_json(record, wanted)
    return root


def _describe(method: Path, config: ControlConfig, opened: OpenedWorld) -> None:
    spec = opened.world.spec
    variant = "renderer" if opened.weights is None else opened.weights.name
    info = MethodInfo(
        model=spec.name,
        variant=variant,
        fps=spec.fps,
        resolution=f"{spec.width}x{spec.height}",
        extra={"seed": config.seed},
    )
    write_method_info(MethodFolder(method), info)


def main() -> None:
    """Command line; ends the process with 0 if every scene was scored, 1 if not, 2 if nothing
    could be run."""
    try:
        import hydra
    except ModuleNotFoundError:
        sys.exit("error: settings need hydra: pip install sana_wm_gym[bench]")
    given = list(sys.argv)
    # Hydra takes a bare comma for a sweep over two runs; here it lists splits of one.
    sys.argv = [given[0], *map(_listed, given[1:])]

    @hydra.main(config_path=str(_CONF), config_name="camera_control", version_base="1.3")
    def command(settings: Any) -> None:
        sys.argv = given  # for the report's command line
        try:
            status = benchmark(instantiated(settings), Console())
        except (ImportError, OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
        sys.exit(status)

    command()


def instantiated(settings: Any) -> ControlConfig:
    """Settings, a hydra config, as a checked `ControlConfig`.

    Raises:
        ValueError: A setting makes no sense.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        config = instantiate(settings, _convert_="object")
    except InstantiationException as error:
        raise ValueError(str(error.__cause__ or error)) from error
    assert isinstance(config, ControlConfig)
    return config


def _listed(argument: str) -> str:
    key, sign, value = argument.partition("=")
    bare = sign and key == "split" and value[:1] not in ("[", "'", '"')
    return f"{key}=[{value}]" if bare else argument


if __name__ == "__main__":
    main()
