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


Picture = str | os.PathLike[str] | npt.NDArray[np.uint8]
"""A file, or uint8 [H, W, 3] RGB of any size."""


class IntrinsicsEstimate(Protocol):
    """Guesses a picture's intrinsics; `world.intrinsics.load_pi3x` makes one."""

    @property
    def name(self) -> str:
        """As `env.unwrapped.intrinsics_from` reports it."""
        ...

    def __call__(self, image: npt.NDArray[np.uint8]) -> Sequence[float]:
        """(fx, fy, cx, cy) in pixels of uint8 [H, W, 3]."""
        ...


Lens = Sequence[float] | IntrinsicsEstimate
"""Intrinsics (fx, fy, cx, cy), or what estimates them."""


def default_options(
    image: Picture | None,
    intrinsics: Lens | None,
    prompt: str | None,
    spec: WorldSpec,
) -> dict[str, Any]:
    """Reset options of an environment that was made for one picture, one prompt, or both.

    Args:
        image: Resized and cropped about its centre to the world's frame.
        intrinsics: (fx, fy, cx, cy) in pixels of `image`, or what estimates them from it, here
            and once; None takes `spec.intrinsics` for the cropped frame.
        prompt: Scene text; phrases of `spec.surfaces` where the world has any.
        spec: What the world expects.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no picture, intrinsics come without one, or a value does not fit.
    """
    options: dict[str, Any] = {} if prompt is None else {"prompt": prompt}
    if image is not None:
        pixels = image if isinstance(image, np.ndarray) else read_picture(image)
        if pixels.ndim != 3:
            raise ValueError(f"image is {pixels.dtype} {pixels.shape}, expected uint8 [H, W, 3]")
        crop = centre_crop(pixels.shape[:2], (spec.height, spec.width))
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
    """A picture file as it is meant to be seen, uint8 [H, W, 3] RGB.

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
    options = dict(options or {})
    if "start" in options:
        return options
    if options.keys() & {"image", "scene"}:
        defaults = {name: defaults[name] for name in ("prompt",) if name in defaults}
    if "intrinsics" in options:
        defaults = {name: value for name, value in defaults.items() if name != "intrinsics_from"}
    return {**defaults, **options}


@dataclass(frozen=True)
class StartChoice:
    """Checked options of one reset.

    Attributes:
        given: The whole start, where the options say all of it.
        scene: Scene to draw a start in otherwise, or None for any.
        prompt: Text that replaces the drawn start's, or None. The variants that it names replace
            the drawn ones.
    """

    given: Start | None = None
    scene: int | None = None
    prompt: str | None = None

    def start(self, world: WorldModel[Any], rng: np.random.Generator) -> Start:
        """The start, drawn with `rng` where the options leave it open.

        Raises:
            ValueError: The world has no such scene.
        """
        if self.given is not None:
            return self.given
        drawn = world.sample_start(rng, self.scene)
        return drawn if self.prompt is None else with_prompt(drawn, world.spec, self.prompt)


def start_choice(options: Mapping[str, Any] | None, spec: WorldSpec) -> StartChoice:
    """Check reset options before any work is done.

    Args:
        options: `start` alone, or `image` with any of `intrinsics` (and `intrinsics_from`),
            `prompt`, `scene` and `scene_c2w`, or `scene` and `prompt` for a start drawn at random.
        spec: What the world expects of an image and of a prompt.

    Raises:
        ValueError: A key is unknown, keys contradict each other, or a value has the wrong type,
            shape or range.
    """
    options = dict(options or {})
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
        _check_image(start.image, spec)
        _prompt(start.prompt, spec)
        return StartChoice(
            given=replace(
                start,
                # Copies, so that later changes of the caller's arrays do not reach the rollout.
                image=np.array(start.image),
                intrinsics=_intrinsics(start.intrinsics),
                scene_c2w=None if start.scene_c2w is None else _pose(start.scene_c2w),
            )
        )
    scene, prompt = _scene(options.get("scene")), _prompt(options.get("prompt"), spec)
    if "image" not in options:
        stray = [k for k in ("intrinsics", "intrinsics_from", "scene_c2w") if k in options]
        if stray:
            raise ValueError(f"reset options {stray} describe an image, expected 'image' with them")
        return StartChoice(scene=scene, prompt=prompt)
    _check_image(options["image"], spec)
    start = Start(
        image=np.array(options["image"]),
        intrinsics=_intrinsics(options.get("intrinsics", spec.intrinsics)),
        prompt=prompt or "",
        scene=scene,
        scene_c2w=_pose(options["scene_c2w"]) if "scene_c2w" in options else None,
        intrinsics_from=_source(options),
    )
    return StartChoice(given=start)


def _check_image(image: Any, spec: WorldSpec) -> None:
    array, expected = np.asarray(image), (spec.height, spec.width, 3)
    if array.shape != expected or array.dtype != np.uint8:
        raise ValueError(
            f"first frame is {array.dtype} {array.shape}, expected uint8 {expected}; "
            "sana_wm_gym.camera.centre_crop fits a larger image and its intrinsics"
        )


def _intrinsics(values: Any) -> tuple[float, float, float, float]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (4,):
        raise ValueError(f"intrinsics have shape {array.shape}, expected (fx, fy, cx, cy)")
    check_intrinsics(array[None])
    fx, fy, cx, cy = array.tolist()
    return fx, fy, cx, cy


def _source(options: Mapping[str, Any]) -> str:
    """Where intrinsics come from, in a word."""
    if "intrinsics" not in options:
        return "assumed"
    source = options.get("intrinsics_from", "given")
    if not isinstance(source, str):
        raise ValueError(f"intrinsics_from is a {type(source).__name__}, expected a string")
    return source


def _pose(values: Any) -> npt.NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if array.shape != (4, 4):
        raise ValueError(f"scene_c2w has shape {array.shape}, expected (4, 4)")
    check_rigid(array[None], "scene_c2w")
    return array


def _scene(value: Any) -> int | None:
    # As many bits as a snapshot keeps.
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
