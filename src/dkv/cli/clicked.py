"""CLI: commands of click whose help and version go through our one output: click writes round sys.stdout."""

from __future__ import annotations

from typing import Any

import click

from dkv.cli.output import Screen


class OneCommand(click.Command):
    """A command without others below it."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """--help, printed as everything else is."""
        return _printing(super().get_help_option(ctx))


class Commands(click.Group):
    """A command with others below it."""

    command_class = OneCommand

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """--help, printed as everything else is."""
        return _printing(super().get_help_option(ctx))


Commands.group_class = Commands


def _printing(option: click.Option | None) -> click.Option | None:
    if option is not None:
        option.callback = _help
    return option


def _help(ctx: click.Context, param: click.Parameter, asked: Any) -> None:
    if asked and not ctx.resilient_parsing:
        screen_of(ctx).block(ctx.get_help())
        ctx.exit()


def version(ctx: click.Context, param: click.Parameter, asked: Any) -> None:
    """--version: which build this is."""
    from importlib.metadata import version as of

    if asked and not ctx.resilient_parsing:
        screen_of(ctx).line(f"dkv, version {of('dkv')}")
        ctx.exit()


def screen_of(ctx: click.Context) -> Screen:
    """Where the whole command line prints."""
    screen = ctx.find_object(Screen)
    assert screen is not None, "verbs.run gives it to click"
    return screen
