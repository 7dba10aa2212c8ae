"""The command `depth-anything` in this process."""

from depth_anything import cli


def run(*arguments: object) -> int:
    """Exit code of `depth-anything ARGUMENTS`, in this process."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
