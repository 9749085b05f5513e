"""CLI: `dkv service install` and `dkv service remove`: the manager as a service of systemd, which starts it at every boot.

The unit ends and restarts the manager alone (KillMode=process): engines are meant to outlive it.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE, CliError
from dkv.cli.programs import SETTINGS, check_settings, refuse_elsewhere
from dkv.cli.session import Session
from dkv.user_dirs import config_dir, data_dir

NAME = "dkv-manager.service"
SYSTEM_DIRECTORY = "/etc/systemd/system"
SYSTEM_DATA = "/var/lib/dkv"
SYSTEM_CONFIG = "/etc/dkv/dkv.toml"
HEAD = "# Made by `dkv service install`, which writes it anew; `systemctl edit dkv-manager` adds to it."
JOINING = ("--join", "--token-file")

COMMON = """\
Type=notify
NotifyAccess=main
# Labels are read again; the log says which other settings wait for a restart.
ExecReload=/bin/kill -HUP $MAINPID
# Engines outlive their manager: only the manager is ended, also where the kernel ended an engine for want of memory.
KillMode=process
OOMPolicy=continue
# It ends with 0 only when it was asked to, and with 2 only where it was started wrongly.
Restart=on-failure
RestartSec=1
RestartPreventExitStatus=2
TimeoutStartSec=infinity
TimeoutStopSec=30
WatchdogSec=60
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
"""
SYSTEM_ONLY = """\
# Not ProtectKernelLogs: an engine that the kernel ended for want of memory is recognised by the kernel's log.
LimitNOFILE=1048576
TasksMax=infinity
CapabilityBoundingSet=
ProtectSystem=full
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
"""


def install(session: Session, bound: Bound) -> int:
    """Write the unit, enable and start it; or print it."""
    refuse_elsewhere()
    check_settings(bound)
    text = unit(bound, program())
    if bound["--print"]:
        session.screen.block(text)
        return DONE
    _refuse_without_systemd(bound["--user"])
    if not bound["--user"]:
        refuse_user(bound["--run-as"], program())
    path = unit_path(session, bound["--user"])
    _refuse_foreign(path)
    _write(path, text)
    _systemctl(bound["--user"], "daemon-reload")
    _systemctl(bound["--user"], "enable", NAME)
    _systemctl(bound["--user"], "restart", NAME)
    _keep_domain(session, bound, path)
    for line in _installed(path, bound["--user"]):
        session.screen.line(line)
    return DONE


def remove(session: Session, bound: Bound) -> int:
    """Stop the manager, and forget the unit. Engines and data stay."""
    path = unit_path(session, bound["--user"])
    if not os.path.exists(path):
        raise CliError(f"There is no service {path}.", "With --user it is your own; without, that of the machine.")
    _refuse_without_systemd(bound["--user"])
    _refuse_foreign(path)
    _systemctl(bound["--user"], "disable", "--now", NAME)
    os.remove(path)
    _systemctl(bound["--user"], "daemon-reload")
    session.screen.line(f"Removed: {path}. The manager has ended; its engines go on, and all data stay.")
    return DONE


def _keep_domain(session: Session, bound: Bound, path: str) -> None:
    """Write into the unit which domain the manager, which serves by now, is in: with an empty data directory it founds none."""
    if domain := domain_in(bound["--data-dir"] or (data_dir(session.environ) if bound["--user"] else SYSTEM_DATA)):
        _write(path, unit(bound | {"--domain": domain}, program()))
        _systemctl(bound["--user"], "daemon-reload")


def domain_in(data: str) -> str:
    """The uid of the domain that the server of a data directory is in; "" where that cannot be told."""
    try:
        with open(os.path.join(data, "server.json"), encoding="utf-8") as file:
            domain = str(json.load(file).get("domain", ""))
    except (OSError, ValueError, AttributeError):
        return ""
    return domain if re.fullmatch(r"[0-9A-Za-z-]{1,100}", domain) else ""


# The unit ------------------------------------------------------------------------------------------------------------


def unit(bound: Bound, command: Sequence[str]) -> str:
    """The text of the unit: the manager with the settings that were given, and nothing of this shell's environment."""
    return "\n".join(_lines(bound, command)) + "\n"


def _lines(bound: Bound, command: Sequence[str]) -> Iterator[str]:
    own = bound["--user"]
    data = bound["--data-dir"] or ("" if own else SYSTEM_DATA)
    yield from (HEAD, "[Unit]", "Description=dkv manager", "StartLimitIntervalSec=0")
    if not own:
        yield from ("Wants=network-online.target", "After=network-online.target")
    yield from ("", "[Service]", f"ExecStart={' '.join(map(quoted, [*command, 'manager', 'run', *_options(bound, data)]))}")
    if not own:
        yield f"User={bound['--run-as']}"
        if data == SYSTEM_DATA:
            yield from ("StateDirectory=dkv", "StateDirectoryMode=0700")
    yield from COMMON.splitlines()
    if not own:
        yield from SYSTEM_ONLY.splitlines()
    yield from ("", "[Install]", f"WantedBy={'default.target' if own else 'multi-user.target'}")


def _options(bound: Bound, data: str) -> Iterator[str]:
    """As they were given; paths whole, because a service has another directory."""
    config = bound["--config"] or (SYSTEM_CONFIG if not bound["--user"] and os.path.exists(SYSTEM_CONFIG) else None)
    values = {**{name: bound[name] for name in (*(param.name for param in SETTINGS), *JOINING)}, "--config": config}
    values["--data-dir"] = data
    for name, value in values.items():
        if value:
            yield from (name, os.path.abspath(value) if name in ("--config", "--data-dir", "--token-file") else value)


def quoted(word: str) -> str:
    """A word as ExecStart reads it."""
    plain = word.replace("%", "%%").replace("$", "$$")
    if re.fullmatch(r"[A-Za-z0-9_@/:.,=+%$-]+", plain):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def program() -> list[str]:
    """How this very dkv is started."""
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.executable)), "dkv")
    return [beside] if os.access(beside, os.X_OK) else [os.path.abspath(sys.executable), "-m", "dkv.cli.main"]


# What has to be there --------------------------------------------------------------------------------------------------


def unit_path(session: Session, own: bool) -> str:
    """Where the unit is kept, of this user or of the machine."""
    directory = os.path.join(os.path.dirname(config_dir(session.environ)), "systemd", "user") if own else SYSTEM_DIRECTORY
    return os.path.join(directory, NAME)


def _refuse_without_systemd(own: bool) -> None:
    if not os.path.isdir("/run/systemd/system") or shutil.which("systemctl") is None:
        raise CliError(
            "This machine is not run by systemd.",
            "dkv service install --print prints the unit, as a pattern for another service manager: it has to run dkv manager "
            "run, to restart it, and to leave its child processes alone.",
        )
    if not own and os.geteuid() != 0:
        raise CliError(
            "Only root installs a service of the machine.", "sudo dkv service install; or with --user one of your own."
        )


def refuse_user(name: str, command: Sequence[str]) -> None:
    """The service's user has to exist, and to be able to run this program. Raises CliError."""
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        add = f"useradd --system --home-dir {SYSTEM_DATA} --shell /usr/sbin/nologin {name}"
        raise CliError(f"There is no user {name} whose the manager could be.", f"{add}; or name another with --run-as.") from None
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    closed = next((path for path in _on_the_way(command[0]) if not _may_enter(os.stat(path), user.pw_uid, groups)), None)
    if closed:
        raise CliError(
            f"The user {name} cannot run {command[0]}: {closed} is closed to it.",
            "Install dkv where every user can run it, such as a virtual environment below /opt; or name another user: --run-as.",
        )


def _on_the_way(path: str) -> Iterator[str]:
    """A file with its links followed, and the directories that lead to it."""
    path = os.path.realpath(path)
    while path != os.path.dirname(path):
        yield path
        path = os.path.dirname(path)


def _may_enter(stat: os.stat_result, uid: int, groups: Sequence[int]) -> bool:
    if uid == 0:
        return True
    bit = 0o100 if stat.st_uid == uid else 0o010 if stat.st_gid in groups else 0o001
    return bool(stat.st_mode & bit)


def _refuse_foreign(path: str) -> None:
    """What somebody else wrote is not overwritten. Raises CliError."""
    try:
        with open(path, encoding="utf-8") as file:
            first = file.readline().rstrip("\n")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path} cannot be read: {error}.", "Look at what it is.") from error
    if first != HEAD:
        raise CliError(f"{path} was not made by dkv service install.", "Move it away first, and disable its service.")


def _write(path: str, text: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}.", "dkv service install --print prints the unit.") from error


def _systemctl(own: bool, *words: str) -> None:
    command = ["systemctl", *(["--user"] if own else []), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        said = " ".join((ended.stderr or ended.stdout).split()) or f"exit code {ended.returncode}"
        raise CliError(f"{' '.join(command)} failed: {said}.", f"journalctl {'--user ' if own else ''}-u {NAME} says more.")


def _installed(path: str, own: bool) -> Iterator[str]:
    of_user = " --user" if own else ""
    yield f"Installed: {path}. The manager runs, and starts at every {'log-in' if own else 'boot'}."
    if own:
        yield "It ends when you log out, unless: loginctl enable-linger"
    yield f"Look at it:   systemctl{of_user} status dkv-manager; dkv status"
    yield f"Its log:      journalctl{of_user} -u dkv-manager"
    yield f"Stop it:      systemctl{of_user} stop dkv-manager (its engines go on)"
