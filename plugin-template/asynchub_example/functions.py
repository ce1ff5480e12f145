"""Functions for expressions: pure, quick, over plain JSON values."""


def example_short(text: str, length: int) -> str:
    """A text cut to a length, with a mark where something is missing."""
    return text if len(text) <= length else text[: max(length - 1, 0)] + "…"
