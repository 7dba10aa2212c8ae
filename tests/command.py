"""The command `depth-anything` in this process."""

from depth_anything.__main__ import main


def run(*arguments: object) -> int:
    """Exit code of `depth-anything ARGUMENTS`, in this process."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
