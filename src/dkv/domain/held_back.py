"""Domain: processes that are requested again and held back, because those before them ended before they ran. Pure.

The first end is repaired at once. After the next ones the process waits, longer each time: a little until its database's budget
of quick restarts is spent, then 10 s to 5 min. Where something was missing that its manager can look for it waits until that is
there again, and the budget does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.model import Archive, DatabaseOptions, Process, Rest

LONGEST = 300_000  # ms between two tries
SHORTEST = 1_000  # ms between two tries while something is missing, doubled each time
SPENT = 10_000  # ms between two tries once the budget is spent, doubled each time
QUICK = 15_000  # ms: a share of it is the wait between two tries within the budget where no process ever ran


@dataclass(frozen=True)
class Lack:
    """What a process could not do without. It waits for `waits_for`, `again`: when that is over, `hint`: what a person can do."""

    waits_for: str
    again: str
    hint: str
    seen: bool = True  # whether its manager can look for it


LACKS: dict[str, Lack] = {
    "disk full": Lack(
        "room on the disk of {server}",
        "the disk has room again",
        "Make room on the disk of {server} that holds {path} or the manager's data",
    ),
    "disk error": Lack(
        "the disk of {server}", "the disk can be written again", "Repair or remount the disk of {server} that holds {path}"
    ),
    "port taken": Lack(
        "ports {ports} of {server}", "the ports are free again", "End the program that listens on port {ports} of {server}"
    ),
    "directory not usable": Lack(
        "a directory on {server}",
        "the directory can be used again",
        "Give the directory {path} on {server} back to the manager's user",
    ),
    "archive identity missing": Lack(
        "the files of {name} on {server}", "the files are there again", "Mount or restore {path} on {server}"
    ),
    "archive in use": Lack(
        "the lock of {name} on {server}", "the lock is free again", "End the process that holds {path}/LOCK on {server}"
    ),
    "no valkey-server binary": Lack("a valkey-server on {server}", "it is installed", "Install Valkey 9.1 on {server}"),
    "out of memory": Lack("memory of {server}", "", "Give {server} more memory, or its databases less (max-memory)", seen=False),
}
"""By the cause of an end, in the words of the engine contract's Cause."""


def rest_of(process: Process | None) -> Rest | None:
    """What holds a requested process back, or None."""
    return process.rest if process is not None and process.rest is not None and not process.rest.over else None


def next_rest(options: DatabaseOptions, ended: Process, cause: str, detail: str, now: int) -> Rest:
    """How the process after that one is to wait; `over` where it is not. `now` is in wall-clock ms."""
    tries = ended.rest.tries + 1 if ended.rest else 1
    lacks = cause if cause in LACKS else ""
    budget, crashes = max(1, options.restart_budget), (ended.rest.crashes if ended.rest else 0) + (not lacks)
    spent = not lacks and crashes >= budget
    if lacks:
        lacked = tries - crashes
        delay = 0 if lacked == 1 else SHORTEST << min(lacked - 2, 20)
    else:
        delay = SPENT << min(crashes - budget, 20) if spent else _within_budget(budget, crashes, ended.running_at > 0)
    delay = min(delay, LONGEST)
    since = ended.rest.since if ended.rest else now
    return Rest(tries, since, lacks, detail, delay, now + delay, over=delay == 0, crashes=crashes, spent=spent)


def _within_budget(budget: int, crashes: int, ran: bool) -> int:
    """ms. What never ran is not tried again within a blink; what ran is started at once, because clients wait for it."""
    return 0 if ran else QUICK // budget * (crashes - 1)


def is_uncertain(process: Process | None) -> bool:
    """Whether it is held back without anybody knowing when it will answer: nobody waits for it where another copy can serve."""
    rest = rest_of(process)
    return rest is not None and (bool(rest.lacks) or rest.spent)


def next_begin(rest: Rest) -> str:
    """The clause that says so in an event."""
    again = LACKS[rest.lacks].again if rest.lacks else ""
    sooner = f", or as soon as {again}" if again else ""
    return f"it starts in {rest.delay / 1000:g} s{sooner}"


def why_held_back(rest: Rest) -> str:
    """The clause that says so to a person: what happened, how often, and when the next try is."""
    lack = LACKS.get(rest.lacks)
    sooner = f", or as soon as {lack.again}" if lack and lack.again else ""
    ended = f"its last {rest.tries} processes ended before or soon after they ran: {rest.detail}"
    return f"{ended}; the next one starts at {_time(rest.next_at)}{sooner}"


def _time(at: int) -> str:
    """The time of day of a wall clock in ms, e.g. `16:05:24Z`."""
    seconds = at // 1000 % 86_400
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z"


def lack_of(archive: Archive, path: str, rest: Rest) -> Lack | None:
    """What it waits for, in words about that archive."""
    lack = LACKS.get(rest.lacks)
    if lack is None:
        return None
    ports = f"{archive.client_port} or {archive.cluster_port}"
    about = {"server": archive.server_id, "path": path, "name": archive.name, "ports": ports}
    return Lack(lack.waits_for.format(**about), lack.again, lack.hint.format(**about), lack.seen)
