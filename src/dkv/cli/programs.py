"""CLI: programs beside the domain: the manager, the playground, the shell, and the state on disk, copied and put back.

What a program is made of is imported by name when it runs: the manager is the composition root, and no package may depend
on it.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, CliError, Usage
from dkv.cli.nouns.common import DB_NAME, MANAGERS, OUTPUT, native, only_one
from dkv.cli.session import Session
from dkv.client.credentials import read_token
from dkv.constants import MANAGER_PORT, NUODB_PORT
from dkv.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = (
    Param("--config", "setting", "the TOML file of settings; default: dkv/dkv.toml in the user's configuration directory"),
    Param("--server-id", "setting", "the id of this server in the domain; default: the host's name"),
    Param("--domain", "setting", "the uid of the domain that this server is in: its manager founds no other"),
    Param("--bind", "setting", "the address to listen on; default: 127.0.0.1"),
    Param("--port", "setting", f"the port of the REST API; default: {MANAGER_PORT}"),
    Param("--nuodb-port", "setting", f"the port of the NuoDB dialect; default: {NUODB_PORT}"),
    Param("--data-dir", "setting", "the directory of archives and logs; default: ~/.local/share/dkv"),
    Param(
        "--state",
        "setting",
        "where the domain state is kept: sqlite:PATH or etcd:https://HOST:PORT,...; default: sqlite:DATA-DIR/domain.sqlite",
    ),
)
FROM_INPUT = "-"
JOIN = Param("--join", "text", "join the domain of the manager at HOST:PORT first, with a join token")
TOKEN_FILE = Param("--token-file", "text", "the file that holds the join token", aliases=("joinfile",))
FILE = Param("--file", "text", "the backup file's path", required=True, position=0)
STATE = Param("--state", "text", "where the new domain state is written: sqlite:PATH", required=True)
YES = Param("--yes", "switch", "write without asking", default=False)

VERBS = (
    Cmdlet(
        "manager run",
        "Runs this machine's manager in the foreground. SIGTERM ends the manager; its engines keep running.",
        "programs:manager_run",
        (
            *SETTINGS,
            JOIN,
            Param("--token", "text", "the join token; - reads it from standard input; default: DKV_JOIN_TOKEN"),
            TOKEN_FILE,
            Param("--peer", "text", "the former name of --join; with it, --join is the token"),
        ),
        alone=True,
    ),
    Cmdlet(
        "manager stop",
        "Stops the manager that runs on a data directory; its engines and its etcd member run on unless the switches say else.",
        "programs:manager_stop",
        (
            Param("--with-engines", "switch", "hand leadership over and stop the engines of this server first", default=False),
            Param("--with-member", "switch", "also end the etcd member of the domain state that this server runs", default=False),
            *SETTINGS,
        ),
        alone=True,
    ),
    Cmdlet(
        "service install",
        "Has systemd run this machine's manager from now on, and at every boot.",
        "service:install",
        (
            Param("--user", "switch", "a service of your own, without root, that starts when you log in", default=False),
            Param("--print", "switch", "print the unit, and change nothing", default=False),
            Param("--run-as", "text", "the user that the manager and its engines run as", default="dkv"),
            *SETTINGS,
            JOIN._replace(aliases=("peer",)),
            TOKEN_FILE._replace(help="the file that holds the join token; that user has to be able to read it"),
        ),
        alone=True,
    ),
    Cmdlet(
        "service remove",
        "Stops the manager and removes its service; engines keep running, and all data stay.",
        "service:remove",
        (Param("--user", "switch", "the service of your own", default=False),),
        alone=True,
    ),
    Cmdlet(
        "playground",
        "Runs a whole domain on this machine, to try it and to break it.",
        "programs:playground",
        (
            Param("--servers", "number", "number of servers", default=2, high=50),
            Param("--instances", "number", "number of nodes of the store on each server", default=1, high=50),
            Param(
                "--replication-factor",
                "number",
                "copies of each key, the leader's included; default: 2, with one server 1",
                high=50,
            ),
            Param("--dir", "text", "the directory of the data; default: a temporary one that is removed at the end"),
            Param(
                "--hosts",
                "number",
                "number of hosts, network namespaces with one server each that joins with a token; only root can make them",
                high=20,
            ),
            Param("--once", "switch", "run the demo and end: kill every process once, then verify every key", default=False),
            Param(
                "--tls", "switch", "have engines speak TLS; the program that valkey_server names has to have it", default=False
            ),
        ),
        alone=True,
    ),
    Cmdlet(
        "login",
        "Keeps a token, or a user's name and password, for the next commands, in a file that only you can read.",
        "login:login",
        (
            Param("--token-file", "text", "the file that holds the token; default: it is typed, or read from standard input"),
            Param("--user", "text", "the user's name; the password is typed, or read from standard input"),
            Param("--ca", "text", "a file with the authority that vouches for managers, such as a copy of authorities.pem"),
            Param("--ca-sha256", "text", "the SHA-256 of that authority, as dkv get ca prints it; the manager shows the rest"),
            MANAGERS._replace(position=0),
        ),
        alone=True,
    ),
    Cmdlet("logout", "Forgets the credentials that login kept.", "login:logout", alone=True),
    Cmdlet(
        "status",
        "Shows the whole domain on one screen; the exit code is 0 only if nothing waits and every copy is in sync.",
        "status:status",
        (MANAGERS, OUTPUT),
    ),
    Cmdlet(
        "watch",
        "Shows the domain as it lives: what waits, every store with its copies, what happened last; until Ctrl-C.",
        "watch:watch",
        (
            Param("--once", "switch", "show it once and end; so it is where the output is no terminal", default=False),
            MANAGERS,
            OUTPUT,
        ),
    ),
    Cmdlet(
        "logs",
        "Shows the newest lines of the log of a manager, or of one process; -f also those that come, until Ctrl-C.",
        "logs:logs",
        (
            Param("--start-id", "number", "the process's start id; default: the log of a manager", low=0, high=10**9),
            Param("--server-id", "text", "the manager of this server; default: the one that answers"),
            Param("--follow", "switch", "also show new lines, until Ctrl-C", default=False, aliases=("f",)),
            Param("--lines", "number", "number of newest lines", default=200, high=10_000),
            MANAGERS,
            OUTPUT,
        ),
    ),
    Cmdlet(
        "import",
        "Copies a living Redis or Valkey into an empty database, goes on with what changes there, and compares both at the end.",
        "imports:run",
        (
            DB_NAME,
            Param(
                "--from",
                "text",
                "the source: redis://[USER@]HOST:PORT, or rediss:// for TLS; of a cluster any server",
                required=True,
            ),
            Param("--from-password-file", "text", "the file that holds the source's password; default: DKV_SOURCE_PASSWORD"),
            Param("--from-ca", "text", "the file of authorities that a TLS source is verified with; default: the system's"),
            Param("--no-follow", "switch", "the source is written to no more: copy it as it is, and compare", default=False),
            Param("--sample", "number", "number of keys whose contents are compared at the end", default=1000, low=1, high=10**6),
            MANAGERS,
            OUTPUT,
        ),
    ),
    Cmdlet(
        "completion",
        "Prints what has a shell complete command lines, names of stores, instances and servers too.",
        "completion:completion",
        (Param("--shell", "word", "the shell", required=True, position=0, choices=("bash", "zsh", "fish")),),
        alone=True,
    ),
    Cmdlet("manual", "Prints the manual page: dkv manual > /usr/local/share/man/man1/dkv.1", "manual:manual", alone=True),
    Cmdlet(
        "shell",
        "Runs cmdlets and verbs line by line, with history and completion.",
        "programs:shell",
        (
            Param("--file", "text", "run this script and end; - is standard input"),
            Param("--command", "any", "run this text and end", aliases=("c",)),
            OUTPUT,
        ),
        alone=True,
    ),
    Cmdlet(
        "backup state",
        "Writes the domain state at one revision to a file that only you can read: it holds secrets.",
        "programs:backup_state",
        (
            FILE,
            Param("--state", "text", "read the state from sqlite:PATH; default: from a manager on this machine"),
            MANAGERS,
            OUTPUT,
        ),
    ),
    Cmdlet(
        "restore state",
        "Makes a domain state from a backup file; prints first what is not known, and overwrites nothing.",
        "programs:restore_state",
        (
            FILE,
            STATE,
            Param("--domain-key", "text", "a file with the domain's key, such as a copy of certificates/domain.key"),
            Param("--new-authorities", "switch", "give up what the domain's key seals: authorities are made anew", default=False),
            YES,
            OUTPUT,
        ),
    ),
    Cmdlet(
        "recover domain",
        "Begins the domain anew on this server, from what it knew last, when a majority of the voters is lost for good.",
        "programs:recover_domain",
        (
            Param("--reason", "text", "why, for the record of the domain's events", required=True),
            *(param for param in SETTINGS if param.name != "--state"),
            YES,
            OUTPUT,
        ),
        alone=True,
    ),
    Cmdlet(
        "rebuild state",
        "Rebuilds a lost domain state from the archives on this machine; prints first what is not known.",
        "programs:rebuild_state",
        (
            STATE,
            Param("--data-dir", "each", "a manager's data directory; given once for each manager", required=True),
            YES,
            OUTPUT,
        ),
    ),
)


# The manager ---------------------------------------------------------------------------------------------------------


def c_library() -> str:
    """The GNU C library and its release, such as "glibc 2.36"; "" where there is another one."""
    return (os.confstr("CS_GNU_LIBC_VERSION") or "") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""


def refuse_elsewhere(platform: str = sys.platform, library: str | None = None) -> None:
    """Managers and engines run on Linux with the GNU C library only. Raises CliError."""
    if platform != "linux":
        raise CliError(
            "A manager runs on Linux only.", "From this machine dkv commands managers elsewhere: --managers https://HOST:PORT."
        )
    if not (c_library() if library is None else library).startswith("glibc"):
        raise CliError(
            "A manager needs the GNU C library, and this system has another one.", "Take a Linux with glibc 2.28 or newer."
        )


def manager_run(session: Session, bound: Bound) -> int:
    """Hand over to the composition root."""
    refuse_elsewhere()
    settings, joining = _settings(bound), _joining(session, bound)
    gc.disable()  # what is imported stays: a search for garbage in it takes a tenth of the start, and time later on
    run = _function("dkv.daemon.program", "run")
    gc.freeze()
    gc.enable()
    return int(run(settings, joining, lambda: _settings(bound)))


def _joining(session: Session, bound: Bound) -> Any:
    """With what a new server joins; None where none is to. Raises Usage, CliError."""
    address, token = join_words(bound["--join"], bound["--peer"], bound["--token"])
    file = bound["--token-file"]
    if token and file:
        raise Usage("--token and --token-file exclude each other.", "Give one of them.")
    if not address:
        if token or file:
            raise Usage("A join token needs a manager to show it to.", "Give --join HOST:PORT.")
        return None
    if token and token != FROM_INPUT:
        _function("dkv.kernel", "hide_argument")(token)  # other users see the command line of a process
    if token == FROM_INPUT:
        from dkv.cli.login import typed

        token = typed(session, "Join token: ")
    token = read_token(file) if file else token or session.environ.get("DKV_JOIN_TOKEN")
    if not token:
        raise Usage("--join needs a join token.", "Give --token-file FILE or DKV_JOIN_TOKEN; dkv get token makes one.")
    return _function("dkv.joining", "Joining")(token, address)


def join_words(join: str | None, peer: str | None, token: str | None) -> tuple[str | None, str | None]:
    """The address of a manager to join, and the token, of the words on a command line. Raises Usage.

    Before there was --token, --peer had the address and --join the token; such units and scripts go on.
    """
    if not peer:
        return join, token
    if join and token:
        raise Usage("--peer and --join say both where to join.", "Write --join HOST:PORT and --token-file FILE.")
    return peer, join or token


def manager_stop(session: Session, bound: Bound) -> int:
    """Find the manager by its data directory and stop it."""
    stop = _function("dkv.stop_manager", "stop")
    return int(stop(_settings(bound), with_engines=bound["--with-engines"], with_member=bound["--with-member"]))


def _settings(bound: Bound) -> Any:
    """The settings of the options, the file and the environment. Raises ConfigError."""
    from dkv.config import load_settings  # --help does not pay for it

    given = [param for param in SETTINGS if param.name != "--config" and param.name in bound]
    flags = {param.name[2:].replace("-", "_"): bound[param.name] for param in given}
    return load_settings(flags, file=_path(bound["--config"]) if bound["--config"] else None)


def check_settings(bound: Bound) -> None:
    """Whether a manager could be run with these. Raises ConfigError."""
    _settings(bound)


# Playground and shell ------------------------------------------------------------------------------------------------


def playground(session: Session, bound: Bound) -> int:
    """Run a playground to its end."""
    refuse_elsewhere()
    options = {
        name: bound[f"--{name.replace('_', '-')}"] for name in ("servers", "instances", "replication_factor", "once", "tls")
    }
    directory = _path(bound["--dir"]) if bound["--dir"] else None
    hosts = bound["--hosts"] or 0
    return int(_function("dkv.playground", "main")(session.screen, directory=directory, hosts=hosts, **options))


def shell(session: Session, bound: Bound) -> int:
    """Run a script, a text, or talk with a person."""
    from dkv.cli.shell import interact, run_file, run_text

    file, text = bound["--file"], bound["--command"]
    if file is not None and text is not None:
        raise Usage("--file and -c exclude each other.", "Give one of them.")
    session.screen.verbs = False  # a shell's lines are cmdlets
    session.in_shell = True
    if text is not None:
        return run_text(session, text)
    return run_file(session, file) if file is not None else interact(session)


# The state on disk ---------------------------------------------------------------------------------------------------


def backup_state(session: Session, bound: Bound) -> int:
    """Through a manager that runs on this machine, or from the state file itself."""
    file, screen = _path(bound["--file"]), session.screen
    state = _function("dkv.recovery", "read_state")(bound["--state"]) if bound["--state"] else native(session, bound).state()
    _function("dkv.recovery", "write_backup")(file, state)
    facts = {"file": str(file), "uid": state["uid"], "revision": state["revision"], "records": len(state["records"])}
    if any(record.startswith("authority/") for record in state["records"]):
        screen.note(
            "Keys in it are sealed with the domain's key, which is not in it: keep a copy of certificates/domain.key of a "
            "manager's data directory, at another place."
        )
    if screen.as_json:
        screen.data(facts)
    else:
        screen.line(f"{file} holds {facts['records']} records of domain {facts['uid']} at revision {facts['revision']}.")
    return DONE


def restore_state(session: Session, bound: Bound) -> int:
    """All engines must have ended; every instance starts cold afterwards."""
    only_one(bound, "--domain-key", "--new-authorities")
    key_file = _path(bound["--domain-key"]) if bound["--domain-key"] else None
    plan = _function("dkv.recovery", "plan_restore")
    words = {"key_file": key_file, "new_authorities": bound["--new-authorities"]}
    return _write_new(session, bound, plan(_path(bound["--file"]), bound["--state"], **words))


def recover_domain(session: Session, bound: Bound) -> int:
    """The manager of this server must have ended; nothing is changed on any other."""
    return _write_new(session, bound, _function("dkv.recovery.domain", "plan_domain")(_settings(bound), bound["--reason"]))


def rebuild_state(session: Session, bound: Bound) -> int:
    """All managers and engines must have ended."""
    directories = [_path(directory) for directory in bound["--data-dir"]]
    return _write_new(session, bound, _function("dkv.recovery", "plan_rebuild")(directories, bound["--state"]))


def _write_new(session: Session, bound: Bound, plan: Any) -> int:
    """Print what a new state would be made of and what is not known; write it when that is wanted."""
    screen = session.screen
    if not screen.as_json:
        for line in ("Found:", *(f"  {line}" for line in plan.findings), "Not known:", *(f"  {line}" for line in plan.unknown)):
            screen.line(line)
    wanted = bound["--yes"] or _confirmed(session, f"Write {plan.path}? [y/N]: ")
    if wanted:
        plan.write()
    if screen.as_json:
        screen.data({"found": list(plan.findings), "unknown": list(plan.unknown), "written": wanted})
    elif wanted:
        screen.line(f"Written: {plan.path}. Start the managers, then the stores with all their instances.")
    if not wanted:
        raise CliError("Nothing was written.", "Repeat with --yes if that is what you want.")
    return DONE


def _confirmed(session: Session, question: str) -> bool:
    """Whether the person at the terminal answers yes; False without a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    session.screen.ask(printable(question))
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _path(text: str) -> Path:
    from pathlib import Path  # the table of commands is read without it

    return Path(text)


def _function(module: str, name: str) -> Any:
    """A function of a package that no other package may depend on."""
    return getattr(import_module(module), name)
