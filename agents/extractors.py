"""Features extractors for policies of stable-baselines3 that compare images.

`MultiInputPolicy` runs a network over every image and joins the results. These extractors stack the
images of an observation as channels of one, so that the first layer compares view and goal.

    PPO("MultiInputPolicy", env, policy_kwargs={"features_extractor_class": StackedViews})
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class _Views(BaseFeaturesExtractor):
    """Convolutions over the parts that are images, joined by the others, and a linear layer."""

    convolutions: nn.Module
    head: nn.Module

    def __init__(self, observation_space: spaces.Space[object], features_dim: int) -> None:
        super().__init__(observation_space, features_dim)
        self.parts = parts_of(observation_space)
        self.pictures = tuple(name for name, part in self.parts.items() if is_picture(part))
        self.vectors = tuple(name for name in self.parts if name not in self.pictures)

        self.shapes = {name: part.shape for name, part in self.parts.items()}
        self.channels_in = sum(self.shapes[name][0] for name in self.pictures)

    def head_of(self, convolved: int) -> nn.Module:
        """The last layer, after so many numbers of the convolutions and all vectors."""
        numbers = sum(math.prod(self.shapes[name]) for name in self.vectors)
        return nn.Sequential(nn.Linear(convolved + numbers, self.features_dim), nn.ReLU())

    def prepared(self, images: list[Tensor]) -> Tensor:
        """The stacked and centred input of the convolutions."""
        raise NotImplementedError

    def forward(self, observations: Tensor | Mapping[str, Tensor]) -> Tensor:
        """[batch, features_dim]; images arrive as floats in [0, 1]."""
        parts = {"": observations} if isinstance(observations, Tensor) else observations
        images = self.prepared([parts[name] for name in self.pictures])
        seen = self.convolutions(images).flatten(1)
        return self.head(torch.cat([seen, *(parts[name].flatten(1) for name in self.vectors)], 1))


class StackedViews(_Views):
    """Strided convolutions over all images of an observation, stacked.

    Args:
        observation_space: An image, or a flat `Dict` of images of one size (uint8, channels first,
            as stable-baselines3 passes them) and other boxes, which are taken as vectors. At least
            one image.
        features_dim: Number of features.
        channels: Of each convolution, first to last; each halves the sides.

    Raises:
        ValueError: There is no image, images differ in size or are too small, or a part is not a
            `Box`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[object],
        features_dim: int = 128,
        channels: Sequence[int] = (32, 64, 64),
    ) -> None:
        super().__init__(observation_space, features_dim)
        sizes = {self.shapes[name][1:] for name in self.pictures}
        if len(sizes) != 1:
            raise ValueError(
                f"given observation parts {self.shapes}, expected images (uint8, channels first) "
                "of one size, and at least one"
            )
        [size] = sizes
        self.convolutions = strided_convolutions(self.channels_in, channels, size)
        scale = 2 ** len(channels)
        self.head = self.head_of(channels[-1] * math.prod(-(-side // scale) for side in size))

    def prepared(self, images: list[Tensor]) -> Tensor:
        """Centred, because a layer learns slowly from inputs that are all positive."""
        return 2 * torch.cat(images, dim=1) - 1


class CoarseViews(_Views):
    """Convolutions over all images of an observation, averaged to few cells and stacked.

    Coarse images are learned from in thousands of steps rather than hundreds of thousands, and a
    blurred world and a sharp one differ little in them, so that a policy transfers.

    Args:
        observation_space: As in `StackedViews`; images may differ in size.
        features_dim: Number of features.
        cells: Rows and columns that every image is averaged to.
        channels: Of each 3 x 3 convolution over the cells, first to last.

    Raises:
        ValueError: There is no image, one has fewer pixels than cells, or a part is not a `Box`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[object],
        features_dim: int = 128,
        cells: int = 8,
        channels: Sequence[int] = (32, 32),
    ) -> None:
        super().__init__(observation_space, features_dim)
        sides = [side for name in self.pictures for side in self.shapes[name][1:]]
        if not 1 <= cells <= min(sides, default=0) or not channels:
            raise ValueError(
                f"given cells={cells} and channels {tuple(channels)} for observation parts "
                f"{self.shapes}, expected at least one image (uint8, channels first) of no fewer "
                "pixels a side than cells, and at least one channel"
            )
        self.average = nn.AdaptiveAvgPool2d(cells)
        layers: list[nn.Module] = []
        for inputs, outputs in zip([self.channels_in, *channels], channels, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.head = self.head_of(channels[-1] * cells * cells)

    def prepared(self, images: list[Tensor]) -> Tensor:
        """Averages of a room lie within a quarter of the middle: spread to order one."""
        return 4 * (torch.cat([self.average(image) for image in images], dim=1) - 0.5)


def parts_of(space: spaces.Space[object]) -> dict[str, spaces.Box]:
    """Boxes of an observation by name; a lone box has the name "". Raises `ValueError` for other
    parts."""
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    boxes = {name: part for name, part in parts.items() if isinstance(part, spaces.Box)}
    if len(boxes) < len(parts):
        others = {name: str(part) for name, part in parts.items() if name not in boxes}
        raise ValueError(f"given observation parts {others}, expected boxes alone")
    return boxes


def is_picture(space: spaces.Box) -> bool:
    """Whether a box holds pixels: three axes of uint8."""
    return len(space.shape) == 3 and space.dtype == "uint8"


def strided_convolutions(
    inputs: int, channels: Sequence[int], size: tuple[int, ...]
) -> nn.Sequential:
    """One convolution of stride 2 for each of `channels`; sides are halved, rounded up.

    Raises:
        ValueError: There is no channel, or nothing is left of a side of `size` before the last.
    """
    if not channels or min(size) < 2 ** len(channels):
        raise ValueError(
            f"given channels {tuple(channels)} for images of {size}, expected at least one "
            f"and sides of at least {2 ** len(channels)} pixels"
        )
    layers: list[nn.Module] = []
    for index, outputs in enumerate(channels):
        kernel = 5 if index == 0 else 3
        layers += [nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers)
