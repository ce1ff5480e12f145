"""Errors as people read them on a terminal, and the exit code each means."""

from __future__ import annotations

import os
import traceback

import click

from hub.errors import (
    Conflict,
    Denied,
    HubError,
    InvalidFlow,
    InvalidInput,
    NotFound,
    PluginError,
    StorageLocked,
    StorageUnavailable,
    TooLarge,
    Unreachable,
)

OK, FAILED, USAGE, INVALID, NOT_FOUND, DENIED, UNREACHABLE, CONFLICT, TIME_OUT, DIFFERS = range(10)
_CODES: tuple[tuple[type[HubError], int], ...] = (
    (InvalidInput, INVALID),
    (TooLarge, INVALID),
    (PluginError, INVALID),
    (NotFound, NOT_FOUND),
    (Denied, DENIED),
    (Unreachable, UNREACHABLE),
    (StorageLocked, CONFLICT),
    (Conflict, CONFLICT),
    (StorageUnavailable, UNREACHABLE),
)


def report_usage(error: click.ClickException) -> int:
    """Print what is wrong with a command line to stderr, as every other error is, and answer the exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return USAGE
    message = error.format_message().rstrip(".")
    click.echo(f"error: {message[:1].lower()}{message[1:]}", err=True)
    hint = getattr(error, "hint", None)
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if hint is None and ctx is not None:
        usage = " ".join(ctx.get_usage().removeprefix("Usage:").split())
        hint = f"{usage}; {ctx.command_path} --help says more"
    if hint:
        click.echo(f"  hint: {hint}", err=True)
    return USAGE


def report(error: Exception) -> int:
    """Print an error to stderr and answer the exit code."""
    if isinstance(error, InvalidFlow):
        from hub.config.text import render_problem

        for problem in error.problems:
            click.echo(render_problem(problem, None), err=True)
        return INVALID
    if isinstance(error, HubError):
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"  hint: {error.hint}", err=True)
        return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)
    if os.environ.get("HUB_DEBUG"):
        traceback.print_exception(error)
    click.echo(f"error: {type(error).__name__}: {error}", err=True)
    click.echo("  hint: this is a fault of the hub itself; HUB_DEBUG=1 shows where", err=True)
    return FAILED
