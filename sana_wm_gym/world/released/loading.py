"""Settings with which the released networks are loaded, and the parts loaded with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sana_wm_gym.checks import require_device
from sana_wm_gym.models.numerics import Numerics
from sana_wm_gym.models.refiner import RefinerPlan
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.weights.components import load_refiner, load_refiner_text
from sana_wm_gym.weights.generator import load_generator
from sana_wm_gym.weights.names import RELEASED
from sana_wm_gym.weights.plan import Precision
from sana_wm_gym.weights.prompt_cache import PromptCache
from sana_wm_gym.world.learned.captions import (
    Captions,
    chi_prompt,
    default_prompts,
    generator_text,
)
from sana_wm_gym.world.learned.compiled import compile_step
from sana_wm_gym.world.learned.precision import quantise_network, require_gpu
from sana_wm_gym.world.learned.second_stage import SecondStage
from sana_wm_gym.world.released.files import ReleaseFiles
from sana_wm_gym.world.released.offload import RESIDENT, Offload, offloaded


@dataclass(frozen=True)
class Loading:
    """How a release is loaded.

    Values may be given as JSON has them: "float32" for a dtype, "fp8" for a precision, a mapping
    for `config` and `offload`, a string for a path.

    Attributes:
        config: Size of the generator.
        numerics: Revision to agree with; None is the released code.
        dtype: Type of generator, VAE and latents.
        device: Where everything computes; None is the GPU if there is one.
        prompts: Folder of encoded prompts; None is `default_prompts()`.
        refined: With the second stage, which refines frames before they are decoded.
        offload: What is kept elsewhere between its calls.
        precision: Of the larger weights of generator and refiner.
        compiled: Compile the generator's step.

    Raises:
        ValueError: A value is of no such kind, or the device lacks the precision.
        ImportError: Transformer Engine is not installed, where the precision needs it.
    """

    config: SanaWMConfig = RELEASED
    numerics: Numerics | None = None
    dtype: torch.dtype = torch.bfloat16
    device: torch.device | str | None = None
    prompts: Path | str | None = None
    refined: bool = False
    offload: Offload = RESIDENT
    precision: Precision = Precision.BF16
    compiled: bool = False

    def __post_init__(self) -> None:
        given: Any = self.dtype
        dtype = getattr(torch, given, None) if isinstance(given, str) else given
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(f"dtype is {given!r}, expected one such as 'bfloat16' or 'float32'")
        for name, kind in (("config", SanaWMConfig), ("offload", Offload)):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                try:
                    object.__setattr__(self, name, kind(**value))
                except TypeError as error:
                    raise ValueError(f"{name} is {value}: {error}") from error
        require_device("device", self.place)
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "precision", Precision(self.precision))
        require_gpu(self.precision, self.dtype, self.place)

    @property
    def place(self) -> torch.device:
        """Where everything computes."""
        return torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def vae_place(self) -> torch.device | str:
        """Where the VAE is kept."""
        return self.offload.vae or self.place

    @property
    def text_place(self) -> str:
        """Where the text encoders run."""
        return self.offload.text or str(self.place)

    @property
    def cache(self) -> PromptCache:
        """Encoded prompts on disk."""
        return PromptCache(default_prompts() if self.prompts is None else Path(self.prompts))

    def generator(self, files: ReleaseFiles) -> SanaWM:
        """The generator, ready to run.

        Raises:
            FileNotFoundError: It is missing.
            ValueError: It is damaged or of another variant, or memory is short.
        """
        small = self.precision is not Precision.BF16
        model = load_generator(
            files.generator,
            files.layout.variant,
            config=self.config,
            numerics=self.numerics,
            dtype=self.dtype,
            # Quantised on the way to the device, which never holds the whole.
            device="cpu" if small else self.place,
        )
        quantise_network(model, self.precision, self.place)
        return compile_step(model) if self.compiled else model

    def captions(self, files: ReleaseFiles, negative: bool = False) -> Captions | None:
        """The encoder of prompts, or of negative ones; None for a generator that reads none."""
        if self.config.text_channels is None:
            return None
        preamble = str if negative else partial(chi_prompt, files.settings)
        load = partial(generator_text, files.text, self.text_place)
        return Captions(self.cache, files.encoder, preamble, load, self.config.text_channels)

    def second_stage(self, files: ReleaseFiles, plan: RefinerPlan) -> SecondStage | None:
        """The second stage, or None unless `refined`; `plan` limits what a block of it sees.

        Raises:
            FileNotFoundError: A part is missing.
            ImportError: A library is missing; states which.
            ValueError: A file is damaged, or a quantised refiner is to be offloaded.
        """
        if not self.refined:
            return None
        if files.refiner is None or files.refiner_text is None:
            raise FileNotFoundError(
                "no second stage; expected the refiner and its text encoder next to the generator "
                "(refiner_diffusers/ and gemma3_12b/ of the streaming release, refiner/ and "
                "refiner/text_encoder/ of the others)"
            )
        small, home = self.precision is not Precision.BF16, self.offload.refiner
        if small and home is not None:
            raise ValueError(
                f"given a refiner in {self.precision} that rests on {home}; a "
                "quantised one stays where it works"
            )
        place = "cpu" if small else home or str(self.place)
        refiner = load_refiner(files.refiner / "transformer", plan, self.dtype, place)
        quantise_network(refiner, self.precision, self.place)
        if home is not None:
            offloaded(refiner, self.place, "begin", "denoise", "remember", "forward", "refine")
        folders = files.refiner_text, files.refiner / "connectors"
        load = partial(load_refiner_text, *folders, device=self.text_place)
        channels = refiner.transformer.config.caption_channels
        encoder = Captions(self.cache, files.refiner_encoder, str, load, channels)
        return SecondStage(refiner, encoder)
