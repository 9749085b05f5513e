"""Run by its path, with a duty and a manager, in an interpreter that sees the standard library alone (`python -I -S`)."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from dkv.guard.program import main

    sys.exit(main(*sys.argv[1:3]))
