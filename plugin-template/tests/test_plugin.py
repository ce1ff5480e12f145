"""The hub finds the plugin, and everything in it."""

import json
import subprocess
import sys


def test_the_hub_loads_all_of_it():
    command = [sys.executable, "-m", "hub", "plugins", "list", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    [found] = [one for one in json.loads(done.stdout) if one["name"] == "example"]
    assert (found["state"], found["error"]) == ("loaded", None)
