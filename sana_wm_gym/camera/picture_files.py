"""Picture files, opened within bounds."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from sana_wm_gym.files import require_file

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
"""Rasters, for which Pillow starts no other program."""
MAX_PIXELS = 2**26
"""Of a picture that is read; decoding takes about ten bytes for each."""


@contextmanager
def open_picture(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A picture file, opened and not decoded; the block decodes it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, also in the block, or is larger than `MAX_PIXELS`.
    """
    path = require_file(path, "a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    size = f"{picture.width} x {picture.height}"
                    raise ValueError(f"it has {size} pixels, expected at most {MAX_PIXELS}")
                yield picture
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture, expected {', '.join(FORMATS)}") from error
    # What damaged files raise depends on the format.
    except (
        EOFError,
        IndexError,
        KeyError,
        MemoryError,
        OSError,
        OverflowError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        struct.error,
        zlib.error,
    ) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is not a readable picture: {reason}") from error
