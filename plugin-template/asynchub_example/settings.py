"""What ``plugins.example`` in ``hub.yaml`` may hold."""

from pydantic import Field

from hub.plugin import Model


class ExampleSettings(Model):
    """Where the service is."""

    api_url: str = Field("http://127.0.0.1:9000", description="The service's address.")
