"""The localiser: one frame to the camera's pose in the map, and whether it is of the map at all.

A small convolutional network regresses the pose from the image alone (absolute pose regression, as
PoseNet, arXiv 1505.07427, with the six-number rotation of arXiv 1812.07035). A world trained on one
map localises the first frame once and places every later camera in that map. `fit_localiser` trains
one for any set of clips that share a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POSE_VALUES = 9
"""Numbers per pose: translation (3), then the camera's right and down axes in the map (6)."""


@dataclass(frozen=True)
class LocaliserConfig:
    """Size of the localiser.

    Attributes:
        size: Frame height and width in pixels, a multiple of 16.
        channels: Widths at a half, a quarter, an eighth and a sixteenth of `size`.
        depth: Residual 3x3 convolutions at each of these four sizes.
        hidden: Width of the layer in front of the outputs.
    """

    size: int = 64
    channels: tuple[int, int, int, int] = (32, 64, 128, 160)
    depth: tuple[int, int, int, int] = (0, 1, 2, 2)
    hidden: int = 192

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 16:
            raise ValueError(f"given size {self.size}; expected a positive multiple of 16")
        # From json these come as lists.
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "depth", tuple(self.depth))
        if len(self.channels) != 4 or len(self.depth) != 4:
            raise ValueError(
                f"given channels {self.channels} and depth {self.depth}; expected four of each"
            )


@dataclass(frozen=True)
class Localisation:
    """Where frames were taken.

    Attributes:
        c2w: Camera to world in the map's frame, float64 [b, 4, 4]; rotations are orthonormal with
            determinant 1.
        confidence: Probability that the frame is of the map at all, float64 [b] in [0, 1].
    """

    c2w: Tensor
    confidence: Tensor


class Localiser(nn.Module):
    """Pose in a known map from one frame.

    Buffers: `mean` [3] and `scale` [1], centre and spread of the training cameras in metres;
    `threshold` [1], the logit at which the confidence is 0.5.
    """

    mean: Tensor
    scale: Tensor
    threshold: Tensor

    def __init__(self, config: LocaliserConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("threshold", torch.zeros(1))
        # Three colours and two coordinates.
        widths = (5, *config.channels)
        self.down = nn.ModuleList(
            nn.Conv2d(into, out, 5 if into == 5 else 3, stride=2, padding=2 if into == 5 else 1)
            for into, out in zip(widths, widths[1:], strict=False)
        )
        self.residual = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(count))
            for width, count in zip(config.channels, config.depth, strict=True)
        )
        cells = (config.size // 16) ** 2
        self.hidden = nn.Linear(config.channels[-1] * cells, config.hidden)
        self.pose = nn.Linear(config.hidden, POSE_VALUES)
        self.genuine = nn.Linear(config.hidden, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.pose.weight.mul_(0.1)
            self.pose.bias[3], self.pose.bias[7] = 1.0, 1.0
            self.genuine.weight.mul_(0.1)

    def features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs before they become a pose and a probability; what training differentiates.

        Args:
            frames: [b, 3, size, size], uint8, or float in [0, 1].

        Returns:
            Nine numbers per frame, float32 [b, 9]: the translation standardised by `mean` and
            `scale`, then two vectors that span the camera's right and down axes. And the logit of
            "this is the map", float32 [b].
        """
        size = self.config.size
        pixels = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
        axis = torch.linspace(-1, 1, size, device=pixels.device)
        row, column = torch.meshgrid(axis, axis, indexing="ij")
        where = torch.stack([column, row]).expand(len(pixels), 2, size, size)
        x = torch.cat([4 * pixels - 2, where], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        for stage, (down, residual) in enumerate(zip(self.down, self.residual, strict=True)):
            x = F.relu(down(x))
            # The first stage, the largest by far, has no norm.
            x = _normalised(x) if stage else x
            assert isinstance(residual, nn.ModuleList)
            for convolution in residual:
                x = x + 0.5 * F.relu(convolution(x))
            x = _normalised(x) if stage and len(residual) else x
        hidden = F.relu(self.hidden(x.flatten(1))).float()
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = F.rms_norm(hidden, hidden.shape[1:], eps=1e-5)
            return self.pose(hidden), self.genuine(hidden)[:, 0]

    def forward(self, frames: Tensor) -> Localisation:
        """Localise frames as for `features`, each by itself: results do not depend on the batch.

        Raises:
            ValueError: Frames of another shape.
        """
        size = self.config.size
        if frames.ndim != 4 or frames.shape[1:] != (3, size, size):
            raise ValueError(f"given frames {list(frames.shape)}; expected [b, 3, {size}, {size}]")
        c2w = torch.empty(len(frames), 4, 4, dtype=torch.float64)
        confidence = torch.empty(len(frames), dtype=torch.float64)
        with torch.no_grad():
            for index in range(len(frames)):
                values, logit = self.features(frames[index : index + 1])
                c2w[index] = self.to_pose(values.double())[0]
                confidence[index] = torch.sigmoid((logit - self.threshold).double())[0]
        return Localisation(c2w, confidence)

    def to_pose(self, values: Tensor) -> Tensor:
        """Poses [b, 4, 4] of the nine numbers per frame [b, 9] that `features` returns."""
        translation = values[:, :3] * self.scale + self.mean
        rotation = orthonormal(values[:, 3:6], values[:, 6:9])
        bottom = values.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(values), 1, 4)
        return torch.cat([torch.cat([rotation, translation[:, :, None]], dim=2), bottom], dim=1)


def _normalised(x: Tensor) -> Tensor:
    """Feature maps [b, c, h, w] at a root mean square of 1 per picture."""
    square = x.float().square().mean((1, 2, 3), keepdim=True)
    return x * torch.rsqrt(square + 1e-5).to(x.dtype)


def orthonormal(right: Tensor, down: Tensor) -> Tensor:
    """Rotations [b, 3, 3] whose first column is along `right` [b, 3] and whose second is `down`
    [b, 3] made orthogonal to it (Gram-Schmidt). Parallel or zero vectors give no rotation."""
    first = F.normalize(right, dim=1, eps=1e-6)
    second = F.normalize(down - (first * down).sum(1, keepdim=True) * first, dim=1, eps=1e-6)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=2)
