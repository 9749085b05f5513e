"""Domain: the options of a database by the names people write, and what the domain makes of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from dkv import spelling
from dkv.domain.decision import Refused
from dkv.domain.model import Database, DatabaseOptions, Process, ProcessState, State
from dkv.domain.refusals import no
from dkv.hints import Hint, action, hint

LARGEST = 2**53
MEANT: dict[str, str] = {
    "replication-factor": "replication_factor",
    "min-in-sync": "min_in_sync",
    "append-fsync": "append_fsync",
    "max-memory": "max_memory",
    "leader-assignment-timeout": "leader_assignment_timeout",
    "failover-grace": "failover_grace",
    "failover-limit": "failover_limit",
    "restart-budget": "restart_budget",
    "restart-window": "restart_window",
    "tail-above": "tail_above",
    "script-limit": "script_limit",
}
"""Option -> field of DatabaseOptions. Times are in ms, memory in bytes."""

OF_NUODB: dict[str, str] = {
    "mem": "max-memory sets the memory of engines",
    "commit": "append-fsync and min-in-sync say when a write is safe",
    "journal-dir": "an archive has its log in its own directory",
    "journal-max-directory-entries": "an archive has no journal",
    "journal-max-file-size-bytes": "an archive has no journal",
    "journal-single-file": "an archive has no journal",
    "journal-sync-method": "append-fsync says when writes reach the disk",
    "max-lost-archives": "min-in-sync says how many copies a write must reach",
    "ping-timeout": "failover-grace says how long a leader may be silent",
    "verbose": "engines log what Valkey logs",
}
"""Options of NuoDB's own engines -> what is done here instead. They are kept as they were written, so that what was written for
NuoDB runs; the answer says that it is ignored."""

NEVER = {
    "maxmemory-policy": "Engines always run with noeviction: one that is full refuses writes and drops no key.",
    "ext-start": "Every process is started by a manager.",
}
"""Why there is no such option, where one might be expected."""

FSYNC = ("always", "everysec", "no")
"""The strongest first."""

LEAST = {"min_in_sync": 1, "replication_factor": 1, "tail_above": -1}  # -1: never
LEAST_SCRIPT_LIMIT = 10_000
"""ms; an engine's busy-reply-threshold (engine/config.py)."""

LEAST_MEMORY = 16 << 20
"""Bytes an engine needs for itself: with less it would refuse every write, its manager's markers too."""

MOST_OPTIONS = 100
MOST_LETTERS = 1000  # of a name and its value


def merged(
    present: Iterable[tuple[str, str]], changes: Iterable[tuple[str, str]], replace_all: bool
) -> tuple[tuple[str, str], ...]:
    """The options a database has after these were set, by name."""
    return tuple(sorted({**({} if replace_all else dict(present)), **dict(changes)}.items()))


def applied(options: DatabaseOptions, before: Mapping[str, str], after: Mapping[str, str]) -> DatabaseOptions | Refused:
    """What the domain goes by when `before` became `after`: a meant option that was unset gets its default again."""
    if len(after) > MOST_OPTIONS or any(len(name) + len(value) > MOST_LETTERS for name, value in after.items()):
        return no(
            "bad_value",
            f"There are {len(after)} options.",
            f"At most {MOST_OPTIONS} are kept, each of at most {MOST_LETTERS} characters with its name.",
        )
    unknown = next((name for name in after if after[name] != before.get(name) and not known(name)), None)
    if unknown is not None:
        return no_option(unknown)
    changes: dict[str, int | str] = {}
    for name, field in MEANT.items():
        if name in after and after.get(name) != before.get(name):
            value = _read(name, field, after[name])
            if isinstance(value, Refused):
                return value
            changes[field] = value
        elif name in before and name not in after:
            changes[field] = getattr(DatabaseOptions(), field)
    return replace(options, **changes)  # type: ignore[arg-type]


def known(name: str) -> bool:
    """Whether there is such an option; NuoDB's own are, although they are ignored."""
    return name in MEANT or name in OF_NUODB


def no_option(name: str) -> Refused:
    """There is no such option: why there is none, what was meant, or all there are."""
    why, meant = NEVER.get(name, ""), spelling.nearest(name, MEANT, f"Options: {', '.join(sorted(MEANT))}.")
    return no("unknown_option", f"There is no option {name}.", why or meant)


def for_one_process(database: Database, options: Iterable[tuple[str, str]]) -> Refused | None:
    """Options of one process: those its database has, as a captured process names them, and NuoDB's own."""
    of_database = dict(database.default_options)
    for name, value in options:
        if name in OF_NUODB or of_database.get(name) == value:
            continue
        if name not in MEANT:
            return no_option(name)
        return no(
            "unknown_option",
            f"{name} is an option of the whole database {database.name}, not of one process.",
            "Set it there: ",
            action("setOption", store=database.name, option=name, value=value),
            ".",
        )
    return None


def _read(name: str, field: str, text: str) -> int | str | Refused:
    if field == "append_fsync":
        if text in FSYNC:
            return text
        return no("bad_value", f"The option {name} is {text!r}.", f"It is one of {', '.join(FSYNC)}.")
    if field == "max_memory":
        return _memory(name, text)
    least = LEAST.get(field, 0)
    digits = text.removeprefix("-") if least < 0 else text
    if not (digits.isascii() and digits.isdigit() and len(text) < 17 and least <= int(text) <= LARGEST):
        return no("bad_value", f"The option {name} is {text!r}.", f"It is a whole number from {least}.")
    if field == "script_limit" and 0 < int(text) < LEAST_SCRIPT_LIMIT:
        hint = f"It is in ms, at least {LEAST_SCRIPT_LIMIT}: an engine reports a busy script only after that. 0 means no limit."
        return no("bad_value", f"The option {name} is {text!r}.", hint)
    return int(text)


def _memory(name: str, text: str) -> int | Refused:
    """Bytes from `1073741824`, `1gb` or `1024M`, in powers of 1024."""
    match = re.fullmatch(r"([0-9]{1,16})([kmgt]?)i?b?", text.lower())
    size = int(match[1]) << 10 * " kmgt".index(match[2] or " ") if match else -1
    if not 0 <= size <= LARGEST:
        return no("bad_value", f"The option {name} is {text!r}.", "It is a number of bytes, such as 536870912 or 512MB.")
    return too_little(size) or size


def too_little(memory: int) -> Refused | None:
    """Why no engine can do with so many bytes; 0 means its share."""
    if memory == 0 or memory >= LEAST_MEMORY:
        return None
    return no(
        "bad_value",
        f"max-memory {memory} is less than an engine needs for itself.",
        f"It is in bytes, from {LEAST_MEMORY}; 0 gives each engine a share of its server's memory.",
    )


# What running engines make of it ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lag:
    """A process runs with an option that is not what its database wants. `renews`: only a restart changes that."""

    option: str
    runs: str
    wanted: str
    renews: bool = False


def lags(database: Database, process: Process) -> list[Lag]:
    """What a process does not have yet. One that is not loaded says nothing: it is started with what is wanted."""
    if process.state not in (ProcessState.TRACKED, ProcessState.MONITORED):
        return []
    options, lagging = database.options, []
    if process.append_fsync not in ("", options.append_fsync):
        lagging.append(Lag("append-fsync", process.append_fsync, options.append_fsync))
    if options.max_memory and process.max_memory != options.max_memory:
        lagging.append(Lag("max-memory", str(process.max_memory or "its share"), str(options.max_memory)))
    elif process.max_memory and not options.max_memory:
        lagging.append(Lag("max-memory", str(process.max_memory), "its share", renews=True))
    return lagging


def fsync_in_force(state: State, database: Database) -> str:
    """What an acknowledged write can rely on now: the weakest of what is wanted and what runs."""
    runs = [p.append_fsync for p in state.processes_of(database.name) if p.append_fsync]
    return max((database.options.append_fsync, *runs), key=FSYNC.index)


def effects(database: Database, changed: Iterable[str]) -> Iterator[tuple[str, str, Hint]]:
    """For each option that was changed what comes of it, in words, and what helps where it is not in effect."""
    for name in changed:
        yield name, *_effect(database, name)


def _effect(database: Database, name: str) -> tuple[str, Hint]:
    if name in OF_NUODB:
        return f"an option of NuoDB, kept as it was written and ignored: {OF_NUODB[name]}", Hint()
    if name not in MEANT:
        return "it had no effect", Hint()
    if name == "replication-factor":
        return "recorded only: copies are added and removed one by one", hint(
            "Add one: ", action("addInstance", store=database.name), "."
        )
    if name == "max-memory" and not database.options.max_memory:
        effect = "every engine that starts gets a share of its server's memory; one that has more keeps it until it is restarted"
        return effect, hint("Restart them: ", action("restartRolling", store=database.name), ".")
    if name in ("append-fsync", "max-memory"):
        return "set on every running engine at once, and on every one that starts later", Hint()
    return "in effect at once", Hint()
