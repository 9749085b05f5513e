"""Confirm: confirmed writes over valkey-py, judged by name (docs/reference/safety.md#confirmation).

A confirmed write is on the disk of every member of the in-sync set. WAIT does not show that, because it counts whatever
is attached (docs/reference/safety.md#schedules, V1 and V2), so a write is sent as `write, ROLE, WAIT, ROLE` on one
connection to the engine that the store's view names as leader, and `judge`, a pure function, compares names and offsets
with a fresh view. Writes that wait at the same time share the questions (`pipeline.py`).
"""

from __future__ import annotations

from dkv.confirm.judge import FRESH as FRESH
from dkv.confirm.judge import ConfirmError as ConfirmError
from dkv.confirm.judge import Engine as Engine
from dkv.confirm.judge import GroupView as GroupView
from dkv.confirm.judge import Kind as Kind
from dkv.confirm.judge import Outcome as Outcome
from dkv.confirm.judge import Role as Role
from dkv.confirm.judge import judge as judge
from dkv.confirm.judge import read_groups as read_groups
from dkv.confirm.judge import read_role as read_role
from dkv.confirm.views import View as View
from dkv.confirm.write import ConfirmingClient as ConfirmingClient
from dkv.confirm.write import login_of as login_of
from dkv.confirm.write import slot_of as slot_of
