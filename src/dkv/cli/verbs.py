"""The programs of `dkv` (manager, playground, shell, and the state on disk in recover.py), read with click.

Cmdlets and verbs of the domain never come here, so that they start without click. What a program is made of is imported by
name when it runs: the manager is the composition root, and no room of ours may depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from dkv.cli import nouns, recover
from dkv.cli.clicked import Commands, version
from dkv.cli.cmdlets import CMDLETS, run_cmdlet
from dkv.cli.errors import BAD_USAGE, DONE, FAILED, INTERRUPTED, CliError, nearest
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.client import ClientError, ManagerRefused
from dkv.config import ConfigError, load_settings

RAW = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def run(screen: Screen, arguments: Sequence[str]) -> int:
    """Run one verb command to its exit code, saying what went wrong the way cmdlets do."""
    if arguments[0] in nouns.VERBS:
        return run_cmdlet(Session(screen), " ".join(arguments[:2]), ())
    try:
        code = root.main(list(arguments), "dkv", standalone_mode=False, obj=screen)
        return code if isinstance(code, int) else DONE
    except click.exceptions.NoArgsIsHelpError as wanted:
        screen.block(wanted.ctx.get_help() if wanted.ctx else "")
        return BAD_USAGE
    except click.UsageError as wrong:
        screen.error(*_explained(wrong, arguments))
        return BAD_USAGE
    except click.ClickException as trouble:
        screen.error(trouble.format_message())
        return trouble.exit_code
    except (CliError, ConfigError) as trouble:
        screen.error(trouble.message, trouble.hint)
        return getattr(trouble, "exit_code", BAD_USAGE)
    except click.exceptions.Exit as left:
        return left.exit_code
    except (click.Abort, KeyboardInterrupt):
        screen.error("Interrupted.")
        return INTERRUPTED
    except ManagerRefused as refused:
        screen.error(refused.message, refused.hint)
        return BAD_USAGE if refused.status in (400, 422) else FAILED
    except ClientError as trouble:
        screen.error(str(trouble), "Is the manager running? See --managers.")
        return FAILED
    except Exception as trouble:
        if not hasattr(trouble, "hint"):
            raise
        screen.error(str(trouble), str(trouble.hint))
        return FAILED


def _explained(wrong: click.UsageError, arguments: Sequence[str]) -> tuple[str, str]:
    ctx = wrong.ctx
    group = ctx.command if ctx is not None else None
    if ctx is None or not isinstance(group, click.Group) or "No such command" not in wrong.format_message():
        return wrong.format_message(), f"Run {ctx.command_path if ctx else 'dkv'} --help."
    word = next((a for a in arguments if a not in (*group.commands, ctx.info_name) and not a.startswith("-")), arguments[0])
    if group is root:
        known = [*group.commands, *nouns.VERBS, *(cmdlet.name for cmdlet in CMDLETS)]
        return f"There is no command '{word}'.", nearest(word, known, "Run dkv --help for the commands.")
    return f"There is no command '{ctx.info_name} {word}'.", f"{ctx.command_path} takes: {', '.join(group.commands)}."


class Root(Commands):
    """All verbs. The tables of cmdlets and nouns are read only when somebody asks for help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Everything that is no command of click."""
        for title, table in (("Verbs (dkv VERB NOUN --help)", nouns.everything()), ("Cmdlets (dkv NAME -?)", CMDLETS)):
            with formatter.section(title):
                formatter.write_dl([(one.name, one.synopsis) for one in table])


@click.group(cls=Root, help="A self-managing distributed key-value database on Valkey engines.")
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=version, help="Show the version and exit.")
def root() -> None:
    """All verbs hang here."""


@root.group(help="Run or stop this machine's manager.")
def manager() -> None:
    """Verbs of the manager."""


def _settings(function: Any) -> Any:
    options = (
        click.option("--config", type=click.Path(path_type=Path), help="the TOML file of settings"),
        click.option("--server-id", help="the name of this server in the domain"),
        click.option("--bind", help="the address to listen on [127.0.0.1]"),
        click.option("--port", help="the port of the REST API [7801]"),
        click.option("--nuodb-port", help="the port of the NuoDB dialect [8888]"),
        click.option("--data-dir", help="where archives and logs are"),
        click.option("--state", help="where the domain state is, such as sqlite:PATH"),
    )
    for option in reversed(options):
        function = option(function)
    return function


@manager.command("run", help="Run the manager in the foreground; SIGTERM ends it and leaves engines running.")
@_settings
def manager_run(config: Path | None, **flags: str | None) -> int:
    """Hand over to the composition root."""
    settings = load_settings(flags, file=config)
    return int(_door("dkv.daemon", "run")(settings))


@manager.command("stop", help="Stop the manager that runs on the same data directory.")
@click.option("--with-engines", is_flag=True, help="drain and stop its engines first")
@_settings
def manager_stop(config: Path | None, with_engines: bool, **flags: str | None) -> int:
    """Find the manager by its data directory and stop it."""
    settings = load_settings(flags, file=config)
    return int(_door("dkv.daemon", "stop")(settings, with_engines))


@root.command(context_settings=RAW, help="A whole domain on this machine, to look at and to break.")
@click.pass_context
def playground(ctx: click.Context) -> int:
    """Hand the arguments over as they are."""
    return int(_door("dkv.playground", "main")(list(ctx.args)))


@root.command(help="Cmdlets line after line, with history and completion.")
@click.option("--file", "file", type=click.Path(path_type=Path), help="run a script file and end")
@click.option("-c", "text", help="run a text and end")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", help="how data is printed")
@click.pass_obj
def shell(screen: Screen, file: Path | None, text: str | None, output: str) -> int:
    """Run a script, a text, or talk with a person."""
    from dkv.cli.shell import interact, run_file, run_text

    if file is not None and text is not None:
        raise click.UsageError("--file and -c exclude each other.")
    screen.as_json = output == "json"
    screen.verbs = False  # a shell's lines are cmdlets
    session = Session(screen, in_shell=True)
    if text is not None:
        return run_text(session, text)
    return run_file(session, file) if file is not None else interact(session)


for _verb in recover.VERBS:
    root.add_command(_verb)


def _door(module: str, function: str) -> Any:
    try:
        return getattr(import_module(module), function)
    except ModuleNotFoundError as missing:
        if missing.name != module:
            raise
        raise CliError(f"This build has no {module.rpartition('.')[2]}.", "Install a newer one.") from missing
