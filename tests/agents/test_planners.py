"""Planners: laws on a world whose optimum is known, and the real task on exact renderings."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors import safe_open
from toy_world import ToyWorld

from sana_wm_gym.agents.episode_clip import EpisodeClip, pages
from sana_wm_gym.agents.plan import PlanConfig
from sana_wm_gym.agents.plan import plan as run_plan
from sana_wm_gym.agents.planners import (
    CEM,
    GROUND,
    MPPI,
    PixelCost,
    Plan,
    Planner,
    PlannerActor,
    RandomActions,
    RandomShooting,
    ScriptedExpert,
    imagine,
)
from sana_wm_gym.agents.planners.scripted import arc
from sana_wm_gym.agents.planners.search import as_twists
from sana_wm_gym.camera import (
    TWIST_NAMES,
    CameraState,
    Controls,
    MotionLimits,
    integrate,
    twist_to_controls,
)
from sana_wm_gym.camera.se3 import rotation_x, rotation_y
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.actions import Command
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.envs.tasks import FreeRoam, ImageGoal, StepResult
from sana_wm_gym.envs.tasks.follow import Follow
from sana_wm_gym.envs.tasks.task import Setting
from sana_wm_gym.evaluation.episodes import play_episodes
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS, ProceduralWorld
from sana_wm_gym.world.world_model import WorldSpec

SPEC = WorldSpec(
    name="empty",
    height=16,
    width=16,
    fps=16.0,
    frames_per_chunk=24,
    latent_shape=None,
    intrinsics=(10.0, 10.0, 8.0, 8.0),
    limits=MotionLimits(forward=1 / 24, right=1 / 24, down=1 / 24, yaw=0.02, pitch=0.02),
    scenes=(0,),
)
"""A full twist moves 1 m in a chunk."""


def empty_world() -> ToyWorld:
    return ToyWorld(SPEC)


@dataclass(frozen=True)
class Beacons(FreeRoam):
    """Minus the distance to a beacon at the end of each chunk: at best 0, by one known plan."""

    twists: tuple[tuple[float, float], ...] = ((0.6, -0.3), (-0.5, 0.7))
    stop_at: float = math.inf

    def evaluate(
        self, setting: Setting, before: Episode, after: Episode
    ) -> tuple[None, StepResult]:
        beacon = np.sum(self.twists[: after.chunk], axis=0)
        miss = float(np.linalg.norm(after.c2w[-1, [0, 2], 3] - beacon))
        return None, StepResult(-miss, terminated=abs(after.c2w[-1, 0, 3]) > self.stop_at)


def simulated(world: Any, task: Any, **arguments: Any) -> Simulation:
    return SanaWMEnv(world, task=task, **arguments).simulation


def played(simulation: Simulation, planner: Any, seed: int) -> tuple[Any, PlannerActor]:
    actor = PlannerActor(planner, simulation, seed)
    [result] = play_episodes(simulation, actor, [seed], simulation.world)
    return result, actor


def first(simulation: Simulation, seed: int = 0) -> Episode:
    return simulation.begin([None], [np.random.default_rng(seed)])[0]


PLANE = ("right", "forward")
SEARCHES: list[Any] = [
    RandomShooting(candidates=8, chunks=2),
    CEM(candidates=8, chunks=2, iterations=3, elites=3),
    MPPI(candidates=8, chunks=2, iterations=3),
]


@pytest.mark.parametrize("planner", SEARCHES, ids=lambda planner: type(planner).__name__)
def test_a_decision_costs_candidates_times_chunks_times_iterations(planner: Any) -> None:
    world = empty_world()
    simulation = simulated(world, Beacons())
    plan = planner.plan(simulation, first(simulation), np.random.default_rng(0))
    iterations = getattr(planner, "iterations", 1)
    assert plan.env_steps == world.calls["chunks"] == 8 * 2 * iterations
    # All candidates share one batch per chunk.
    assert world.calls["batches"] == 2 * iterations


@pytest.mark.parametrize("planner", SEARCHES, ids=lambda planner: type(planner).__name__)
def test_same_seed_same_plan(planner: Any) -> None:
    simulation = simulated(empty_world(), Beacons())
    episode = first(simulation)
    a, b, c = (planner.plan(simulation, episode, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(a.twists, b.twists) and a.expected_return == b.expected_return
    assert not np.array_equal(a.twists, c.twists)


@pytest.mark.parametrize("planner", SEARCHES, ids=lambda planner: type(planner).__name__)
def test_expected_return_is_what_the_environment_then_pays(planner: Any) -> None:
    env = SanaWMEnv(empty_world(), task=Beacons())
    env.reset(seed=0)
    plan = planner.plan(env.simulation, env.snapshot().episode, np.random.default_rng(0))
    paid = sum(env.step(twist)[1] for twist in plan.twists)
    assert paid == plan.expected_return


def test_cem_and_mppi_approach_the_optimum_and_beat_random_shooting_at_equal_cost() -> None:
    simulation = simulated(empty_world(), Beacons())
    episode = first(simulation)
    planners: list[Planner] = [
        RandomShooting(80, 1, moves=PLANE),
        CEM(16, 1, 5, elites=4, min_spread=0.0, moves=PLANE),
        MPPI(16, 1, 5, moves=PLANE),
    ]
    # The best possible is 0, on the beacon.
    missed: dict[str, list[float]] = {}
    for planner in planners:
        name = type(planner).__name__
        for seed in range(6):
            plan = planner.plan(simulation, episode, np.random.default_rng(seed))
            assert plan.env_steps == 80 and plan.expected_return is not None
            missed.setdefault(name, []).append(-plan.expected_return)
    for name in ("CEM", "MPPI"):
        assert max(missed[name]) < 0.15
        assert np.mean(missed[name]) < 0.6 * np.mean(missed["RandomShooting"])


def test_a_search_starts_from_the_rest_of_the_plan_before() -> None:
    simulation = simulated(empty_world(), Beacons(twists=((0.6, -0.3), (-0.5, 0.7), (0.9, 0.9))))
    episode = first(simulation)
    best = np.zeros((3, 5), np.float32)
    best[:, [2, 4]] = simulation.task.twists  # type: ignore[attr-defined]
    before = Plan(best, None, 0)
    [after], _ = simulation.play([episode], [Command(twist_to_controls(best[0], SPEC.limits, 24))])
    for planner in SEARCHES:
        plan = planner.plan(simulation, after, np.random.default_rng(0), before)
        # Exact but for the hair by which horizontal steps fall short of their speed.
        assert plan.expected_return == pytest.approx(0.0, abs=1e-5)
        assert np.allclose(plan.twists, best[1:], atol=1e-6)


def test_branches_that_end_earn_nothing_more_and_cost_nothing_more() -> None:
    world = empty_world()
    simulation = simulated(world, Beacons(stop_at=0.5))
    twists = np.zeros((3, 2, 5), np.float32)
    twists[1, 0, 2] = 0.9
    returns, steps = imagine(simulation, first(simulation), twists)
    assert steps == world.calls["chunks"] == 5
    beacon = np.array([0.6, -0.3])
    assert returns[1] == pytest.approx(-np.linalg.norm(np.array([0.9, 0.0]) - beacon), abs=1e-5)
    assert returns[0] == returns[2] < -1


def test_nothing_is_imagined_past_the_horizon_or_from_an_end() -> None:
    world = empty_world()
    simulation = simulated(world, Beacons(), max_episode_steps=2)
    episode = first(simulation)
    [episode], _ = simulation.play([episode], [Command(Controls.still(24))])
    world.calls.clear()
    _, steps = imagine(simulation, episode, np.zeros((4, 3, 5)))
    assert steps == world.calls["chunks"] == 4
    [last], _ = simulation.play([episode], [Command(Controls.still(24))])
    for ended in (last, replace(episode, over=True)):
        with pytest.raises(ValueError, match="ended at chunk"):
            imagine(simulation, ended, np.zeros((4, 3, 5)))


def test_planning_leaves_the_environment_as_it_was(tmp_path: Path) -> None:
    env = SanaWMEnv(ProceduralWorld((32, 32)), task="image_goal")
    env.reset(seed=4)
    env.step(np.zeros(5, np.float32))
    env.snapshot().save(tmp_path / "before", env.world, env.task)
    rng = np.random.default_rng(0)
    for planner in [*SEARCHES, PixelCost(SEARCHES[0]), ScriptedExpert(), RandomActions()]:
        planner.plan(env.simulation, env.snapshot().episode, rng)
    env.snapshot().save(tmp_path / "after", env.world, env.task)
    # The order of a header's entries is random, so files are compared by digest.
    before, after = (
        safe_open(tmp_path / name, framework="numpy").metadata() for name in ("before", "after")
    )
    assert before["sha256"] == after["sha256"] and before == after


def test_only_the_named_motions_are_used() -> None:
    for planner in SEARCHES:
        full = as_twists(2 * np.ones((4, 2, len(GROUND))), planner.moves)
        assert full.dtype == np.float32
        assert (full == np.array([name in GROUND for name in TWIST_NAMES])).all()
    simulation = simulated(empty_world(), Beacons())
    plan = RandomActions(("pitch",)).plan(simulation, first(simulation), np.random.default_rng(0))
    assert 0 < abs(plan.action[1]) <= 1 and not plan.action[[0, 2, 3, 4]].any()


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: CEM(candidates=1), "candidates is 1"),
        (lambda: CEM(elites=33), "elites is 33"),
        (lambda: CEM(spread=0.0), "spread"),
        (lambda: MPPI(chunks=0), "chunks is 0"),
        (lambda: MPPI(shrink=1.5), "shrink is 1.5"),
        (lambda: RandomShooting(moves=("fly",)), "fly"),
        (lambda: RandomActions(moves=()), "moves"),
    ],
)
def test_bad_settings_are_refused_when_they_are_made(build: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build()


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.floats(-1, 1) for _ in TWIST_NAMES]),
    st.floats(-math.pi, math.pi),
    st.floats(-0.2, 0.2),
)
def test_the_arc_to_where_a_twist_led_is_that_twist(
    twist: tuple[float, ...], yaw: float, pitch: float
) -> None:
    here = np.eye(4)
    here[:3, :3] = rotation_y(yaw) @ rotation_x(pitch)
    here[:3, 3] = 1.0, 2.0, 3.0
    limits = WALK_LIMITS
    controls = twist_to_controls(twist, limits, CHUNK_FRAMES)
    poses, _ = integrate(CameraState(here, pitch), controls, pitch_limit=1.5)
    found = arc(here, poses[-1], limits, CHUNK_FRAMES)
    assert found.shape == (1, 5)
    assert np.allclose(found[0], twist, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.floats(-3, 3), st.floats(-0.5, 0.5), st.floats(-3, 3)), st.floats(-3, 3))
def test_an_arc_of_several_chunks_arrives(place: tuple[float, ...], yaw: float) -> None:
    there = np.eye(4)
    there[:3, :3] = rotation_y(yaw)
    there[:3, 3] = place
    twists = arc(np.eye(4), there, WALK_LIMITS, CHUNK_FRAMES)
    walk = [twist_to_controls(twist, WALK_LIMITS, CHUNK_FRAMES) for twist in twists]
    poses, _ = integrate(CameraState(), Controls.concatenate(walk))
    assert np.allclose(poses[-1], there, atol=1e-3)


def test_the_expert_reaches_every_goal() -> None:
    simulation = simulated(ProceduralWorld((32, 32)), ImageGoal())
    for seed in range(12):
        result, actor = played(simulation, ScriptedExpert(), seed)
        assert result.info["is_success"]
        assert result.info["spl"] > 0.8
        assert not any(plan.env_steps for plan in actor.plans)


def test_the_expert_follows_better_than_one_who_stands_still() -> None:
    task = Follow()
    simulation = simulated(ProceduralWorld((32, 32)), task)
    expert = [played(simulation, ScriptedExpert(), seed)[0] for seed in range(4)]
    still = []
    for seed in range(4):
        episode, earned = first(simulation, seed), 0.0
        while not episode.over and episode.chunk < simulation.max_episode_steps:
            [episode], [result] = simulation.play([episode], [Command(Controls.still(24))])
            earned += result.reward
        still.append(earned)
    assert min(one.episode_return for one in expert) > max(still)
    assert all(one.length == task.max_episode_steps for one in expert)


def test_a_pixel_based_search_reads_no_pose_and_approaches_the_goal_image() -> None:
    simulation = simulated(ProceduralWorld((32, 32)), ImageGoal(chunks=(1,)))
    planner = PixelCost(CEM(candidates=12, chunks=1, iterations=2, elites=4))
    episode = first(simulation)
    elsewhere = replace(episode, task=replace(episode.task, c2w=np.eye(4), shortest=9.0))
    plan, same = (
        planner.plan(simulation, e, np.random.default_rng(0)) for e in (episode, elsewhere)
    )
    assert np.array_equal(plan.twists, same.twists)
    motion = twist_to_controls(plan.action, simulation.world.spec.limits, CHUNK_FRAMES)
    [after], _ = simulation.play([episode], [Command(motion)])

    def difference(seen: Episode) -> float:
        gap = simulation.frames([seen], last=True)[0].astype(float) - episode.task.picture
        return float(np.sqrt((gap**2).mean()))

    assert plan.expected_return == same.expected_return == pytest.approx(-difference(after))
    assert difference(after) < 0.8 * difference(episode)


@pytest.mark.parametrize(
    ("planner", "complaint"),
    [(ScriptedExpert(), "image_goal or follow"), (PixelCost(CEM()), "expected image_goal")],
)
def test_tasks_that_a_planner_cannot_do_are_refused(planner: Planner, complaint: str) -> None:
    simulation = simulated(empty_world(), FreeRoam())
    with pytest.raises(ValueError, match=complaint):
        planner.plan(simulation, first(simulation), np.random.default_rng(0))


def test_a_run_writes_its_decisions_and_a_video(tmp_path: Path) -> None:
    planner = CEM(candidates=4, chunks=1, iterations=2, elites=2)
    config = PlanConfig(
        ProceduralWorld((32, 32)), str(tmp_path / "run"), planner=planner, episodes=2, videos=1
    )
    evaluation, document = run_plan(config, Console(quiet=True))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "episode-10000.mp4",
        "plan.json",
    ]
    assert json.loads((tmp_path / "run" / "plan.json").read_text()) == document
    assert document["env_steps_per_decision"] == 8
    assert set(document["summary"]) >= {"return", "is_success", "spl"}
    for decision, result in zip(document["decisions"], evaluation.episodes, strict=True):
        assert len(decision["actions"]) == result.length and decision["seed"] == result.seed
    again, _ = run_plan(replace(config, videos=0), Console(quiet=True))
    assert again == evaluation


def test_clips_show_every_frame() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (25, 16, 20, 3), np.uint8)
    c2w = np.tile(np.eye(4), (25, 1, 1))
    c2w[:, 2, 3] = np.linspace(0, 3, 25)
    shown = list(pages(EpisodeClip(frames, c2w, ["go"], frames[-1], c2w[-1])))
    assert len(shown) == 25 and all(page.shape == shown[0].shape for page in shown)
    assert not shown[0].shape[0] % 2 and not shown[0].shape[1] % 2
    assert not np.array_equal(shown[3], shown[20])
    with pytest.raises(ValueError, match="25 frames and 24 poses"):
        next(pages(EpisodeClip(frames, c2w[1:])))
