"""The state of a learner of stable-baselines3, saved and restored exactly.

Every private attribute of stable-baselines3 that exact resume needs stands in this file.

A replay buffer is saved in segments such as `000000000064-000000000128.safetensors`: slots 64 to
127 since the run began, a slot being one step of every environment. Segments never change: a
checkpoint writes the slots that are new and links to the segments of the checkpoint before it that
are still in the buffer. What hindsight replay knows of episodes is rewritten later, so it is saved
whole.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

_EPISODES = "episodes.safetensors"
# Of DQN, the last two.
_COUNTERS = ("_episode_num", "_n_calls", "exploration_rate")

Array = npt.NDArray[Any]


def learner_state(learner: Any) -> dict[str, Any]:
    """Networks, optimisers, counters and recurrent state of an algorithm between rollouts, as
    tensors, numbers, strings, and tuples and dicts of them."""
    values = {
        "parameters": learner.get_parameters(),
        "timesteps": learner.num_timesteps,
        "updates": learner._n_updates,
        "last_obs": to_plain(learner._last_obs),
        "episode_starts": to_plain(learner._last_episode_starts),
        "memory": to_plain(getattr(learner, "_last_lstm_states", None)),
    }
    if isinstance(learner, OffPolicyAlgorithm):
        _, variables = learner._get_torch_save_params()
        values["off_policy"] = {
            "variables": {name: getattr(learner, name).detach().clone() for name in variables},
            "counters": {name: getattr(learner, name, None) for name in _COUNTERS},
            # Source of random actions. Numbers of 128 bits, which torch does not read back.
            "actions": json.dumps(learner.action_space.np_random.bit_generator.state),
        }
    return values


def restore_learner(learner: Any, values: Mapping[str, Any], source: Path, device: str) -> None:
    """Give a new learner the state of another of the same settings.

    Args:
        learner: Newly built.
        values: What `learner_state` returned.
        source: Named in errors.
        device: Of its networks.

    Raises:
        ValueError: The values are of other networks, or are not all that this learner needs.
    """
    off_policy = isinstance(learner, OffPolicyAlgorithm)
    if "updates" not in values or off_policy != ("off_policy" in values):
        raise ValueError(
            f"checkpoint {source} lacks what this agent needs to resume: it was made by an earlier "
            "version or another agent. It can be evaluated; train in another folder"
        )
    set_parameters(learner, values, source, device)
    learner.num_timesteps, learner._n_updates = values["timesteps"], values["updates"]
    learner._last_obs = to_arrays(values["last_obs"])
    learner._last_episode_starts = to_arrays(values["episode_starts"])
    if values["memory"] is not None:
        learner._last_lstm_states = type(learner._last_lstm_states)(*values["memory"])
    if off_policy:
        more = values["off_policy"]
        for name, value in more["variables"].items():
            with torch.no_grad():
                getattr(learner, name).copy_(value)  # in place: its optimizer holds the tensor
        for name, value in more["counters"].items():
            if value is not None:
                setattr(learner, name, value)
        learner.action_space.np_random.bit_generator.state = json.loads(more["actions"])


def set_parameters(learner: Any, values: Mapping[str, Any], source: Path, device: str) -> None:
    """Give a learner the networks and optimisers of a checkpoint; all it needs to act.

    Raises:
        ValueError: They are of other networks.
    """
    try:
        learner.set_parameters(values["parameters"], exact_match=True, device=device)
    except (KeyError, RuntimeError, ValueError) as error:
        message = str(error).splitlines()[0]
        raise ValueError(f"checkpoint {source} holds other networks: {message}") from error


def save_replay(buffer: ReplayBuffer, added: int, folder: Path, earlier: Path | None) -> None:
    """Write a replay buffer, with or without hindsight, to a new folder.

    Args:
        buffer: The buffer.
        added: Slots filled since the run began, those overwritten since included.
        folder: Made here.
        earlier: An earlier folder of the same run, whose files are linked to.
    """
    folder.mkdir()
    written = max(0, added - buffer.buffer_size)
    for begin, end, path in [] if earlier is None else _segments(earlier):
        if begin <= written < end <= added:
            _link(path, folder / path.name)
            written = end
    if written < added:
        slots = np.arange(written, added) % buffer.buffer_size
        path = folder / f"{written:012d}-{added:012d}.safetensors"
        save_file({name: array[slots] for name, array in _arrays(buffer).items()}, path)
    episodes = _episodes(buffer)
    if episodes:
        save_file(episodes, folder / _EPISODES)


def load_replay(buffer: ReplayBuffer, added: int, folder: Path) -> None:
    """Fill a new replay buffer with what `save_replay` wrote of one of the same kind and size.

    Raises:
        ValueError: A file is missing, damaged, or of another buffer.
    """
    first = at = max(0, added - buffer.buffer_size)
    arrays = _arrays(buffer)
    for begin, end, path in _segments(folder):
        if not begin <= at < end:
            break
        stored = _read(path, arrays, end - begin)
        slots = np.arange(at, end) % buffer.buffer_size
        for name, array in arrays.items():
            array[slots] = stored[name][at - begin :]
        at = end
    if at != added:
        raise ValueError(
            f"replay buffer {folder} lacks a file: found slots {first} to {at}, "
            f"expected {first} to {added}"
        )
    buffer.pos, buffer.full = added % buffer.buffer_size, added >= buffer.buffer_size
    episodes = _episodes(buffer)
    if episodes:
        stored = _read(folder / _EPISODES, episodes, None)
        for name, array in episodes.items():
            array[...] = stored[name]


def _arrays(buffer: ReplayBuffer) -> dict[str, Array]:
    """What a slot is made of, by name: arrays [slots, environments, ...]."""
    found = {name: getattr(buffer, name) for name in ("actions", "rewards", "dones", "timeouts")}
    for name in ("observations", "next_observations"):
        views = getattr(buffer, name)
        parts = views if isinstance(views, dict) else {"": views}
        found |= {f"{name}.{part}": array for part, array in parts.items()}
    return found


def _episodes(buffer: ReplayBuffer) -> dict[str, Array]:
    """Where episodes begin and how long they are, for hindsight; else nothing."""
    names = ("ep_start", "ep_length", "_current_ep_start")
    hindsight = isinstance(buffer, HerReplayBuffer)
    return {name: getattr(buffer, name) for name in names} if hindsight else {}


def _segments(folder: Path) -> list[tuple[int, int, Path]]:
    """First slot, slot after the last, and file of every segment, in order."""
    found = []
    for path in sorted(folder.glob("*-*.safetensors")):
        begin, _, end = path.stem.partition("-")
        found.append((int(begin), int(end), path))
    return found


def _read(path: Path, like: Mapping[str, Array], slots: int | None) -> dict[str, Array]:
    """Arrays of a file, of the names, types and shapes of `like`, but for a number of slots."""
    try:
        stored: dict[str, Array] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"replay buffer {path} is missing or damaged: {error}") from error
    given = {name: f"{array.dtype} {array.shape}" for name, array in sorted(stored.items())}
    expected = {
        name: f"{array.dtype} {array.shape if slots is None else (slots, *array.shape[1:])}"
        for name, array in sorted(like.items())
    }
    if given != expected:
        raise ValueError(f"replay buffer {path} holds {given}, expected {expected}")
    return stored


def _link(path: Path, other: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def random_state() -> dict[str, Any]:
    """State of the process's random generators, as plain values."""
    # The old generator, because that is what stable-baselines3 draws from.
    legacy = to_plain(np.random.get_state(legacy=True))  # noqa: NPY002
    return {"torch": torch.get_rng_state(), "numpy": legacy, "python": random.getstate()}


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Set the process's random generators to what `random_state` returned."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(to_arrays(state["numpy"]))  # noqa: NPY002
    random.setstate(state["python"])


def to_plain(value: Any) -> Any:
    """Arrays as tensors, at any depth of dicts and tuples, so that they can be stored safely."""
    # Axes keep their order in memory: convolutions round differently on another one.
    return _mapped(value, np.ndarray, lambda one: torch.from_numpy(np.array(one, order="K")))


def to_arrays(value: Any) -> Any:
    """Inverse of `to_plain`."""
    return _mapped(value, torch.Tensor, lambda one: np.array(one.numpy(), order="K"))


def _mapped(value: Any, kind: type[Any], change: Callable[[Any], Any]) -> Any:
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(part, kind, change) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_mapped(part, kind, change) for part in value)
    return value
