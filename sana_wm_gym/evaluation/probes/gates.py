"""Gate stability: does the delta-rule memory stay bounded, and what keeps it so?

Every frame acts on a head's memory as M -> T M + A with T = g (I - K^T diag(beta) K). Where no T
has a norm over 1, no state can grow by itself, however long the rollout. This probe takes a
network through a long walk and keeps, for every delta-rule block, head and stream, statistics of

  decay         g, one per frame
  write gate    beta as the network asks for it, one per token
  write energy  trace of K^T diag(beta) K as used; up to 1 nothing is written twice
  transition    spectral norm of T
  state         Frobenius norm of M after each chunk

taken in the clean pass, the only one whose memory is kept. The same is repeated without the key
scale (head_dim * tokens)^-1/2 and without the bound on writes. Nothing is retrained: these runs
tell what the mechanism does for these weights, not what training without it would give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.report import resident_mb
from sana_wm_gym.evaluation.probes.rollouts import Array, Tick, step
from sana_wm_gym.evaluation.probes.running import Peaks, Quantiles, Running
from sana_wm_gym.evaluation.probes.watch import (
    STREAMS,
    Gates,
    Seen,
    Transition,
    Variant,
    ablations,
    altered,
    delta_rule_blocks,
    own_variant,
    watched,
)
from sana_wm_gym.models.attention import DeltaRuleAttention
from sana_wm_gym.models.state import named_tensors
from sana_wm_gym.world.learned.sana_state import SanaState
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.world_model import CHUNK_FRAMES, Start

TRACE_SLOTS = 100
_WARM_CHUNKS = 10


class NoNetworkError(ValueError):
    """A world that makes its frames without a network has no gates to watch."""

    def __init__(self, world: str) -> None:
        super().__init__(
            f"world {world!r} has no network, so it has no gates; expected a learned world, such "
            "as tiny or a world file"
        )


@dataclass(frozen=True)
class StreamStatistics:
    """One head's memory of one stream."""

    stream: str
    write_energy: Quantiles
    transition_norm: Quantiles
    state_norm: Quantiles


@dataclass(frozen=True)
class HeadStatistics:
    """One head of one block over a whole rollout."""

    block: int
    head: int
    decay: Quantiles
    write_gate: Quantiles
    streams: tuple[StreamStatistics, ...]


@dataclass(frozen=True)
class Trace:
    """Largest values along the rollout, over heads, streams and the chunks of a slot.

    Attributes:
        seconds: End of each slot.
        transition_norm: One row per delta-rule block.
        state_norm: Likewise.
    """

    seconds: tuple[float, ...]
    transition_norm: tuple[tuple[float, ...], ...]
    state_norm: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class GateRun:
    """One variant of the network on one walk.

    Attributes:
        name: The variant, in words.
        variant: The variant.
        asked_chunks: Length of the walk.
        sound_chunks: Chunks before the first with a value that is not finite.
        largest_transition_norm: Over all blocks, heads, streams and frames.
        largest_state_norm: Likewise, over chunks.
        heads: Statistics by block and head.
        trace: The same largest values along the rollout.
        resident_mb: Memory of the process after ten chunks and at the end.
    """

    name: str
    variant: Variant
    asked_chunks: int
    sound_chunks: int
    largest_transition_norm: float
    largest_state_norm: float
    heads: tuple[HeadStatistics, ...]
    trace: Trace
    resident_mb: tuple[float, float]

    @property
    def broken(self) -> bool:
        """Whether the rollout ended in values that are not finite."""
        return self.sound_chunks < self.asked_chunks


@dataclass(frozen=True)
class GateStability:
    """The probe's result: the world as it is first, then the ablations."""

    world: str
    runs: tuple[GateRun, ...]


class _Ledger:
    """Running statistics of one rollout; its size does not depend on the rollout's length."""

    def __init__(self, blocks: list[tuple[int, DeltaRuleAttention]], chunks: int) -> None:
        heads, streams = blocks[0][1].heads, len(STREAMS)
        self.blocks = [index for index, _ in blocks]
        rows = range(len(blocks))
        self.decay = [Running(heads) for _ in rows]
        self.write = [Running(heads) for _ in rows]
        self.energy = [[Running(heads) for _ in range(streams)] for _ in rows]
        self.norm = [[Running(heads) for _ in range(streams)] for _ in rows]
        self.state = [[Running(heads) for _ in range(streams)] for _ in rows]
        self.norm_peaks = Peaks(len(blocks), chunks, TRACE_SLOTS)
        self.state_peaks = Peaks(len(blocks), chunks, TRACE_SLOTS)
        self.chunk, self.sound = 0, True

    def see(self, seen: Seen) -> None:
        values = (
            (seen.decay, seen.write)
            if isinstance(seen, Gates)
            else (seen.norm, seen.energy)
            if isinstance(seen, Transition)
            else (seen.norm,)
        )
        if not all(np.isfinite(value).all() for value in values):
            self.sound = False
            return
        if isinstance(seen, Gates):
            self.decay[seen.row].add(seen.decay)
            self.write[seen.row].add(seen.write)
        elif isinstance(seen, Transition):
            self.norm[seen.row][seen.stream].add(seen.norm)
            self.energy[seen.row][seen.stream].add(seen.energy)
            self.norm_peaks.add(seen.row, self.chunk, float(seen.norm.max()))
        else:
            for stream, norms in enumerate(seen.norm.T):
                self.state[seen.row][stream].add(norms[:, None])
            self.state_peaks.add(seen.row, self.chunk, float(seen.norm.max()))

    def heads(self) -> tuple[HeadStatistics, ...]:
        found = []
        for row, block in enumerate(self.blocks):
            for head in range(self.decay[row].rows):
                streams = tuple(
                    StreamStatistics(
                        stream=name,
                        write_energy=self.energy[row][i].quantiles(head),
                        transition_norm=self.norm[row][i].quantiles(head),
                        state_norm=self.state[row][i].quantiles(head),
                    )
                    for i, name in enumerate(STREAMS)
                    if self.norm[row][i].count and self.state[row][i].count
                )
                decay, write = self.decay[row], self.write[row]
                if decay.count:
                    found.append(
                        HeadStatistics(
                            block, head, decay.quantiles(head), write.quantiles(head), streams
                        )
                    )
        return tuple(found)

    def trace(self, fps: float) -> Trace:
        norm, state = self.norm_peaks, self.state_peaks
        # The chunk that breaks may have transitions and no memory.
        slots = max(norm.used, state.used)
        seconds = tuple(end * CHUNK_FRAMES / fps for end in norm.ends(slots))
        return Trace(seconds, norm.rows(slots), state.rows(slots))


def run(
    world: SanaWorld, start: Start, c2w: Array, variant: Variant, seed: int, tick: Tick
) -> GateRun:
    """Take one variant of a world through a walk and watch its memory.

    Args:
        world: A learned world.
        start: Where the walk begins.
        c2w: Poses relative to the first frame, [24 n + 1, 4, 4], n >= 1.
        variant: Which safeguards the network keeps.
        seed: Source of noise.
        tick: Told the number of chunks just made.

    Raises:
        ValueError: The walk is not made of whole chunks, or the network has no delta-rule block.
    """
    chunks, rest = divmod(len(c2w) - 1, CHUNK_FRAMES)
    if rest or chunks < 1:
        raise ValueError(f"given a walk of {len(c2w)} poses; expected 24 n + 1 with n >= 1")
    changed = altered(world, variant)
    ledger = _Ledger(delta_rule_blocks(changed.model), chunks)
    state = changed.begin(start, seed)
    warm = resident_mb()
    with watched(changed.model, ledger.see):
        for chunk in range(chunks):
            poses = c2w[chunk * CHUNK_FRAMES : (chunk + 1) * CHUNK_FRAMES + 1]
            state = step(changed, [state], [start], [poses])[0]
            if not (ledger.sound and _finite(state)):
                tick(chunks - chunk)
                break
            ledger.chunk += 1
            if ledger.chunk == _WARM_CHUNKS:
                warm = resident_mb()
            tick(1)
    return GateRun(
        name=str(variant),
        variant=variant,
        asked_chunks=chunks,
        sound_chunks=ledger.chunk,
        largest_transition_norm=ledger.norm_peaks.highest,
        largest_state_norm=ledger.state_peaks.highest,
        heads=ledger.heads(),
        trace=ledger.trace(world.spec.fps),
        resident_mb=(round(warm, 1), round(resident_mb(), 1)),
    )


def _finite(state: SanaState) -> bool:
    tensors = [state.latents]
    if state.generator is not None:
        tensors += named_tensors(state.generator).values()
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def measure(
    world: SanaWorld, start: Start, c2w: Array, ablation_chunks: int, seed: int, tick: Tick
) -> GateStability:
    """The whole walk [24 n + 1, 4, 4] as the world is, and its beginning without safeguards."""
    short = c2w[: ablation_chunks * CHUNK_FRAMES + 1]
    runs = [run(world, start, c2w, own_variant(world), seed, tick)]
    runs += [run(world, start, short, variant, seed, tick) for variant in ablations(world)]
    return GateStability(world.spec.name, tuple(runs))
