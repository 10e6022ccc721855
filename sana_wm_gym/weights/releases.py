"""The published releases: where their parts are, as values.

Only what the releases state is here. A size that nobody states is None and shown as unknown until
the files are on this machine; a licence has to be read on the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from sana_wm_gym.weights.names import Variant
from sana_wm_gym.weights.preflight import GB


@dataclass(frozen=True)
class Repository:
    """One repository of the hub.

    Attributes:
        hub_id: Owner and name.
        pin: Commit that this package was tried with, 40 hexadecimal digits; None where none was.
        licence: Its terms.
    """

    hub_id: str
    pin: str | None = None
    licence: str = "see the hub page"


@dataclass(frozen=True)
class Component:
    """A part of a release that can be fetched by itself.

    Attributes:
        name: What `--component` calls it.
        repository: Where it is.
        path: File or folder in the repository; "" for all of it.
        purpose: What it is for.
        patterns: Its files; a star also crosses folders, as on the hub. By default all of `path`.
        disk: Bytes that the release states; None if it states none.
        optional: A world runs without it.
    """

    name: str
    repository: Repository
    path: str
    purpose: str
    patterns: tuple[str, ...] = ()
    disk: int | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        if not self.patterns:
            object.__setattr__(self, "patterns", (self.path, f"{self.path}/*"))

    def owns(self, name: str) -> bool:
        """Whether a file of the repository belongs to this part."""
        return any(fnmatch(name, pattern) for pattern in self.patterns)

    def files(self, folder: Path) -> list[Path]:
        """Its files in a copy of the repository, sorted."""
        return sorted(
            file
            for file in folder.rglob("*")
            if file.is_file() and self.owns(file.relative_to(folder).as_posix())
        )


@dataclass(frozen=True)
class Figure:
    """Peak GPU memory that was published for a whole run.

    Attributes:
        option: The setting.
        vram: Bytes.
        capability: CUDA compute capability that it needs.
    """

    option: str
    vram: int
    capability: tuple[int, int] = (8, 0)


@dataclass(frozen=True)
class Release:
    """A generator with everything around it.

    Attributes:
        name: What this package calls it.
        variant: Which generator.
        components: Its parts.
        figures: Published memory, if any.
    """

    name: str
    variant: Variant
    components: tuple[Component, ...]
    figures: tuple[Figure, ...] = ()

    def component(self, name: str) -> Component:
        """A part by name.

        Raises:
            ValueError: There is no such part.
        """
        named = {part.name: part for part in self.components}
        if name not in named:
            raise ValueError(f"given component {name!r}; {self.name} has {[*named]}")
        return named[name]


BIDIRECTIONAL = Repository("Efficient-Large-Model/SANA-WM_bidirectional")
STREAMING = Repository("Efficient-Large-Model/SANA-WM_streaming")
CHUNK_CAUSAL = Repository("Efficient-Large-Model/SANA-WM_chunk_causal")
DIFFUSERS = Repository("Efficient-Large-Model/SANA-WM_bidirectional-diffusers")
GEMMA_2 = Repository("Efficient-Large-Model/gemma-2-2b-it")

_CAPTIONS = Component(
    "text",
    GEMMA_2,
    "",
    "captions for the generator (gemma-2-2b-it)",
    ("*.json", "*.safetensors", "tokenizer*"),
)
_SETTINGS = Component("settings", BIDIRECTIONAL, "config.yaml", "chi prompt")


def _refiner(repository: Repository, path: str, purpose: str, disk: int | None = None) -> Component:
    patterns = (f"{path}/transformer/*", f"{path}/connectors/*")
    return Component("refiner", repository, path, purpose, patterns, disk, optional=True)


_BIDIRECTIONAL_REST = (
    Component("vae", BIDIRECTIONAL, "vae", "LTX-2 VAE", disk=2 * GB),
    _CAPTIONS,
    _refiner(BIDIRECTIONAL, "refiner", "LTX-2 second stage", 38 * GB),
    Component(
        "refiner_text",
        BIDIRECTIONAL,
        "refiner/text_encoder",
        "captions for the refiner (Gemma-3)",
        ("refiner/text_encoder/*", "refiner/tokenizer/*"),
        disk=46 * GB,
        optional=True,
    ),
)
"""Also the parts that the chunk-causal release and the diffusers port take from here."""

RELEASES: tuple[Release, ...] = (
    Release(
        "sana-wm-streaming",
        Variant.STREAMING,
        (
            Component("generator", STREAMING, "sana_dit/model.pt", "4-step streaming generator"),
            Component("vae", STREAMING, "ltx2_causal_vae", "LTX-2 VAE, causal decoder"),
            _CAPTIONS,
            # The streaming settings are not on the hub; the chi prompt is that of its origin.
            _SETTINGS,
            _refiner(STREAMING, "refiner_diffusers", "LTX-2 second stage, chunk-causal"),
            Component(
                "refiner_text",
                STREAMING,
                "gemma3_12b",
                "captions for the refiner (Gemma-3 12B)",
                optional=True,
            ),
        ),
        (
            Figure("bf16", int(47.3 * GB)),
            Figure("fp8", int(35.4 * GB), (9, 0)),
            Figure("NVFP4", int(29.4 * GB), (10, 0)),
            Figure("bf16, refiner window 2", int(37.4 * GB)),
            Figure("fp8, refiner window 2", int(25.4 * GB), (9, 0)),
            Figure("NVFP4, refiner window 2", int(25.0 * GB), (10, 0)),
        ),
    ),
    Release(
        "sana-wm-chunk-causal",
        Variant.CHUNK_CAUSAL,
        (
            Component(
                "generator",
                CHUNK_CAUSAL,
                "dit/sana_wm_chunk_causal_1600m_720p.safetensors",
                "60-step chunk-causal generator",
            ),
            Component("settings", CHUNK_CAUSAL, "config.yaml", "sampler, chi prompt"),
            *_BIDIRECTIONAL_REST,
        ),
    ),
    Release(
        "sana-wm-bidirectional",
        Variant.BIDIRECTIONAL,
        (
            Component(
                "generator",
                BIDIRECTIONAL,
                "dit/sana_wm_1600m_720p.safetensors",
                "60-step whole-clip generator",
                disk=10 * GB,
            ),
            _SETTINGS,
            *_BIDIRECTIONAL_REST,
        ),
    ),
    Release(
        "sana-wm-bidirectional-diffusers",
        Variant.BIDIRECTIONAL,
        (
            Component(
                "generator",
                DIFFUSERS,
                "transformer",
                "60-step whole-clip generator, diffusers layout",
            ),
            _SETTINGS,
            *_BIDIRECTIONAL_REST,
        ),
    ),
)


def release(name: str) -> Release:
    """A release by name.

    Raises:
        ValueError: There is no such release.
    """
    named = {one.name: one for one in RELEASES}
    if name not in named:
        raise ValueError(f"given release {name!r}; expected one of {[*named]}")
    return named[name]
