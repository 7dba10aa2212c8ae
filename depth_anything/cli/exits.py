"""How a command says that some of its inputs failed."""


class Failed(Exception):
    """Some inputs failed; their lines are printed already."""

    def __init__(self, code: int):
        self.code = code
