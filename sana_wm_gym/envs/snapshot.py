"""An environment's whole state as a value, and as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym import values
from sana_wm_gym.checks import require_integer
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.tasks.task import FreeRoam, Task
from sana_wm_gym.tensor_files import read_tensors, write_tensors
from sana_wm_gym.values import from_json
from sana_wm_gym.world.world_model import WorldModel, WorldSpec

FORMAT = "sana_wm_gym/snapshot/5"
_WORLD, _TASK, _EPISODE = "world.", "task.", "episode."
_NO_TASK = FreeRoam()
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A rollout's state and the environment's random generator: all that the future depends on.

    Sampling from `env.action_space` has a generator of its own, which is not part of it. Snapshots
    are equal where their contents are, and then have one hash.

    Attributes:
        episode: State of the rollout.
        rng: State of `env.np_random`, which draws the starts and noise of later resets.
        made_in: Name, frame size, frames per chunk and latent shape of the world and name of the
            task, as JSON values.
    """

    episode: Episode
    rng: Mapping[str, Any]
    made_in: Mapping[str, Any]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        mine, theirs = (one.episode for one in (self, other))
        rest = (self.rng, self.made_in), (other.rng, other.made_in)
        return values.equal(mine, theirs) and values.equal(*rest)

    def __hash__(self) -> int:
        return hash((self.episode.chunk, self.episode.prompt, self.episode.c2w.tobytes()))

    def check_fits(self, spec: WorldSpec, task: Task = _NO_TASK) -> None:
        """Raise a ValueError if the snapshot was made in another world or task."""
        _check_fits(self.made_in, spec, task)

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
        parts = {
            _WORLD: world.pack(self.episode.world),
            _TASK: task.pack(self.episode.task),
            _EPISODE: values.pack(self.episode),
        }
        packed = {p + name: np.asarray(a) for p, part in parts.items() for name, a in part.items()}
        # Safetensors has no string type, so strings are stored in the header.
        texts = {name: array.tolist() for name, array in packed.items() if array.dtype.kind == "U"}
        arrays = {n: np.asarray(a, order="C") for n, a in packed.items() if n not in texts}
        header = {"made_in": self.made_in, "rng": self.rng, "texts": texts}
        write_tensors(path, FORMAT, arrays, header, "numpy")

    @staticmethod
    def load(
        path: str | os.PathLike[str], world: WorldModel[Any], task: Task = _NO_TASK
    ) -> Snapshot:
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, is no snapshot, or is of another world or task.
        """
        document, arrays = read_tensors(path, FORMAT, "numpy")
        header = from_json(_Header, document, str(path))
        # Which world comes before what is in it: another world's state is no use to `unpack`.
        _check_fits(header.made_in, world.spec, task)
        try:
            _check_rng(header.rng)
            packed = arrays | {name: _text(text) for name, text in header.texts.items()}
            if stray := [n for n in packed if not n.startswith((_WORLD, _TASK, _EPISODE))]:
                raise ValueError(f"it has unknown arrays {stray[:5]}")
            episode = replace(
                values.unpack(Episode, _under(_EPISODE, packed)),
                world=world.unpack(_under(_WORLD, packed)),
                task=task.unpack(_under(_TASK, packed)),
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return Snapshot(episode, header.rng, header.made_in)


@dataclass(frozen=True)
class _Header:
    format: str
    made_in: dict[str, Any]
    rng: dict[str, Any]
    texts: dict[str, Any]


def _check_rng(state: Mapping[str, Any]) -> None:
    """Raise ValueError unless NumPy takes this as the state of a PCG64."""
    inner = state.get("state")
    if state.get("bit_generator") != "PCG64" or not isinstance(inner, dict):
        raise ValueError(f"rng is {dict(state)!r:.80}, expected the state of a PCG64")
    for name, bits in {"has_uint32": 1, "uinteger": 32, "state": 128, "inc": 128}.items():
        count = (inner if bits == 128 else state).get(name)
        require_integer(f"rng {name}", count, 0, 2**bits - 1)


def _text(value: Any) -> npt.NDArray[np.str_]:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"a text is {value!r:.60}, expected strings")
    return np.array(value, np.str_)


def _check_fits(made_in: Mapping[str, Any], spec: WorldSpec, task: Task) -> None:
    expected = identity(spec, task)
    if dict(made_in) != expected:
        raise ValueError(f"snapshot was made in {dict(made_in)}, expected {expected}")


def identity(spec: WorldSpec, task: Task = _NO_TASK) -> dict[str, Any]:
    """What a snapshot stores of its world and task, as JSON values."""
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
