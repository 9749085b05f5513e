"""Simulation: what must hold, whatever goes wrong."""
