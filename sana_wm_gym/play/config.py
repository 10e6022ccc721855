"""What is played, and the player of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sana_wm_gym.envs.config import EnvConfig
from sana_wm_gym.play.pilot import Pilot
from sana_wm_gym.play.player import Audience, Player
from sana_wm_gym.play.session import Session


@dataclass(frozen=True)
class PlayConfig:
    """What is served.

    Attributes:
        env: World, task, first picture, prompt, key map.
        seed: Of the first walk.
        worlds: Names that the page may change to.
        folder: Where walks are saved.
        again: Whether keys act within the running chunk; see `Player`.
        twin: Whether the ground truth is shown next to a world that has one.
        pilot: A policy that may take over, or None.
    """

    env: EnvConfig
    seed: int = 0
    worlds: tuple[str, ...] = ("tiny", "twin", "procedural")
    folder: Path = Path("outputs/play")
    again: bool = True
    twin: bool = True
    pilot: Pilot | None = None


def player_of(config: PlayConfig, audience: Audience) -> Player:
    """A new walk, and the same in the ground truth of a world that has one.

    Raises:
        ValueError: As `Session`.
        FileNotFoundError: As `Session`.
    """
    session, twin = Session(config.env, config.seed), None
    if config.twin and str(config.env.world).startswith("tiny") and config.env.image is None:
        twin = Session(replace(config.env, world="twin"), config.seed)
    return Player(session, audience, twin, config.again)
