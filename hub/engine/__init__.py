"""From a stored event to a stored outcome: intake, admission, dispatch, execution, recovery."""
