"""Planners: choose the next motion by branching the world and looking what each branch earns."""

from agents.planners.by_eye import ByEye
from agents.planners.cem import CEM
from agents.planners.mppi import MPPI
from agents.planners.planner import GROUND, Plan, Planner, imagine
from agents.planners.random_shooting import RandomShooting
from agents.planners.scripted import RandomActions, ScriptedExpert

__all__ = [
    "CEM",
    "GROUND",
    "MPPI",
    "ByEye",
    "Plan",
    "Planner",
    "RandomActions",
    "RandomShooting",
    "ScriptedExpert",
    "imagine",
]
