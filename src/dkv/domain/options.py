"""Domain: what people wrote as options of a database (database_options.py), and what the domain makes of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from dkv import spelling
from dkv.database_options import FSYNC, NEVER, OF_NUODB, OPTIONS, TABLE, Effect, Option
from dkv.domain.decision import Refused
from dkv.domain.model import Database, DatabaseOptions, Process, ProcessState, RunsWith, State
from dkv.domain.refusals import no
from dkv.hints import Hint, action, hint

PASSED_ON = ("maxmemory-policy", "notify-keyspace-events", "max-clients")
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
    for option in TABLE:
        if option.name in after and after[option.name] != before.get(option.name):
            value = option.read(after[option.name])
            if value is None:
                return _not_allowed(option, repr(after[option.name]))
            changes[option.field] = value
        elif option.name in before and option.name not in after:
            changes[option.field] = option.default
    return replace(options, **changes)  # type: ignore[arg-type]


def _not_allowed(option: Option, value: str) -> Refused:
    allowed = option.allowed()
    return no("bad_value", f"The option {option.name} is {value}.", f"It is {allowed}.")


def bad_values(options: DatabaseOptions) -> Refused | None:
    """The first option with a value that it may not have."""
    for option in TABLE:
        value = getattr(options, option.field)
        if not option.allows(value):
            return _not_allowed(option, repr(value))
    return too_many_in_sync(options)


def too_many_in_sync(options: DatabaseOptions) -> Refused | None:
    """Why no write could be taken: more copies must have it than there are to be."""
    if options.min_in_sync <= max(1, options.replication_factor):
        return None
    return no(
        "bad_value",
        f"min-in-sync {options.min_in_sync} is more than the {options.replication_factor} copies of replication-factor.",
        "Lower it, or raise that one too.",
    )


def known(name: str) -> bool:
    """Whether there is such an option; NuoDB's own are, although they are ignored."""
    return name in OPTIONS or name in OF_NUODB


def no_option(name: str) -> Refused:
    """There is no such option: why there is none, what was meant, or all there are."""
    why, meant = NEVER.get(name, ""), spelling.nearest(name, OPTIONS, f"Options: {', '.join(sorted(OPTIONS))}.")
    return no("unknown_option", f"There is no option {name}.", why or meant)


def for_one_process(database: Database, options: Iterable[tuple[str, str]]) -> Refused | None:
    """Options of one process: those its database has, as a captured process names them, and NuoDB's own."""
    of_database = dict(database.default_options)
    for name, value in options:
        if name in OF_NUODB or of_database.get(name) == value:
            continue
        if name not in OPTIONS:
            return no_option(name)
        return no(
            "unknown_option",
            f"{name} is an option of the whole database {database.name}, not of one process.",
            "Set it there: ",
            action("setOption", store=database.name, option=name, value=value),
            ".",
        )
    return None


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
    if process.runs.append_fsync not in ("", options.append_fsync):
        lagging.append(Lag("append-fsync", process.runs.append_fsync, options.append_fsync))
    if options.max_memory and process.runs.max_memory != options.max_memory:
        lagging.append(Lag("max-memory", str(process.runs.max_memory or "its share"), str(options.max_memory)))
    elif process.runs.max_memory and not options.max_memory:
        lagging.append(Lag("max-memory", str(process.runs.max_memory), "its share", renews=True))
    runs, wanted = passed_on(process.runs), passed_on(options)
    return lagging + [Lag(name, _shown(runs[name]), _shown(wanted[name])) for name in wanted if runs[name] != wanted[name]]


def passed_on(options: DatabaseOptions | RunsWith) -> dict[str, str | int]:
    """The options, by name, that engines are given as they are; max-clients 0 is as many as their memory allows."""
    return {name: getattr(options, OPTIONS[name].field) for name in PASSED_ON}


def _shown(value: str | int) -> str:
    return str(value) if value != "" else "none"


def fsync_in_force(state: State, database: Database) -> str:
    """What an acknowledged write can rely on now: the weakest of what is wanted and what runs."""
    runs = [p.runs.append_fsync for p in state.processes_of(database.name) if p.runs.append_fsync]
    return max((database.options.append_fsync, *runs), key=FSYNC.index)


def effects(database: Database, changed: Iterable[str]) -> Iterator[tuple[str, str, Hint]]:
    """For each option that was changed what comes of it, in words, and what helps where it is not in effect."""
    for name in changed:
        yield name, *_effect(database, name)


def _effect(database: Database, name: str) -> tuple[str, Hint]:
    if name in OF_NUODB:
        return f"an option of NuoDB, kept as it was written and ignored: {OF_NUODB[name]}", Hint()
    if name not in OPTIONS:
        return "it had no effect", Hint()
    option = OPTIONS[name]
    effect = option.effect_of(getattr(database.options, option.field))
    return effect.when, _left_to_do(effect, database)


def _left_to_do(effect: Effect, database: Database) -> Hint:
    return hint(effect.hint, action(effect.action, store=database.name), ".") if effect.action else Hint()
