"""Libraries that an extra of the package brings."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

EXTRA_OF = {
    "OpenEXR": "3d",
    "av": "video",
    "h5py": "evaluate",
    "lmdb": "train",
    "mitsuba": "render",
    "transformers": "transfer",
}
"""The extra with each library that a set, an encoder or an option of a training run needs."""
NOT_INSTALLED = "which is not installed"


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
        why = NOT_INSTALLED if isinstance(error, ModuleNotFoundError) else f"which cannot be loaded ({error})"
        raise ValueError(advice(library, why, extra, what, otherwise)) from None


def lacking(library: str, what: str, otherwise: str = "") -> Iterator[str]:
    """The line of `needs`, before the library is imported; nothing if it is installed.

    Args:
        library: a key of EXTRA_OF.
        what: see `needs`.
        otherwise: see `needs`.
    """
    if find_spec(library) is None:
        yield advice(library, NOT_INSTALLED, EXTRA_OF[library], what, otherwise)


def advice(library: str, why: str, extra: str, what: str, otherwise: str) -> str:
    """What needs which library, and how to install it."""
    return f'{what} needs {library}, {why}: pip install "depth-anything[{extra}]"{otherwise}'
