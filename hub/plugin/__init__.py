"""THE plugin API: the only package plugins import.

A plugin is a module found by the entry-point group ``hub.plugins``; it defines hooks (``hub.plugin.hookspecs``)
that return component classes.
"""

from hub.clock import Clock, from_micros, iso, to_micros
from hub.errors import (
    Conflict,
    Denied,
    FenceRefused,
    HubError,
    InvalidInput,
    NotFound,
    StorageError,
    StorageLocked,
    StorageOverloaded,
    StorageUnavailable,
    TooLarge,
    did_you_mean,
)
from hub.model import jsontext
from hub.model.durations import format_duration, parse_duration
from hub.model.event import Delivery, Event, Occurrence, Origin, Receipt, StoredEvent, Verdict
from hub.model.execution import Claim, Execution, ExecutionState, NewExecution, Parent, Queue, QueueBehavior
from hub.model.flow import FlowRecord, TaskDeclaration
from hub.model.ids import FlowKey, TriggerKey, derived_id, new_id
from hub.model.task_run import TaskRun, TaskRunState, scope_of
from hub.plugin.component import Component, Model
from hub.plugin.confined import Folders, folder_of, opened
from hub.plugin.context import (
    BlockingCalls,
    Branch,
    Emit,
    EndNews,
    GroupOutcome,
    TaskContext,
    TaskFiles,
    TaskLogger,
    TriggerContext,
)
from hub.plugin.fields import DEFERRED, SCRIPT, Cases, Children, Decided, Deferred, Duration, Script, Static
from hub.plugin.file_store import FileStore
from hub.plugin.functions import task
from hub.plugin.hookspecs import hookimpl
from hub.plugin.outcomes import Fail, Failed, Outcome, Retry, Skip, Wait
from hub.plugin.secrets import SecretSource
from hub.plugin.shapes import (
    Batch,
    Polled,
    PollingTrigger,
    ReceivingTrigger,
    Request,
    RequestTask,
    Response,
    StreamingTrigger,
)
from hub.plugin.storage import (
    Accepted,
    Arrival,
    Change,
    ChangeSet,
    DeliveryKey,
    Ends,
    EventFilter,
    ExecutionFilter,
    Killed,
    LogLine,
    Page,
    Purged,
    Recorded,
    Restart,
    Slice,
    Storage,
    StorageSettings,
    Transition,
    TriggerMove,
    TriggerState,
)
from hub.plugin.task import Task
from hub.plugin.trigger import EventTrigger, HttpAnswer, HttpRequest, HttpTrigger, Trigger

API_VERSION = 1
"""Raised when something is added that a plugin may need: it says ``HUB_API = 1`` for the one it was written for."""
OLDEST_API = 1
"""Raised, with the major version, when a plugin written for an older one may no longer work."""

__all__ = [
    "API_VERSION",
    "DEFERRED",
    "OLDEST_API",
    "SCRIPT",
    "Accepted",
    "Arrival",
    "Batch",
    "BlockingCalls",
    "Branch",
    "Cases",
    "Change",
    "ChangeSet",
    "Children",
    "Claim",
    "Clock",
    "Component",
    "Conflict",
    "Decided",
    "Deferred",
    "Delivery",
    "DeliveryKey",
    "Denied",
    "Duration",
    "Emit",
    "EndNews",
    "Ends",
    "Event",
    "EventFilter",
    "EventTrigger",
    "Execution",
    "ExecutionFilter",
    "ExecutionState",
    "Fail",
    "Failed",
    "FenceRefused",
    "FileStore",
    "FlowKey",
    "FlowRecord",
    "Folders",
    "GroupOutcome",
    "HttpAnswer",
    "HttpRequest",
    "HttpTrigger",
    "HubError",
    "InvalidInput",
    "Killed",
    "LogLine",
    "Model",
    "NewExecution",
    "NotFound",
    "Occurrence",
    "Origin",
    "Outcome",
    "Page",
    "Parent",
    "Polled",
    "PollingTrigger",
    "Purged",
    "Queue",
    "QueueBehavior",
    "Receipt",
    "ReceivingTrigger",
    "Recorded",
    "Request",
    "RequestTask",
    "Response",
    "Restart",
    "Retry",
    "Script",
    "SecretSource",
    "Skip",
    "Slice",
    "Static",
    "Storage",
    "StorageError",
    "StorageLocked",
    "StorageOverloaded",
    "StorageSettings",
    "StorageUnavailable",
    "StoredEvent",
    "StreamingTrigger",
    "Task",
    "TaskContext",
    "TaskDeclaration",
    "TaskFiles",
    "TaskLogger",
    "TaskRun",
    "TaskRunState",
    "TooLarge",
    "Transition",
    "Trigger",
    "TriggerContext",
    "TriggerKey",
    "TriggerMove",
    "TriggerState",
    "Verdict",
    "Wait",
    "derived_id",
    "did_you_mean",
    "folder_of",
    "format_duration",
    "from_micros",
    "hookimpl",
    "iso",
    "jsontext",
    "new_id",
    "opened",
    "parse_duration",
    "scope_of",
    "task",
    "to_micros",
]
