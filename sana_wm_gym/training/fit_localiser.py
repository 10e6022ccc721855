"""Fit a localiser: pose regression on frames with known poses, and recognition of other pictures.

Pictures that are not of the map are other scenes, where given, changes to the map's own frames that
leave no true pose (mirrored, recoloured, shuffled, blended), noise and gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sana_wm_gym.evaluation.foreign_pictures import gradients, noise, recolour
from sana_wm_gym.evaluation.held_out import Array, Frames
from sana_wm_gym.evaluation.localiser_scores import PoseErrors, localise, render_varied
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.training.optimizer import Optimizer, OptimizerConfig
from sana_wm_gym.world.procedural.scenes import Scene, sample_pose
from sana_wm_gym.world.procedural.walks import sample_walk

METRES_PER_RADIAN = 4.0
"""Weight of a rotation error in the loss: 1 degree as much as 7 cm."""


@dataclass(frozen=True)
class LocaliserFit:
    """How a localiser is fitted.

    Attributes:
        steps: Optimisation steps.
        batch: Frames of the map per step.
        negatives: Pictures of something else per step.
        matrix_rate: Peak learning rate of Muon (convolutions and the hidden layer).
        other_rate: Peak learning rate of AdamW (biases and outputs).
        warmup: Steps of linear rise.
        decay_from: Fraction of the steps after which the rate falls linearly to zero.
        weight_decay: Of Muon and AdamW alike.
        ema: Decay of the averaged weights per step; the averaged weights are the result.
        recognition_weight: Weight of the cross-entropy of "this is the map" next to the pose loss
            in metres.
        brightness: Largest brightness change of a training frame, in grey levels.
        noise: Largest standard deviation of noise added to a training frame, in grey levels.
        held_out: Frames kept from training, at most about a tenth of all: progress is measured on
            them and the confidence calibrated.
        false_alarms: Fraction of held-out frames whose confidence may lie below 0.5.
        report_every: Steps between reports.
        seed: Source of the initial weights, batches and changes.
    """

    steps: int = 10000
    batch: int = 64
    negatives: int = 12
    matrix_rate: float = 6e-3
    other_rate: float = 2e-3
    warmup: int = 100
    decay_from: float = 0.3
    weight_decay: float = 0.01
    ema: float = 0.998
    recognition_weight: float = 0.1
    brightness: float = 4.0
    noise: float = 3.0
    held_out: int = 1024
    false_alarms: float = 0.002
    report_every: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class LocaliserProgress:
    """Progress of a fit.

    Attributes:
        step: Steps done.
        loss: Training loss, averaged over about the last 100 steps.
        errors: Of the averaged weights on held-out frames.
    """

    step: int
    loss: float
    errors: PoseErrors

    def __str__(self) -> str:
        metres, degrees = self.errors.metres, self.errors.degrees
        assert metres is not None and self.errors.metres_p95 is not None
        return (
            f"localiser step {self.step}: median {100 * metres:.1f} cm, {degrees:.2f} degrees; "
            f"95th percentile {100 * self.errors.metres_p95:.1f} cm, "
            f"{self.errors.degrees_p95:.2f} degrees"
        )


def fit_localiser(
    frames: Frames,
    poses: Array,
    config: LocaliserFit | None = None,
    *,
    network: LocaliserConfig | None = None,
    foreign: Frames | None = None,
    report: Callable[[LocaliserProgress], None] | None = None,
) -> Localiser:
    """Fit a localiser to frames whose poses share one frame of reference; it has the averaged
    weights. The number of torch threads changes rounding.

    Args:
        frames: Pictures of the map, uint8 [n, size, size, 3], n >= 20.
        poses: Their camera-to-world poses in the map's frame, float64 [n, 4, 4], OpenCV axes.
        config: How to fit; None for the defaults.
        network: Size of the network; None for the defaults at the frames' size.
        foreign: Pictures of something else, uint8 [m, size, size, 3], m >= 1; None for only those
            made from `frames`.
        report: Called after every `report_every` steps and after the last.

    Raises:
        ValueError: Arrays of another shape or type, poses that are not finite, too few frames, or
            frames of another size than the network's.
    """
    config = config or LocaliserFit()
    _check(frames, poses, foreign)
    network = network or LocaliserConfig(size=frames.shape[1])
    if network.size != frames.shape[1]:
        raise ValueError(f"given frames of {frames.shape[1]} pixels; expected {network.size}")
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        localiser = Localiser(network)
    held_out, training = _split(len(frames), config, generator)
    centres = poses[training, :3, 3]
    with torch.no_grad():
        localiser.mean.copy_(torch.from_numpy(centres.mean(axis=0)))
        localiser.scale.fill_(max(float(centres.std(axis=0).max()), 1e-3))
    targets = torch.from_numpy(poses.astype(np.float32))
    pixels = torch.from_numpy(frames)
    others = None if foreign is None else torch.from_numpy(foreign)
    averaged = AveragedModel(localiser, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
    fitted = averaged.module
    assert isinstance(fitted, Localiser)
    rates = OptimizerConfig(
        config.matrix_rate,
        config.other_rate,
        warmup=config.warmup,
        decay=round(config.steps * (1 - config.decay_from)),
        weight_decay=config.weight_decay,
        clip=10.0,
    )
    optimizer = Optimizer(localiser, rates, _is_matrix, other_decay=config.weight_decay)
    index = torch.from_numpy(training)
    labels = torch.cat([torch.ones(config.batch), torch.zeros(config.negatives)])
    recent = 0.0
    for step in range(config.steps):
        pick = index[torch.randint(len(index), (config.batch,), generator=generator)]
        genuine = rearrange(pixels[pick], "n h w c -> n c h w").float()
        wrong = _negatives(genuine, others, config.negatives, generator)
        pictures = _photometric(torch.cat([genuine, wrong]), config, generator) / 255
        with torch.autocast("cpu", torch.bfloat16):
            values, logits = localiser.features(pictures)
        loss = _pose_loss(localiser.to_pose(values[: config.batch]), targets[pick])
        recognition = F.binary_cross_entropy_with_logits(logits, labels)
        (loss + config.recognition_weight * recognition).backward()
        optimizer.step(step, config.steps)
        averaged.update_parameters(localiser)
        recent = 0.99 * recent + 0.01 * float(loss.detach())
        last = step + 1 == config.steps
        if report is not None and (last or (step + 1) % config.report_every == 0):
            found = localise(fitted, frames[held_out]).c2w.numpy()
            errors = PoseErrors.of("held-out frames", found, poses[held_out])
            report(LocaliserProgress(step + 1, recent / (1 - 0.99 ** (step + 1)), errors))
    _calibrate(fitted, pixels[torch.from_numpy(held_out)], config)
    return fitted.eval()


def localiser_frames(
    scene: Scene, count: int, rng: np.random.Generator, size: int
) -> tuple[Frames, Array]:
    """Frames of a scene to fit a localiser to, uint8 [count, size, size, 3], and their poses in
    scene axes, float64 [count, 4, 4], for `count` >= 1.

    Half are starts of rollouts, which are upright; half are from walks, which add pitch and height.
    Where the scene's surfaces vary, every frame has an appearance of its own.
    """
    frames, stride = 192, 6
    walked, per_walk = count // 2, frames // stride + 1
    starts = [sample_pose(scene, rng)[None] for _ in range(count - walked)]
    walks = [sample_walk(scene, rng, frames)[::stride] for _ in range(0, walked, per_walk)]
    poses = np.concatenate([*starts, *walks])[:count]
    return render_varied(scene, poses, rng, None, size), poses


def _check(frames: Frames, poses: Array, foreign: Frames | None) -> None:
    side = frames.shape[1] if frames.ndim == 4 else None
    for name, value in (("frames", frames), ("foreign", foreign)):
        if value is not None and (
            value.dtype != np.uint8 or value.shape[1:] != (side, side, 3) or not len(value)
        ):
            raise ValueError(
                f"given {name} {value.dtype} {list(value.shape)}; expected uint8 "
                "[n >= 1, size, size, 3] of one size"
            )
    if len(frames) < 20:
        raise ValueError(f"given {len(frames)} frames; expected at least 20")
    if poses.shape != (len(frames), 4, 4) or not np.all(np.isfinite(poses)):
        raise ValueError(
            f"given poses {list(poses.shape)}; expected [{len(frames)}, 4, 4], all finite"
        )


def _split(
    frames: int, config: LocaliserFit, generator: torch.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices to hold out and to train on. Neighbours are alike, so blocks are held out."""
    count = min(config.held_out, frames // 10)
    block = max(1, min(32, count // 8))
    blocks = torch.randperm(frames // block, generator=generator)[: -(-count // block)].numpy()
    held_out = (np.sort(blocks)[:, None] * block + np.arange(block)).reshape(-1)
    return held_out, np.setdiff1d(np.arange(frames), held_out)


def _is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon takes a parameter: convolutions and the hidden layer, not the outputs."""
    dense = parameter.ndim >= 2 and parameter.shape[0] >= 16
    return dense and not name.startswith(("pose", "genuine"))


def _pose_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean of position error in metres plus weighted rotation error; distances are not squared, so
    that ambiguous views do not dominate."""
    offset = predicted[:, :3, 3] - true[:, :3, 3]
    # The chordal distance of two rotations is sqrt(2) times their angle where that is small.
    chord = (predicted[:, :3, :3] - true[:, :3, :3]).flatten(1)
    metres = (offset.square().sum(1) + 1e-6).sqrt()
    radians = (0.5 * chord.square().sum(1) + 1e-7).sqrt()
    return (metres + METRES_PER_RADIAN * radians).mean()


def _photometric(frames: Tensor, config: LocaliserFit, generator: torch.Generator) -> Tensor:
    """Frames in [0, 255] a little brighter or darker, and with a little noise."""
    shape = (len(frames), 1, 1, 1)
    shift = config.brightness * (2 * torch.rand(shape, generator=generator) - 1)
    deviation = config.noise * torch.rand(shape, generator=generator)
    grains = torch.randn(frames.shape, generator=generator)
    return (frames + shift + deviation * grains).clamp(0, 255)


def _negatives(
    genuine: Tensor, foreign: Tensor | None, count: int, generator: torch.Generator
) -> Tensor:
    """Pictures that are not of the map, float [count, 3, H, W] in [0, 255].

    A half is foreign where there are any; the rest is made from `genuine` [b, 3, H, W].
    """
    size = genuine.shape[-1]
    parts = []
    outside = 0 if foreign is None else count // 2
    if foreign is not None and outside:
        pick = torch.randint(len(foreign), (outside,), generator=generator)
        parts.append(rearrange(foreign[pick], "n h w c -> n c h w").float())
    for kind in torch.randint(8, (count - outside,), generator=generator).tolist():
        first, second = torch.randint(len(genuine), (2,), generator=generator).tolist()
        frame = genuine[first : first + 1]
        if kind < 2:
            parts.append(frame.flip(3))
        elif kind < 4:
            parts.append(recolour(frame, generator))
        elif kind == 4:
            quarters = 1 + int(torch.randint(3, (), generator=generator))
            parts.append(torch.rot90(frame, quarters, (2, 3)))
        elif kind == 5:
            parts.append(_shuffled(frame, generator))
        elif kind == 6:
            other = genuine[second : second + 1].flip(3) if foreign is None else parts[0][:1]
            amount = 0.4 + 0.6 * float(torch.rand((), generator=generator))
            parts.append(frame + amount * (other - frame))
        elif torch.rand((), generator=generator) < 0.5:
            parts.append(noise(1, size, generator))
        else:
            parts.append(gradients(1, size, generator))
    return torch.cat(parts)


def _shuffled(frame: Tensor, generator: torch.Generator) -> Tensor:
    """A frame [1, 3, H, W] with its 16 or 64 square pieces in another order."""
    across = 4 * (1 + int(torch.randint(2, (), generator=generator)))
    pieces = rearrange(frame, "1 c (i h) (j w) -> (i j) c h w", i=across, j=across)
    order = torch.randperm(len(pieces), generator=generator)
    return rearrange(pieces[order], "(i j) c h w -> 1 c (i h) (j w)", i=across, j=across)


def _calibrate(localiser: Localiser, held_out: Tensor, config: LocaliserFit) -> None:
    """Set the threshold so that `false_alarms` of the held-out frames [n, H, W, 3] lie below."""
    with torch.no_grad():
        pixels = rearrange(held_out, "n h w c -> n c h w")
        logits = torch.cat([localiser.features(frame)[1] for frame in pixels.split(1)])
        localiser.threshold.fill_(float(torch.quantile(logits, config.false_alarms)))
