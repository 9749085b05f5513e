"""CLI: the table of cmdlets, and how any command is run: find it, bind its arguments, call its code, print its error.

What each cmdlet takes is data here (docs/reference/cmdlets.md#parameters); what it does is in the file its `code` names,
which is imported only when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module

from dkv.cli import nouns
from dkv.cli.binding import Bound, Cmdlet, Param, bind
from dkv.cli.errors import DONE, FAILED, INTERRUPTED, NotPrinted, Usage
from dkv.cli.manager_pool import Refusals
from dkv.cli.output import NARROW
from dkv.cli.powershell import Argument, Parameter
from dkv.cli.session import Session
from dkv.client import ManagerUnreachable, NoManagerAnswered
from dkv.constants import FIRST_CLIENT_PORT, FIRST_CLUSTER_PORT, MANAGER_PORT
from dkv.database_options import parameters_of
from dkv.errors import HintedError
from dkv.hints import Hint
from dkv.spelling import nearest

MANAGERS = Param(
    "Managers", "list", "the managers, separated by commas; default: the connected ones", aliases=("Servers", "Server")
)
PORT = Param("Port", "number", "the port of managers that are given without one", default=MANAGER_PORT)
TIMEOUT = Param(
    "TimeoutSec",
    "number",
    "seconds that each request may take; Start and Stop wait as long for the nodes",
    default=30,
    high=86400,
)
PLAN = Param("Plan", "switch", "print the commands and events that would follow, and change nothing", default=False)
PARALLEL = Param("Parallel", "switch", "send to several managers at once", default=False)
FAIL_FAST = Param("FailFast", "switch", "send nothing more after the first failure", default=False)
OUTPUT = Param("OutputFormat", "word", "the form of the output", default="table", aliases=("o",), choices=("table", "json"))
SHARED = (MANAGERS, PORT, TIMEOUT, PARALLEL, FAIL_FAST, OUTPUT)

NAME = Param("Name", "name", "the store's name", required=True, position=0, aliases=("StoreName",))
STORE_NAME = Param("StoreName", "name", "the store's name", required=True, position=0, aliases=("Name",))
ONE_NODE = Param("InstanceName", "name", "the node's name; default: all nodes", position=1)


def _options(cmdlet: str, **defaults: str) -> Iterable[Param]:
    """The options of a store that a cmdlet sets (database_options.py), and what each is where it is not given."""
    kinds = {"number": "number", "word": "word", "bytes": "text", "events": "text"}
    for option in parameters_of(cmdlet):
        default = f"; default: {defaults[option.parameter]}" if option.parameter in defaults else ""
        text = option.summary() + default
        low = option.least if option.special is None else min(option.least, option.special)
        yield Param(option.parameter, kinds[option.kind], text, low=low, high=option.most, choices=option.choices)


CMDLETS = (
    Cmdlet(
        "Connect-DkvManager",
        "Remembers which managers the next commands are for.",
        "connect:connect",
        (
            Param("Managers", "list", "the managers, separated by commas", True, position=0, aliases=("Servers", "Server")),
            PORT,
            Param("Force", "switch", "replace the list of connected managers", default=False),
            Param("Credential", "text", "log in as this user; the password is typed, or read from standard input"),
            Param("Token", "switch", "log in with a token, which is typed, or read from standard input", default=False),
            TIMEOUT,
            PARALLEL,
            OUTPUT,
        ),
    ),
    Cmdlet("Disconnect-DkvManager", "Forgets the connected managers.", "connect:disconnect", (OUTPUT,)),
    Cmdlet(
        "New-DkvStore",
        "Defines a store on all connected managers; Start-DkvStore starts it.",
        "stores:new_store",
        (
            NAME,
            Param("InstancePrefix", "name", "the prefix of the nodes' names: <prefix>-<index>", required=True, position=1),
            Param("InstanceCount", "number", "number of nodes on each server", default=1, high=1000),
            Param(
                "ClustronPort", "number", "the first port for traffic between nodes, on each server", default=FIRST_CLUSTER_PORT
            ),
            Param("ClientPort", "number", "the first port for clients, on each server", default=FIRST_CLIENT_PORT),
            *_options("New-DkvStore", ReplicationFactor="2, with one manager 1", MinInSync="the managers' setting min_in_sync"),
            Param("Open", "switch", "let in every client, without a password, although there is access control", default=False),
            Param("WhatIf", "switch", "print the topology, and change nothing", default=False),
            PLAN,
            *SHARED,
        ),
    ),
    Cmdlet(
        "Add-DkvInstance",
        "Adds nodes, as further copies, to a store.",
        "stores:add_instance",
        (
            STORE_NAME,
            Param("InstanceName", "name", "the new node's name", position=1),
            Param("ClustronPort", "number", "the new node's port for traffic between nodes"),
            Param("ClientPort", "number", "the new node's port for clients"),
            Param(
                "Nodes",
                "nodes",
                "several new nodes: @( @{ InstanceName='a-3'; ClustronPort=7813; ClientPort=7863 } )",
                aliases=("Instances",),
            ),
            Param("Server", "text", "the server that gets the nodes; default: the one with the fewest nodes of the store"),
            Param("Managers", "list", "the managers, separated by commas; default: the connected ones", aliases=("Servers",)),
            PORT,
            TIMEOUT,
            PARALLEL,
            FAIL_FAST,
            OUTPUT,
            PLAN,
        ),
    ),
    Cmdlet("Start-DkvStore", "Starts all nodes of a store, or one.", "startstop:start", (NAME, ONE_NODE, PLAN, *SHARED)),
    Cmdlet(
        "Stop-DkvStore",
        "Stops all nodes of a store, or one; the data stays on disk.",
        "startstop:stop",
        (
            NAME,
            ONE_NODE,
            Param(
                "Force",
                "switch",
                "kill the engines at once, without the checks and the handover of a graceful stop",
                default=False,
            ),
            PLAN,
            *SHARED,
        ),
    ),
    Cmdlet(
        "Get-DkvStore",
        "Shows all stores, or one with its groups and nodes.",
        "get_store:get_store",
        (Param("Name", "name", "the store's name; default: all stores", position=0, aliases=("StoreName",)), *SHARED),
    ),
    Cmdlet(
        "Set-DkvStore",
        "Changes options of a store while it runs, and prints which need a restart.",
        "stores:set_store",
        (NAME, *_options("Set-DkvStore"), PLAN, *SHARED),
    ),
    Cmdlet("Remove-DkvStore", "Deletes a stopped store and its archives.", "stores:remove_store", (NAME, PLAN, *SHARED)),
    Cmdlet(
        "Remove-DkvInstance",
        "Deletes one stopped node and its archive.",
        "stores:remove_instance",
        (STORE_NAME, Param("InstanceName", "name", "the node's name", required=True, position=1), PLAN, *SHARED),
    ),
    Cmdlet(
        "Watch-DkvStoreMetrics",
        "Shows the metrics of a store's nodes until Ctrl-C.",
        "get_store:watch",
        (
            STORE_NAME,
            Param("RefreshSec", "number", "seconds between two refreshes", default=1, high=60),
            Param("Count", "number", "number of refreshes; default: until Ctrl-C", high=1_000_000),
            *SHARED,
        ),
    ),
)

HELP_WORDS = ("?", "help", "h")


ELSEWHERE = {
    **dict.fromkeys(("top", "monitor", "stats", "live"), "watch"),
    **dict.fromkeys(("ps", "ls", "list", "info", "health", "nodes", "state"), "status"),
    **dict.fromkeys(("tail", "journal"), "logs"),
    **dict.fromkeys(("demo", "try"), "playground"),
    **dict.fromkeys(("metrics", "exporter"), "show dashboard"),
}
"""What other programs call what is here under another name."""


def find_cmdlet(name: str) -> Cmdlet:
    """The cmdlet of that name in any case, or the verb with its noun, or the program. Raises Usage with the nearest name."""
    for cmdlet in CMDLETS:
        if cmdlet.name.lower() == name.lower():
            return cmdlet
    verb = nouns.find(name.lower())
    if verb is not None:
        return verb
    if name.partition(" ")[0].lower() in nouns.VERB_WORDS:
        raise nouns.unknown(name.lower())
    if name.lower() in ELSEWHERE:
        raise Usage(f"There is no command '{name}'.", f"Did you mean {ELSEWHERE[name.lower()]}?")
    known = [*(cmdlet.name for cmdlet in CMDLETS), *nouns.VERB_WORDS, *nouns.PROGRAMS]
    raise Usage(f"There is no command '{name}'.", nearest(name, known, "Run dkv help for the commands."))


def run_cmdlet(session: Session, name: str, arguments: Sequence[Argument]) -> int:
    """Run one command to its exit code. Everything that can go wrong is printed here, in one sentence with a hint."""
    session.sent.clear()
    session.screen.silent = True
    json_before = session.screen.as_json
    try:
        return _run(session, find_cmdlet(name), arguments)
    except KeyboardInterrupt:
        session.screen.error(_interrupted(session))
        return INTERRUPTED
    except Refusals as refusals:
        session.screen.rows(refusals.rows, widths=NARROW)
        return FAILED
    except HintedError as error:
        session.screen.error(error.message, _hint(session, error))
        return error.exit_code
    finally:
        for warning in sorted(session.warnings):
            session.screen.note(f"warning: {warning}")
        session.warnings.clear()
        session.screen.as_json = json_before


def _hint(session: Session, error: HintedError) -> str | Hint:
    if isinstance(error, NotPrinted) and session.sent:
        return f"Already sent and not taken back: {_sent(session)}."
    if isinstance(error, ManagerUnreachable | NoManagerAnswered) and not error.hint:
        option = "--managers" if session.screen.verbs else "-Managers"
        return f"Start it there with: dkv manager run; or name another one with {option} HOST:PORT."
    return error.hint


def _run(session: Session, cmdlet: Cmdlet, arguments: Sequence[Argument]) -> int:
    if any(isinstance(a, Parameter) and a.name.lower() in HELP_WORDS for a in arguments):
        from dkv.cli.help import show_help

        return show_help(session, cmdlet)
    if cmdlet.alone and session.in_shell:
        raise Usage(f"{cmdlet.name} is a program of its own.", f"Run dkv {cmdlet.name} outside this shell.")
    bound: Bound = bind(cmdlet, arguments, session.variables)
    if "json" in (bound.get("OutputFormat"), bound.get("--output-format")):
        session.screen.as_json = True
    code = _code(cmdlet)
    if bound.get("Plan") or bound.get("--plan"):
        from dkv.cli.dry_run import dry_run

        return dry_run(session, lambda: code(session, bound))
    exit_code = code(session, bound)
    if exit_code == DONE and session.sent and session.screen.silent:
        session.screen.note(f"Accepted: {_shortly(cmdlet, bound)}.")
    return exit_code


def _shortly(cmdlet: Cmdlet, bound: Bound) -> str:
    """A command with what it is about, such as `delete database orders`."""
    about = (str(bound[param.name]) for param in cmdlet.params if param.required and param.kind in ("text", "name", "number"))
    return f"{cmdlet.name} {next(about, '')}".rstrip()


def _code(cmdlet: Cmdlet) -> Callable[[Session, Bound], int]:
    if cmdlet.call is not None:
        from dkv.cli.nouns.common import send

        call = cmdlet.call
        return lambda session, bound: send(session, bound, call)
    module, name = cmdlet.code.split(":")
    function: Callable[[Session, Bound], int] = getattr(import_module(f"dkv.cli.{module}"), name)
    return function


def _interrupted(session: Session) -> str:
    if not session.sent:
        return "Interrupted; nothing had been sent."
    return f"Interrupted; already sent and not taken back: {_sent(session)}."


def _sent(session: Session) -> str:
    return ", ".join(session.sent)
