"""Procedural surface textures, packed with their blurred copies into one atlas image.

Every surface of a scene is a tile of the atlas. Detail stays above about 0.1 m so that a 64-pixel
frame shows it without aliasing, and colours are drawn per cell so that no pattern repeats: frames
identify places.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

TEXELS_PER_METRE = 32
BLUR_LEVELS = 4
# Level k is blurred by BASE_BLUR * 2**k metres (standard deviation); level 0 is the tile as drawn,
# whose bilinear lookup blurs by about as much.
BASE_BLUR = 0.015
_PAD = 2
_SHELF_WIDTH = 512
SKY_RADIUS = 62.0
FACE_AXES = ((2, 1), (0, 2), (0, 1))
"""In-plane (u, v) world axes of the faces orthogonal to x, y and z."""
PATTERN_CONTRAST = np.float32(0.42)
PATTERN_SCALE = 1.6
"""Patterns are drawn this much larger than the sizes their functions name."""


@dataclass(frozen=True)
class Atlas:
    """All tiles of a scene.

    Attributes:
        texels: uint8 [levels * rows, columns, 3]; level k starts at row k * rows.
        rows: Height of one level.
        offsets: float32 [tiles, 2]; surface point (u, v) in metres lies at texel
            (u * TEXELS_PER_METRE + offset_x, v * TEXELS_PER_METRE + offset_y).
    """

    texels: npt.NDArray[np.uint8]
    rows: int
    offsets: FloatArray


@dataclass(frozen=True)
class Tile:
    """One surface: float32 RGB in [0, 1] and the (u, v) in metres of its first corner."""

    image: FloatArray
    corner: tuple[float, float]


def tile_grid(size: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """(u, v) in metres from the first corner of a tile's texels, float32 [rows, columns] each.

    A tile of `size` (u, v) metres has a margin of a few texels on every side.
    """
    v, u = (np.indices(_tile_shape(size), np.float32) - _PAD) / np.float32(TEXELS_PER_METRE)
    return u, v


def _tile_shape(size: tuple[float, float]) -> tuple[int, int]:
    columns, rows = (int(np.ceil(s * TEXELS_PER_METRE)) + 1 + 2 * _PAD for s in size)
    return rows, columns


def sky_grid() -> tuple[FloatArray, FloatArray]:
    """(x, z) of the directions of a sky tile's texels, float32 [side, side] each; 1 is the
    horizon."""
    side = int(2 * SKY_RADIUS) + 1 + 2 * _PAD
    z, x = (np.indices((side, side), np.float32) - np.float32(side // 2)) / np.float32(SKY_RADIUS)
    return x, z


def sky_tile(image: FloatArray) -> Tile:
    """The tile of a sky painted on `sky_grid`, float32 RGB clipped to [0, 1]."""
    half = len(image) // 2 / TEXELS_PER_METRE - _PAD / TEXELS_PER_METRE
    return Tile(np.clip(image, 0, 1).astype(np.float32), (-half, -half))


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> FloatArray:
    """Smooth value noise in about [-1, 1] with knots every `cell` metres."""
    step = cell * TEXELS_PER_METRE
    knots = rng.uniform(-1, 1, (int(shape[0] / step) + 3, int(shape[1] / step) + 3))
    rows, columns = (np.arange(n, dtype=np.float32) / np.float32(step) + 0.5 for n in shape)
    grid_x, grid_y = np.meshgrid(columns, rows)
    noise = cv2.remap(knots.astype(np.float32), grid_x, grid_y, cv2.INTER_CUBIC)
    return np.asarray(noise, np.float32)


def _metres(shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    v, u = np.indices(shape, dtype=np.float32)
    scale = np.float32(TEXELS_PER_METRE * PATTERN_SCALE)
    return u / scale, v / scale


def _palette(rng: np.random.Generator, hue: float) -> FloatArray:
    """Five colours around a hue: middle, dark, light, neighbour and one accent."""
    jitter = rng.uniform(-0.03, 0.03, 5)
    saturation = rng.uniform(0.5, 0.85)
    colours = (
        (hue + jitter[0], saturation, 0.72),
        (hue + jitter[1], saturation, 0.36),
        (hue + jitter[2], 0.3 * saturation, 0.97),
        (hue + 0.09 + jitter[3], saturation, 0.85),
        (hue + 0.45 + jitter[4], 0.8 * saturation, 0.62),
    )
    return np.array([colorsys.hsv_to_rgb(h % 1, s, v) for h, s, v in colours], np.float32)


def _cells(
    rng: np.random.Generator, palette: FloatArray, rows: npt.ArrayLike, columns: npt.ArrayLike
) -> FloatArray:
    """A random palette colour for every unit cell (row, column), light and dark alternating."""
    i, j = (np.floor(axis).astype(np.intp) for axis in (rows, columns))
    i, j = i - i.min(), j - j.min()
    choice = rng.integers(0, len(palette), (int(i.max()) + 1, int(j.max()) + 1))
    value = rng.uniform(0.8, 1.15, choice.shape).astype(np.float32)
    chequer = np.where((i + j) % 2 == 0, np.float32(1.1), np.float32(0.78))
    return palette[choice[i, j]] * (value[i, j] * chequer)[..., None]


def _patchwork(rng: np.random.Generator, shape: tuple[int, int], palette: FloatArray) -> FloatArray:
    u, v = _metres(shape)
    width, height = rng.uniform(0.3, 0.5, 2)
    return _cells(rng, palette, v / height, u / width)


def _bricks(rng: np.random.Generator, shape: tuple[int, int], palette: FloatArray) -> FloatArray:
    u, v = _metres(shape)
    width, height = rng.uniform(0.45, 0.7), rng.uniform(0.24, 0.34)
    row = np.floor(v / height).astype(np.intp)
    along = u / width + 0.5 * (row % 2)
    image = _cells(rng, palette, row, along)
    gap = np.minimum(
        np.minimum(along % 1, 1 - along % 1) * width,
        np.minimum(v / height % 1, 1 - v / height % 1) * height,
    )
    mortar = np.clip(1.6 - gap / 0.04, 0, 1)[..., None].astype(np.float32)
    return image * (1 - 0.7 * mortar) + palette[2] * 0.7 * mortar


def _stripes(rng: np.random.Generator, shape: tuple[int, int], palette: FloatArray) -> FloatArray:
    u, v = _metres(shape)
    angle = rng.uniform(0, np.pi)
    across = u * np.cos(angle) + v * np.sin(angle) + 0.12 * noise(rng, shape, 0.7)
    along = -u * np.sin(angle) + v * np.cos(angle)
    width, length = rng.uniform(0.22, 0.36), rng.uniform(0.5, 0.9)
    stripe = np.floor(across / width).astype(np.intp)
    return _cells(rng, palette, stripe, along / length + 0.5 * (stripe % 2))


def _blobs(rng: np.random.Generator, shape: tuple[int, int], palette: FloatArray) -> FloatArray:
    image = np.broadcast_to(palette[0], (*shape, 3)).astype(np.float32)
    for colour, cell in zip(palette[1:], rng.uniform(0.25, 0.4, 4), strict=True):
        weight = np.clip((noise(rng, shape, cell * PATTERN_SCALE) - 0.12) / 0.12, 0, 1)[..., None]
        image = image * (1 - weight) + colour * weight
    return image


def _discs(rng: np.random.Generator, shape: tuple[int, int], palette: FloatArray) -> FloatArray:
    u, v = _metres(shape)
    pitch = rng.uniform(0.36, 0.52)
    i, j = np.floor(v / pitch).astype(np.intp), np.floor(u / pitch).astype(np.intp)
    radius = rng.uniform(0.25, 0.46, (int(i.max()) + 1, int(j.max()) + 1))[i, j] * pitch
    distance = np.hypot((u / pitch % 1 - 0.5) * pitch, (v / pitch % 1 - 0.5) * pitch)
    weight = np.clip((radius - distance) / 0.05 + 0.5, 0, 1)[..., None].astype(np.float32)
    return _cells(rng, palette, i, j) * weight + palette[int(rng.integers(3))] * (1 - weight)


_PATTERNS = (_patchwork, _bricks, _stripes, _blobs, _discs)


def draw_surface(
    rng: np.random.Generator,
    corner: tuple[float, float],
    size: tuple[float, float],
    hue: float,
    shade: float,
) -> Tile:
    """Draw one surface of `size` (u, v) metres, in a random pattern around `hue`, times `shade`."""
    shape = _tile_shape(size)
    pattern = _PATTERNS[int(rng.integers(len(_PATTERNS)))]
    image = pattern(rng, shape, _palette(rng, hue))
    # Surfaces differ more from each other than within, so that one frame identifies a wall.
    middle: FloatArray = np.asarray(image.mean(axis=(0, 1), dtype=np.float32), np.float32)
    image = middle + PATTERN_CONTRAST * (image - middle)
    grain = np.ones(shape, np.float32)
    for amplitude, cell in ((0.3, 1.6), (0.08, 0.5), (0.05, 0.25)):
        grain = grain + np.float32(amplitude) * noise(rng, shape, cell)
    image = np.clip(image * grain[..., None] * np.float32(shade), 0, 1)
    # Edges a few texels wide instead of steps.
    return Tile(cv2.GaussianBlur(image, (0, 0), 1.5), corner)


def draw_sky(rng: np.random.Generator) -> Tile:
    """Upper half of the sphere of directions seen from above; SKY_RADIUS texels is the horizon."""
    x, y = sky_grid()
    side = len(x)
    height = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))[..., None]
    hue = rng.uniform(0.5, 0.68)
    zenith = np.array(colorsys.hsv_to_rgb(hue, 0.7, 0.75), np.float32)
    horizon = np.array(colorsys.hsv_to_rgb(hue + rng.uniform(-0.5, 0), 0.25, 1.0), np.float32)
    image = horizon + (zenith - horizon) * height**0.7
    cloud = noise(rng, (side, side), 0.8) + 0.5 * noise(rng, (side, side), 0.4)
    image += np.clip(cloud, 0, 0.8)[..., None] * (1 - image)
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.9)
    sun = np.hypot(x - elevation * np.cos(azimuth), y - elevation * np.sin(azimuth))
    image += np.clip(1.5 - sun / 0.08, 0, 1)[..., None] * (
        np.array([1, 0.95, 0.7], np.float32) - image
    )
    return sky_tile(image)


def pack(tiles: Sequence[Tile]) -> Atlas:
    """Place tiles left to right on shelves and stack blurred copies of the whole below."""
    x = y = shelf = 0
    places = []
    for tile in tiles:
        rows, columns = tile.image.shape[:2]
        if x + columns > _SHELF_WIDTH:
            x, y, shelf = 0, y + shelf, 0
        places.append((x, y))
        x, shelf = x + columns, max(shelf, rows)
    height = y + shelf
    levels = np.zeros((BLUR_LEVELS, height, _SHELF_WIDTH, 3), np.uint8)
    for tile, (x, y) in zip(tiles, places, strict=True):
        rows, columns = tile.image.shape[:2]
        for level in range(BLUR_LEVELS):
            image = tile.image
            if level > 0:
                # Tiles are blurred alone so that no neighbour's colour leaks in.
                sigma = BASE_BLUR * 2**level * TEXELS_PER_METRE
                blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
                image = np.asarray(blurred, np.float32)
            levels[level, y : y + rows, x : x + columns] = np.rint(image * 255)
    corners = np.array([tile.corner for tile in tiles])
    offsets = np.array(places) + _PAD - corners * TEXELS_PER_METRE
    return Atlas(levels.reshape(-1, _SHELF_WIDTH, 3), height, offsets.astype(np.float32))
