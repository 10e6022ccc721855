"""Worlds: the contract they keep, the ground-truth world and the learned one."""
