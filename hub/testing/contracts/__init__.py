"""Contract suites: what every component of a kind promises, as tests. One module for each kind.

A suite is a class that a plugin's tests subclass; fixtures say what it is about::

    class TestGreet(TaskContract):
        task = Greet

        @pytest.fixture
        def fields(self):
            return {"name": "Ada"}

The suite of storages is older and lies beside this package, in ``hub.testing.storage_contract``.
"""
