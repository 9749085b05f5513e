"""The manager as a program, composed of its parts: `program.run` is `dkv manager run`."""
