"""Suggestions for misspelt words."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question with the closest known word, followed by a space; empty if none is close.

    >>> did_you_mean("infernno", ["turbo", "inferno"])
    'did you mean inferno? '
    """
    by_letters = {name.lstrip("-").casefold(): name for name in known}
    close = get_close_matches(word.lstrip("-").casefold(), by_letters, 1)
    return f"did you mean {by_letters[close[0]]}? " if close else ""


def one_of(word: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown word: the closest of `known`, and all of them.

    >>> one_of("infernno", ["turbo", "inferno"])
    'did you mean inferno? expected one of turbo, inferno'
    """
    known = list(known)
    return f"{did_you_mean(word, known)}expected one of {', '.join(known)}"
