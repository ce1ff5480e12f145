"""Every blueprint can be saved with what is installed."""

from pathlib import Path

import pytest

BLUEPRINTS = sorted((Path(__file__).parent.parent / "blueprints").glob("*/*.hub.yaml"))


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.parent.name)
async def test_a_blueprint_can_be_saved(hub_kit, path):
    async with hub_kit.hub(with_triggers=False) as hub:
        await hub.put(path.read_text())
