"""Domain: which right each command asks for: a column of its own beside the rules of decide(). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from dkv.domain import commands as c
from dkv.domain.commands import FACTS, Command
from dkv.domain.rights import Right

_ORDERS: Mapping[type[Command], Right] = {
    c.CreateDatabase: Right.OPERATE,
    c.DeleteDatabase: Right.OPERATE,
    c.ShutdownDatabase: Right.OPERATE,
    c.CreateArchives: Right.OPERATE,
    c.DeleteArchive: Right.OPERATE,
    c.StartProcess: Right.OPERATE,
    c.ShutdownProcess: Right.OPERATE,
    c.EnforceLeader: Right.OPERATE,
    c.PutRecord: Right.OPERATE,
    c.CreateToken: Right.USERS,
    c.DeleteToken: Right.USERS,
    c.CreateDatabaseUser: Right.USERS,
    c.AddUserPassword: Right.USERS,
    c.DropUserPassword: Right.USERS,
    c.DeleteDatabaseUser: Right.USERS,
    c.SetDatabaseAccess: Right.USERS,
    c.RotateSecret: Right.AUTHORITY,
    c.CreateJoinToken: Right.AUTHORITY,
    c.DeleteJoinToken: Right.AUTHORITY,
    c.AdmitServer: Right.OPEN,  # the join token in it is judged by its rule
    c.RotateAuthority: Right.AUTHORITY,
    c.RemoveServer: Right.OPERATE,
    c.RemoveServerState: Right.OPERATE,
    c.BringBackArchive: Right.OPERATE,
    c.SetDatabaseOptions: Right.OPERATE,
    c.Switchover: Right.OPERATE,
    c.RebalanceLeaders: Right.OPERATE,
    c.RestartDatabase: Right.OPERATE,
    c.StopRestart: Right.OPERATE,
    c.DrainServer: Right.OPERATE,
    c.RequestHotCopy: Right.OPERATE,
    c.CancelHotCopy: Right.OPERATE,
}

RIGHTS: Mapping[type[Command], Right] = {**dict.fromkeys(FACTS, Right.SERVER), **_ORDERS}
"""The right of each command, beside the rule that decide() has for it."""

RECORD_RIGHTS: Mapping[str, Right] = {"certificate": Right.AUTHORITY, "role": Right.USERS, "user": Right.USERS}
"""Records of these kinds ask for more than others: who may trust a certificate may let somebody in."""


def right_of(command: Command) -> Right:
    """What a principal needs to have a command carried out."""
    if isinstance(command, c.PutRecord) and command.kind in RECORD_RIGHTS:
        return RECORD_RIGHTS[command.kind]
    return RIGHTS[type(command)]
