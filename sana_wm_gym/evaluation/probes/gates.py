"""Gate stability: does the delta-rule memory stay bounded over a long walk, and what bounds it?

Every frame acts on a head's memory as M -> T M + A with T = g (I - K^T diag(beta) K): decay g,
write gate beta, write energy trace(K^T diag(beta) K). Where no spectral norm of T exceeds 1, no
state can grow by itself. Statistics are of the pass whose memory is kept; the walk is repeated,
without retraining, without the key scale and the bound on writes. See docs/trust_probes.md.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import torch
from scipy.special import expit

from sana_wm_gym import memory
from sana_wm_gym.evaluation.held_out import Array, Tick
from sana_wm_gym.evaluation.probes.results import ProbeResult
from sana_wm_gym.evaluation.probes.watch import (
    STREAMS,
    BlockPass,
    Safeguards,
    ablations,
    altered,
    observed,
    own_safeguards,
)
from sana_wm_gym.models.state import named_tensors
from sana_wm_gym.world.learned.sana_state import SanaState
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.rollout import camera_path, rollout_from
from sana_wm_gym.world.world_model import Start

_WARM_CHUNKS = 10

# Fine bins at both ends of (0, 1), where gates lie, then bins that widen by about 1 % each.
_EDGES = np.concatenate(
    [[0.0], expit(np.linspace(-18, 18, 1801)), [1.0], 1 + np.logspace(-8, 18, 2601), [np.inf]]
)


class NoNetworkError(ValueError):
    """The world has no network, so no gates to observe."""

    def __init__(self, world: str) -> None:
        super().__init__(
            f"world {world!r} has no network, so it has no gates; expected a learned world, such "
            "as tiny or a world file"
        )


@dataclass(frozen=True)
class Quantiles:
    """Where the values lie; the ends are exact, the rest to about 2 %. As a text 5 % / median /
    95 % < largest."""

    lowest: float
    q05: float
    median: float
    q95: float
    highest: float

    def __str__(self) -> str:
        return f"{self.q05:.3g} / {self.median:.3g} / {self.q95:.3g} < {self.highest:.6g}"


class Histogram:
    """Quantiles of non-negative numbers in memory that does not grow, with exact extremes."""

    def __init__(self) -> None:
        self._bins = np.zeros(len(_EDGES) - 1, np.int64)
        self._low, self._high = np.inf, -np.inf

    def add(self, values: Array) -> None:
        """Count finite non-negative values of any shape."""
        bins = np.searchsorted(_EDGES, values.ravel(), side="right") - 1
        self._bins += np.bincount(bins, minlength=len(self._bins))
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))

    def quantiles(self) -> Quantiles:
        """Summary; `ValueError` where nothing has been counted."""
        if not self._bins.any():
            raise ValueError("given no values to summarise")
        counts = np.cumsum(self._bins)
        rank = np.searchsorted(counts, np.array([0.05, 0.5, 0.95]) * counts[-1])
        middle = np.clip(0.5 * (_EDGES[rank] + _EDGES[rank + 1]), self._low, self._high)
        q05, median, q95 = middle.tolist()
        return Quantiles(self._low, q05, median, q95, self._high)


@dataclass
class GateRun:
    """Statistics of one variant of the network on one walk, of nearly constant size.

    Attributes:
        safeguards: The variant.
        requested_chunks: Length of the walk.
        sound_chunks: Chunks before the first with a value that is not finite.
        transition_norm: Largest finite value of every chunk, over blocks, heads, streams, frames.
        state_norm: Likewise, after every chunk.
        resident_mb: Memory of the process after ten chunks and at the end.
    """

    safeguards: Safeguards
    requested_chunks: int
    sound_chunks: int = 0
    transition_norm: list[float] = field(default_factory=list)
    state_norm: list[float] = field(default_factory=list)
    resident_mb: tuple[float, float] = (0.0, 0.0)
    _histograms: dict[tuple[int, int, str], Histogram] = field(
        default_factory=lambda: defaultdict(Histogram)
    )

    def add(self, passes: list[BlockPass]) -> bool:
        """Count a chunk's kept pass; returns whether all of its values are finite."""
        sound, peaks = True, {"transition": 0.0, "state": 0.0}
        for seen in passes:
            parts = {"decay": seen.decay, "write": seen.write}
            for stream, (norm, energy) in enumerate(seen.transitions()):
                name = STREAMS[stream]
                parts[f"{name} transition"], parts[f"{name} energy"] = norm, energy
                parts[f"{name} state"] = seen.memory[:, stream, None]
                for kind, values in (("transition", norm), ("state", seen.memory[:, stream])):
                    peaks[kind] = values[np.isfinite(values)].max(initial=peaks[kind])
            if not all(np.isfinite(values).all() for values in parts.values()):
                sound = False
                continue
            for name, values in parts.items():
                for head, of_head in enumerate(values):
                    self._histograms[seen.block, head, name].add(of_head)
        self.transition_norm.append(float(peaks["transition"]))
        self.state_norm.append(float(peaks["state"]))
        return sound

    def heads(self) -> dict[tuple[int, int], dict[str, Quantiles]]:
        """By block and head, quantiles of "decay" and "write", and of "NAME transition", "NAME
        energy" and "NAME state" for each stream NAME that the block has."""
        found: dict[tuple[int, int], dict[str, Quantiles]] = defaultdict(dict)
        for (block, head, name), histogram in sorted(self._histograms.items()):
            found[block, head][name] = histogram.quantiles()
        return dict(found)


def run(
    world: SanaWorld, start: Start, c2w: Array, safeguards: Safeguards, seed: int, tick: Tick
) -> GateRun:
    """Take one variant of a world through a walk and observe its memory.

    Args:
        world: A learned world.
        start: Where the walk begins.
        c2w: Poses relative to the first frame, [n k + 1, 4, 4], k >= 1 chunks of n frames.
        safeguards: Which safeguards the network keeps.
        seed: Source of noise.
        tick: Called with the number of chunks just made.

    Raises:
        ValueError: The walk is not made of whole chunks, or the network has no delta-rule block.
    """
    changed, path = altered(world, safeguards), camera_path(start, c2w)
    found = GateRun(safeguards, (len(c2w) - 1) // world.spec.frames_per_chunk)
    with observed(changed.model) as passes:
        states = rollout_from(changed, [changed.begin(start, seed)], [path])
        warm = memory.resident()
        for chunk, [state] in enumerate(states):
            if not (found.add(passes) and _finite(state)):
                tick(found.requested_chunks - chunk)
                break
            found.sound_chunks += 1
            if found.sound_chunks == _WARM_CHUNKS:
                warm = memory.resident()
            tick(1)
    found.resident_mb = round(warm / 1e6, 1), round(memory.resident() / 1e6, 1)
    return found


def _finite(state: SanaState) -> bool:
    tensors = [state.latents]
    if state.generator is not None:
        tensors += named_tensors(state.generator).values()
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def measure(
    world: SanaWorld, start: Start, c2w: Array, ablation_chunks: int, seed: int, tick: Tick
) -> ProbeResult:
    """The whole walk [n k + 1, 4, 4] as the world is, and its beginning without safeguards: a row
    per network, and a row of quantiles per head of the first, a row of peaks per chunk of each."""
    short = c2w[: ablation_chunks * world.spec.frames_per_chunk + 1]
    runs = [run(world, start, c2w, own_safeguards(world), seed, tick)]
    runs += [run(world, start, short, variant, seed, tick) for variant in ablations(world)]
    rows = [
        {
            "network": str(one.safeguards),
            "chunks": one.requested_chunks,
            "sound chunks": one.sound_chunks,
            "largest ‖T‖": f"{max(one.transition_norm):.6g}",
            "largest ‖M‖": f"{max(one.state_norm):.3g}",
            "resident MB, warm": one.resident_mb[0],
            "resident MB, end": one.resident_mb[1],
        }
        for one in runs
    ]
    heads = [
        {"block": block, "head": head, **quantiles}
        for (block, head), quantiles in runs[0].heads().items()
    ]
    peaks = [
        {"network": str(one.safeguards), "chunk": i, "largest ‖T‖": norm, "largest ‖M‖": state}
        for one in runs
        for i, norm, state in zip(count(1), one.transition_norm, one.state_norm, strict=False)
    ]
    return ProbeResult(
        f"Gate stability of {world.spec.name} on one walk",
        "largest values are of finite ones; sound chunks come before the first that is not",
        rows,
        {"heads": heads, "peaks": peaks},
    )
