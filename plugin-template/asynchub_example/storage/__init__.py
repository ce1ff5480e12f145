"""A storage to begin with: it keeps the whole contract, in dictionaries that its process takes along.

Put your database in their place, module by module: ``storage.py`` is what the hub calls, ``executions.py`` is
admission, claims and ends, ``events.py`` events and known deliveries. ``tests/test_storage.py`` says what has to
hold. Writes that belong together are one call, and have to be one transaction.
"""
