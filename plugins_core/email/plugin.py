"""The hooks of the built-in plugin ``email``."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from pydantic import BaseModel

from hub.plugin import Notifier, hookimpl
from plugins_core.email.notifier import Email
from plugins_core.email.settings import EmailSettings

if find_spec("aiosmtplib") is None:
    # asked for now, imported with the first mail: no start waits for it
    raise ModuleNotFoundError("No module named 'aiosmtplib'", name="aiosmtplib")


@hookimpl
def register_notifiers() -> Iterable[type[Notifier]]:
    return [Email]


@hookimpl
def settings_model() -> type[BaseModel]:
    return EmailSettings
