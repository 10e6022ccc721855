"""The places where SANA-WM's published revisions compute different numbers from equal weights.

R0 is the first public release (bidirectional only), R1 the streaming release, R2 the later
upstream that carries the distillation trainer. The code does not show which one each released
checkpoint was trained with, so the choice is explicit: R1 is "as released", R2 "as later
corrected". Presets are named `<revision>_<generator>`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


def padded_head_dim(head_dim: int) -> int:
    """Head dim after the zero-padding that upstream applies before softmax attention.

    Source: SANA-WM streaming release: other sizes than 32, 64, 128, 256 are padded to 128,
    above 128 to 256.
    """
    if head_dim in (32, 64, 128, 256):
        return head_dim
    return 128 if head_dim < 128 else 256


@dataclass(frozen=True)
class Numerics:
    """Numeric choices of one upstream revision and generator.

    Attributes:
        padded_main_scale: Main softmax scale 1/sqrt(padded head dim) instead of 1/sqrt(head dim).
        padded_camera_scale: The same for the camera branch's softmax.
        causal_softmax: Within one call a chunk sees itself and what the memory window keeps of
            the chunks before it; otherwise softmax blocks attend to every frame of the call.
        camera_key_context: The causal half of the camera-key convolution sees the previous chunk.
        renormalise_softmax_rays: Scale queries, keys and values back to at most their RMS before
            the ray transform, in softmax blocks.
        renormalise_delta_rays: The same in delta-rule blocks.
        bounded_writes: Discount a frame's write gates where its keys would write more than the
            whole memory (sum of beta |k|^2 over 1), so that a transition never has a norm over 1.
            Upstream relies on its key scale, which bounds this only on average.
        denominator_floor: Least absolute value of the delta rule's denominators, which keep their
            sign; see `delta_rule.off_zero`.
        bf16_softmax: Round softmax queries, keys and values to bfloat16.
    """

    padded_main_scale: bool = False
    padded_camera_scale: bool = False
    causal_softmax: bool = True
    camera_key_context: bool = True
    renormalise_softmax_rays: bool = False
    renormalise_delta_rays: bool = False
    bounded_writes: bool = False
    denominator_floor: float = 0.0
    bf16_softmax: bool = False


R2_STREAMING = Numerics(bf16_softmax=True)
R2_CHUNK_CAUSAL = R2_STREAMING
R2_BIDIRECTIONAL = replace(R2_STREAMING, causal_softmax=False)
R1_BIDIRECTIONAL = replace(R2_BIDIRECTIONAL, padded_camera_scale=True)
R1_CHUNK_CAUSAL = R1_BIDIRECTIONAL
R1_STREAMING = replace(
    R2_STREAMING, padded_main_scale=True, padded_camera_scale=True, camera_key_context=False
)
R0_BIDIRECTIONAL = replace(R1_BIDIRECTIONAL, renormalise_softmax_rays=True)
DIFFUSERS_BIDIRECTIONAL = replace(R0_BIDIRECTIONAL, renormalise_delta_rays=True)
EXACT = Numerics(bounded_writes=True, denominator_floor=0.5)
"""Our own choice for models trained by this project: every difference resolved the plain way, so
that streaming and one chunk-causal call agree."""
