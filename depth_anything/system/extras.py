"""Libraries that an extra of the package brings."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extra: str, what: str, otherwise: str = "") -> Iterator[None]:
    """Where this block imports a library that is not installed, one line says how to install it.

    >>> with needs("video", "reading videos"):
    ...     import av

    Args:
        extra: the name in `pip install "depth-anything[...]"`.
        what: what cannot be done without it.
        otherwise: how to do without.

    Raises:
        ValueError: see above.
    """
    try:
        yield
    except ImportError as error:
        library = (error.name or "a library").partition(".")[0]
        why = (
            "which is not installed" if isinstance(error, ModuleNotFoundError) else f"which cannot be loaded ({error})"
        )
        install = f'pip install "depth-anything[{extra}]"'
        raise ValueError(f"{what} needs {library}, {why}: {install}{otherwise}") from None
