"""Simulation: what goes wrong: kinds of faults, drawn from the seed."""
