"""Recovery: reads what is left under the managers' data directories, and judges nothing.

Who an archive is stands in its identity.json, how far it got in its append-only files, its ports in valkey.conf, its
group's slots in nodes.conf, the engines' password in what a run wrote down (engine/supervisor.py).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dkv import files
from dkv.address import is_loopback
from dkv.constants import MANAGER_LOCK, MANAGER_PORT, NUODB_PORT
from dkv.data_dir import SERVER, running_manager
from dkv.database_options import OPTIONS
from dkv.domain.access import DatabaseUser
from dkv.domain.model import DatabaseOptions, PositionReport, Server
from dkv.domain.rebuild import Finds, FoundArchive, NodesFile
from dkv.engine.archive import LOCK_FILE, IdentityFile, lock_holder, read_identity, take_lock
from dkv.engine.config import SLOTS_NOTE, client_limits
from dkv.engine.contract import ArchiveRefused, EngineUser, EngineUsers
from dkv.engine.positions import read_position
from dkv.engine.supervisor import Record, read_run
from dkv.engine.users import users_seen
from dkv.machine.observation import node_id
from dkv.recovery.backup import RecoveryError

LAID_ASIDE = ".deleted-"
LOCK_WITHIN = 2.0  # s an engine that was just killed has to let go of its archive
PHANTOM_PORTS = 1024  # a made-up primary is at 127.0.0.1 and a port below (engine/config.py)


@dataclass(frozen=True)
class Home:
    """One manager's data directory."""

    path: Path
    server: Server
    runs: tuple[Record, ...]


def find(data_dirs: Sequence[Path]) -> Finds:
    """Everything under these directories. Raises RecoveryError if something there still runs or is not a manager's."""
    homes = [_home(path.absolute()) for path in dict.fromkeys(data_dirs)]
    places = [(home, place) for home in homes for place in _places(home)]
    _refuse_running([place for _, place in places if LAID_ASIDE not in place.name and _identity(place)])
    archives = [archive for home, place in places if LAID_ASIDE not in place.name and (archive := _archive(home, place))]
    aside = [identity.identity.archive_id for _, place in places if LAID_ASIDE in place.name and (identity := _identity(place))]
    users = users_of(archives)
    archives = with_newest_options(archives)
    return Finds(
        servers=tuple(home.server for home in homes),
        archives=tuple(sorted(archives, key=lambda a: a.archive_id)),
        deleted=tuple(aside),
        start_ids=tuple(sorted({run.start_id for home in homes for run in home.runs})),
        users=tuple(_user(name, user) for name, seen in users.items() for user in seen.users if not user.altered),
        closed=tuple(name for name, seen in users.items() if not seen.open),
    )


# Data directories ----------------------------------------------------------------------------------------------------


def _home(path: Path) -> Home:
    if not (path / SERVER).exists():
        raise RecoveryError(f"{path} is not a manager's data directory: it has no {SERVER}.", "See dkv manager run --data-dir.")
    running = running_manager(path)
    if running is not None:
        raise RecoveryError(
            f"Manager {running.get('serverId', '?')} (pid {running.get('pid', '?')}) runs on {path}.",
            f"Stop it first: dkv manager stop --data-dir {path}.",
        )
    known, last = _json(path / SERVER), _json(path / MANAGER_LOCK)
    runs = [run.record for entry in _entries(path / "run") if entry.name.isdigit() and (run := read_run(entry))]
    try:
        server = Server(
            str(known["serverId"]),
            str(known["uid"]),
            str(last.get("bind", "127.0.0.1")),
            int(last.get("port", MANAGER_PORT)),
            NUODB_PORT,
            "",
            alive=False,
        )
    except (KeyError, ValueError, TypeError) as error:
        raise RecoveryError(f"{path / SERVER} has no usable server id and uid.", "Put a good copy of the file back.") from error
    return Home(path, server, tuple(sorted(runs, key=lambda run: run.start_id)))


def _places(home: Home) -> list[Path]:
    """Directories that may be archives: where managers put them, and wherever an engine of theirs ran."""
    usual = [place for store in _entries(home.path / "archives") for place in _entries(store)]
    others = [Path(run.directory) for run in home.runs if not run.memory_only]
    return sorted({place for place in (*usual, *others) if place.is_dir()})


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecoveryError(f"{folder} cannot be read: {error.strerror}.", "Run as the managers' user.") from error


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(files.read_text(file) or "{}")
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


# Archives ------------------------------------------------------------------------------------------------------------


def _identity(place: Path) -> IdentityFile | None:
    try:
        return read_identity(str(place))
    except ArchiveRefused as refused:
        raise RecoveryError(f"{refused.detail}.", "Mend that, or move the directory away.") from refused


def _archive(home: Home, place: Path) -> FoundArchive | None:
    identity_file = _identity(place)
    if identity_file is None:
        return None
    identity, server = identity_file.identity, home.server
    usual = home.path / "archives" / identity.database
    ours = place.parent == usual and place.name.endswith(f"-{identity.archive_id}")
    report, trouble = _report(place)
    conf, nodes = _settings(place), _Nodes(_text(place / "nodes.conf"))
    noted = tuple(_ranges(conf[SLOTS_NOTE].split()))
    me = node_id(identity.domain_uid, identity.archive_id)
    secrets = [run.secret for run in home.runs if run.directory == str(place)]
    return FoundArchive(
        directory=str(place),
        server_id=server.server_id,
        path="" if ours else str(place),
        name=place.name.removesuffix(f"-{identity.archive_id}") if ours else f"{identity.database}-{identity.archive_id}",
        domain_uid=identity.domain_uid,
        archive_id=identity.archive_id,
        database=identity.database,
        database_uid=identity.incarnation_of_name,
        group=identity.group,
        initialised=identity_file.initialised,
        report=report,
        trouble=trouble,
        cluster_port=_number(conf, "cluster-port"),
        client_port=_number(conf, "cluster-announce-port") or _number(conf, "cluster-announce-tls-port"),
        options=_options(conf, server.host),
        slots=nodes.slots or noted,
        secret=secrets[-1] if secrets else "",
        node_id=me,
        nodes=NodesFile(shard_id=nodes.shard, epoch=nodes.epoch, led=nodes.led, peers=tuple(nodes.peers())),
    )


def users_of(archives: Iterable[FoundArchive]) -> dict[str, EngineUsers]:
    """Whom the engines of each database let in: the users that the archive with the newest position has, of equals the one whose
    file is the newest. A database that was closed on any archive is closed: an older file opens nothing.
    """
    files_of = [(archive, Path(archive.directory) / "users.acl") for archive in archives]
    written = [(archive, file) for archive, file in files_of if _text(file)]
    written.sort(key=lambda pair: (pair[0].order, pair[1].stat().st_mtime_ns))
    users: dict[str, EngineUsers] = {}
    for archive, file in written:
        seen, older = users_seen(_text(file).encode().splitlines()), users.get(archive.database)
        users[archive.database] = replace(seen, open=seen.open and (older is None or older.open))
    return users


def with_newest_options(archives: Sequence[FoundArchive]) -> list[FoundArchive]:
    """Each with the options of its database: those of the archive with the newest position, of equals the one whose file is the
    newest. A copy that was away when an option was set has an older one.
    """
    newest: dict[str, tuple[Any, DatabaseOptions]] = {}
    for archive in archives:
        conf = Path(archive.directory) / "valkey.conf"
        place = archive.order, conf.stat().st_mtime_ns if conf.exists() else 0
        if archive.database not in newest or place > newest[archive.database][0]:
            newest[archive.database] = place, archive.options
    return [replace(archive, options=newest[archive.database][1]) for archive in archives]


def _user(database: str, user: EngineUser) -> DatabaseUser:
    limits = {
        "read_only": user.read_only,
        "keys": user.keys,
        "scripting": user.scripting,
        "monitor": user.monitor,
        "importing": user.importing,
    }
    return DatabaseUser(database, user.name, user.passwords, **limits)  # type: ignore[arg-type]


def _options(conf: dict[str, str], host: str) -> DatabaseOptions:
    """The options that its engine was given last, but for its memory: that may have been the database's, or a share."""
    tls = conf.get("tls-cluster") == "yes"
    insecure = not tls and not is_loopback(host)
    by_memory = client_limits(_number(conf, "maxmemory"))["maxclients"]
    return DatabaseOptions(
        append_fsync=conf.get("appendfsync", "always"),
        engine_tls="on" if tls else "auto",
        insecure_engine_traffic="yes" if insecure else "no",
        maxmemory_policy=_allowed("maxmemory-policy", conf.get("maxmemory-policy", "")),
        notify_keyspace_events=_allowed("notify-keyspace-events", conf.get("notify-keyspace-events", "").strip('"')),
        max_clients=_allowed("max-clients", conf.get("maxclients", "") if conf.get("maxclients") != by_memory else ""),
    )


def _allowed(name: str, text: str) -> Any:
    """What a file says of an option; its default, if that is none that it may have."""
    option = OPTIONS[name]
    value = option.read(text)
    return option.default if value is None else value


def _refuse_running(places: Sequence[Path]) -> None:
    """Name every engine that still runs, at once, so that one command can end them all. Raises RecoveryError."""
    ends = time.monotonic() + LOCK_WITHIN
    pids = {place: pid for place in places if (pid := _holder(place, ends))}
    if pids:
        sentence = "; ".join(f"the engine on {place} still runs as pid {pid}" for place, pid in pids.items())
        raise RecoveryError(
            f"{sentence[:1].upper()}{sentence[1:]}.", f"End it: kill {' '.join(pids.values())}. What was acknowledged is on disk."
        )


def _holder(place: Path, ends: float) -> str:
    """The process that still holds an archive's lock at `ends` (monotonic, s); "" when none does."""
    if not (place / LOCK_FILE).exists():
        return ""  # nothing was ever started here, and taking the lock would make the file
    while (lock := _lock(place)) is None:
        if time.monotonic() >= ends:
            return lock_holder(str(place))
        time.sleep(0.05)
    os.close(lock)
    return ""


def _lock(place: Path) -> int | None:
    try:
        return take_lock(str(place))
    except ArchiveRefused as refused:
        raise RecoveryError(f"{refused.detail}.", "Mend that, or run this as the managers' user.") from refused


def _report(place: Path) -> tuple[PositionReport | None, str]:
    try:
        position = read_position(str(place))
    except ArchiveRefused as refused:
        return None, str(refused)
    return PositionReport(
        position.term, position.sequence, position.nonce, position.bytes_after, dataless_bytes=position.dataless_bytes
    ), ""


def _text(file: Path) -> str:
    try:
        return files.read_text(file, errors="replace")
    except OSError:
        return ""


def _settings(place: Path) -> dict[str, str]:
    """The one-word settings of valkey.conf, and the slots that are noted there."""
    lines = _text(place / "valkey.conf").splitlines()
    words = (line.split() for line in lines)
    noted = next((line.removeprefix(SLOTS_NOTE) for line in lines if line.startswith(SLOTS_NOTE)), "")
    return {pair[0]: pair[1] for pair in words if len(pair) == 2} | {SLOTS_NOTE: noted}


def _number(conf: dict[str, str], name: str) -> int:
    return int(conf[name]) if conf.get(name, "").isdecimal() else 0


class _Nodes:
    """One engine's nodes.conf, whose lines are those of CLUSTER NODES."""

    def __init__(self, text: str) -> None:
        self._lines = [words for line in text.splitlines() if len(words := line.split()) >= 8 and words[0] != "vars"]
        mine = next((words for words in self._lines if "myself" in words[2].split(",")), None)
        epoch = re.search(r"currentEpoch (\d+)", text)
        self.epoch = int(epoch.group(1)) if epoch else 0
        self.led = mine is not None and "master" in mine[2].split(",")
        self.shard = _shard(mine) if mine else ""
        owners = [words for words in self._lines if self.shard and _shard(words) == self.shard]
        self.slots = tuple(sorted(pair for words in owners for pair in _ranges(words[8:])))

    def peers(self) -> Iterator[tuple[str, str]]:
        """Node id and address of every other engine that is not made up."""
        for words in self._lines:
            address = words[1].partition("@")[0]
            port = address.rpartition(":")[2]
            made_up = address.startswith("127.0.0.1:") and port.isdecimal() and int(port) < PHANTOM_PORTS
            if "myself" not in words[2].split(",") and not made_up:
                yield words[0], address


def _shard(words: Sequence[str]) -> str:
    match = re.search(r"shard-id=([0-9a-f]{40})", words[1])
    return match.group(1) if match else ""


def _ranges(words: Iterable[str]) -> Iterator[tuple[int, int]]:
    for word in words:
        if match := re.fullmatch(r"(\d+)(?:-(\d+))?", word):
            yield int(match.group(1)), int(match.group(2) or match.group(1))
