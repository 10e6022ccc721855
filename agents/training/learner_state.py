"""What a learner's future depends on, as plain values, and a learner put back there.

Environments, replay memory and the process's own generators are kept apart from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from agents.training.checkpoint import to_arrays, to_plain

# Of DQN, the last two.
_COUNTERS = ("_episode_num", "_n_calls", "exploration_rate")


def learner_state(learner: Any) -> dict[str, Any]:
    """Networks, optimisers, counters and memory of a learner between rollouts.

    Args:
        learner: An algorithm of stable-baselines3.

    Returns:
        Tensors, numbers, strings, and tuples and dicts of them.
    """
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
            # Numbers of 128 bits, which torch does not read back: hence a text. Actions of chance
            # are drawn from it.
            "actions": json.dumps(learner.action_space.np_random.bit_generator.state),
        }
    return values


def restore_learner(learner: Any, values: Mapping[str, Any], source: Path, device: str) -> None:
    """Put a new learner where `learner_state` found another of the same settings.

    Args:
        learner: Newly built.
        values: What `learner_state` gave.
        source: Named in errors.
        device: Of its networks.

    Raises:
        ValueError: The values are of other networks, or are not all that this learner needs.
    """
    off_policy = isinstance(learner, OffPolicyAlgorithm)
    if "updates" not in values or off_policy != ("off_policy" in values):
        raise ValueError(
            f"checkpoint {source} lacks what this agent needs to go on: it was made by an earlier "
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
                getattr(learner, name).copy_(value)  # in place: its optimiser knows the tensor
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
        said = str(error).splitlines()[0]
        raise ValueError(f"checkpoint {source} holds other networks: {said}") from error
