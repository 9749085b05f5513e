"""Simulation: machines with their disks and engines, under the contract of dkv.engine."""
