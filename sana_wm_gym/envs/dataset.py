"""Episodes on disk: Minari datasets, with a video of every frame next to them.

    FOLDER/NAME/data/main_data.hdf5             observations, actions, rewards, ends and infos
    FOLDER/NAME/data/metadata.json              spaces, environment, size
    FOLDER/NAME/data/videos/episode-0000.mp4    every frame, where the environment renders them

`minari.DataCollector` needs jax, so episodes are passed to Minari's `MinariStorage`.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from sana_wm_gym.checks import require_choice
from sana_wm_gym.envs.recorder import video_name
from sana_wm_gym.files import atomic_path, parse_json, read_json, require_file
from sana_wm_gym.values import from_json
from sana_wm_gym.video import VideoWriter

_ID = re.compile(r"([-\w]+/)*[-\w]+-v\d+")
_VIDEOS, _METADATA, _ARRAYS = "videos", "metadata.json", "main_data.hdf5"
_UNFOLDED = 64  # times the size of a file that its arrays may have, beside 256 MB


class DatasetRecorder(gym.Wrapper[Any, Any, Any, Any]):
    """Records every episode of an environment; `close` gives the dataset its name.

    Infos hold the numbers of `info` that have one shape at every step, one more than actions, as of
    observations.

    With `render_mode="rgb_array_list"` every frame of every chunk goes to a video. An episode that
    is left before its end counts as truncated. Until `close`, everything is in a hidden folder, so
    half a dataset never has its name; as a context manager, an error discards it.

    Args:
        env: Any environment whose spaces Minari supports; other wrappers go inside.
        dataset: Name such as "image_goal/expert-v0": words, "/" for groups, and a version.
        folder: Where datasets are; None takes MINARI_DATASETS_PATH, else Minari's own place.
        jpeg: False stores images exactly.
        notes: Facts to keep in the metadata, such as "algorithm_name" and "description".

    Raises:
        ValueError: The name is malformed.
        FileExistsError: There is such a dataset already.
        ImportError: Minari is not installed.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        dataset: str,
        folder: str | os.PathLike[str] | None = None,
        *,
        jpeg: bool = True,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self.place = dataset_path(dataset, folder)
        if self.place.exists():
            raise FileExistsError(
                f"there is a dataset {dataset!r} at {self.place}, expected a new name or version"
            )
        from minari.dataset.minari_storage import MinariStorage

        super().__init__(env)
        self._writing = atomic_path(self.place)
        self._writing.partial.mkdir()
        self.episodes = 0
        self._seed: int | None = None
        self._observations: list[Any] = []
        self._infos: list[Mapping[str, Any]] = []
        self._steps: list[tuple[Any, float, bool, bool]] = []
        self._video: VideoWriter | None = None
        with self._storing():
            self._storage = MinariStorage.new(
                self._writing.partial / "data",
                env.observation_space,
                env.action_space,
                _spec(env),
                jpeg_encoding=jpeg,
            )
            version = importlib.metadata.version("minari")
            self._storage.update_metadata(
                {"dataset_id": dataset, "minari_version": version, **(notes or {})}
            )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset and begin an episode; `seed` is stored with it."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._store()
        self._seed = seed
        self._add(observation, info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step and record; an episode that ends is stored."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps.append((action, float(reward), terminated, truncated))
        self._add(observation, info)
        if terminated or truncated:
            self._store()
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Store the running episode, name the dataset and close the environment.

        A recording without episodes leaves nothing.
        """
        if self._writing.partial.exists():
            self._store()
            if self.episodes:
                self._writing.commit()
        self.discard()
        super().close()

    def __exit__(self, kind: type[BaseException] | None, *facts: Any) -> Literal[False]:
        """Close; where an error ends the recording, discard it first."""
        if kind is not None:
            self.discard()
        self.close()
        return False

    def discard(self) -> None:
        """Throw away what was recorded."""
        self._forget()
        self._writing.discard()

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Discard all where storing fails: a group that is half written looks like a whole one."""
        try:
            yield
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError | RuntimeError):  # HDF5's, of a full disk, has no name
                raise OSError(f"{self.place} was not written: {error}") from error
            raise

    def _add(self, observation: Any, info: Mapping[str, Any]) -> None:
        self._observations.append(observation)
        self._infos.append(info)
        if self.env.render_mode != "rgb_array_list":
            return
        frames: Any = self.env.render()
        if self._video is None:
            path = self._writing.partial / "data" / _VIDEOS / video_name(self.episodes)
            self._video = VideoWriter(path, float(self.env.metadata["render_fps"]))
        self._video.add(frames)

    def _forget(self) -> None:
        if self._video is not None:
            self._video.discard()
        self._observations, self._infos, self._steps, self._video = [], [], [], None

    def _store(self) -> None:
        """The running episode as a group of the file; without steps there is none."""
        if not self._steps:
            self._forget()
            return
        from minari.data_collector import EpisodeBuffer

        actions, rewards, terminations, truncations = map(list, zip(*self._steps, strict=True))
        truncations[-1] |= not terminations[-1]
        buffer = EpisodeBuffer(
            id=self.episodes,
            seed=self._seed,
            observations=_columns(self._observations),
            actions=_columns(actions),
            rewards=rewards,
            terminations=terminations,
            truncations=truncations,
            infos=_infos(self._infos),
        )
        with self._storing():
            self._storage.update_episodes([buffer])
        if self._video is not None:
            self._video.close()
            self._video = None
        self.episodes += 1
        self._forget()


def dataset_path(dataset: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Where a dataset of this name is, or would be.

    Raises:
        ValueError: The name is malformed.
        ImportError: Minari is not installed.
    """
    if not _ID.fullmatch(dataset):
        raise ValueError(
            f"dataset is {dataset!r}, expected a name with a version such as 'image_goal/expert-v0'"
        )
    try:
        import h5py  # noqa: F401 (Minari's file format)
        import minari  # noqa: F401
        from minari.storage import get_dataset_path
    except ModuleNotFoundError as error:
        raise ImportError(
            f"datasets need Minari, {error.name!r} is missing: pip install sana_wm_gym[data]"
        ) from error

    place = get_dataset_path(dataset) if folder is None else Path(folder, dataset)
    # Minari cannot size up a folder that is given relative to the working directory.
    return Path(place).absolute()


def open_dataset(dataset: str, folder: str | os.PathLike[str] | None = None) -> Any:
    """A recorded `minari.MinariDataset`, as `dataset_path`. Nothing is downloaded.

    Raises:
        FileNotFoundError: There is no such dataset in the folder.
        ValueError: Its files are damaged.
    """
    place = dataset_path(dataset, folder)
    if not (place / "data").is_dir():
        raise FileNotFoundError(f"no dataset {dataset!r} at {place}")
    from minari import MinariDataset

    facts = from_json(_Facts, _known(read_json(path := place / "data" / _METADATA)), str(path))
    for name in ("observation_space", "action_space", "env_spec"):
        if (text := getattr(facts, name)) is not None:
            parse_json(text, f"{path}: {name}")
    _check_arrays(place / "data" / _ARRAYS)
    with _damage(path):
        return MinariDataset(place / "data")


def read_episodes(dataset: Any, episodes: Sequence[int]) -> list[Any]:
    """Episodes of a `minari.MinariDataset` by their numbers, as Minari's `EpisodeData`.

    Raises:
        ValueError: A file is damaged, or an array does not fit the spaces.
    """
    path = Path(dataset.storage.data_path) / _ARRAYS
    with _damage(path):
        found = list(dataset.iterate_episodes(list(episodes)))
        for one in found:
            steps = len(one.actions)
            for space, part, count in (
                (dataset.observation_space, one.observations, steps + 1),
                (dataset.action_space, one.actions, steps),
            ):
                _check_part(space, part, count)
            columns = (one.rewards, one.terminations, one.truncations)
            if {np.shape(column) for column in columns} != {(steps,)}:
                raise ValueError(f"episode {one.id} has columns of several lengths")
    return found


@dataclass(frozen=True)
class _Facts:
    """What is read of a dataset's metadata. Without spaces, Minari would call the entry point."""

    dataset_id: str
    minari_version: str
    data_format: str
    observation_space: str
    action_space: str
    total_episodes: int
    total_steps: int
    env_spec: str | None = None
    eval_env_spec: str | None = None

    def __post_init__(self) -> None:
        require_choice("data_format", self.data_format, ("hdf5",))


def _known(document: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(_Facts)}
    return {name: value for name, value in document.items() if name in names}


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What Minari and HDF5 raise about damaged files, as an error that names the file."""
    try:
        yield
    except (
        AssertionError,
        IndexError,
        KeyError,
        MemoryError,
        OSError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is damaged: {reason}") from error


def _check_arrays(path: Path) -> None:
    """Refuse arrays that unfold to much more than the file has, and those kept elsewhere."""
    import h5py

    limit = _UNFOLDED * require_file(path, "an HDF5 file").stat().st_size + 2**28
    with _damage(path), h5py.File(path) as file:
        total, seen, todo = 0, set[int](), [file]
        while todo:
            node = todo.pop()
            if not isinstance(node, h5py.Group | h5py.Dataset):
                raise ValueError("an entry is neither a group nor an array")
            if (address := h5py.h5o.get_info(node.id).addr) in seen:
                raise ValueError(f"{node.name} is there twice")
            seen.add(address)
            if isinstance(node, h5py.Dataset):
                total += node.size * node.dtype.itemsize if node.shape is not None else 0
                if node.external or node.is_virtual or total > limit:
                    raise ValueError(f"its arrays have {total} bytes or are in other files")
            elif not all(isinstance(node.get(n, getlink=True), h5py.HardLink) for n in node):
                raise ValueError(f"{node.name} has links, expected arrays")
            else:
                todo += node.values()


def _check_part(space: gym.Space[Any], part: Any, count: int) -> None:
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(part, Mapping) or part.keys() != space.keys():
            raise ValueError(f"expected {sorted(space)}")
        for name, below in space.items():
            _check_part(below, part[name], count)
    elif np.shape(part) != (count, *(space.shape or ())) or part.dtype.kind not in "biuf":
        found = f"{getattr(part, 'dtype', '')} {np.shape(part)}"
        raise ValueError(f"an array is {found}, expected {count} of {space}")


def video_path(dataset: Any, episode: int) -> Path:
    """The video with every frame of an episode of a `minari.MinariDataset`, by its number.

    Raises:
        FileNotFoundError: No video was recorded with it.
    """
    path = Path(dataset.storage.data_path) / _VIDEOS / video_name(episode)
    if not path.is_file():
        raise FileNotFoundError(
            f"no video at {path}; episodes are recorded with render_mode='rgb_array_list'"
        )
    return path


def _columns(rows: Sequence[Any]) -> Any:
    """Values of one space, one per step, as Minari takes them: parts first, then steps."""
    if isinstance(rows[0], Mapping):
        return {name: _columns([row[name] for row in rows]) for name in rows[0]}
    return [np.asarray(row) for row in rows]


def _infos(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[npt.NDArray[Any]]]:
    """The numbers of `info` that all rows have in one shape."""
    arrays = [{name: np.asarray(value) for name, value in row.items()} for row in rows]
    return {
        name: [row[name] for row in arrays]
        for name, last in arrays[-1].items()
        if last.dtype.kind in "biuf"
        and all(name in row and row[name].shape == last.shape for row in arrays)
    }


def _spec(env: gym.Env[Any, Any]) -> Any:
    """What Minari needs to make the environment again, or None where that is no plain value."""
    try:
        return env.spec if env.spec is None or env.spec.to_json() else None
    except (TypeError, ValueError):
        return None
