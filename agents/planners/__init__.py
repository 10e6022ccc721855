"""Planners: choose the next motion by branching the world and comparing the branches' returns."""

from .pixel_cost import PixelCost
from .planner import GROUND, Plan, Planner, PlannerActor, imagine
from .scripted import RandomActions, ScriptedExpert
from .search import CEM, MPPI, RandomShooting

__all__ = [
    "CEM",
    "GROUND",
    "MPPI",
    "PixelCost",
    "Plan",
    "Planner",
    "PlannerActor",
    "RandomActions",
    "RandomShooting",
    "ScriptedExpert",
    "imagine",
]
