"""The exception with which a command reports that some of its inputs failed."""


class Failed(Exception):
    """Some inputs failed; their errors have been printed."""

    def __init__(self, code: int):
        self.code = code
