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

import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmarks.parity_checks.check import GoldenError, relative_l2
from benchmarks.parity_checks.files import Tensors, read_json
from benchmarks.parity_checks.forward import Inputs
from benchmarks.parity_checks.network import Network, as_array, as_tensor, read_network
from benchmarks.report import parser_of
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
"""Choices that make a difference in one call on a whole clip."""


INPUTS = {
    "hidden_states": "x",
    "timestep": "timestep",
    "encoder_hidden_states": "y",
    "encoder_attention_mask": "mask",
    "camera_conditions": "camera_conditions",
    "chunk_plucker": "chunk_plucker",
}
"""Our names of the arguments of diffusers."""


class OracleRow(NamedTuple):
    """Our numerics against diffusers: relative L2, and what is allowed where there is a bound."""

    name: str
    error: float
    tolerance: float = math.inf


def build_theirs(network: Network) -> nn.Module:
    """The network of diffusers with the same sizes and weights, float32."""
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


class KeepFloat32(TorchFunctionMode):
    """Leaves tensors as they are where code rounds them with `Tensor.bfloat16`."""

    def __torch_function__(
        self, function: Any, types: Any, given: Any = (), named: Any = None
    ) -> Any:
        return given[0] if function is Tensor.bfloat16 else function(*given, **named or {})


@torch.inference_mode()
def their_velocity(model: nn.Module, stored: Tensors, rounded: bool) -> Tensor:
    """What diffusers predicts for `inputs/*`; `rounded` leaves its rounding of softmax inputs to
    bfloat16 in place."""
    arguments = {name: as_tensor(stored[f"inputs/{ours}"]) for name, ours in INPUTS.items()}
    with nullcontext() if rounded else KeepFloat32():
        velocity: Tensor = model(**arguments).sample
    return velocity


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
    for name, meaning in MEANING.items():
        toggled = replace(unrounded, **{name: not getattr(unrounded, name)})
        rows.append(OracleRow(f"toggled: {meaning}", error(toggled, exact)))
    rows.append(OracleRow("toggled: bfloat16 in softmax", error(unrounded, rounded)))
    rows.append(OracleRow("R1_BIDIRECTIONAL, the released code", error(R1_BIDIRECTIONAL, rounded)))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = parser_of("benchmarks.diffusers_oracle", __doc__)
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
            bounded, met = row.tolerance < math.inf, row.error <= row.tolerance
            mark, bound = (
                ("ok  " if met else "MISS", f"  (<= {row.tolerance:.0e})")
                if bounded
                else ("    ", "")
            )
            print(f"  {mark} {row.error:8.1e}  {row.name}{bound}")
            passed = passed and met
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
