"""Observation spaces: what of a world an agent sees after each chunk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.checks import require_integer
from sana_wm_gym.world.world_model import WorldSpec

POSE_BOUND = 1000.0
"""Metres from the first frame at which a `pose` observation is clipped."""

LATENT_BOUND = 100.0
"""Size at which a `latent` observation is clipped; latents are of order one."""

Array = npt.NDArray[Any]
Observation = Array | dict[str, Array]


@dataclass(frozen=True)
class ObservationView:
    """The chosen parts of an observation.

    Attributes:
        kinds: "frame", "frames", "latent" or "pose", by the part's name and in the order chosen.
        boxes: A `Box` for each part, by name.
        size: (height, width) of `frame` in pixels.
    """

    kinds: Mapping[str, str]
    boxes: Mapping[str, spaces.Space[Any]]
    size: tuple[int, int]

    @property
    def names(self) -> tuple[str, ...]:
        """Parts in the order chosen."""
        return tuple(self.kinds)

    @property
    def space(self) -> spaces.Space[Any]:
        """A `Box` for a single part, else a flat `Dict`."""
        return self.boxes[self.names[0]] if len(self.boxes) == 1 else spaces.Dict(dict(self.boxes))

    def shows(self, kind: str) -> bool:
        """Whether a part is of this kind."""
        return kind in self.kinds.values()

    def renamed(self, name: str) -> ObservationView:
        """The same, but for the name of its one part; a ValueError where it has several."""
        if len(self.kinds) != 1:
            raise ValueError(f"observation is {self.names}, expected one part, named {name!r}")
        [kind], [box] = self.kinds.values(), self.boxes.values()
        return ObservationView({name: kind}, {name: box}, self.size)

    def parts(self, clip: Any, last: Any, latent: Any, c2w: Array) -> dict[str, Any]:
        """An element of `space` as parts by name. Read only: they may be views of what is given.

        Args:
            clip: Frames of the last chunk, uint8 [n or 1, H, W, 3], an array or a tensor; None
                where no part shows them.
            last: Last frame, uint8 [H, W, 3], likewise.
            latent: Last latent frame, float32 [c, h, w], likewise.
            c2w: Camera of the last frame, [4, 4].
        """
        parts: dict[str, Any] = {}
        for name, kind in self.kinds.items():
            if kind == "frame":
                parts[name] = _resized(last, self.size)
            elif kind == "frames":
                count = self.boxes[name].shape[0]  # type: ignore[index]
                # Before the first chunk only one frame exists; it stands for the whole clip.
                parts[name] = clip if len(clip) == count else clip[[0] * count]
            elif kind == "latent":
                parts[name] = latent.reshape(-1).clip(-LATENT_BOUND, LATENT_BOUND)
            else:
                pose: Any = self.boxes[name]
                parts[name] = c2w[:3].ravel().astype(np.float32).clip(pose.low, pose.high)
        return parts


def copied(observation: Observation) -> Observation:
    """The observation in new arrays."""
    if isinstance(observation, dict):
        return {name: part.copy() for name, part in observation.items()}
    return observation.copy()


def pose_box(poses: int = 1) -> spaces.Box:
    """Space of the first three rows of camera poses, flattened: float32 [12 poses]."""
    bound = np.tile(np.array([1.0, 1.0, 1.0, POSE_BOUND], np.float32), 3 * poses)
    return spaces.Box(-bound, bound, dtype=np.float32)


def observation_view(
    names: str | Sequence[str], size: int | tuple[int, int] | None, spec: WorldSpec
) -> ObservationView:
    """The view for `observation` and `observation_size` of `EnvConfig`.

    Raises:
        ValueError: A name is unknown or repeated, nothing is named, the size is not positive, or
            the world has no latents.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names or len(set(names)) != len(names):
        raise ValueError(
            f"observation is {names!r}, expected different names such as ('frame', 'pose')"
        )
    sides = spec.size if size is None else (size, size) if isinstance(size, Integral) else size
    if not isinstance(sides, Sequence) or len(sides) != 2:
        raise ValueError(f"observation_size is {size!r}, expected (height, width) or one number")
    height, width = (require_integer("observation_size", side, 1) for side in sides)
    known: dict[str, spaces.Space[Any]] = {
        "frame": spaces.Box(0, 255, (height, width, 3), np.uint8),
        "frames": spaces.Box(0, 255, (spec.frames_per_chunk, *spec.size, 3), np.uint8),
    }
    if spec.has_camera:
        known["pose"] = pose_box()
    if spec.latent_shape is not None:
        # Flat, as a vector for a policy: three axes would be taken for an image.
        cells = math.prod(spec.latent_shape)
        known["latent"] = spaces.Box(-LATENT_BOUND, LATENT_BOUND, (cells,), np.float32)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"world {spec.name!r} cannot be observed as {unknown}, "
            f"expected names of {sorted(known)}"
        )
    boxes = {name: known[name] for name in names}
    return ObservationView({name: name for name in names}, boxes, (height, width))


def _resized(image: Any, size: tuple[int, int]) -> Any:
    if image.shape[:2] == size:
        return image
    if isinstance(image, np.ndarray):
        return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))
    # Imported here, so that environments of worlds without tensors do without torch.
    from sana_wm_gym.world.tensors import resized

    return resized(image, size)
