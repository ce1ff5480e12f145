"""The flows: which are in use, their newest revision, and ready-to-run ones on demand.

Sources live in the storage; a flow is parsed on its first use and kept among the most recently used, so ten
thousand known flows cost little more than their names.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, NamedTuple

import structlog

from hub.clock import iso
from hub.config.flows import LoadedFlow, load_flow
from hub.config.loops import Chains, Waiting, waiting
from hub.config.summary import always_of, flow_summary, triggers_of, types_of
from hub.engine.compiled import CompiledFlow
from hub.engine.flow_cache import FlowCache
from hub.engine.needs import missing, refusal
from hub.engine.services import Services
from hub.errors import FlowLoop, InvalidFlow, NotFound, Position, Problem, did_you_mean
from hub.model.flow import FlowRecord, TriggerDeclaration
from hub.model.ids import FlowKey

log = structlog.get_logger("hub.flows")

_MOST_COMPARED = 500
"""Flows among which a near name is looked for."""

_ENABLED_SINCE = "enabledSince"
_UNKNOWN_FOR = 1.0
"""Seconds in which a flow that nobody knows is not looked for again."""
_MOST_UNKNOWN = 1_000
_LOOKED_THROUGH = 50
"""How many revisions are looked through for a content."""


class Stored(NamedTuple):
    """What a put did."""

    record: FlowRecord
    loaded: LoadedFlow
    changed: bool = False
    """Whether it made a new revision."""
    created: bool = False
    """Whether the flow was not in use before."""


class FlowCatalog:
    """Every flow in use."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._records: dict[FlowKey, FlowRecord] = {}
        self._ready = FlowCache()
        self._changed: list[Callable[[FlowKey], None]] = []
        self._changing = asyncio.Lock()
        self._chains = Chains()
        self._is_shared = not services.storage.single_process
        # flows that nobody knew when they were last looked for, and until when they are not looked for again
        self._unknown: OrderedDict[FlowKey, float] = OrderedDict()
        self.broken: dict[str, tuple[Problem, ...]] = {}
        """Files whose newest text cannot be used, with what is wrong; the last good revision stays in use. Flows
        too whose plugins are gone, by their files or their names."""

    async def open(self) -> None:
        """Learn what the storage knows."""
        for record in await self._services.storage.flows():
            self._learn(record)

    def check_types(self) -> None:
        """Show flows as broken that need a type which no plugin brings.

        Raises ``PluginError`` naming them: a hub that runs without would refuse what their senders were
        promised. It goes on where the settings themselves have switched the plugin off.
        """
        registry = self._services.registry
        stopping: list[str] = []
        for record in self.records():
            wanted = () if record.disabled else types_of(record.summary)
            gone = {name: reason for kind, name in wanted if (reason := missing(registry, kind, name))}
            if not gone:
                continue
            reasons = list(gone.values())
            file = record.origin or str(record.key)
            self.broken[file] = tuple(Problem(reason, Position(1, 1), file=file) for reason in reasons)
            log.error(
                "flow needs a plugin that is not there", flow=str(record.key), problem="; ".join(reasons)
            )
            if not all(registry.is_switched_off(name) for name in gone):
                stopping.append(f"flow {record.key} needs {'; '.join(reasons)}")
        if stopping:
            raise refusal(stopping)

    def types_changed(self, types: AbstractSet[str]) -> None:
        """Components of these types are other ones now, or gone: flows are made ready anew, and judged anew.

        What runs already goes on with what it began with.
        """
        for record in self.records():
            if types.isdisjoint(name for _, name in types_of(record.summary)):
                continue
            self._ready.forget(record.key)

    async def judge(self, types: AbstractSet[str]) -> None:
        """Show as broken the flows with one of these types that could not be saved now.

        What is shown of a file's newer text stays: its flow is another one.
        """
        for record in self.records():
            if record.disabled or types.isdisjoint(name for _, name in types_of(record.summary)):
                continue
            _, source = await self._services.storage.flow_source(record.key, record.revision)
            file = record.origin or str(record.key)
            try:
                self.check(source, file)
            except InvalidFlow as error:
                self.broken.setdefault(file, error.problems)
                log.error("flow cannot be used any more", flow=str(record.key), problem=str(error))
            else:
                if record.origin is None:
                    self.broken.pop(file, None)

    def on_change(self, callback: Callable[[FlowKey], None]) -> None:
        """Be called after a flow was put or retired."""
        self._changed.append(callback)

    def records(self) -> list[FlowRecord]:
        """Every flow in use, by name."""
        return [self._records[key] for key in sorted(self._records)]

    def get(self, key: FlowKey) -> FlowRecord | None:
        return self._records.get(key)

    async def find(self, key: FlowKey) -> FlowRecord | None:
        """A flow in use; of several hubs over one storage, another may have just put it."""
        found = self._records.get(key)
        if found is not None or not self._is_shared:
            return found
        now = time.monotonic()
        if self._unknown.get(key, 0.0) > now:
            return None
        await self.refresh(key)
        found = self._records.get(key)
        if found is None:
            self._unknown[key] = now + _UNKNOWN_FOR
            if len(self._unknown) > _MOST_UNKNOWN:
                self._unknown.popitem(last=False)
        return found

    async def refresh(self, key: FlowKey) -> None:
        """Learn how a flow stands in the storage, where another hub may have put or retired it."""
        async with self._changing:
            known = self._records.get(key)
            try:
                record: FlowRecord | None = await self._services.storage.flow(key)
            except NotFound:
                record = None
            if record is None or record.retired_at is not None:
                if known is None:
                    return
                del self._records[key]
                self._chains.drop(key)
            elif known == record:
                return
            else:
                self._learn(record)
            self._unknown.pop(key, None)
            self.broken.pop(str(key), None)
            self._tell(key)

    async def is_alone(self) -> bool:
        """Whether no other hub uses the storage."""
        return all(node.is_this for node in await self._services.storage.nodes())

    def _learn(self, record: FlowRecord) -> None:
        self._records[record.key] = record
        self._chains.drop(record.key)
        if not record.disabled:
            labels = record.summary.get("labels", {})
            self._chains.put(self._waiting(record.key, labels, always_of(record.summary)))

    async def revision_of(self, key: FlowKey, digest: str) -> int | None:
        """The newest of a flow's last revisions with this content; None where none has it."""
        for revision, _ in (await self._services.storage.revisions(key))[:_LOOKED_THROUGH]:
            _, source = await self._services.storage.flow_source(key, revision)
            if self.digest(source) == digest:
                return revision
        return None

    def triggers(self, key: FlowKey) -> tuple[TriggerDeclaration, ...]:
        """A flow's triggers, known without reading its source; none when it is not in use or disabled."""
        record = self._records.get(key)
        if record is None or record.disabled:
            return ()
        return triggers_of(record.summary)

    def enabled_since(self, key: FlowKey, trigger: str) -> str | None:
        """Since when a trigger has been enabled without a gap, as ISO 8601."""
        record = self._records.get(key)
        found = record.summary.get(_ENABLED_SINCE, {}).get(trigger) if record else None
        return str(found) if found else None

    @staticmethod
    def digest(source: str) -> str:
        """What tells one source from another."""
        return hashlib.sha256(source.encode()).hexdigest()

    def check(self, source: str, file: str | None = None) -> LoadedFlow:
        """Parse and check a source. Raises ``InvalidFlow``."""
        return load_flow(
            source, file=file, registry=self._services.registry, functions=self._services.functions
        )

    async def put(
        self,
        source: str,
        *,
        origin: str | None = None,
        file: str | None = None,
        expect: FlowKey | None = None,
        instead_of: str | None = None,
    ) -> Stored:
        """Check and store a flow. One after another, so that of several only the first creates it.

        With ``instead_of`` it is taken over from that origin, without having been out of use. Raises
        ``InvalidFlow``, ``FlowLoop``, and ``Conflict`` when the flow belongs to another origin.
        """
        loaded = self.check(source, file)
        key = loaded.flow.key
        if expect is not None and key != expect:
            raise InvalidFlow(
                [Problem(f"this is the flow {key}, not {expect}", loaded.id_position, file=file)]
            )
        async with self._changing:
            return await self._put(loaded, source, origin, file, instead_of)

    async def _put(
        self, loaded: LoadedFlow, source: str, origin: str | None, file: str | None, instead_of: str | None
    ) -> Stored:
        key, digest = loaded.flow.key, self.digest(source)
        known = self._records.get(key)
        if known is not None and known.source_hash == digest and known.origin == origin:
            return Stored(known, loaded)
        flow = self._waiting(key, loaded.flow.labels, loaded.flow.triggers)
        loaded = self._without_loop(loaded, flow, file)
        summary = {**flow_summary(loaded.flow)}
        summary[_ENABLED_SINCE] = self._carry_enabled(known, loaded)
        if known is not None and instead_of is not None and known.origin == instead_of:
            # for the storage alone: whoever asks the catalogue finds the flow in use all the time
            await self._services.storage.retire_flow(key, at=self._services.clock.now())
        record, changed = await self._services.storage.put_flow(
            key,
            source=source,
            source_hash=digest,
            summary=summary,
            disabled=loaded.flow.disabled,
            origin=origin,
            at=self._services.clock.now(),
        )
        self._records[key] = record
        self._chains.drop(key)
        if not loaded.flow.disabled:
            self._chains.put(flow)
        self.broken.pop(str(key), None)
        if changed:
            for problem in loaded.warnings if file is not None else ():
                # nobody who put it hears of it otherwise
                log.warning(
                    "flow is saved, and may not do what it should", flow=str(key), problem=problem.text()
                )
            self._make_ready(loaded, record.revision, source)
            self._tell(key)
        return Stored(record, loaded, changed, created=known is None)

    def _waiting(
        self, key: FlowKey, labels: Mapping[str, str], triggers: Iterable[TriggerDeclaration]
    ) -> Waiting:
        return waiting(key, labels, triggers, self._services.registry)

    def _without_loop(self, loaded: LoadedFlow, flow: Waiting, file: str | None) -> LoadedFlow:
        """The flow, with a warning where its ends may start it. Raises ``FlowLoop`` where they would."""
        if loaded.flow.disabled:
            return loaded
        problem = self._chains.problem(flow, loaded.trigger_positions, file)
        if problem is None:
            return loaded
        if problem.severity == "error":
            raise FlowLoop([problem])
        log.warning("flow may start itself", flow=str(flow.key), problem=problem.text())
        return replace(loaded, warnings=(*loaded.warnings, problem))

    def missing(self, key: FlowKey) -> NotFound:
        """The error for a flow that is not there, with the nearest that is."""
        # comparing with thousands would keep the loop
        known = [str(one) for one in self._records] if len(self._records) <= _MOST_COMPARED else []
        near = did_you_mean(str(key), known)
        return NotFound(f"no flow {key}", hint=near or "hub flows list shows those there are")

    async def retire(self, key: FlowKey) -> None:
        """Take a flow out of use and keep its history. Raises ``NotFound``."""
        async with self._changing:
            if key not in self._records:
                raise self.missing(key)
            await self._services.storage.retire_flow(key, at=self._services.clock.now())
            del self._records[key]
            self._chains.drop(key)
            self.broken.pop(str(key), None)
            self._tell(key)

    async def compiled(self, key: FlowKey, revision: int | None = None) -> CompiledFlow:
        """A revision ready to run, the newest by default. Raises ``NotFound``, ``InvalidFlow``, ``PluginError``."""
        if revision is None:
            record = await self.find(key)
            if record is None:
                raise self.missing(key)
            revision = record.revision
        found = self.known(key, revision)
        if found is None:
            _, source = await self._services.storage.flow_source(key, revision)
            found = self._make_ready(self.check(source), revision, source)
        return found

    def known(self, key: FlowKey, revision: int) -> CompiledFlow | None:
        """A revision that is ready to run already."""
        return self._ready.get(key, revision)

    def _make_ready(self, loaded: LoadedFlow, revision: int, source: str) -> CompiledFlow:
        services = self._services
        made = CompiledFlow(loaded.flow, revision, services.registry, services.functions)
        self._ready.add(made, text=len(source))
        return made

    def _carry_enabled(self, known: FlowRecord | None, loaded: LoadedFlow) -> Mapping[str, Any]:
        """Keep a trigger's enabled time over revisions; what was off, new or changed starts now."""
        since: Mapping[str, Any] = {}
        before: dict[str, TriggerDeclaration] = {}
        if known is not None and not known.disabled:
            since = known.summary.get(_ENABLED_SINCE, {})
            before = {one.id: one for one in triggers_of(known.summary) if not one.disabled}
        now = iso(self._services.clock.now())
        carried: dict[str, Any] = {}
        for trigger in loaded.flow.triggers:
            old = before.get(trigger.id)
            same = old is not None and (old.type, old.properties) == (trigger.type, trigger.properties)
            carried[trigger.id] = since.get(trigger.id, now) if same else now
        return carried

    def _tell(self, key: FlowKey) -> None:
        for callback in self._changed:
            callback(key)
        self._services.bus.tell("flow", str(key))
