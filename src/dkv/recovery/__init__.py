"""Recovery: a state is copied, put back, or rebuilt from the archives, beside any manager.

The command line loads it by name, as it loads the daemon; what it decides is decided in dkv.domain.
"""

from __future__ import annotations

from dkv.recovery.backup import RecoveryError, read_backup, read_state, write_backup
from dkv.recovery.plans import Plan, plan_rebuild, plan_restore

__all__ = ["Plan", "RecoveryError", "plan_rebuild", "plan_restore", "read_backup", "read_state", "write_backup"]
