"""Weights to start training from."""

from __future__ import annotations

import torch
from torch import nn

from sana_wm_gym.models.attention import DeltaRuleAttention
from sana_wm_gym.models.transformer import Block, SanaWM

UNIT_GATE_BIAS = 1.278464542761074
"""SiLU of this is 1: the output gate starts open, as upstream's does."""


def initialise(model: SanaWM, seed: int) -> None:
    """Weights for training from scratch: open residual gates, decays close to 1, and a
    first prediction of zero."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and parameter.ndim >= 2 and ".conv_k" not in name:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif name.endswith("bias") and not name.endswith("dt_bias"):
            nn.init.zeros_(parameter)
    for block in model.blocks:
        assert isinstance(block, Block)
        attention = block.attn
        nn.init.zeros_(attention.output_gate.weight)
        nn.init.constant_(attention.output_gate.bias, UNIT_GATE_BIAS)
        nn.init.zeros_(block.mlp.t_conv.weight)
        if block.cross_attn is not None:
            # Prompts begin to act when they explain something.
            nn.init.zeros_(block.cross_attn.proj.weight)
        with torch.no_grad():
            block.scale_shift_table[2] = 0.5
            block.scale_shift_table[5] = 0.5
        if isinstance(attention, DeltaRuleAttention):
            nn.init.zeros_(attention.beta_proj.weight)
            # Write gates start at 0.5, where they learn fastest.
            nn.init.zeros_(attention.beta_proj.bias)
            nn.init.zeros_(attention.gate_proj.weight)
    nn.init.normal_(model.t_block.get_parameter("1.weight"), std=0.02)
    nn.init.zeros_(model.final_layer.linear.weight)
