"""Whether hubs over one storage keep their files in one place: each puts a probe there and reads the others'.

Called at composition. A hub whose files the others cannot read would lose every payload that it does not move itself.
"""

from __future__ import annotations

from hub.errors import InvalidSettings, NotFound
from hub.plugin.file_store import FileStore
from hub.plugin.storage import Storage

PROBES = "node-probe-"
"""What the owners of probes begin with; nothing else owns them, and they stay."""
_CONTENT = b"one of several hubs was here"


async def share_files(storage: Storage, store: FileStore, instance: str) -> None:
    """Show the others a file of this installation, once theirs could be read. Raises ``InvalidSettings`` naming whose could not."""
    if storage.single_process:
        return
    for node in await storage.nodes():
        if node.is_this or node.is_silent or node.probe is None:
            continue
        try:
            content = await store.get(node.probe)
        except NotFound:
            content = b""
        if content != _CONTENT:
            raise InvalidSettings(
                f'the file store "{store.type}" is not the one of node {node.name}: a file that it wrote is not there',
                hint="leave files: {store: …} out, so that files are kept in the storage, or share one folder",
            )
    owner = PROBES + instance
    await store.delete([owner])
    await storage.put_probe(await store.put(owner, "probe", _CONTENT))
