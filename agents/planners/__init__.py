"""Planners: choose the next motion by branching the world and comparing the branches' returns."""

from agents.planners.pixel_cost import PixelCost
from agents.planners.planner import GROUND, Plan, Planner, PlannerActor, imagine
from agents.planners.scripted import RandomActions, ScriptedExpert
from agents.planners.search import CEM, MPPI, RandomShooting

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
