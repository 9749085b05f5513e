"""The guard of a manager: a small process that fences the engines of a machine which is cut off while its manager is dead."""
