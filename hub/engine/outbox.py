"""The outbox's near end: which notices an execution's end owes, and what they say.

Called by the intake for every end, so that they are stored in the transaction of the end, and by the task
``notify``. Sending them is ``hub.engine.notifications``'s business. Nothing here may fail an execution: where a
template does, the notice says so in the hub's own words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from hub.clock import iso
from hub.engine.compiled import CompiledFlow, CompiledRule
from hub.engine.services import Services
from hub.model import jsontext
from hub.model.durations import format_duration
from hub.model.execution import Execution, ExecutionState
from hub.model.flow import NotifyRule
from hub.model.ids import FlowKey, derived_id
from hub.plugin.notices import NewNotice
from hub.plugin.notifier import Attachment

log = structlog.get_logger("hub.notices")

LONGEST_SUBJECT = 300
LONGEST_MESSAGE = 50_000
LONGEST_HTML = 200_000
MOST_ATTACHMENTS = 20
_LEVELS: Mapping[ExecutionState, str] = {
    ExecutionState.FAILED: "ERROR",
    ExecutionState.WARNING: "WARN",
    ExecutionState.KILLED: "WARN",
    ExecutionState.CANCELLED: "WARN",
}


class Outbox:
    """Makes the notices that ends owe."""

    def __init__(self, services: Services, rules: Sequence[NotifyRule] = (), hub_url: str = "") -> None:
        self._services = services
        self._url = hub_url
        self._rules = [
            CompiledRule(rule, f"{rule.namespace or '*'}/{rule.flow or '*'}", services.functions)
            for rule in rules
        ]

    async def of_end(
        self,
        flow: CompiledFlow | None,
        execution: Execution,
        state: ExecutionState,
        *,
        outputs: Mapping[str, Any] | None,
        error: str | None,
    ) -> tuple[NewNotice, ...]:
        """The notices that an end owes; each notifier once, by the closest rule. The same end gives the same ids."""
        wanted: dict[str, CompiledRule] = {}
        for compiled in self._about(flow, execution.flow):
            if state.value in compiled.rule.states:
                for name in compiled.rule.to:
                    wanted.setdefault(name, compiled)
        if not wanted:
            return ()
        now = self._services.clock.now()
        names = self._names(flow, execution, state, outputs, error, now)
        return tuple(
            [await self._notice(name, rule, execution, state, names, now) for name, rule in wanted.items()]
        )

    def is_about(self, flow: CompiledFlow) -> bool:
        """Whether any rule may be about an end of the flow."""
        return bool(flow.notify or self._rules)

    def _about(self, flow: CompiledFlow | None, key: FlowKey) -> Iterable[CompiledRule]:
        if flow is not None:
            yield from flow.notify
        for rule in self._rules:
            if rule.covers(key):
                yield rule

    async def _notice(
        self,
        name: str,
        compiled: CompiledRule,
        execution: Execution,
        state: ExecutionState,
        names: Mapping[str, Any],
        now: datetime,
    ) -> NewNotice:
        rule = compiled.rule
        texts = await self._texts(compiled, execution, names)
        content = {
            "subject": texts.get("subject") or f"[{state.value}] {execution.flow}",
            "message": texts.get("message") or _message(names),
            "html": texts.get("html"),
            "level": _LEVELS.get(state, "INFO"),
            "state": state.value,
            "url": names["execution"]["url"],
        }
        kept_back = rule.digest is not None or rule.throttle is not None
        return NewNotice(
            id=derived_id(execution.id, "end", name, state.value, str(execution.restarts)),
            notifier=name,
            content=self._bounded(content),
            due_at=now + rule.digest if rule.digest is not None else now,
            topic=f"end {compiled.scope}" if kept_back else None,
            gap=rule.throttle,
            flow=execution.flow,
            execution_id=execution.id,
        )

    async def _texts(
        self, compiled: CompiledRule, execution: Execution, names: Mapping[str, Any]
    ) -> dict[str, str]:
        """What the rule's templates say; where one fails, what is wrong with it stands under the hub's words."""
        try:
            found = {
                name: await field.render(names, self._services.vault)
                for name, field in compiled.texts.items()
            }
        except Exception as error:
            log.warning("the template of a notice fails", execution=execution.id, error=str(error))
            return {"message": f"{_message(names)}\n\n(the template of this notice fails: {error})"}
        return {name: _text(value) for name, value in found.items()}

    def of_task(
        self,
        *,
        id: str,
        to: str,
        subject: str | None,
        message: str,
        html: str | None,
        level: str,
        attachments: Sequence[Attachment],
        flow: FlowKey,
        execution_id: str,
    ) -> NewNotice:
        """A notice that a task owes."""
        content = {
            "subject": subject or f"{flow}",
            "message": message,
            "html": html,
            "level": level,
            "url": self.url_of(execution_id),
            "attachments": [[one.name, one.uri] for one in attachments[:MOST_ATTACHMENTS]],
        }
        now = self._services.clock.now()
        return NewNotice(id, to, self._bounded(content), due_at=now, flow=flow, execution_id=execution_id)

    def url_of(self, execution_id: str) -> str:
        return f"{self._url}/api/v1/executions/{execution_id}"

    def _bounded(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content as it is stored: no secret in it, nothing too long, nothing that is not there."""
        masked = {name: value for name, value in content.items() if value}
        for name, longest in (
            ("subject", LONGEST_SUBJECT),
            ("message", LONGEST_MESSAGE),
            ("html", LONGEST_HTML),
        ):
            if name in masked:
                masked[name] = _cut(self._services.vault.mask(masked[name]), longest)
        masked["subject"] = " ".join(masked["subject"].split()) or "(no subject)"
        return masked

    def _names(
        self,
        flow: CompiledFlow | None,
        execution: Execution,
        state: ExecutionState,
        outputs: Mapping[str, Any] | None,
        error: str | None,
        now: datetime,
    ) -> dict[str, Any]:
        """What a template sees."""
        key = execution.flow
        started = execution.started_at or execution.created_at
        known = {"id": key.id, "namespace": key.namespace, "revision": execution.revision, "labels": {}}
        return {
            "flow": flow.names if flow is not None else known,
            "labels": execution.labels,
            "inputs": execution.inputs,
            "outputs": outputs or {},
            "state": state.value,
            "error": {"message": error or ""},
            "execution": {
                "id": execution.id,
                "createdAt": iso(execution.created_at),
                "startedAt": iso(started),
                "endedAt": iso(now),
                "duration": format_duration(now - started),
                "trigger": execution.trigger or "",
                "url": self.url_of(execution.id),
            },
        }


def _message(names: Mapping[str, Any]) -> str:
    """What a notice says where no template does."""
    flow, execution, error = names["flow"], names["execution"], names["error"]["message"]
    lines = [f"Flow {flow['namespace']}/{flow['id']} ended {names['state']}.", ""]
    if error:
        lines += [error, ""]
    lines += [
        f"Execution: {execution['id']}",
        f"Started:   {execution['startedAt']}",
        f"Ended:     {execution['endedAt']} (after {execution['duration']})",
        execution["url"],
    ]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else jsontext.dumps(value)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 12] + "… (cut off)"
