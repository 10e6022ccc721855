"""Scenes of the procedural world: a textured room or courtyard with a few boxes in it.

World axes follow OpenCV: x right, y down, z forward, in metres. The eye is at y = 0 on average,
the floor below it at positive y. A scene is a value made from its seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sana_wm_gym.checks import require_integer
from sana_wm_gym.world.procedural import courtyard
from sana_wm_gym.world.procedural.appearance import Surface, check_appearance
from sana_wm_gym.world.procedural.courtyard import COURTYARD
from sana_wm_gym.world.procedural.textures import (
    FACE_AXES,
    Atlas,
    Tile,
    draw_sky,
    draw_surface,
    pack,
)

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]

FLOOR_Y = 1.4
CEILING_Y = -1.2


@dataclass(frozen=True)
class Scene:
    """Geometry and texture of one scene.

    Solid 0 is the room, seen from inside; the others are boxes, seen from outside. Face
    2 * axis + side of a solid is orthogonal to `axis`, at its lower (0) or upper (1) bound.

    Attributes:
        seed: The seed that `generate_scene` made it from.
        lower: float64 [solids, 3], smallest corner of each solid.
        upper: float64 [solids, 3], largest corner of each solid.
        open_sky: Courtyard; the ceiling face shows the sky at infinity.
        atlas: All tiles that faces can show; the last is the sky.
        tiles: intp [variants, 6 * solids], the tile of face f of solid s, at 6 * s + f, when the
            surface that it belongs to shows each variant.
        surfaces: What varies; empty where nothing does.
        appearance: The variant that each surface shows.
        surface_of: intp [solids], the surface that a solid belongs to, or -1.
    """

    seed: int
    lower: FloatArray
    upper: FloatArray
    open_sky: bool
    atlas: Atlas
    tiles: IndexArray
    surface_of: IndexArray
    surfaces: tuple[Surface, ...] = ()
    appearance: tuple[int, ...] = ()

    def shown_tiles(self) -> IndexArray:
        """The tile that each face shows now, intp [6 * solids]."""
        # Solids outside every surface show variant 0.
        variants = np.array([*self.appearance, 0], np.intp)[self.surface_of]
        shown: IndexArray = self.tiles[np.repeat(variants, 6), np.arange(self.tiles.shape[1])]
        return shown


def with_appearance(scene: Scene, appearance: Sequence[int]) -> Scene:
    """The scene with other variants on its surfaces; ValueError unless one per surface is given."""
    check_appearance(scene.surfaces, appearance)
    return replace(scene, appearance=tuple(appearance))


def _place_boxes(
    rng: np.random.Generator, room_lower: FloatArray, room_upper: FloatArray
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Four or five boxes on the floor with a passage of 0.9 m around each."""
    lower, upper = [room_lower], [room_upper]
    wanted, passage = int(rng.integers(4, 6)), 0.9
    start, end = room_lower[[0, 2]], room_upper[[0, 2]]
    for _ in range(200):
        if len(lower) == wanted + 1:
            break
        size = rng.uniform(0.4, 1.2, 2)
        height = rng.choice([rng.uniform(0.5, 1.1), rng.uniform(1.2, 2.0), FLOOR_Y - CEILING_Y])
        if height > 2.2:
            size = np.minimum(size, 0.6)
        corner = start + passage + rng.uniform(0, 1, 2) * (end - start - size - 2 * passage)
        if rng.random() < 0.4:
            # Stand it against a wall.
            axis = int(rng.integers(2))
            corner[axis] = rng.choice([start[axis], end[axis] - size[axis]])
        low = np.array([corner[0], FLOOR_Y - height, corner[1]])
        high = np.array([corner[0] + size[0], FLOOR_Y, corner[1] + size[1]])
        clear = all(
            np.any(low - passage > other_high) or np.any(high + passage < other_low)
            for other_low, other_high in zip(lower[1:], upper[1:], strict=True)
        )
        if clear:
            lower.append(low)
            upper.append(high)
    return lower, upper


def _draw_tiles(rng: np.random.Generator, lower: FloatArray, upper: FloatArray) -> list[Tile]:
    light = np.array([rng.uniform(-0.5, 0.5), -0.8, rng.uniform(-0.5, 0.5)])
    light /= np.linalg.norm(light)
    tiles, first_hue = [], rng.random()
    for solid, (low, high) in enumerate(zip(lower, upper, strict=True)):
        box_hue = rng.random()
        for face in range(6):
            axis, side = divmod(face, 2)
            outward = (2.0 * side - 1.0) * (1 if solid else -1)
            shade = 0.8 + 0.3 * (float(light[axis]) * outward)
            # The six faces of the room have hues apart, those of a box similar ones.
            hue = first_hue + (face * 5 % 6) / 6 if solid == 0 else box_hue + 0.08 * axis
            u, v = FACE_AXES[axis]
            corner = float(low[u]), float(low[v])
            size = float(high[u] - low[u]), float(high[v] - low[v])
            tiles.append(draw_surface(rng, corner, size, hue + rng.uniform(-0.04, 0.04), shade))
    return tiles


@lru_cache(maxsize=16)
def generate_scene(seed: int) -> Scene:
    """Make the scene of a seed: a room of 5 to 7 m, 2.6 m high, with four or five boxes.

    `COURTYARD` is laid out by hand instead, and its surfaces vary.

    Raises:
        ValueError: The seed is negative.
    """
    require_integer("scene seed", seed, 0)
    if seed == COURTYARD:
        return _courtyard()
    rng = np.random.default_rng(seed)
    half = rng.uniform(2.5, 3.5, 2)
    room_lower = np.array([-half[0], CEILING_Y, -half[1]])
    room_upper = np.array([half[0], FLOOR_Y, half[1]])
    lower, upper = (np.stack(side) for side in _place_boxes(rng, room_lower, room_upper))
    open_sky = bool(rng.random() < 0.4)
    tiles = _draw_tiles(rng, lower, upper)
    fixed = np.full(len(lower), -1)
    atlas = pack([*tiles, draw_sky(rng)])
    return Scene(seed, lower, upper, open_sky, atlas, np.arange(len(tiles))[None], fixed)


def _courtyard() -> Scene:
    tiles, table = courtyard.draw_tiles()
    solids = courtyard.SOLIDS
    return Scene(
        COURTYARD,
        np.array([solid.lower for solid in solids]),
        np.array([solid.upper for solid in solids]),
        True,
        pack([*tiles, courtyard.draw_sky()]),
        table,
        np.array([solid.surface for solid in solids]),
        courtyard.SURFACES,
        (0,) * len(courtyard.SURFACES),
    )


def cast(scene: Scene, origins: FloatArray, directions: FloatArray) -> FloatArray:
    """Distance along rays to the first surface, float64 [n], in lengths of the direction.

    Args:
        scene: The scene.
        origins: float64 [n, 3], inside the room.
        directions: float64 [n, 3], not zero.
    """
    inverse = 1.0 / np.where(np.abs(directions) < 1e-12, 1e-12, directions)
    to_lower = (scene.lower[:, None] - origins) * inverse
    to_upper = (scene.upper[:, None] - origins) * inverse
    enter = np.minimum(to_lower, to_upper).max(-1)
    leave = np.maximum(to_lower, to_upper).min(-1)
    hit = (enter < leave) & (enter > 0)
    distance: FloatArray = np.minimum(
        leave[0], np.where(hit[1:], enter[1:], np.inf).min(0, initial=np.inf)
    )
    return distance


def free_space(scene: Scene, positions: FloatArray, margin: float) -> npt.NDArray[np.bool_]:
    """Whether positions [..., 3] in metres are in the room, at least `margin` metres per axis from
    every surface (boxes are grown to larger boxes), bool [...]."""
    inside_room = np.all(
        (positions > scene.lower[0] + margin) & (positions < scene.upper[0] - margin), axis=-1
    )
    points = positions[..., None, :]
    inside_box = np.all(
        (points > scene.lower[1:] - margin) & (points < scene.upper[1:] + margin), axis=-1
    ).any(-1)
    free: npt.NDArray[np.bool_] = inside_room & ~inside_box
    return free


def open_spot(scene: Scene) -> FloatArray:
    """The place on the floor plan farthest from walls and boxes, float64 [3], y = 0, to 0.1 m."""
    low, high = scene.lower[0], scene.upper[0]
    axes = [np.arange(low[i] + 0.1, high[i], 0.1) for i in (0, 2)]
    plan = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    to_walls = np.minimum(plan - low[[0, 2]], high[[0, 2]] - plan).min(-1)
    box_low, box_high = (side[1:, None][..., [0, 2]] for side in (scene.lower, scene.upper))
    outside = np.maximum(box_low - plan, plan - box_high).max(-1)
    clearance = np.minimum(to_walls, outside.min(0, initial=np.inf))
    x, z = plan[int(np.argmax(clearance))]
    return np.array([x, 0.0, z])


def sample_pose(
    scene: Scene,
    rng: np.random.Generator,
    margin: float = 0.4,
    view: float = 1.6,
    radius: float | None = None,
) -> FloatArray:
    """Draw an upright camera pose in free space with nothing nearer than `view` ahead.

    Args:
        scene: The scene.
        rng: Source of position, eye height (+-0.1 m) and heading.
        margin: Distance to every surface in metres.
        view: Smallest distance straight ahead in metres.
        radius: Largest distance on the floor plan from the scene's `open_spot`, in metres; None
            for anywhere.

    Returns:
        Camera to world, float64 [4, 4].

    Raises:
        ValueError: The scene leaves no such pose.
    """
    lower, upper = scene.lower[0], scene.upper[0]
    centre = None if radius is None else open_spot(scene)
    if centre is not None and radius is not None:
        lower, upper = np.maximum(lower, centre - radius), np.minimum(upper, centre + radius)
    for _ in range(1000):
        position = rng.uniform(lower, upper)
        position[1] = rng.uniform(-0.1, 0.1)
        yaw = rng.uniform(-np.pi, np.pi)
        heading = np.array([np.sin(yaw), 0.0, np.cos(yaw)])
        if centre is not None and np.hypot(*(position - centre)[[0, 2]]) > radius:
            continue
        if not free_space(scene, position, margin):
            continue
        if cast(scene, position[None], heading[None])[0] < view:
            continue
        c2w = np.eye(4)
        c2w[:3, 0] = np.cos(yaw), 0.0, -np.sin(yaw)
        c2w[:3, 2] = heading
        c2w[:3, 3] = position
        return c2w
    raise ValueError(f"scene {scene.seed} has no pose {margin} m clear with {view} m of view")
