"""Where the parts of a release are: in a folder of yours, or in the hub's cache.

generator        sana_dit/ (streaming), or dit/
VAE              ltx2_causal_vae/ (streaming), or vae/
gemma-2-2b-it/   text encoder; not needed for prompts that are encoded already
refiner          refiner_diffusers/ (streaming), or refiner/: transformer/ and connectors/ of
                 the second stage, where there is to be one
its encoder      gemma3_12b/ (streaming), or refiner/text_encoder/
config.yaml      optional; its text_encoder.chi_prompt replaces diffusers' copy
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sana_wm_gym.weights.fetch import fetch
from sana_wm_gym.weights.names import Variant
from sana_wm_gym.weights.releases import release
from sana_wm_gym.world.learned.captions import TEXT, fingerprint

SETTINGS = "config.yaml"


@dataclass(frozen=True)
class ReleaseFiles:
    """Where the parts of a release are.

    Attributes:
        layout: Of the release.
        generator: File or folder.
        vae: Folder.
        text: Folder of the text encoder, or None.
        encoder: Text encoder and revision, which distinguish entries of the prompt cache.
        settings: A config.yaml with the chi prompt, or None for the copy in diffusers.
        refiner: Folder with transformer/ and connectors/, or None.
        refiner_text: Folder of the refiner's text encoder, or None.
        refiner_encoder: That encoder and its revision.
    """

    layout: Layout
    generator: Path
    vae: Path
    text: Path | None
    encoder: str
    settings: Path | None = None
    refiner: Path | None = None
    refiner_text: Path | None = None
    refiner_encoder: str = ""


@dataclass(frozen=True)
class Layout:
    """How a release lays out its parts, as folders below one.

    Attributes:
        release: Its name in `weights.releases`.
        variant: Of its generator.
        generator, vae, refiner, refiner_text: Folders.
    """

    release: str
    variant: Variant
    generator: str = "dit"
    vae: str = "vae"
    refiner: str = "refiner"
    refiner_text: str = "refiner/text_encoder"

    @property
    def variable(self) -> str:
        """Environment variable with a folder in this layout, such as "SANA_WM_STREAMING"."""
        return self.release.upper().replace("-", "_")

    def within(self, folder: Path) -> ReleaseFiles:
        """The parts in a folder of this layout.

        Raises:
            FileNotFoundError: The folder, the generator or the VAE is missing.
        """
        folder = Path(folder)
        absent = [f"{name}/" for name in (self.generator, self.vae) if not (folder / name).is_dir()]
        if absent:
            raise FileNotFoundError(f"{folder} lacks {' and '.join(absent)} of {self.release}")
        text, settings = folder / TEXT, folder / SETTINGS
        refiner, refiner_text = folder / self.refiner, folder / self.refiner_text
        return ReleaseFiles(
            self,
            folder / self.generator,
            folder / self.vae,
            text if text.is_dir() else None,
            f"{TEXT}@{fingerprint(text)}",
            settings if settings.is_file() else None,
            refiner if refiner.is_dir() else None,
            refiner_text if refiner_text.is_dir() else None,
            f"{self.refiner_text}@{fingerprint(refiner_text)}",
        )

    def here(self, refined: bool = False) -> ReleaseFiles:
        """The parts in the folder that `variable` names, else in the hub's cache; those of the
        second stage only if `refined`.

        Raises:
            FileNotFoundError: They are not on this machine; describes how to get them.
        """
        folder = os.environ.get(self.variable)
        if folder:
            return self.within(Path(folder))
        published = release(self.release)
        parts = ["generator", "vae", "text", *(["refiner", "refiner_text"] if refined else [])]
        try:
            found = fetch(published, components=parts, offline=True)
        except (ImportError, FileNotFoundError, ValueError) as error:
            raise FileNotFoundError(
                f"{self.release} is not on this machine ({error}); run `sana-wm weights "
                f"fetch {self.release}`, or set {self.variable} to a folder "
                f"with {self.generator}/ and {self.vae}/"
            ) from error

        def revision(part: str) -> str:
            return found.revisions[published.component(part).repository.hub_id]

        return ReleaseFiles(
            self,
            found.paths["generator"],
            found.paths["vae"],
            found.paths["text"],
            f"{TEXT}@{revision('text')}",
            refiner=found.paths.get("refiner"),
            refiner_text=found.paths.get("refiner_text"),
            refiner_encoder=f"{self.refiner_text}@{revision('refiner_text')}" if refined else "",
        )


STREAMING = Layout(
    "sana-wm-streaming",
    Variant.STREAMING,
    "sana_dit",
    "ltx2_causal_vae",
    "refiner_diffusers",
    "gemma3_12b",
)
BIDIRECTIONAL = Layout("sana-wm-bidirectional", Variant.BIDIRECTIONAL)
CHUNK_CAUSAL = Layout("sana-wm-chunk-causal", Variant.CHUNK_CAUSAL)
