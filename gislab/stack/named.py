"""What every part of this room calls by name: the stack, its database, its error."""

NAME = "gis"
DATABASE = "gis"


class StackError(RuntimeError):
    """The stack cannot be as asked; the text says what to do."""
