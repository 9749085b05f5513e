"""A whole domain in one process under virtual time, with faults drawn from a seed. Nothing imports it."""
