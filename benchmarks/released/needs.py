"""What the released world needs on a card, and what a card could make of it: facts and sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.released.work import chunk_operations
from sana_wm_gym.weights.names import RELEASED, expected_shapes, quantised
from sana_wm_gym.weights.plan import (
    CAPABILITY,
    CELLS,
    SOFTMAX_FRAMES,
    Precision,
    memory_bytes,
    weight_bytes,
)
from sana_wm_gym.weights.preflight import GB
from sana_wm_gym.world.world_model import LATENTS_PER_CHUNK

Result = dict[str, Any]

VAE_PARAMETERS = 1_222_479_601
"""Of the library's default settings, which state the released architecture (docs/vae.md)."""
TEXT_PARAMETERS = 2_614_341_888
"""gemma-2-2b-it: transformers' default Gemma2Config, counted."""
REFINER_PARAMETERS = 18_876_174_592
"""LTX-2's transformer with its audio half: the library's default settings (docs/refiner.md)."""
CONTEXT = GB // 2
"""Allowance for the CUDA context and its libraries."""
CAPTION, STEPS = 300, 4


@dataclass(frozen=True)
class Card:
    """A graphics card.

    Attributes:
        memory: GiB.
        example: One with so much.
        peak: Its dense bfloat16 matrix rate with float32 sums, TFLOP/s, as its vendor states it.
        capability: Its CUDA compute capability.
    """

    memory: int
    example: str
    peak: float
    capability: tuple[int, int]

    @property
    def bytes(self) -> int:
        """Its memory."""
        return self.memory * 2**30


CARDS = (
    Card(8, "RTX 5060", 38.4, (12, 0)),
    Card(12, "RTX 5070", 61.7, (12, 0)),
    Card(16, "RTX 5080", 112.6, (12, 0)),
    Card(24, "RTX 4090", 165.2, (8, 9)),
    Card(32, "RTX 5090", 209.5, (12, 0)),
    Card(48, "L40S", 362.0, (8, 9)),
    Card(80, "H100 SXM", 989.4, (9, 0)),
)


@dataclass(frozen=True)
class Run:
    """A published run of the generator alone: 40 chunks of 704 x 1280, window 2 with sink.

    Attributes:
        card: Where.
        peak: Of the card, TFLOP/s.
        seconds: For the 40 chunks.
    """

    card: str
    peak: float
    seconds: float


RUNS = (Run("H100", 989.4, 29.0), Run("RTX 5090", 209.5, 39.0))
"""Denoising times of 60 s of video in bfloat16, figure 7a of the paper (arXiv 2605.15178); of its
two readings for the RTX 5090 the one that stays below the card's peak."""


def operations() -> int:
    """Operations of the generator for a chunk at 704 x 1280."""
    return chunk_operations(RELEASED, CELLS, SOFTMAX_FRAMES, CAPTION, STEPS)


def reached(run: Run) -> float:
    """Fraction of the card's peak that a published run reached."""
    return 40 * operations() / run.seconds / (run.peak * 1e12)


@dataclass(frozen=True)
class Setting:
    """How a world is put on a card.

    Attributes:
        precision: Of the generator's weights.
        offloaded: The VAE rests in main memory between its calls.
    """

    precision: Precision
    offloaded: bool

    def __str__(self) -> str:
        return f"{self.precision}, VAE offloaded" if self.offloaded else str(self.precision)


SETTINGS = tuple(Setting(precision, away) for precision in Precision for away in (False, True))
"""From the plainest to the smallest."""


@dataclass(frozen=True)
class Needs:
    """Bytes that worlds with frames of 704 x 1280 take.

    Attributes:
        generator: Weights of the generator, by precision.
        vae: Weights of the VAE.
        memories: What generator and decoder of a world remember.
        step: What making a chunk needs beside weights and memories.
        decode: What decoding it needs beside them.
        text: The text encoder, for as long as it encodes a new prompt.
        decode_operations: Operations of decoding a chunk.
        processor_s: Processor time of a step and its decode, where they ran.
        device: Where that was.
    """

    generator: Mapping[Precision, int]
    vae: int
    memories: int
    step: int
    decode: int
    text: int
    decode_operations: int
    processor_s: float
    device: str

    def stepping(self, setting: Setting, worlds: int = 1) -> int:
        """With prompts that are encoded already, or elsewhere."""
        resting = 0 if setting.offloaded else self.vae
        making = resting + worlds * (self.memories + self.step)
        showing = self.vae + worlds * (self.memories + self.decode)
        return self.generator[setting.precision] + max(making, showing) + CONTEXT

    def encoding(self, setting: Setting) -> int:
        """While a new prompt is encoded; no chunk is made meanwhile."""
        resting = 0 if setting.offloaded else self.vae
        return self.generator[setting.precision] + resting + self.text + CONTEXT

    def setting(self, card: Card) -> Setting | None:
        """The plainest setting in which a card holds a world."""
        for setting in SETTINGS:
            known = card.capability >= CAPABILITY[setting.precision]
            if known and self.stepping(setting) <= card.bytes:
                return setting
        return None

    def worlds(self, card: Card, setting: Setting) -> int:
        """How many worlds could step together."""
        count = 0
        while self.stepping(setting, count + 1) <= card.bytes:
            count += 1
        return count


def needs(records: Sequence[Result]) -> Needs:
    """Sizes from paper; working memory and time from the records of `benchmarks.released_step`.

    Raises:
        ValueError: There is no step or decode on a CPU at 704 x 1280 in bfloat16 among them.
    """

    def found(kind: str, **wanted: Any) -> Result:
        wanted |= {"kind": kind, "height": 704, "width": 1280, "dtype": "bfloat16"}
        wanted |= {"device": "cpu", "tiny": False}
        for record in records:
            if wanted.items() <= record["case"].items():
                return record
        raise ValueError(f"no record of {wanted}; run `python -m benchmarks.released_step`")

    step, decode = found("step", window=2, passes=5), found("decode")
    stepped, decoded = step["result"], decode["result"]
    chunk = LATENTS_PER_CHUNK * 8 / decoded["frames"]
    return Needs(
        generator={p: weight_bytes(expected_shapes(RELEASED), p, quantised) for p in Precision},
        vae=2 * VAE_PARAMETERS,
        memories=memory_bytes() + decoded["state_bytes"],
        # Both made the next memory in what they needed; the generator's is there, too, when the
        # chunk is decoded.
        step=stepped["working_bytes"],
        decode=decoded["working_bytes"] + memory_bytes(),
        text=2 * TEXT_PARAMETERS,
        decode_operations=round(decoded["operations"] * chunk),
        processor_s=stepped["processor_s"] + decoded["processor_s"] * chunk,
        device=step["device"].partition(" on ")[2],
    )
