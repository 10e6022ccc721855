"""Record demonstrations as a Minari dataset.

python -m agents.record env.id=SanaWM/ImageGoal-v0 planner=expert dataset=image_goal/expert-v0
python -m agents.record --help
"""

from __future__ import annotations

from typing import Any

from agents.training.command import instantiated, run_command


def record(settings: Any) -> int:
    """Record as hydra's settings say; returns the exit status.

    Raises:
        ValueError: A setting makes no sense.
        OSError: There is such a dataset already.
        ImportError: Minari is not installed.
    """
    from rich.console import Console

    from agents.recording import RecordConfig
    from agents.recording import record as run
    from sana_wm_gym.envs.dataset import open_dataset

    config = instantiated(settings)
    assert isinstance(config, RecordConfig)
    console = Console()
    place = run(config, console)
    dataset = open_dataset(config.dataset, config.folder)
    megabytes = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / 1e6
    console.print(
        f"{dataset.total_episodes} episodes, {dataset.total_steps} steps, {megabytes:.1f} MB "
        f"at {place}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def main() -> None:
    """Command line; ends the process with 0, or 2 if a setting is wrong."""
    run_command("record", record)


if __name__ == "__main__":
    main()
