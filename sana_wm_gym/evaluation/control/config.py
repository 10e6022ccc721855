"""One benchmark run as values; `conf/benchmarks/camera_control.yaml` holds the defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sana_wm_gym.checks import require_integer, require_number
from sana_wm_gym.evaluation.bench.build import TEMPLATES
from sana_wm_gym.evaluation.bench.layout import Split, split_of
from sana_wm_gym.evaluation.control.score_video import Scoring
from sana_wm_gym.jobs import Launcher
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.poses.protocol import PoseEstimator


@dataclass(frozen=True)
class ControlConfig:
    """One run.

    Attributes:
        world: As `load_world` names it: of the catalogue, a world file, "package.module:object".
        split: Splits to run, under either of their names.
        bench: Folder or hub id; None builds a small one for the world in the run's folder.
        revision: Commit of a hub bench.
        offline: Take a hub bench from the cache only.
        scenes: First scenes of every split to run; None for all (10 where the bench is built).
        chunks: Length of a bench that is built, in the world's chunks; None for a minute.
        folder: Where everything goes; None for outputs/camera_control/<world>.
        seed: Source of all noise, and of a built bench.
        interval: Stride of the poses that are scored.
        min_coverage: Smallest accepted fraction of placed frames, 0 to 1.
        floor: Score true videos with the same estimator.
        estimator: Turns frames into poses.
        launcher: Where scenes run: `processes` of this machine, or `ray`.
        ray_address: A Ray cluster that already runs, or `auto`; None starts one here.
        workers: Scenes at a time; a cluster that already runs uses all its CPUs.
        shard: This process runs scenes shard, shard + shards, ... of the list.
        shards: How many such processes share the folder.
    """

    world: str = "tiny"
    split: Sequence[str] = ("simple", "hard")
    bench: str | None = None
    revision: str | None = None
    offline: bool = False
    scenes: int | None = None
    chunks: int | None = None
    folder: str | None = None
    seed: int = 0
    interval: int = 4
    min_coverage: float = 0.5
    floor: bool = True
    estimator: PoseEstimator = field(default_factory=LKBundleAdjustment)
    launcher: str = "processes"
    ray_address: str | None = None
    workers: int = 2
    shard: int = 0
    shards: int = 1

    def __post_init__(self) -> None:
        given = [self.split] if isinstance(self.split, str) else list(self.split)
        names = [name for part in given for name in str(part).split(",")]
        if not names:
            raise ValueError(f"given no split; expected some of {', '.join(TEMPLATES)}")
        object.__setattr__(self, "split", tuple(dict.fromkeys(map(split_of, names))))
        optional = {name for name in ("scenes", "chunks") if getattr(self, name) is None}
        for name, low in {"seed": 0, "interval": 1, "shards": 1, "scenes": 1, "chunks": 1}.items():
            if name not in optional:
                require_integer(name, getattr(self, name), low)
        require_integer("shard", self.shard, 0, self.shards - 1)
        require_number("min_coverage", self.min_coverage, 0, 1)
        if self.bench is not None and self.chunks is not None:
            raise ValueError("given chunks with a bench; the bench's own paths decide the length")
        if not hasattr(self.estimator, "estimate"):
            kind = type(self.estimator).__name__
            raise ValueError(f"given estimator {kind}; expected something with .estimate()")
        self.launch  # noqa: B018 - raises where it makes no sense

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits, each once."""
        return tuple(map(split_of, self.split))

    @property
    def name(self) -> str:
        """Name of the world, fit for a folder."""
        return Path(self.world.rpartition(":")[2]).stem

    @property
    def root(self) -> Path:
        """Where everything goes."""
        return Path(self.folder or f"outputs/camera_control/{self.name}")

    @property
    def launch(self) -> Launcher:
        """Runs the scenes."""
        return Launcher(self.launcher, self.workers, self.ray_address)

    @property
    def scoring(self) -> Scoring:
        """How videos are scored."""
        return Scoring(self.estimator, self.interval, self.min_coverage, self.floor)
