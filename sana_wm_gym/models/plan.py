"""How one call's latent frames are grouped, which is what distinguishes the three generators.

One chunk over everything is the bidirectional generator; several chunks in one call are the
chunk-causal one; one chunk plus a state is the streaming one. The network code is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

Spans = tuple[tuple[int, int], ...]
"""(start, end) of consecutive chunks, which cover a call's latent frames."""


@dataclass(frozen=True)
class MemoryWindow:
    """Which past chunks a softmax block keeps; delta-rule blocks always keep everything.

    Attributes:
        chunks: Number of past chunks in view, the sink included; None keeps all.
        sink: Whether the first chunk stays in view for ever.

    Source: SANA-WM streaming inference, `num_cached_blocks` and `sink_token`.
    """

    chunks: int | None = 2
    sink: bool = True

    def __post_init__(self) -> None:
        if self.chunks is not None and self.chunks < 1:
            raise ValueError(f"given a window of {self.chunks} chunks; expected at least 1 or None")

    def keep(self, count: int) -> tuple[int, ...]:
        """Indices, among `count` chunks ordered oldest first, that stay in view."""
        if self.chunks is None or count <= self.chunks:
            return tuple(range(count))
        if not self.sink:
            return tuple(range(count - self.chunks, count))
        return (0, *range(count - self.chunks + 1, count))


@dataclass(frozen=True)
class ChunkPlan:
    """Chunks of the latent frames passed to one call.

    Attributes:
        starts: First frame of each chunk, counted within the call; begins with 0.
        key_conv_starts: Chunks of the anti-causal half of the key convolution. None means
            `starts`; the released chunk-causal generator uses uniform chunks here whenever the
            frame count is a multiple of the chunk size.
        window: Which chunks softmax blocks keep.
    """

    starts: tuple[int, ...] = (0,)
    key_conv_starts: tuple[int, ...] | None = None
    window: MemoryWindow = MemoryWindow(chunks=None)

    def __post_init__(self) -> None:
        for name in ("starts", "key_conv_starts"):
            starts = getattr(self, name)
            if starts is not None and (not starts or starts[0] or sorted({*starts}) != [*starts]):
                raise ValueError(f"given {name}={starts}; expected rising frame indices from 0")

    def spans(self, frames: int) -> Spans:
        """(start, end) of each chunk in a call of `frames` latent frames.

        Raises:
            ValueError: A chunk would start at or after the last frame.
        """
        return _spans(self.starts, frames)

    def key_conv_spans(self, frames: int) -> Spans:
        """As `spans`, for the anti-causal half of the key convolution."""
        return _spans(self.key_conv_starts or self.starts, frames)


def _spans(starts: tuple[int, ...], frames: int) -> Spans:
    if starts[-1] >= frames:
        raise ValueError(f"given chunk starts {starts} for {frames} latent frames")
    return tuple(zip(starts, (*starts[1:], frames), strict=True))
