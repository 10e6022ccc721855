"""The courtyard: the scene of the shipped world, laid out by hand.

Four walls of different hue under an open sky, panels of about half a metre, and ten surfaces of two
variants each. Detail stays above about 0.2 m, which is as fine as the embedded world's codec
carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.world.procedural.appearance import Surface
from sana_wm_gym.world.procedural.textures import (
    FACE_AXES,
    TEXELS_PER_METRE,
    FloatArray,
    Tile,
    noise,
    sky_grid,
    sky_tile,
    tile_grid,
)

COURTYARD = 15178
"""Scene number of the courtyard, after SANA-WM's paper, arXiv 2605.15178."""

EDGE_SIGMA = 2.2
"""Blur of painted edges, in texels."""
GRAIN = ((0.07, 0.25),)
"""(relative amplitude, cell in metres) of uneven paint: corners for pose estimation inside large
areas, at next to no cost for a codec."""
LIGHT = (1.15, 0.58)
"""Brightness at the top of the walls and at the floor: variance that a codec carries for free, and
little contrast where walls meet sky and floor."""
WALL_CONTRAST = 0.38
"""Contrast between the cells of a wall or the floor, as a fraction of that of their colours."""
PAINT_CONTRAST = 0.5
"""The same between the colours of one paint."""
PANEL = 0.85
"""Contrast of painted boxes with `MIDDLE`."""
SATURATION = 0.8
"""Of all colours. Edges in brightness alone need a third of the codec's directions."""
MIDDLE = np.float32(0.6)

Colour = tuple[float, float, float]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Paint:
    """A pattern in a few colours.

    Attributes:
        pattern: How the colours are laid out.
        colours: RGB in [0, 1].
        step: Size of its cells in metres.
    """

    pattern: Literal["checks", "bands", "stripes", "frame", "wedges", "disc"]
    colours: tuple[Colour, ...]
    step: float = 0.5


@dataclass(frozen=True)
class Solid:
    """A box of the courtyard, or the courtyard itself.

    Attributes:
        lower: Smallest corner (x, y, z) in metres.
        upper: Largest corner.
        paints: One, or one per variant of `surface`; of the courtyard none, it has mosaics.
        surface: Index into `SURFACES`, or -1 for a box that does not vary.
    """

    lower: Vector
    upper: Vector
    paints: tuple[Paint, ...]
    surface: int = -1


ROOM = Solid((-3.0, -1.2, -3.5), (3.0, 1.4, 3.5), ())

CREAM, WHITE, GOLD = (1.0, 0.93, 0.76), (0.97, 0.98, 1.0), (1.0, 0.80, 0.15)
RED, ORANGE, WINE = (0.86, 0.17, 0.14), (0.99, 0.55, 0.15), (0.56, 0.10, 0.22)
GREEN, LIME, PINE = (0.13, 0.60, 0.26), (0.68, 0.90, 0.30), (0.06, 0.38, 0.30)
BLUE, SKY, NAVY = (0.16, 0.34, 0.88), (0.48, 0.80, 1.0), (0.14, 0.17, 0.55)
VIOLET, PINK, PLUM = (0.58, 0.26, 0.78), (1.0, 0.62, 0.80), (0.38, 0.13, 0.46)
TEAL, SAND, STONE = (0.10, 0.62, 0.66), (0.90, 0.76, 0.52), (0.72, 0.72, 0.74)
CLAY, MINT = (0.76, 0.46, 0.32), (0.66, 0.93, 0.80)


# One letter per cell, first row at the top; columns from small to large x or z.
WALLS: dict[int, tuple[dict[str, Colour], tuple[str, ...]]] = {
    # x = -3, in violet and pink; seen from inside, large z is to the right.
    0: (
        {"v": VIOLET, "k": PINK, "p": PLUM, "w": WHITE, "y": GOLD},
        (
            "kkvwwkvvkwkk",
            "pvkkvwkpwvyv",
            "vkwpvkvkvkwp",
            "kpvkwpkvwpvk",
        ),
    ),
    # x = +3, in greens.
    1: (
        {"g": GREEN, "l": LIME, "p": PINE, "w": CREAM, "t": TEAL},
        (
            "lgglwglgllgw",
            "glpgwlpgwglp",
            "wglwgplwgpwg",
            "pwglpgwlgwlp",
        ),
    ),
    # z = -3.5, in blues.
    4: (
        {"b": BLUE, "s": SKY, "n": NAVY, "w": WHITE},
        (
            "sbbswsbbss",
            "bsnwbsbnwb",
            "wbsbnwsbsn",
            "nswbsbnwbs",
        ),
    ),
    # z = +3.5, in reds.
    5: (
        {"r": RED, "o": ORANGE, "c": CREAM, "m": WINE},
        (
            "orrocroroo",
            "rcomrocmrc",
            "corcomrocr",
            "mrcormcorm",
        ),
    ),
}
# Rows from small to large z, columns from small to large x.
FLOOR: tuple[dict[str, Colour], tuple[str, ...]] = (
    {"s": SAND, "g": STONE, "c": CLAY, "w": CREAM, "m": MINT},
    (
        "gswcg",
        "cgsmw",
        "swcgs",
        "mcgwc",
        "wsmcg",
        "gwcsw",
    ),
)

SURFACES = (
    Surface("door", ("blue", "yellow")),
    Surface("banner", ("white", "purple")),
    Surface("gate", ("red", "white")),
    Surface("poster", ("orange", "blue")),
    Surface("arch", ("yellow", "maroon")),
    Surface("mural", ("lime", "blue")),
    Surface("crates", ("yellow", "purple")),
    Surface("pillar", ("red", "mint")),
    Surface("fountain", ("yellow", "blue")),
    Surface("tower", ("pink", "green")),
)
_DOOR = (Paint("frame", (NAVY, BLUE)), Paint("bands", (GOLD, CREAM), 0.5))
_BANNER = (Paint("bands", (WHITE, GOLD), 0.5), Paint("stripes", (PLUM, VIOLET), 0.4))
_GATE = (Paint("checks", (RED, ORANGE), 0.55), Paint("wedges", (WHITE, SKY)))
_POSTER = (Paint("disc", (CREAM, ORANGE)), Paint("wedges", (NAVY, TEAL)))
_ARCH = (Paint("frame", (GOLD, WHITE)), Paint("bands", (WINE, PLUM), 0.55))
_MURAL = (Paint("wedges", (LIME, CREAM)), Paint("checks", (BLUE, NAVY), 0.55))
_CRATES = (Paint("frame", (GOLD, CREAM)), Paint("checks", (PLUM, VIOLET), 0.45))
_PILLAR = (Paint("bands", (RED, WINE), 0.45), Paint("bands", (WHITE, MINT), 0.65))
_FOUNTAIN = (Paint("checks", (CREAM, GOLD), 0.5), Paint("frame", (BLUE, NAVY)))
_TOWER = (Paint("bands", (PINK, WHITE), 0.6), Paint("checks", (PINE, GREEN), 0.5))
_BENCH = (Paint("stripes", (CLAY, SAND), 0.5),)

SOLIDS = (
    ROOM,
    Solid((-1.6, -0.75, 3.44), (-0.5, 1.4, 3.5), _DOOR, 0),
    Solid((0.5, -1.0, 3.44), (1.7, 0.7, 3.5), _BANNER, 1),
    Solid((2.94, -0.7, -0.4), (3.0, 1.4, 1.3), _GATE, 2),
    Solid((2.94, -0.95, -2.7), (3.0, 0.55, -1.4), _POSTER, 3),
    Solid((-0.9, -0.8, -3.5), (0.6, 1.4, -3.44), _ARCH, 4),
    Solid((-3.0, -0.95, 0.6), (-2.94, 0.65, 2.2), _MURAL, 5),
    Solid((2.1, 0.4, 2.5), (3.0, 1.4, 3.5), _CRATES, 6),
    Solid((2.4, -0.3, 2.8), (3.0, 0.4, 3.5), _CRATES, 6),
    Solid((-1.7, -1.2, 1.4), (-1.3, 1.4, 1.8), _PILLAR, 7),
    Solid((-0.55, 0.7, -0.55), (0.55, 1.4, 0.55), _FOUNTAIN, 8),
    Solid((1.3, -0.5, -2.1), (2.0, 1.4, -1.4), _TOWER, 9),
    Solid((-3.0, 0.9, -2.2), (-2.5, 1.4, -0.7), _BENCH),
)


def _cells(paint: Paint, size: tuple[float, float]) -> npt.NDArray[np.intp]:
    """The number of the colour of each texel of a tile; beyond the last it starts over."""
    u, v = tile_grid(size)
    columns, rows = (max(1, round(side / paint.step)) for side in size)
    match paint.pattern:
        case "checks":
            cells = np.floor(u / size[0] * columns) + np.floor(v / size[1] * rows)
        case "bands":
            cells = np.floor(v / size[1] * max(2, rows))
        case "stripes":
            cells = np.floor(u / size[0] * max(2, columns))
        case "frame":  # around a panel, a quarter of the shorter side wide
            border = np.float32(min(size) / 4)
            cells = (u > border) & (u < size[0] - border) & (v > border) & (v < size[1] - border)
        case "wedges":  # four triangles that meet in the middle
            cells = np.abs(u / size[0] - 0.5) > np.abs(v / size[1] - 0.5)
        case "disc":
            cells = np.hypot(u - size[0] / 2, v - size[1] / 2) < 0.36 * min(size)
    return np.asarray(cells, np.intp)


def _mute(image: FloatArray) -> FloatArray:
    """The picture with `SATURATION`."""
    grey = (image @ np.array([0.3, 0.5, 0.2], np.float32))[..., None]
    return np.asarray(grey + np.float32(SATURATION) * (image - grey), np.float32)


def _tile(image: FloatArray, corner: tuple[float, float], level: float | None) -> Tile:
    """Grain, soft edges and light; `level` is the y of a horizontal tile, None for upright ones."""
    rng = np.random.default_rng([len(image), *(round(1000 * (c + 10)) for c in corner)])
    for amplitude, cell in GRAIN:
        image = image * (1 + np.float32(amplitude) * noise(rng, image.shape[:2], cell))[..., None]
    blurred = cv2.GaussianBlur(image, (0, 0), EDGE_SIGMA, borderType=cv2.BORDER_REPLICATE)
    rows = np.arange(len(image), dtype=np.float32)[:, None, None] / TEXELS_PER_METRE + corner[1]
    top, floor = ROOM.lower[1], ROOM.upper[1]
    below = ((rows if level is None else level) - top) / (floor - top)
    blurred = blurred * (LIGHT[0] + (LIGHT[1] - LIGHT[0]) * below)
    blurred = _mute(np.asarray(blurred, np.float32))
    return Tile(np.clip(blurred, 0, 1).astype(np.float32), corner)


def _paint(
    paint: Paint,
    corner: tuple[float, float],
    size: tuple[float, float],
    axis: int,
    level: float | None,
) -> Tile:
    colours = _soften(np.array(paint.colours, np.float32), PAINT_CONTRAST)
    colours = MIDDLE + np.float32(PANEL) * (colours - MIDDLE)
    # Faces that meet at an edge begin with different colours, and those along x are in shade.
    cells = (_cells(paint, size) + (axis == 0)) % len(colours)
    image = colours[cells] * np.float32(0.9 if axis == 0 else 1.0)
    return _tile(image, corner, level)


def _soften(colours: FloatArray, contrast: float) -> FloatArray:
    """Colours [..., 3] moved towards their mean."""
    mean = colours.reshape(-1, 3).mean(0)
    return (mean + np.float32(contrast) * (colours - mean)).astype(np.float32)


def _mosaic(
    palette: dict[str, Colour],
    rows: tuple[str, ...],
    corner: tuple[float, float],
    size: tuple[float, float],
    level: float | None,
) -> Tile:
    """Equal cells, coloured letter by letter."""
    u, v = tile_grid(size)
    i = np.clip((v / size[1] * len(rows)).astype(np.intp), 0, len(rows) - 1)
    j = np.clip((u / size[0] * len(rows[0])).astype(np.intp), 0, len(rows[0]) - 1)
    colours = np.array([[palette[letter] for letter in row] for row in rows], np.float32)
    colours = _soften(colours, WALL_CONTRAST)
    return _tile(colours[i, j], corner, level)


def draw_tiles() -> tuple[list[Tile], npt.NDArray[np.intp]]:
    """All tiles but the sky, and which of them each face shows.

    Returns:
        The tiles; and intp [2, 6 * solids], the tile of face f of solid s at 6 * s + f when its
        surface shows variant 0 and 1.
    """
    tiles: list[Tile] = []
    faces = []
    for solid in SOLIDS:
        low, high = solid.lower, solid.upper
        for face in range(6):
            u, v = FACE_AXES[face // 2]
            corner, size = (low[u], low[v]), (high[u] - low[u], high[v] - low[v])
            level = None if face // 2 != 1 else high[1] if solid is ROOM else low[1]
            if solid is ROOM:
                # The ceiling is open; its tile is never shown.
                drawn = [_mosaic(*WALLS.get(face, FLOOR), corner, size, level)]
            else:
                drawn = [_paint(paint, corner, size, face // 2, level) for paint in solid.paints]
            faces.append((len(tiles), len(tiles) + len(drawn) - 1))
            tiles += drawn
    return tiles, np.array(faces, np.intp).T


# (azimuth, elevation, half width, half height) in degrees; azimuth 0 is +z, 90 is +x.
_CLOUDS = (
    (15, 30, 26, 9),
    (62, 48, 20, 10),
    (100, 24, 16, 8),
    (150, 38, 30, 11),
    (205, 22, 14, 7),
    (232, 46, 20, 12),
    (285, 28, 24, 8),
    (330, 44, 16, 9),
)
_SUN = (195.0, 40.0, 9.0)


def draw_sky() -> Tile:
    """A bright sky with clouds, and the sun in the south, around the horizon's warm haze."""
    x, z = sky_grid()
    radius = np.minimum(np.hypot(x, z), 1)
    elevation = np.degrees(np.arccos(radius))
    azimuth = np.degrees(np.arctan2(x, z))
    haze = np.array([0.80, 0.92, 1.0], np.float32)
    zenith = np.array([0.22, 0.50, 0.92], np.float32)
    height = np.clip(elevation / 50, 0, 1)[..., None]
    image = (haze + (zenith - haze) * height).astype(np.float32)

    def lay(colour: Colour, where: tuple[float, float, float, float]) -> None:
        turn = (azimuth - where[0] + 180) % 360 - 180
        # Degrees of azimuth shrink towards the zenith.
        across = turn * np.cos(np.radians(where[1])) / where[2]
        distance = np.hypot(across, (elevation - where[1]) / where[3])
        cover = np.clip((1.15 - distance) / 0.3, 0, 1)[..., None]
        image[...] += cover * (np.array(colour, np.float32) - image)

    for cloud in _CLOUDS:
        lay((1.0, 1.0, 1.0), cloud)
    lay((1.0, 0.90, 0.35), (*_SUN, _SUN[2]))
    soft = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.8), np.float32)
    return sky_tile(_mute(soft))
