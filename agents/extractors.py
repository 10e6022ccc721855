"""What a policy of stable-baselines3 sees of its observation: pictures on top of each other.

`MultiInputPolicy` runs a network of its own over every picture and joins the results, so that the
view and the goal first meet as two short vectors, with no pixel of the one beside the same pixel
of the other. Reaching a view is comparing two pictures. `StackedViews` lays them on top of each
other as channels of one picture, so that the first layer already compares.

    PPO("MultiInputPolicy", env, policy_kwargs={"features_extractor_class": StackedViews})
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class StackedViews(BaseFeaturesExtractor):
    """Features of all pictures of an observation, stacked, and of its vectors.

    Pictures go through strided convolutions, each half as wide as the one before, vectors join
    after them, and one linear layer ends it.

    Args:
        observation_space: A picture, or a flat `Dict` of pictures of one size (uint8, channels
            first, as stable-baselines3 hands them over) and other boxes, which are taken as
            vectors. At least one picture.
        features_dim: Number of features.
        channels: Of each convolution, first to last.

    Raises:
        ValueError: There is no picture, pictures differ in size or are too small, or a part is
            not a `Box`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[object],
        features_dim: int = 128,
        channels: Sequence[int] = (32, 64, 64),
    ) -> None:
        super().__init__(observation_space, features_dim)
        parts = parts_of(observation_space)
        self.pictures = tuple(name for name, part in parts.items() if is_picture(part))
        self.vectors = tuple(name for name in parts if name not in self.pictures)
        sizes = {parts[name].shape[1:] for name in self.pictures}
        if len(sizes) != 1:
            shapes = {name: part.shape for name, part in parts.items()}
            raise ValueError(
                f"given observation parts {shapes}, expected pictures (uint8, channels first) "
                "of one size, and at least one"
            )
        [size] = sizes
        self.convolutions = strided_convolutions(
            sum(parts[name].shape[0] for name in self.pictures), channels, size
        )
        scale = 2 ** len(channels)
        cells = channels[-1] * math.prod(-(-side // scale) for side in size)
        numbers = sum(math.prod(parts[name].shape) for name in self.vectors)
        self.head = nn.Sequential(nn.Linear(cells + numbers, features_dim), nn.ReLU())

    def forward(self, observations: Tensor | Mapping[str, Tensor]) -> Tensor:
        """[batch, features_dim]; pictures arrive as floats in [0, 1]."""
        parts = {"": observations} if isinstance(observations, Tensor) else observations
        stacked = torch.cat([parts[name] for name in self.pictures], dim=1)
        # Centred, because a layer learns slowly from inputs that are all positive.
        seen = self.convolutions(2 * stacked - 1).flatten(1)
        vectors = [parts[name].flatten(1) for name in self.vectors]
        return self.head(torch.cat([seen, *vectors], dim=1))


class CoarseViews(BaseFeaturesExtractor):
    """Features of all pictures of an observation, averaged to few cells and stacked.

    What tells where to go is how the large things in view and goal are shifted against each
    other, and a few cells a side show that. Coarse pictures are learned from in thousands of
    steps rather than hundreds of thousands, and a blurred world and a sharp one look alike in
    them, so that a policy can move from one to the other.

    Args:
        observation_space: As in `StackedViews`; pictures may differ in size.
        features_dim: Number of features.
        cells: Rows and columns that every picture is averaged to.
        channels: Of each 3 x 3 convolution over the cells, first to last.

    Raises:
        ValueError: There is no picture, one has fewer pixels than cells, or a part is not a `Box`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[object],
        features_dim: int = 128,
        cells: int = 8,
        channels: Sequence[int] = (32, 32),
    ) -> None:
        super().__init__(observation_space, features_dim)
        parts = parts_of(observation_space)
        self.pictures = tuple(name for name, part in parts.items() if is_picture(part))
        self.vectors = tuple(name for name in parts if name not in self.pictures)
        sides = [side for name in self.pictures for side in parts[name].shape[1:]]
        if not 1 <= cells <= min(sides, default=0) or not channels:
            shapes = {name: part.shape for name, part in parts.items()}
            raise ValueError(
                f"given cells={cells} and channels {tuple(channels)} for observation parts "
                f"{shapes}, expected at least one picture (uint8, channels first) of no fewer "
                "pixels a side than cells, and at least one channel"
            )
        inputs = sum(parts[name].shape[0] for name in self.pictures)
        self.average = nn.AdaptiveAvgPool2d(cells)
        layers: list[nn.Module] = []
        for outputs in channels:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        self.convolutions = nn.Sequential(*layers)
        numbers = sum(math.prod(parts[name].shape) for name in self.vectors)
        self.head = nn.Sequential(
            nn.Linear(inputs * cells * cells + numbers, features_dim), nn.ReLU()
        )

    def forward(self, observations: Tensor | Mapping[str, Tensor]) -> Tensor:
        """[batch, features_dim]; pictures arrive as floats in [0, 1]."""
        parts = {"": observations} if isinstance(observations, Tensor) else observations
        coarse = torch.cat([self.average(parts[name]) for name in self.pictures], dim=1)
        # Averages of a room lie within a quarter of the middle: centred and spread to order one.
        seen = self.convolutions(4 * (coarse - 0.5)).flatten(1)
        vectors = [parts[name].flatten(1) for name in self.vectors]
        return self.head(torch.cat([seen, *vectors], dim=1))


def parts_of(space: spaces.Space[object]) -> dict[str, spaces.Box]:
    """Boxes of an observation by name; a lone box has the name "".

    Raises:
        ValueError: A part is not a `Box`.
    """
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

    The first sees 5 x 5 pixels, the others 3 x 3.

    Raises:
        ValueError: There is no channel, or nothing is left of a side of `size` before the last.
    """
    if not channels or min(size) < 2 ** len(channels):
        raise ValueError(
            f"given channels {tuple(channels)} for pictures of {size}, expected at least one "
            f"and sides of at least {2 ** len(channels)} pixels"
        )
    layers: list[nn.Module] = []
    for index, outputs in enumerate(channels):
        kernel = 5 if index == 0 else 3
        layers += [nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers)
