"""How well does a localiser know its map, and does it notice a picture of something else?

A localiser turns one frame into a camera pose in a map, with a confidence. It is tested alone,
without the world that uses it, on starts it was never trained on:

  pose         position and rotation error, median and 95th percentile, over the map, by distance
               to the nearest surface straight ahead, and by heading
  recognition  fraction of foreign pictures that are recognised when 5 % of the map's own frames
               are (wrongly) taken for foreign, by kind of picture: renders of other scenes,
               photographs, noise, gradients, the map's own frames mirrored and recoloured

    python -m benchmarks.localiser                              # the shipped world
    python -m benchmarks.localiser --world FILE.safetensors     # another world file, or weights
                                                                # of a localiser with FILE.json
    python -m benchmarks.localiser --check                      # exit status 1 on a missed bound

Some ten seconds. Writes OUT/localiser.json. Photographs come with scikit-image and scikit-learn.
A localiser by itself is a safetensors file of its weights next to a json file of its
configuration; its map is given with --scene. Everything is seeded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from sana_wm_gym.files import write_json
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.provenance import provenance
from sana_wm_gym.training.fit_localiser import (
    foreign_frames,
    gradients,
    localise,
    noise,
    pose_errors,
    random_appearances,
    recolour,
)
from sana_wm_gym.weights.world_file import EMBEDDED, read_world_file
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render
from sana_wm_gym.world.procedural.scenes import Scene, cast, generate_scene, sample_pose

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

FALSE_ALARMS = 0.05
BOUNDS = {"metres": 0.05, "degrees": 0.7, "metres_p95": 0.3, "degrees_p95": 4.0}
LEAST_RECOGNISED = 0.9
FOREIGN_SCENES = range(100)
"""Scenes of the foreign renders; `fit_localiser.FOREIGN_SCENES` are others."""
COUNTS = {"other scenes": 150, "photographs": 20, "noise": 8, "gradients": 6, "mirrored": 8}
"""Foreign pictures by kind; with 8 recoloured ones 200."""
RECOLOURED = 8
DISTANCES = (1.6, 2.0, 2.5, 3.0, 4.0, 5.0, np.inf)
"""Edges of the table by distance, in metres."""
OCTANTS = ("+z", "+z+x", "+x", "-z+x", "-z", "-z-x", "-x", "+z-x")
"""Headings of 45 degrees each, the first around +z, then turning right."""

_STREAM, _FOREIGN_STREAM = 71, 72
# Among scikit-image's pictures, what is no photograph.
_DRAWINGS = {
    "chessboard_GRAY",
    "chessboard_RGB",
    "color",
    "horse",
    "logo",
    "page",
    "phantom",
    "text",
}


@dataclass(frozen=True)
class PoseErrors:
    """Errors of a group of frames.

    Attributes:
        group: Which frames.
        count: How many.
        metres: Median position error; NaN for an empty group, as the other three.
        degrees: Median rotation error.
        metres_p95: 95th percentile of the position error.
        degrees_p95: 95th percentile of the rotation error.
    """

    group: str
    count: int
    metres: float
    degrees: float
    metres_p95: float
    degrees_p95: float

    @staticmethod
    def of(group: str, metres: Floats, degrees: Floats) -> PoseErrors:
        """Summarise position errors [n] in metres and rotation errors [n] in degrees."""
        if not len(metres):
            return PoseErrors(group, 0, *[float("nan")] * 4)
        medians = (float(np.median(error)) for error in (metres, degrees))
        tails = (float(np.percentile(error, 95)) for error in (metres, degrees))
        return PoseErrors(group, len(metres), *medians, *tails)


@dataclass(frozen=True)
class Recognition:
    """How many foreign pictures of a kind are recognised.

    Attributes:
        kind: What they show.
        count: How many there are.
        at_false_alarms: Fraction recognised when 5 % of the map's own frames are taken for
            foreign.
        below_half: Fraction whose confidence lies below 0.5, as a world with this localiser warns.
    """

    kind: str
    count: int
    at_false_alarms: float
    below_half: float


@dataclass(frozen=True)
class LocaliserReport:
    """Everything measured; see `localiser_report`.

    Attributes:
        overall: Errors over all held-out starts.
        by_distance: By distance to the surface straight ahead.
        by_heading: By octant of the heading.
        recognition: By kind of foreign picture, and over all in the last row.
        false_alarms: Fraction of held-out starts whose confidence lies below 0.5.
        missing: Names of the packages that photographs come with and that are not installed.
    """

    overall: PoseErrors
    by_distance: tuple[PoseErrors, ...]
    by_heading: tuple[PoseErrors, ...]
    recognition: tuple[Recognition, ...]
    false_alarms: float
    missing: tuple[str, ...]

    def bounds(self) -> dict[str, bool]:
        """Which bounds are kept, by name."""
        kept = {name: getattr(self.overall, name) <= bound for name, bound in BOUNDS.items()}
        return kept | {"recognised": self.recognition[-1].at_false_alarms >= LEAST_RECOGNISED}


def localiser_report(
    localiser: Localiser,
    scene: Scene,
    intrinsics: Sequence[float] | None = None,
    starts: int = 1024,
    seed: int = 0,
) -> LocaliserReport:
    """Measure a localiser on held-out starts of its map and on foreign pictures.

    Args:
        localiser: What to measure; its poses are in the scene's axes.
        scene: Its map. Where its surfaces vary, every start has an appearance of its own.
        intrinsics: (fx, fy, cx, cy) in pixels; None for the renderer's default.
        starts: Number of held-out starts, >= 512 for steady tails.
        seed: Source of the starts and of the foreign pictures.
    """
    size = localiser.config.size
    camera = np.array(default_intrinsics(size, size) if intrinsics is None else intrinsics)
    rng = np.random.default_rng([_STREAM, scene.seed, seed])
    poses = np.stack([sample_pose(scene, rng) for _ in range(starts)])
    frames = np.concatenate(
        [
            render(shown, pose[None], camera, (size, size))
            for shown, pose in zip(random_appearances(scene, starts, rng), poses, strict=True)
        ]
    )
    found = localise(localiser, frames)
    metres, degrees = pose_errors(found.c2w.numpy(), poses)
    genuine = found.confidence.numpy()

    ahead = cast(scene, poses[:, :3, 3], poses[:, :3, 2])
    by_distance = []
    for low, high in zip(DISTANCES, DISTANCES[1:], strict=False):
        chosen = (ahead >= low) & (ahead < high)
        name = f"{low:g} m or more" if np.isinf(high) else f"{low:g} to {high:g} m"
        by_distance.append(PoseErrors.of(name, metres[chosen], degrees[chosen]))
    yaw = np.arctan2(poses[:, 0, 2], poses[:, 2, 2])
    octant = np.round(yaw / (np.pi / 4)).astype(int) % 8
    by_heading = tuple(
        PoseErrors.of(name, metres[octant == index], degrees[octant == index])
        for index, name in enumerate(OCTANTS)
    )

    # The lowest confidence that is still taken for the map, at 5 % false alarms.
    threshold = float(np.quantile(genuine, FALSE_ALARMS))
    rows, scores = [], []
    pictures, missing = foreign_pictures(scene, frames, size, seed)
    for kind, images in pictures.items():
        confidence = localise(localiser, images).confidence.numpy()
        scores.append(confidence)
        rows.append(_recognition(kind, confidence, threshold))
    rows.append(_recognition("all", np.concatenate(scores), threshold))
    return LocaliserReport(
        PoseErrors.of("all starts", metres, degrees),
        tuple(by_distance),
        by_heading,
        tuple(rows),
        float((genuine < 0.5).mean()),
        missing,
    )


def _recognition(kind: str, confidence: Floats, threshold: float) -> Recognition:
    return Recognition(
        kind,
        len(confidence),
        float((confidence < threshold).mean()),
        float((confidence < 0.5).mean()),
    )


def foreign_pictures(
    scene: Scene, own: Frames, size: int, seed: int
) -> tuple[dict[str, Frames], tuple[str, ...]]:
    """The 200 foreign pictures by kind, uint8 [n, size, size, 3], and the missing packages.

    Args:
        scene: The map, whose number is left out of the other scenes.
        own: Frames of the map to mirror and recolour, at least 16.
        size: Height and width in pixels.
        seed: Source of poses, crops and colours.
    """
    rng = np.random.default_rng([_FOREIGN_STREAM, seed])
    generator = torch.Generator().manual_seed(seed)
    # 150 renders of 100 scenes: one of each, two of the first fifty.
    scenes = [number for number in range(101) if number != scene.seed][: len(FOREIGN_SCENES)]
    second = scenes[: COUNTS["other scenes"] - len(scenes)]
    renders = [foreign_frames(numbers, 1, rng, size) for numbers in (scenes, second)]
    photographs, missing = photograph_crops(COUNTS["photographs"], size, rng)
    mirrored = own[: COUNTS["mirrored"], :, ::-1]
    rest = torch.from_numpy(own[COUNTS["mirrored"] :][:RECOLOURED]).movedim(-1, 1).float()
    pictures = {
        "other scenes": np.concatenate(renders),
        "photographs": photographs,
        "noise": _to_frames(noise(COUNTS["noise"], size, generator)),
        "gradients": _to_frames(gradients(COUNTS["gradients"], size, generator)),
        "mirrored": np.ascontiguousarray(mirrored),
        "recoloured": _to_frames(recolour(rest, generator)),
    }
    return {kind: images for kind, images in pictures.items() if len(images)}, missing


def photograph_crops(
    count: int, size: int, rng: np.random.Generator
) -> tuple[Frames, tuple[str, ...]]:
    """Random square crops of the photographs inside scikit-image's and scikit-learn's packages.

    Returns:
        uint8 [count, size, size, 3], or no crops where neither package is installed; and the
        names of the packages that are not.
    """
    photographs, missing = [], []
    for package, module, folder in (
        ("scikit-image", "skimage", "data"),
        ("scikit-learn", "sklearn", "datasets/images"),
    ):
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            missing.append(package)
            continue
        for path in sorted((Path(found.origin).parent / folder).iterdir()):
            if path.suffix in (".png", ".jpg") and path.stem not in _DRAWINGS:
                with Image.open(path) as opened:
                    image = np.asarray(opened.convert("RGB"))
                if min(image.shape[:2]) >= size:
                    photographs.append(image)
    crops = np.empty((count if photographs else 0, size, size, 3), np.uint8)
    for index, crop in enumerate(crops):
        image = photographs[index % len(photographs)]
        side = int(rng.integers(size, min(image.shape[:2]) + 1))
        top, left = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
        piece = image[top : top + side, left : left + side]
        crop[...] = cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA)
    return crops, tuple(missing)


def _to_frames(pictures: torch.Tensor) -> Frames:
    """Pictures float [n, 3, H, W] in [0, 255] as uint8 [n, H, W, 3]."""
    frames: Frames = pictures.round().to(torch.uint8).movedim(1, -1).contiguous().numpy()
    return frames


def pose_table(title: str, rows: Sequence[PoseErrors]) -> Table:
    """Errors, one group per line."""
    table = Table(title=title, title_justify="left")
    table.add_column("starts")
    for heading in ("n", "cm", "deg", "p95 m", "p95 deg"):
        table.add_column(heading, justify="right")
    for row in rows:
        values = (100 * row.metres, row.degrees, row.metres_p95, row.degrees_p95)
        cells = [f"{v:.{d}f}" for v, d in zip(values, (1, 2, 2, 1), strict=True)]
        table.add_row(row.group, str(row.count), *(cells if row.count else "----"))
    return table


def recognition_table(rows: Sequence[Recognition]) -> Table:
    """Foreign pictures recognised, one kind per line."""
    table = Table(title="Foreign pictures recognised", title_justify="left")
    table.add_column("pictures")
    for heading in ("n", f"at {FALSE_ALARMS:.0%} false alarms", "confidence < 0.5"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.kind, str(row.count), f"{row.at_false_alarms:.2f}", f"{row.below_half:.2f}"
        )
    return table


def read_localiser(world: str, scene: int | None) -> tuple[Localiser, int, list[float] | None]:
    """The localiser of a world, the number of its map, and its intrinsics where known.

    Args:
        world: A world file, the name of a world in the package, or a safetensors file of a
            localiser's weights next to a json file of its configuration.
        scene: The map; None for the one that the world names.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The world has no localiser, or nothing names its map.
    """
    path = Path(world)
    if not path.suffix:
        path = EMBEDDED / f"{world}.safetensors"
    sized = path.with_suffix(".json")
    if path.is_file() and sized.is_file():
        stated: dict[str, Any] = json.loads(sized.read_text(encoding="utf-8"))
        if "channels" in stated:
            localiser = Localiser(LocaliserConfig(**stated))
            localiser.load_state_dict(load_file(path))
            if scene is None:
                raise ValueError(f"{path} does not name its map; give its number with --scene")
            return localiser.eval(), scene, None
    file = read_world_file(path)
    if file.localiser is None:
        raise ValueError(f"{path} has no localiser; expected a world that knows one map")
    number = file.metadata["scenes"][0] if scene is None else scene
    return file.localiser, int(number), list(file.metadata["intrinsics"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.localiser",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--world", default="tiny", help="world file, or name in the package (tiny)")
    parser.add_argument("--scene", type=int, help="number of the map (what the world file names)")
    parser.add_argument("--starts", type=int, default=1024, help="held-out starts (1024)")
    parser.add_argument("--seed", type=int, default=0, help="source of starts and pictures (0)")
    parser.add_argument("--out", type=Path, default=Path("outputs/localiser"), help="folder")
    parser.add_argument("--check", action="store_true", help="exit 1 on a missed bound")
    options = parser.parse_args(arguments)
    if options.starts < 16:
        parser.error("at least 16 starts: some are mirrored and recoloured")
    torch.set_num_threads(1)  # a small network: one thread is faster than threads that wait
    console = Console()
    try:
        localiser, number, intrinsics = read_localiser(options.world, options.scene)
        report = localiser_report(
            localiser, generate_scene(number), intrinsics, options.starts, options.seed
        )
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(pose_table(f"Map {number}, held-out starts", [report.overall]))
    console.print(pose_table("By distance to the surface ahead", report.by_distance))
    console.print(pose_table("By heading", report.by_heading))
    console.print(recognition_table(report.recognition))
    console.print(f"the map's own frames with confidence < 0.5: {report.false_alarms:.3f}")
    if report.missing:
        console.print(f"some photographs left out: pip install {' '.join(report.missing)}")
    bounds = report.bounds()
    for name, kept in bounds.items():
        console.print(f"{name}: {'[green]pass[/]' if kept else '[red]MISS[/]'}")
    target = options.out / "localiser.json"
    document = {
        **provenance("benchmarks.localiser"),
        "scene": number,
        "parameters": sum(p.numel() for p in localiser.parameters()),
        "seed": options.seed,
        "report": _plain(asdict(report)),
        "bounds": bounds,
    }
    write_json(target, document)
    console.print(f"wrote {target}")
    return int(options.check and not all(bounds.values()))


def _plain(value: Any) -> Any:
    """Values for json, which has no NaN."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and np.isnan(value) else value


if __name__ == "__main__":
    sys.exit(main())
