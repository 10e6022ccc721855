"""The tensors inside one transformer block, under the names and layouts of the reference.

Values are taken from a recorded forward where the network computes them as such. What it never
holds apart (each direction's numerator and denominator) is recomputed from the recorded inputs
by the definition of the delta rule.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from benchmarks.parity_checks.network import Call
from sana_wm_gym.models.attention import (
    DeltaRuleAttention,
    SoftmaxAttention,
    by_head,
    key_inflation,
)
from sana_wm_gym.models.delta_rule import delta_rule_naive
from sana_wm_gym.models.layers import rotate
from sana_wm_gym.models.numerics import padded_head_dim
from sana_wm_gym.models.transformer import Block

RECORDED = (
    "attn.forward",
    "attn.qkv.forward",
    "attn.conv_k.forward",
    "attn.conv_k_cam.forward",
    "attn.gates",
    "attn.features",
    "attn.to_rays",
    "attn.from_rays",
    "attn.attend",
    "attn.join",
    "attn.out_proj_cam.forward",
    "attn.proj.forward",
    "plucker_proj.forward",
    "cross_attn.forward",
    "cross_attn.proj.forward",
    "mlp.forward",
)
"""Methods of a block whose calls `block_tensors` reads."""

Calls = Mapping[str, list[Call]]


def block_tensors(block: Block, calls: Calls) -> dict[str, Tensor]:
    """Everything the reference stores of one block, from one recorded forward."""
    attention = block.attn
    inner = (
        _delta_rule_tensors(attention, calls)
        if isinstance(attention, DeltaRuleAttention)
        else _softmax_tensors(attention, calls)
    )
    return _surroundings(block, calls) | inner


def _surroundings(block: Block, calls: Calls) -> dict[str, Tensor]:
    cross = calls["cross_attn.proj.forward"][0].arguments[0]
    return {
        "attn_in": tokens(calls["attn.forward"][0].arguments[0]),
        "attn_out": tokens(calls["attn.forward"][0].result[0]),
        "main_qkv": tokens(calls["attn.qkv.forward"][0].result),
        "cam_raw": tokens(calls["attn.out_proj_cam.forward"][0].arguments[0]),
        "cam_contrib": tokens(calls["attn.out_proj_cam.forward"][0].result),
        "gated_in_proj": tokens(calls["attn.proj.forward"][0].arguments[0]),
        "plucker_proj": tokens(calls["plucker_proj.forward"][0].result),
        "cross_in": tokens(calls["cross_attn.forward"][0].arguments[0]),
        "cross_out": tokens(calls["cross_attn.forward"][0].result),
        "cross_sdpa_out": tokens(block.attn.per_head(cross)).transpose(1, 2),
        "ffn_in": tokens(calls["mlp.forward"][0].arguments[0]),
        "ffn_out": tokens(calls["mlp.forward"][0].result[0]),
    }


def _delta_rule_tensors(attention: DeltaRuleAttention, calls: Calls) -> dict[str, Tensor]:
    x, rope, _, plan, _ = calls["attn.forward"][0].arguments
    spans = plan.spans(x.shape[1])
    beta, decay = calls["attn.gates"][0].result

    query, key = calls["attn.features"][0].result
    value = attention.per_head(calls["attn.qkv.forward"][0].result.chunk(3, dim=-1)[2])
    query_rot, key_rot = rotate(query, rope), rotate(key, rope)
    ones = value.new_ones((*value.shape[:-1], 1))
    main_num = delta_rule_naive(
        by_head(query_rot), by_head(key_rot), by_head(value), beta, decay, spans, None
    )
    main_den = delta_rule_naive(
        by_head(query), by_head(key), by_head(ones), beta, decay, spans, None
    )

    ray_query, ray_key, ray_value = calls["attn.to_rays"][0].result
    inflation = key_inflation(ray_key, calls["attn.to_rays"][0].arguments[1])
    cam_beta = beta / inflation.mean(2).clamp(min=1.0).permute(0, 2, 1)[..., None]
    cam_num = delta_rule_naive(
        by_head(ray_query), by_head(ray_key), by_head(ray_value), cam_beta, decay, spans, None
    )
    return {
        "conv_main_k": tokens(calls["attn.conv_k.forward"][0].result),
        "conv_cam_k": tokens(calls["attn.conv_k_cam.forward"][0].result),
        "beta": beta,
        "decay": decay,
        "main_q": tokens(query),
        "main_k": tokens(key),
        "main_v": tokens(value),
        "main_q_rot": tokens(query_rot),
        "main_k_rot": tokens(key_rot),
        "main_num_fwd": tokens(by_frame(main_num[0])),
        "main_num_rev": tokens(by_frame(main_num[1])),
        "main_den_fwd": tokens(by_frame(main_den[0])),
        "main_den_rev": tokens(by_frame(main_den[1])),
        "main_scan_out": tokens(calls["attn.join"][0].arguments[1]),
        "cam_q": channels_first(ray_query),
        "cam_k": channels_first(ray_key),
        "cam_v": channels_first(ray_value),
        "cam_inflation_sq": tokens(inflation).transpose(1, 2),
        "cam_beta": cam_beta,
        "cam_num_fwd": channels_first(by_frame(cam_num[0])),
        "cam_num_rev": channels_first(by_frame(cam_num[1])),
        "cam_scan_out": channels_first(calls["attn.from_rays"][0].arguments[0]),
    }


def _softmax_tensors(attention: SoftmaxAttention, calls: Calls) -> dict[str, Tensor]:
    numerics = attention.numerics
    branches = (("main", numerics.padded_main_scale), ("cam", numerics.padded_camera_scale))
    named: dict[str, Tensor] = {}
    for (branch, padded), call in zip(branches, calls["attn.attend"], strict=True):
        # The reference pads heads with zeros where its scale is that of the padded size.
        extra = padded_head_dim(attention.head_dim) - attention.head_dim if padded else 0
        for part, tensor in zip("qkv", call.arguments, strict=False):
            named[f"{branch}_sdpa_{part}"] = F.pad(tensor, (0, extra))
        named[f"{branch}_sdpa_out"] = F.pad(call.result, (0, extra))
    return named


def tokens(x: Tensor) -> Tensor:
    """[b, f, s, ...] to [b, n, ...]."""
    return x.flatten(1, 2)


def by_frame(x: Tensor) -> Tensor:
    """[b, heads, f, s, d] to [b, f, s, heads, d]."""
    return x.permute(0, 2, 3, 1, 4)


def channels_first(x: Tensor) -> Tensor:
    """[b, f, s, heads, d] to [b, heads, d, n]."""
    return tokens(x).permute(0, 2, 3, 1)
