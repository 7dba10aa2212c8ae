"""Words that were misspelt."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question about the closest word that there is, with a space behind it; empty where none is close.

    >>> did_you_mean("infernno", ["turbo", "inferno"])
    'did you mean inferno? '
    """
    by_letters = {name.lstrip("-").casefold(): name for name in known}
    close = get_close_matches(word.lstrip("-").casefold(), by_letters, 1)
    return f"did you mean {by_letters[close[0]]}? " if close else ""


def one_of(word: str, known: Iterable[str]) -> str:
    """What a word that is none of `known` is answered: the closest of them, and all.

    >>> one_of("infernno", ["turbo", "inferno"])
    'did you mean inferno? expected one of turbo, inferno'
    """
    known = list(known)
    return f"{did_you_mean(word, known)}expected one of {', '.join(known)}"
