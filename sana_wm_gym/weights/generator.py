"""The Stage-1 generator from a released checkpoint, and back.

Variant, names, shapes and free memory are checked first. Then values are read one by one into their
final type and place, in a network that was built without storage, so the peak stays within a few
hundredths of the result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file

from sana_wm_gym.files import atomic_path
from sana_wm_gym.models.numerics import Numerics
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.weights.containers import Container, open_container, require_finite
from sana_wm_gym.weights.names import (
    AS_RELEASED,
    DIFFUSERS_ABSENT,
    METADATA_VARIANT,
    RELEASED,
    Variant,
    expected_shapes,
    released_names,
    stated_variant,
)
from sana_wm_gym.weights.preflight import Machine, Need, require, this_machine

OVERHEAD = 1.15
"""Peak memory of loading over the size of the result, at most."""


@dataclass(frozen=True)
class Checked:
    """A checkpoint whose names and shapes are those of a generator.

    Attributes:
        container: The opened files.
        names: Released names to the names in the files.
        absent: Unread entries that the files leave out.
        variant: What the files say they are; None where nothing says so.
    """

    container: Container
    names: dict[str, str]
    absent: tuple[str, ...]
    variant: Variant | None


def check_generator(
    path: Path, variant: Variant | None = None, config: SanaWMConfig = RELEASED
) -> Checked:
    """Open a checkpoint and compare variant, names and shapes; no values are read.

    Args:
        path: Anything that `open_container` takes.
        variant: The generator that is wanted; None takes any.
        config: Size of the network.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: The file is damaged, states another variant, lacks tensors, has others, or a
            shape differs.
    """
    container = open_container(path)
    stated = stated_variant(container.files[0], container.metadata)
    if variant is not None and stated not in (None, variant):
        raise ValueError(f"{path} holds the {stated} generator; expected the {variant} one")
    names = released_names(container.stored)
    wanted = expected_shapes(replace(config, position_entries=0))
    absent = tuple(name for name in DIFFUSERS_ABSENT if name in wanted and name not in names)
    container.check({n: shape for n, shape in wanted.items() if n not in absent}, wanted, names)
    return Checked(container, names, absent, stated)


def check_values(checked: Checked) -> None:
    """Read all values once and keep none; raise ValueError where one is not finite."""
    for theirs, tensor in checked.container.read(checked.names.values()):
        require_finite(tensor, checked.container.stored[theirs].file, theirs)


def load_generator(
    path: Path,
    variant: Variant,
    *,
    config: SanaWMConfig = RELEASED,
    numerics: Numerics | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    machine: Machine | None = None,
) -> SanaWM:
    """Load a generator in its final type and place, ready to evaluate.

    Args:
        path: Anything that `open_container` takes.
        variant: Which generator is wanted; a checkpoint that states one must agree.
        config: Size; the released one by default. `position_entries` is ignored.
        numerics: Revision to agree with; None is the released code of the variant.
        dtype: Type of all weights.
        device: Where the weights go.
        machine: Free memory to compare with; None looks at this machine.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: Not enough memory, or the checkpoint is damaged, of another variant, lacks
            tensors or has others, a shape differs, or a value is not finite in `dtype`.
    """
    config, device = replace(config, position_entries=0), torch.device(device)
    checked = check_generator(path, variant, config)
    size = generator_bytes(config, dtype)
    need = Need(ram=int(OVERHEAD * size))
    if device.type == "cuda":
        need = Need(ram=int((OVERHEAD - 1) * size), vram=size)
    free = this_machine(Path(path).parent, device) if machine is None else machine
    require(need, free, f"{path} in {dtype}")
    with torch.device("meta"):
        model = SanaWM(config, AS_RELEASED[variant] if numerics is None else numerics)
    shapes = expected_shapes(config)
    weights = {n: torch.zeros(shapes[n], dtype=dtype, device=device) for n in checked.absent}
    released = {theirs: name for name, theirs in checked.names.items()}
    weights |= checked.container.load(released, dtype, device)
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False).eval()


def save_generator(path: Path, model: SanaWM, variant: Variant) -> None:
    """Write a generator's weights in the released layout, stating the variant in the header.

    Raises:
        ValueError: The name does not end in `.safetensors`.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"given {path}; expected a name that ends in .safetensors")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={"format": "pt", METADATA_VARIANT: str(variant)})


def generator_bytes(config: SanaWMConfig, dtype: torch.dtype) -> int:
    """Bytes of a generator's weights in one type."""
    shapes = expected_shapes(replace(config, position_entries=0)).values()
    return sum(prod(shape) for shape in shapes) * dtype.itemsize
