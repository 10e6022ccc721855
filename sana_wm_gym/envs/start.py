"""Options of `reset`: where a rollout begins."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from sana_wm_gym.camera.image import centre_crop, crop_image, crop_intrinsics
from sana_wm_gym.camera.trajectory import check_intrinsics, check_rigid
from sana_wm_gym.checks import require_integer
from sana_wm_gym.world.procedural.appearance import parse_prompt
from sana_wm_gym.world.procedural.procedural_world import with_prompt
from sana_wm_gym.world.world_model import Start, WorldModel, WorldSpec

OPTIONS = ("image", "intrinsics", "intrinsics_from", "prompt", "scene", "scene_c2w", "start")
"""Keys that `reset(options=...)` knows."""

_OF_AN_IMAGE = ("intrinsics", "intrinsics_from", "scene_c2w")

Picture = str | os.PathLike[str] | npt.NDArray[np.uint8]
"""A file, or uint8 [H, W, 3] RGB of any size."""


class IntrinsicsEstimate(Protocol):
    """Estimates a picture's intrinsics; `world.intrinsics.load_pi3x` makes one."""

    @property
    def name(self) -> str:
        """As `env.unwrapped.intrinsics_from` reports it."""

    def __call__(self, image: npt.NDArray[np.uint8]) -> Sequence[float]:
        """(fx, fy, cx, cy) in pixels of uint8 [H, W, 3]."""


Lens = Sequence[float] | IntrinsicsEstimate
"""Intrinsics (fx, fy, cx, cy), or what estimates them."""


def default_options(
    image: Picture | None, intrinsics: Lens | None, prompt: str | None, spec: WorldSpec
) -> dict[str, Any]:
    """Reset options of an environment with these arguments; see `EnvConfig`. Intrinsics are
    estimated here, once.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no picture, intrinsics come without one, or a value does not fit.
    """
    options: dict[str, Any] = {} if prompt is None else {"prompt": prompt}
    if image is not None:
        pixels = image if isinstance(image, np.ndarray) else read_picture(image)
        if pixels.ndim != 3:
            raise ValueError(f"image is {pixels.dtype} {pixels.shape}, expected uint8 [H, W, 3]")
        crop = centre_crop(pixels.shape[:2], spec.size)
        options["image"] = crop_image(pixels, crop)
        if callable(intrinsics):
            options["intrinsics_from"] = intrinsics.name
            intrinsics = intrinsics(pixels)
        if intrinsics is not None:
            given = np.array(_intrinsics(intrinsics))
            options["intrinsics"] = tuple(crop_intrinsics(given, crop).tolist())
    elif intrinsics is not None:
        raise ValueError("intrinsics describe an image, expected 'image' with them")
    start_choice(options, spec)
    return options


def read_picture(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """A picture file as a viewer shows it, uint8 [H, W, 3] RGB.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a picture.
    """
    try:
        with Image.open(path) as picture:
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture") from error


def with_defaults(options: Mapping[str, Any] | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Reset options, and defaults where they leave something open.

    A start, image or scene in `options` replaces the default image and its intrinsics.
    """
    options, defaults = dict(options or {}), dict(defaults)
    if "start" in options:
        return options
    if options.keys() & {"image", "scene"}:
        defaults = {name: defaults[name] for name in ("prompt",) if name in defaults}
    if "intrinsics" in options:
        defaults.pop("intrinsics_from", None)
    return defaults | options


@dataclass(frozen=True)
class StartChoice:
    """Checked options of one reset.

    Attributes:
        given: The whole start, where the options have all of it.
        scene: Scene to draw a start in otherwise, or None for any.
        prompt: Text that replaces the drawn start's, or None. The variants that it names replace
            the drawn ones.
    """

    given: Start | None = None
    scene: int | None = None
    prompt: str | None = None

    def start(self, world: WorldModel[Any], rng: np.random.Generator) -> Start:
        """The start, drawn with `rng` where the options leave it open; a ValueError where the world
        has no such scene."""
        if self.given is not None:
            return self.given
        drawn = world.sample_start(rng, self.scene)
        return drawn if self.prompt is None else with_prompt(drawn, world.spec, self.prompt)


def start_choice(options: Mapping[str, Any], spec: WorldSpec) -> StartChoice:
    """Check reset options before any work is done; see `SanaWMEnv.reset`.

    Raises:
        ValueError: A key is unknown, keys contradict each other, or a value has the wrong type,
            shape or range.
    """
    unknown = sorted(str(key) for key in options if key not in OPTIONS)
    if unknown:
        raise ValueError(f"unknown reset options {unknown}, expected keys of {list(OPTIONS)}")
    if "start" in options:
        start = options["start"]
        if len(options) > 1 or not isinstance(start, Start):
            raise ValueError(
                f"reset option 'start' is a {type(start).__name__} among {sorted(options)}, "
                "expected a Start and no other option"
            )
        _prompt(start.prompt, spec)
        return StartChoice(_checked(start, spec))
    scene, prompt = _scene(options.get("scene")), _prompt(options.get("prompt"), spec)
    if "image" not in options:
        stray = [key for key in _OF_AN_IMAGE if key in options]
        if stray:
            raise ValueError(f"reset options {stray} describe an image, expected 'image' with them")
        return StartChoice(scene=scene, prompt=prompt)
    source = options.get("intrinsics_from", "given") if "intrinsics" in options else "assumed"
    if not isinstance(source, str):
        raise ValueError(f"intrinsics_from is a {type(source).__name__}, expected a string")
    start = Start(
        image=options["image"],
        intrinsics=options.get("intrinsics", spec.intrinsics),
        prompt=prompt or "",
        scene=scene,
        scene_c2w=options.get("scene_c2w"),
        intrinsics_from=source,
    )
    return StartChoice(_checked(start, spec))


def _checked(start: Start, spec: WorldSpec) -> Start:
    """The start with copies of its arrays, so that later changes of these do not reach it."""
    image, expected = np.array(start.image), (*spec.size, 3)
    if image.shape != expected or image.dtype != np.uint8:
        raise ValueError(
            f"first frame is {image.dtype} {image.shape}, expected uint8 {expected}; "
            "sana_wm_gym.camera.centre_crop fits a larger image and its intrinsics"
        )
    return replace(
        start,
        image=image,
        intrinsics=_intrinsics(start.intrinsics),
        scene_c2w=None if start.scene_c2w is None else _pose(start.scene_c2w),
    )


def _intrinsics(values: Any) -> tuple[float, float, float, float]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (4,):
        raise ValueError(f"intrinsics have shape {array.shape}, expected (fx, fy, cx, cy)")
    check_intrinsics(array[None])
    fx, fy, cx, cy = array.tolist()
    return fx, fy, cx, cy


def _pose(values: Any) -> npt.NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if array.shape != (4, 4):
        raise ValueError(f"scene_c2w has shape {array.shape}, expected (4, 4)")
    check_rigid(array[None], "scene_c2w")
    return array


def _scene(value: Any) -> int | None:
    return None if value is None else require_integer("scene", value, -(2**63), 2**63 - 1)


def _prompt(value: Any, spec: WorldSpec) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"prompt is a {type(value).__name__}, expected a string")
    if "\0" in value:
        raise ValueError(f"prompt {value!r} has a NUL character, which no file keeps")
    if spec.surfaces:
        parse_prompt(spec.surfaces, value)
    return value
