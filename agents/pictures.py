"""Pictures of a rollout: frames next to the ground truth, and the path from above."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont

from sana_wm_gym.files import atomic_path
from sana_wm_gym.world.procedural.scenes import Scene

Array = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]

_ENLARGED = 4
_HEADER, _GAP = 24, 8
_COMMANDED, _ESTIMATED = "#1f5fa8", "#d1495b"


def side_by_side(frames: Frames, truth: Frames) -> Iterator[Frames]:
    """Video frames with the world's on the left and the truth on the right, each pixel drawn as
    4 x 4.

    Args:
        frames: uint8 [n, H, W, 3].
        truth: The same shape.
    """
    height, width = (_ENLARGED * side for side in frames.shape[1:3])
    sheet = Image.new("RGB", (2 * width + _GAP, height + _HEADER), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    right = width + _GAP
    for left, label in ((0, "generated"), (right, "truth")):
        draw.text((left + width / 2, _HEADER / 2), label, "#333333", font, anchor="mm")
    blank = np.asarray(sheet)
    for made, true in zip(frames, truth, strict=True):
        page = blank.copy()
        for left, frame in ((0, made), (right, true)):
            large = frame.repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
            page[_HEADER:, left : left + width] = large
        yield page


def draw_path(
    path: Path, scene: Scene, start: Array, commanded: Array, estimated: Array | None
) -> None:
    """Draw the floor plan with the commanded path and the one estimated from generated frames.

    Args:
        path: PNG file; written under a temporary name, then renamed.
        scene: Room and boxes.
        start: Pose of the first frame in the scene, [4, 4].
        commanded: Poses relative to the first frame, [n, 4, 4].
        estimated: Camera centres relative to the first frame in metres, [m, 3], or None where
            there is no estimate.
    """
    figure = Figure(figsize=(6, 6.4), layout="constrained")
    axes = figure.add_subplot(aspect="equal", xlabel="x, m", ylabel="z, m")
    for solid, (low, high) in enumerate(zip(scene.lower, scene.upper, strict=True)):
        size = (high - low)[[0, 2]]
        colour = "#f4f1ea" if solid == 0 else "#c9c3b6"
        axes.add_patch(Rectangle(low[[0, 2]], *size, facecolor=colour, edgecolor="#8a8578"))
    poses = start @ commanded
    x, _, z = poses[:, :3, 3].T
    if estimated is not None:
        centres = estimated @ start[:3, :3].T + start[:3, 3]
        axes.plot(*centres[:, [0, 2]].T, color=_ESTIMATED, label="estimated from the frames")
    axes.plot(x, z, color=_COMMANDED, label="commanded")
    for index in {0, len(poses) - 1}:
        ahead = poses[index, :3, 2]
        axes.annotate(
            "",
            (x[index] + 0.5 * ahead[0], z[index] + 0.5 * ahead[2]),
            (x[index], z[index]),
            arrowprops={"arrowstyle": "-|>", "color": _COMMANDED},
        )
    axes.plot(x[0], z[0], "o", color=_COMMANDED, label="start")
    axes.set_title(f"Scene {scene.seed} from above; arrows show where the camera looks")
    axes.autoscale_view()
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
