"""Command groups that load a command only when it is called: ``hub --version`` must not pay for all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

import click


class UnknownCommand(click.UsageError):
    """A command that a group does not have."""

    def __init__(self, name: str, hint: str | None, ctx: click.Context) -> None:
        super().__init__(f'no such command "{name}"', ctx)
        self.hint = hint or f"{ctx.command_path} --help lists those there are"


class LazyGroup(click.Group):
    """A group whose commands are ``module:attribute`` paths with their one-line help."""

    def __init__(self, *args: object, lazy: Mapping[str, tuple[str, str]], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._lazy = lazy
        self.when_loaded: Callable[[click.Command], None] | None = None
        """Called with each command that is loaded."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self._lazy.get(cmd_name)
        if found is None:
            return None
        module, _, attribute = found[0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if self.when_loaded is not None:
            self.when_loaded(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from hub.errors import did_you_mean

            if not args or args[0].startswith("-"):
                raise
            raise UnknownCommand(args[0], did_you_mean(args[0], list(self._lazy)), ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in self._lazy.items()])
