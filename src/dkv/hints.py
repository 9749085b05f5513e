"""Hints: what helps, as values: texts, and actions with their arguments, which each client renders in its own words.

A manager sends a hint as plain text and, beside it, as its parts. What a kind of action is called at the command line stands in
`cli/hints.py`; a console makes buttons of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What a kind of action is in plain words, and the names of its arguments."""

    text: str
    arguments: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "startInstance": Kind("start instance {instance} of store {store}", ("store", "instance", "archiveId", "server")),
    "stopInstance": Kind("stop instance {instance} of store {store}", ("store", "instance", "startId")),
    "removeInstance": Kind("remove instance {instance} of store {store}", ("store", "instance", "archiveId")),
    "addInstance": Kind("add an instance to store {store}", ("store",)),
    "listInstances": Kind("list the instances"),
    "startStore": Kind("start store {store}", ("store",)),
    "stopStore": Kind("stop store {store}", ("store",)),
    "forceStopStore": Kind("stop store {store} by force", ("store",)),
    "removeStore": Kind("remove store {store}", ("store",)),
    "setOption": Kind("set the option {option} of store {store} to {value}", ("store", "option", "value")),
    "restartRolling": Kind("restart store {store} process by process", ("store",)),
    "restartForced": Kind("restart store {store} process by process, by force", ("store",)),
    "endRestart": Kind("end the restart of store {store}", ("store",)),
    "killProcess": Kind("kill process {startId}", ("startId",)),
    "evictProcess": Kind("give up process {startId}", ("startId",)),
    "listExited": Kind("list the processes that ended"),
    "showWaiting": Kind("show what waits"),
    "showStatus": Kind("show which release the manager of each server has"),
    "enforceLeader": Kind("enforce archive {archiveId} as leader of {store}/{group}", ("store", "group", "archiveId")),
    "startManager": Kind("on {host}: its service, or the program itself", ("host",)),
    "stopManager": Kind("stop the manager of server {server}", ("server",)),
    "stopServerProcesses": Kind("stop the processes of server {server} by force", ("server",)),
    "removeServer": Kind("delete the state of server {server}", ("server",)),
    "replaceServer": Kind("replace server {server}", ("server",)),
    "replaceVoter": Kind("have another server vote in place of server {server}", ("server",)),
    "backUpState": Kind("back up the domain state"),
    "rebuildState": Kind("rebuild the domain state {state}", ("state",)),
    "restoreWithNewAuthorities": Kind("put the backup back with new authorities"),
    "useStore": Kind("store {store}", ("store",)),
    "useGroup": Kind("group {group}", ("group",)),
    "useServer": Kind("server {server}", ("server",)),
    "usePath": Kind("path {path}", ("path",)),
    "usePorts": Kind("cluster port {clusterPort}, client port {clientPort}", ("clusterPort", "clientPort")),
    "createDatabaseUser": Kind("create a user of store {store}", ("store",)),
    "dropOldPassword": Kind("drop the old password of user {user} of store {store}", ("store", "user")),
    "createJoinToken": Kind("make a join token"),
    "rotateWithout": Kind("change the authority without server {server}", ("server",)),
    "rotateStoreWithout": Kind("change the authority of store {store} without server {server}", ("store", "server")),
    "goOnRotating": Kind("go on with the change of the authority"),
    "goOnRotatingStore": Kind("go on with the change of the authority of store {store}", ("store",)),
    "acceptInsecureTraffic": Kind("insecure-engine-traffic yes"),
    "showCredentials": Kind("send a token (Bearer) or a user's name and password (Basic)"),
    "force": Kind("force"),
    "allowDataLoss": Kind("allowDataLoss and a reason"),
}
"""What a hint can offer. A kind that begins with `use`, and the last two, are arguments to repeat the request with."""


class Action(NamedTuple):
    """Something that a person, or a console, can do: an entry of KINDS and its arguments."""

    kind: str
    arguments: Mapping[str, str | int]

    def __str__(self) -> str:
        return KINDS[self.kind].text.format(**self.arguments)


Part = str | Action


class Hint(NamedTuple):
    """What helps: texts and actions in their order. `str()` gives it in plain words, as a
    sentence; without parts it is false."""

    parts: tuple[Part, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.parts)

    def __str__(self) -> str:
        text = "".join(map(str, self.parts))
        return text[:1].upper() + text[1:] if self.parts and isinstance(self.parts[0], Action) else text


def action(kind: str, **arguments: str | int) -> Action:
    """An action; its arguments by their names in KINDS."""
    assert set(arguments) == set(KINDS[kind].arguments), kind
    return Action(kind, arguments)


def hint(*parts: Part | Hint) -> Hint:
    """A hint of these parts, each a text, an action or the parts of another hint."""
    flat: list[Part] = []
    for part in parts:
        flat += part.parts if isinstance(part, Hint) else (part,)
    return Hint(tuple(part for part in flat if part != ""))


def sentences(hints: Sequence[Hint]) -> Hint:
    """Several hints as one, with blanks between."""
    return hint(*(part for number, each in enumerate(hints) for part in ((" ", each) if number else (each,))))


def filled(template: str, **values: Part) -> Hint:
    """A hint from a template whose `{name}` stand for these texts and actions."""
    first, *rest = template.split("{")
    parts: list[Part] = [first]
    for piece in rest:
        name, _, text = piece.partition("}")
        parts += (values[name], text)
    return hint(*parts)


def to_json(written: Hint) -> list[dict[str, Any]]:
    """The parts as JSON: the text of each, and the action that it stands for."""
    return [
        {"text": str(part), "action": part.kind, "arguments": dict(part.arguments)}
        if isinstance(part, Action)
        else {"text": part, "action": None, "arguments": {}}
        for part in written.parts
    ]


def from_json(text: object, parts: object) -> Hint:
    """The hint of an answer: its parts, or its plain text where it has none. An action of a newer manager stays a text."""
    if isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts):
        return hint(*map(_part, parts))
    return hint(str(text or ""))


def _part(part: Mapping[str, Any]) -> Part:
    kind, arguments = KINDS.get(str(part.get("action"))), part.get("arguments")
    if kind is not None and isinstance(arguments, dict) and set(arguments) == set(kind.arguments):
        return Action(str(part["action"]), arguments)
    return str(part.get("text") or "")
