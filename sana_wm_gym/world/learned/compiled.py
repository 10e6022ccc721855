"""The generator's step compiled by torch.

All blocks of a kind share what is compiled, so that a network of twenty costs as much as one of
two. The causal decoder is never compiled: its memory between
calls is lost in the compiled code, and later chunks come out blank.
"""

from __future__ import annotations

from typing import Any

from torch import _dynamo as dynamo

from sana_wm_gym.models.transformer import SanaWM

SHAPES = 48
"""Kinds of calls that blocks may be compiled for. A batch size takes twelve: two kinds of block,
three lengths of memory, with a noise level per frame and with one for all."""


def compile_step(model: SanaWM, backend: str = "inductor") -> SanaWM:
    """The given generator, its blocks compiled when they are first called.

    The first steps of a rollout compile, for each of the first three chunks anew; later ones, of
    other rollouts too, do not. Results differ from the plain ones by rounding.

    Args:
        model: Changed in place; its weights and their names stay.
        backend: As of `torch.compile`.

    Raises:
        ValueError: Another network is given, such as the decoder.
    """
    given: Any = model
    if not isinstance(given, SanaWM):
        raise ValueError(
            f"given a {type(given).__name__}; expected the generator: the causal decoder makes "
            "blank chunks when it is compiled, and only the generator's step is worth it"
        )
    # Beyond its limit torch silently stops compiling.
    dynamo.config.recompile_limit = max(dynamo.config.recompile_limit, SHAPES)
    for block in model.blocks:
        block.compile(backend=backend, dynamic=False)
    return model
