"""Compare the bidirectional forward with a second implementation: the one inside diffusers.

    python -m benchmarks.diffusers_oracle [DIR]

DIR holds `dit_bidirectional*.safetensors` with its json, as for `benchmarks.parity`; the files in
`tests/data/golden` are taken by default. Both networks get the same weights and inputs. Printed is
the relative L2 between their velocities, first as they are, then with each choice of `Numerics`
toggled, so that every known difference between the revisions shows its size.

Needs the `oracle` extra. Exit status: 0 when the networks agree, 1 when they do not, 2 when
diffusers or the files are missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.parity_checks.check import GoldenError, relative_l2
from benchmarks.parity_checks.files import Tensors, read_json
from benchmarks.parity_checks.forward import Inputs
from benchmarks.parity_checks.network import Network, as_array, as_tensor, read_network
from sana_wm_gym.models.numerics import DIFFUSERS_BIDIRECTIONAL, R1_BIDIRECTIONAL, Numerics
from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.weights.names import diffusers_names

GOLDEN = Path(__file__).parents[1] / "tests" / "data" / "golden"

AGREE = 1e-5
AGREE_ROUNDED = 1e-4
"""Allowed relative L2 without and with the rounding of softmax inputs to bfloat16."""

MEANING = {
    "padded_main_scale": "main softmax scale of the padded head",
    "padded_camera_scale": "camera softmax scale of the padded head",
    "renormalise_softmax_rays": "RMS limit after the ray transform, softmax blocks",
    "renormalise_delta_rays": "RMS limit after the ray transform, delta-rule blocks",
}
"""Choices that one whole-clip call can tell apart."""


@dataclass(frozen=True)
class OracleRow:
    """One line of the table: our numerics against diffusers."""

    name: str
    error: float
    tolerance: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the error is within its tolerance, if it has one."""
        return self.tolerance is None or self.error <= self.tolerance


def build_theirs(network: Network) -> nn.Module:
    """The network of diffusers with the same sizes and weights, float32.

    Raises:
        ImportError: diffusers is not installed or has no SANA-WM.
        RuntimeError: The weights do not fit, by name or shape.
    """
    from diffusers import SanaWMTransformer3DModel

    config = network.config
    model: Any = SanaWMTransformer3DModel(
        in_channels=config.latent_channels,
        num_layers=config.depth,
        hidden_size=config.width,
        num_attention_heads=config.heads,
        linear_head_dim=config.width // config.heads,
        softmax_every_n=config.softmax_every,
        t_kernel_size=config.temporal_kernel,
        conv_kernel_size=config.conv_kernel,
        chunk_plucker_channels=config.plucker_channels,
        chunk_plucker_post_attn_blocks=config.depth,
        caption_channels=config.text_channels,
        mlp_ratio=config.mlp_ratio,
    )
    model.load_state_dict(diffusers_names(network.weights))
    return model.eval()


@torch.inference_mode()
def their_velocity(model: nn.Module, stored: Tensors, rounded: bool) -> Tensor:
    """What diffusers predicts.

    Args:
        model: From `build_theirs`.
        stored: Reference tensors; only `inputs/*` are read.
        rounded: Leave its rounding of softmax inputs to bfloat16 in place.
    """
    arguments: dict[str, Any] = {
        "hidden_states": as_tensor(stored["inputs/x"]),
        "timestep": as_tensor(stored["inputs/timestep"]),
        "encoder_hidden_states": as_tensor(stored["inputs/y"]),
        "encoder_attention_mask": as_tensor(stored["inputs/mask"]),
        "camera_conditions": as_tensor(stored["inputs/camera_conditions"]),
        "chunk_plucker": as_tensor(stored["inputs/chunk_plucker"]),
    }
    if rounded:
        return model(**arguments).sample
    with patch.object(torch.Tensor, "bfloat16", lambda tensor: tensor):
        return model(**arguments).sample


def compare(network: Network, stored: Tensors) -> list[OracleRow]:
    """All lines of the table."""
    theirs = build_theirs(network)
    inputs = Inputs.read(stored)
    exact, rounded = (their_velocity(theirs, stored, flag) for flag in (False, True))

    @torch.inference_mode()
    def error(numerics: Numerics, reference: Tensor) -> float:
        model = SanaWM(network.config, numerics).eval()
        model.load_state_dict(network.weights)
        flow, _ = model(inputs.latents, inputs.timestep, inputs.conditioning, ChunkPlan(), None)
        return relative_l2("", as_array(flow), as_array(reference), AGREE).error

    unrounded = replace(DIFFUSERS_BIDIRECTIONAL, bf16_softmax=False)
    rows = [
        OracleRow("as they are", error(DIFFUSERS_BIDIRECTIONAL, rounded), AGREE_ROUNDED),
        OracleRow("both without bfloat16 in softmax", error(unrounded, exact), AGREE),
    ]
    for field in fields(Numerics):
        if field.name in MEANING:
            turned = replace(unrounded, **{field.name: not getattr(unrounded, field.name)})
            rows.append(OracleRow(f"toggled: {MEANING[field.name]}", error(turned, exact)))
    rows.append(OracleRow("toggled: bfloat16 in softmax", error(unrounded, rounded)))
    rows.append(OracleRow("R1_BIDIRECTIONAL, the released code", error(R1_BIDIRECTIONAL, rounded)))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.diffusers_oracle",
        description="Compare the bidirectional forward with the one inside diffusers.",
    )
    parser.add_argument("directory", type=Path, nargs="?", default=GOLDEN)
    directory = parser.parse_args(arguments).directory
    paths = sorted(directory.glob("dit_bidirectional*.safetensors"))
    if not paths:
        parser.error(f"no dit_bidirectional*.safetensors in {directory}")
    try:
        import diffusers
        from diffusers import SanaWMTransformer3DModel  # noqa: F401
    except ImportError as missing:
        parser.error(f"{missing}; install the oracle extra: pip install sana_wm_gym[oracle]")

    torch.set_num_threads(1)
    passed = True
    print(f"diffusers {diffusers.__version__}, torch {torch.__version__}")
    for path in paths:
        try:
            network = read_network(path, read_json(path.with_suffix(".json")))
            rows = compare(network, Tensors.open(path))
        except GoldenError as problem:
            parser.error(str(problem))
        print(f"\n{path.name}: relative L2 between the two velocities")
        for row in rows:
            mark = "    " if row.tolerance is None else "ok  " if row.passed else "MISS"
            bound = "" if row.tolerance is None else f"  (<= {row.tolerance:.0e})"
            print(f"  {mark} {row.error:8.1e}  {row.name}{bound}")
        passed = passed and all(row.passed for row in rows)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
