"""Domain: which right each command asks for: a column of its own beside the rules of decide(). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from dkv.domain import orders
from dkv.domain.command import Command
from dkv.domain.facts import FACTS
from dkv.domain.rights import Right

_ORDERS: Mapping[type[Command], Right] = {
    orders.CreateDatabase: Right.OPERATE,
    orders.DeleteDatabase: Right.OPERATE,
    orders.ShutdownDatabase: Right.OPERATE,
    orders.CreateArchives: Right.OPERATE,
    orders.DeleteArchive: Right.OPERATE,
    orders.StartProcess: Right.OPERATE,
    orders.ShutdownProcess: Right.OPERATE,
    orders.EnforceLeader: Right.OPERATE,
    orders.PutRecord: Right.OPERATE,
    orders.CreateToken: Right.USERS,
    orders.DeleteToken: Right.USERS,
    orders.CreateDatabaseUser: Right.USERS,
    orders.AddUserPassword: Right.USERS,
    orders.DropUserPassword: Right.USERS,
    orders.DeleteDatabaseUser: Right.USERS,
    orders.SetDatabaseAccess: Right.USERS,
    orders.RotateSecret: Right.AUTHORITY,
    orders.CreateJoinToken: Right.AUTHORITY,
    orders.DeleteJoinToken: Right.AUTHORITY,
    orders.AdmitServer: Right.OPEN,  # the join token in it is judged by its rule
    orders.RotateAuthority: Right.AUTHORITY,
    orders.RemoveServer: Right.OPERATE,
    orders.RemoveServerState: Right.OPERATE,
    orders.ReplaceVoter: Right.OPERATE,
    orders.BringBackArchive: Right.OPERATE,
    orders.SetDatabaseOptions: Right.OPERATE,
    orders.Switchover: Right.OPERATE,
    orders.RebalanceLeaders: Right.OPERATE,
    orders.RestartDatabase: Right.OPERATE,
    orders.StopRestart: Right.OPERATE,
    orders.DrainServer: Right.OPERATE,
    orders.RequestHotCopy: Right.OPERATE,
    orders.CancelHotCopy: Right.OPERATE,
}

RIGHTS: Mapping[type[Command], Right] = {**dict.fromkeys(FACTS, Right.SERVER), **_ORDERS}
"""The right of each command, beside the rule that decide() has for it."""

RECORD_RIGHTS: Mapping[str, Right] = {"certificate": Right.AUTHORITY, "role": Right.USERS, "user": Right.USERS}
"""Records of these kinds ask for more than others: who may trust a certificate may let somebody in."""


def right_of(command: Command) -> Right:
    """What a principal needs to have a command carried out."""
    if isinstance(command, orders.PutRecord) and command.kind in RECORD_RIGHTS:
        return RECORD_RIGHTS[command.kind]
    return RIGHTS[type(command)]
