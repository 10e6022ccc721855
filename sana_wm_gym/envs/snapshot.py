"""An environment's whole state as a value, and as a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sana_wm_gym.camera.keys import KeyState
from sana_wm_gym.camera.trajectory import CameraState
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.tasks.task import FreeRoam, Task
from sana_wm_gym.files import atomic_path
from sana_wm_gym.world.world_model import WorldModel, WorldSpec

FORMAT = "sana_wm_gym/snapshot/4"
_WORLD, _TASK = "world.", "task."
_NO_TASK = FreeRoam()
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Snapshot:
    """A rollout's state and the environment's random generator: all that the future depends on.

    Sampling from `env.action_space` has a generator of its own, which is not part of it.

    Attributes:
        episode: Where the rollout stands.
        rng: State of `env.np_random`, which draws the starts and noise of later resets.
        made_in: Name, frame size, frames per chunk and latent shape of the world and name of the
            task, as JSON values.
    """

    episode: Episode
    rng: Mapping[str, Any]
    made_in: Mapping[str, Any]

    def check_fits(self, spec: WorldSpec, task: Task = _NO_TASK) -> None:
        """Raise if the snapshot was made in another world or task.

        Raises:
            ValueError: The world's name, sizes or latent shape differ, or the task's name.
        """
        expected = identity(spec, task)
        if dict(self.made_in) != expected:
            raise ValueError(f"snapshot was made in {dict(self.made_in)}, expected {expected}")

    def save(
        self, path: str | os.PathLike[str], world: WorldModel[Any], task: Task = _NO_TASK
    ) -> None:
        """Write a safetensors file in one step.

        Args:
            path: File to write; replaced if it exists.
            world: The world the snapshot was made in, as `env.unwrapped.world`.
            task: The task it was made in, as `env.unwrapped.task`.

        Raises:
            ValueError: `world` is another world or cannot pack its states, or `task` is another.
        """
        self.check_fits(world.spec, task)
        if not world.spec.snapshots:
            raise ValueError(f"states of world {world.spec.name!r} cannot be written to a file")
        episode = self.episode
        packed = {_WORLD + name: np.asarray(a) for name, a in world.pack(episode.world).items()}
        packed |= {_TASK + name: np.asarray(a) for name, a in task.pack(episode.task).items()}
        # Safetensors has no text type, so texts travel in the header.
        texts = {name: str(array) for name, array in packed.items() if array.dtype.kind == "U"}
        arrays = {name: array for name, array in packed.items() if name not in texts}
        arrays |= {
            "c2w": episode.c2w,
            "camera.c2w": episode.camera.c2w,
            "camera.angles": np.array([episode.camera.pitch, episode.camera.roll]),
            "intrinsics": np.array(episode.intrinsics),
            "chunk": np.array(episode.chunk, dtype=np.int64),
            "over": np.array(episode.over, dtype=np.bool_),
        }
        keys = asdict(episode.keys) | {"held": sorted(episode.keys.held)}
        header = {
            "intrinsics_from": episode.intrinsics_from,
            "prompt": episode.prompt,
            "made_in": self.made_in,
            "rng": self.rng,
            "keys": keys,
            "texts": texts,
        }
        text = json.dumps(header)
        with atomic_path(path) as partial:
            save_file(
                {name: np.asarray(array, order="C") for name, array in arrays.items()},
                partial,
                metadata={"format": FORMAT, "header": text, "sha256": _digest(text, arrays)},
            )

    @staticmethod
    def load(
        path: str | os.PathLike[str], world: WorldModel[Any], task: Task = _NO_TASK
    ) -> Snapshot:
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, is no snapshot, or belongs to another world or task.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no snapshot at {path}")
        text, arrays = _read(Path(path))
        header = json.loads(text)
        pitch, roll = arrays["camera.angles"].tolist()
        fx, fy, cx, cy = arrays["intrinsics"].tolist()
        snapshot = Snapshot(
            Episode(
                world=None,
                camera=CameraState(arrays["camera.c2w"], pitch, roll),
                keys=KeyState(**(header["keys"] | {"held": frozenset(header["keys"]["held"])})),
                intrinsics=(fx, fy, cx, cy),
                intrinsics_from=header["intrinsics_from"],
                prompt=header["prompt"],
                c2w=arrays["c2w"],
                chunk=int(arrays["chunk"]),
                over=bool(arrays["over"]),
            ),
            header["rng"],
            header["made_in"],
        )
        # Which world comes before what is in it: another world's state is no use to `unpack`.
        snapshot.check_fits(world.spec, task)
        packed = arrays | {name: np.array(value) for name, value in header["texts"].items()}
        state = world.unpack(_under(_WORLD, packed))
        episode = replace(
            snapshot.episode,
            world=state,
            anchor_confidence=world.anchor_confidence(state),
            task=task.unpack(_under(_TASK, packed)),
        )
        return replace(snapshot, episode=episode)


def identity(spec: WorldSpec, task: Task = _NO_TASK) -> dict[str, Any]:
    """What a snapshot remembers of its world and task, as JSON values."""
    return {
        "name": spec.name,
        "frame": [spec.height, spec.width],
        "frames_per_chunk": spec.frames_per_chunk,
        "latent": None if spec.latent_shape is None else list(spec.latent_shape),
        "task": task.name,
    }


def _under(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays whose names begin with `prefix`, without it."""
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}


def generator(state: Mapping[str, Any]) -> np.random.Generator:
    """A new random generator that continues from `state`."""
    bits = np.random.PCG64()
    bits.state = dict(state)  # type: ignore[assignment]
    return np.random.Generator(bits)


def _read(path: Path) -> tuple[str, Arrays]:
    """Header and arrays of a file whose checksum is right."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"snapshot {path} is damaged or cut short: {error}") from error
    if facts.get("format") != FORMAT:
        raise ValueError(f"{path} has format {facts.get('format')!r}, expected {FORMAT!r}")
    text = facts.get("header", "")
    if facts.get("sha256") != _digest(text, arrays):
        raise ValueError(f"snapshot {path} is damaged: its checksum does not match its contents")
    return text, arrays


def _digest(text: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
