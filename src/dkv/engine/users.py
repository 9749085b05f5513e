"""Engine: the users of an engine as Valkey's access control lists have them, written and read. Pure: values in, texts out.

A database user has named limits and never rules of its own making: what is compiled from them here is all that any user can
have. None may administrate the engine, and none may load or delete functions: Valkey cannot allow FUNCTION LOAD for some
libraries only, so that who may load one may replace the marker library (docs/reference/positions.md#markers).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

from dkv.engine.config import MANAGER, REPLICA, replica_password
from dkv.engine.contract import EngineSpec, EngineUser, EngineUsers, Secrets, secrets_digest

DEFAULT = "default"
OWN = (MANAGER, REPLICA)
"""The users of the managers and of followers, which are no clients."""

# What every client may do beyond +@all -@dangerous, and what it may not although @dangerous does not cover it. CONFIG GET is
# not among it, because it would show the replication password.
_CLIENT = tuple(
    (
        "+@all -@dangerous +info +keys +role +sort +sort_ro +flushall +flushdb +client|list "
        "+cluster|replicas +cluster|slaves +latency|histogram "
        "-function|flush -function|delete -function|restore "
        "-cluster|flushslot -cluster|flushslots"
    ).split()
)
_USER = ("-function|load", "-script|debug")
_IMPORTING = ("+restore", "-script|debug")
_READ_ONLY = ("-@write", "-publish", "-spublish", "-script|flush", "-script|kill", "-function|kill")
_NO_SCRIPTING = ("-@scripting",)
_SOME_KEYS = tuple(  # commands that name keys without asking for them, or touch all
    "-keys -scan -clusterscan -randomkey -flushall -flushdb -cluster|getkeysinslot -client|tracking".split()
)
_MONITOR = (  # what exporters and tools ask; of CONFIG GET no part can be allowed, and it shows the replication password
    *("-@all", "+auth", "+hello", "+ping", "+echo", "+quit", "+reset", "+select", "+command", "+info", "+role", "+time"),
    *("+dbsize", "+lastsave", "+readonly", "+readwrite", "+acl|whoami", "+module|list", "+function|stats", "+memory|stats"),
    *("+memory|doctor", "+memory|malloc-stats", "+pubsub|numpat", "+pubsub|shardnumsub", "+pubsub|numsub"),
    *(f"+client|{word}" for word in "setname getname setinfo id info list capa no-touch reply trackinginfo".split()),
    *(f"+cluster|{word}" for word in "info nodes slots shards myid myshardid links keyslot slot-stats replicas slaves".split()),
    *("+slowlog|get", "+slowlog|len", "+commandlog|get", "+commandlog|len"),
    *(f"+latency|{word}" for word in "latest history doctor graph histogram".split()),
)
_EVERYBODY = ("on", "nopass", "~*", "&*", *_CLIENT)
_NOBODY = ("off", "resetchannels", "-@all")


def users_acl(spec: EngineSpec) -> str:
    """The file users.acl of an engine: its managers, the replication user (off until admitted), and its clients' users."""
    manager, replica = (" ".join(f"#{password}" for password in _of_own(user, spec.secrets)) for user in OWN)
    own = [
        f"user {MANAGER} on {manager} ~* &* +@all",
        f"user {REPLICA} off {replica} resetchannels -@all +psync +sync +replconf +ping",
    ]
    clients = [f"user {name} {' '.join(words)}" for name, words in _wanted(spec.users).items()]
    return "\n".join([*own, *clients, ""])


def orders(wanted: EngineUsers, lines: Iterable[bytes]) -> list[tuple[str, ...]]:
    """The commands by which the users of an engine, as ACL LIST shows them, become those that are wanted. Each is whole: a user
    whose password is added is not gone for a moment, and its connections stay.
    """
    present, words = _words_by_name(lines), _wanted(wanted)
    changed = [name for name, rules in words.items() if present.get(name) != list(rules)]
    gone = [name for name in present if name not in words]
    return [("ACL", "SETUSER", name, "reset", *words[name]) for name in changed] + [("ACL", "DELUSER", name) for name in gone]


def own_orders(secrets: Secrets, *, drop: bool, lines: Iterable[bytes] = ()) -> list[tuple[str, ...]]:
    """The commands by which an engine takes these passwords of its own users; with `drop` those by which it takes no others."""
    if not drop:
        return [("ACL", "SETUSER", user, *(f"#{password}" for password in _of_own(user, secrets))) for user in OWN]
    others = {user: [p for p in _passwords(lines, user) if p not in _of_own(user, secrets)] for user in OWN}
    return [
        ("ACL", "SETUSER", user, *(f"!{password}" for password in passwords)) for user, passwords in others.items() if passwords
    ]


def _of_own(user: str, secrets: Secrets) -> list[str]:
    return [_hashed(secret if user == MANAGER else replica_password(secret)) for secret in secrets.taken]


def _passwords(lines: Iterable[bytes], user: str) -> list[str]:
    own = (line.decode("utf-8", "replace").split(" ") for line in lines)
    return [word[1:] for _, name, *words in own if name == user for word in words if word[:1] == "#"]


def secrets_seen(lines: Iterable[bytes], used: str) -> str:
    """The digest of the passwords that an engine takes of its managers, of which `used` is in use (Secrets)."""
    return secrets_digest(_hashed(used), _passwords(lines, MANAGER))


def _wanted(users: EngineUsers) -> dict[str, tuple[str, ...]]:
    return {DEFAULT: _EVERYBODY if users.open else _NOBODY} | {user.name: _words(user) for user in users.users}


def _words(user: EngineUser) -> tuple[str, ...]:
    if user.monitor:
        return ("on", *(f"#{password}" for password in user.passwords), "resetchannels", *_MONITOR)
    keys = [f"~{pattern}" for pattern in user.keys or ("*",)]
    return ("on", *(f"#{password}" for password in user.passwords), *keys, "&*", *_rules(user))


def _rules(user: EngineUser) -> tuple[str, ...]:
    """Its rules as Valkey shows them: of two about the same commands the later one counts and is the only one kept."""
    rules = [*_CLIENT, *(_IMPORTING if user.importing else _USER)]
    rules += _SOME_KEYS if user.keys else ()
    rules += _READ_ONLY if user.read_only else ()
    rules += () if user.scripting else _NO_SCRIPTING
    later = {rule[1:]: number for number, rule in enumerate(rules)}
    return tuple(rule for number, rule in enumerate(rules) if later[rule[1:]] == number)


# Reading -------------------------------------------------------------------------------------------------------------


def users_seen(lines: Sequence[bytes]) -> EngineUsers:
    """The users of an engine, read from ACL LIST. One whose rules are none that are written here has them as `altered`."""
    return _seen(tuple(lines))


@lru_cache(maxsize=256)  # two looks at an engine show the same list, and so do its database's engines
def _seen(lines: tuple[bytes, ...]) -> EngineUsers:
    present = _words_by_name(lines)
    everybody = present.pop(DEFAULT, [])
    users = [_user(name, words) for name, words in present.items()]
    if everybody not in (list(_EVERYBODY), list(_NOBODY)):
        users.append(EngineUser(DEFAULT, (), altered=" ".join(everybody)))
    return EngineUsers(everybody == list(_EVERYBODY), tuple(sorted(users, key=lambda user: user.name)))


def _user(name: str, words: list[str]) -> EngineUser:
    passwords = tuple(sorted(word[1:] for word in words if word[:1] == "#"))
    keys = tuple(word[1:] for word in words if word[:1] == "~")
    if words == list(_words(monitor := EngineUser(name, passwords, monitor=True))):
        return monitor
    if words == list(_words(importing := EngineUser(name, passwords, importing=True))):
        return importing
    for read_only in (False, True):
        for scripting in (True, False):
            user = EngineUser(name, passwords, read_only=read_only, keys=() if keys == ("*",) else keys, scripting=scripting)
            if words == list(_words(user)):
                return user
    return EngineUser(name, passwords, altered=" ".join(words))


def _words_by_name(lines: Iterable[bytes]) -> dict[str, list[str]]:
    """The rules of each client's user. The order of passwords means nothing, so they are sorted."""
    split = (line.decode("utf-8", "surrogateescape").split(" ") for line in lines)
    return {words[1]: _sorted(words[2:]) for words in split if len(words) > 1 and words[1] not in OWN}


def _sorted(words: list[str]) -> list[str]:
    passwords = sorted(word for word in words if word[:1] == "#")
    rest = [word for word in words if word[:1] != "#"]
    return rest[:1] + passwords + rest[1:]


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
