"""Any picture that people have, as uint8 RGB: what a viewer shows, or an error with the reason."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps

from sana_wm_gym.camera.picture_files import open_picture

Rgb = npt.NDArray[np.uint8]

Picture = Any
"""A file, a PIL image, or an array or tensor: see `rgb_picture`."""
_SHOWN_MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
_SIXTEEN_BITS = {"I;16", "I;16L", "I;16B", "I;16N"}


def rgb_picture(picture: Any, name: str = "image") -> Rgb:
    """A picture as uint8 [H, W, 3] RGB.

    Args:
        picture: A file (PNG, JPEG, WebP, TIFF, BMP, GIF or PPM, at most 2^26 pixels), a PIL image,
            or an array or tensor [H, W], [H, W, C] or [C, H, W] with 1, 3 or 4 channels: uint8,
            uint16, or floating point in [0, 1]. Where both orders fit, channels come last.
            EXIF rotation and colour profiles are applied, 16 bits are scaled to 8, and transparent
            pixels are shown on white; of several frames the first is taken.
        name: What errors call it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read or is too large, the PIL image has a mode without a
            fixed range (floating point or 32-bit integers), or the array does not fit.
    """
    if isinstance(picture, str | os.PathLike):
        with open_picture(picture) as opened:
            return _shown(opened)
    if isinstance(picture, Image.Image):
        try:
            return _shown(picture)
        # A file that PIL has opened is decoded only here.
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{name}: {error}") from error
    if hasattr(picture, "detach"):  # a torch tensor, without importing torch
        picture = picture.detach().cpu()
        picture = (picture.float() if picture.dtype.is_floating_point else picture).numpy()
    if isinstance(picture, bytes | bytearray) or not hasattr(picture, "__array__"):
        kind = type(picture).__name__
        raise ValueError(f"{name} is {kind}, expected a file, a PIL image, an array or a tensor")
    return _of_array(np.asarray(picture), name)


def _shown(image: Image.Image) -> Rgb:
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format == "PNG"):
        image = ImageOps.exif_transpose(image)
        return _of_array(np.asarray(image).clip(0, 65535).astype(np.uint16), "image")
    if image.mode not in _SHOWN_MODES:
        known = ", ".join(sorted(_SHOWN_MODES | _SIXTEEN_BITS))
        raise ValueError(f"image has mode {image.mode}, expected one of {known}")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return np.array(Image.alpha_composite(white, image).convert("RGB"))
    return np.array(_in_srgb(image).convert("RGB"))


def _in_srgb(image: Image.Image) -> Image.Image:
    """The image with its colour profile applied, where it has one that is not damaged."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("L", "RGB", "CMYK"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image


def _of_array(array: npt.NDArray[Any], name: str) -> Rgb:
    given = f"{name} is {array.dtype} {array.shape}"
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(f"{given}, expected [H, W, 3] or [3, H, W]")
    if array.dtype.kind == "f":
        if not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"{given} with values outside [0, 1], expected uint8 or [0, 1]")
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    elif array.dtype == np.uint16:
        array = np.rint(array / 257).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ValueError(f"{given}, expected uint8, uint16, or floating point in [0, 1]")
    if array.shape[2] == 1:
        array = array.repeat(3, axis=2)
    array = np.ascontiguousarray(array)
    if array.shape[2] == 4:
        return _shown(Image.fromarray(array, "RGBA"))
    return array
