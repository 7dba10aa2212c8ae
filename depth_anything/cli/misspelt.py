"""Errors for unknown words on the command line, which suggest the nearest one or ours for another program's option."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import tyro

OFFICIAL = {
    "--encoder": "--model (vits: v2-small, or V1's v1-small; vitb: v2-base; vitl: v2-large)",
    "--img-path": "the images alone: depth-anything predict IMAGES",
    "--video-path": "the video alone: depth-anything video VIDEO",
    "--outdir": "--out",
    "--pred-only": "--save color (and without it, --save side)",
    "--grayscale": "--colors gray",
    "--load-from": "--model FILE, with --variant NAME for the model in it",
    "--save-numpy": "--save npy",
    "--max-depth": "--variant, which states the range",
}
"""Options of the authors' scripts (run.py, run_video.py), and the corresponding options here."""

RENAMED = {
    "label": {"--unit-size": "--shard-size"},
    "video": {"--steady": "--stabilise"},
}
"""Options of version 0.1 by command: old spelling -> new spelling. The old spellings are still accepted."""


def with_new_spellings(arguments: Sequence[str]) -> list[str]:
    """The same command line with every renamed option in its new spelling."""
    renamed = RENAMED.get(arguments[0], {})
    end = arguments.index("--") if "--" in arguments else len(arguments)

    def new_spelling(argument: str) -> str:
        option, equals, value = argument.partition("=")
        return renamed.get(_spelt(option), option) + equals + value

    return [*map(new_spelling, arguments[:end]), *arguments[end:]]


def check_words(arguments: Sequence[str], commands: Iterable[Callable]) -> None:
    """Refuse a command or an option that does not exist, before the line is parsed.

    Raises:
        ValueError: the message suggests the nearest command, or option of this command.
    """
    by_name = {command.__name__: command for command in commands}
    word = arguments[0]
    if word.startswith("-"):
        official = [_spelt(argument) for argument in arguments if _spelt(argument) in OFFICIAL]
        if official:
            raise ValueError("; ".join(["a command comes first, predict or video", *map(in_our_words, official)]))
        if word not in ("-h", "--help") and not word.startswith("--tyro-"):
            said = nearest(word, ("--help", "--version")) or "depth-anything --help says how it is used"
            raise ValueError(f"no option {word!r} before a command; {said}")
        return
    if word not in by_name:
        raise ValueError(f"no command {word!r}; {nearest(word, by_name) or 'depth-anything --help lists them'}")
    names, target = [word], by_name[word]
    actions = _actions(target)
    if actions and len(arguments) > 1 and not arguments[1].startswith("-"):
        if arguments[1] not in actions:
            said = nearest(arguments[1], actions) or f"expected one of {', '.join(actions)}"
            raise ValueError(f"{word} has no action {arguments[1]!r}; {said}")
        names, target = [*names, arguments[1]], actions[arguments[1]]
    elif actions:
        return
    known = options_of(target)
    rest = arguments[len(names) :]
    rest = rest[: rest.index("--")] if "--" in rest else rest
    unknown = [argument for argument in rest if argument.startswith("--") and _spelt(argument) not in known]
    if unknown and not unknown[0].startswith("--tyro-"):
        command = " ".join(names)
        said = [in_our_words(_spelt(option)) or nearest(_spelt(option), known) for option in unknown]
        if not all(said):
            said = [*filter(None, said), f"depth-anything {command} --help lists what it has"]
        plain = ", ".join(option.split("=")[0] for option in unknown)
        raise ValueError(f"{command} has no {plain}: {'; '.join(said)}")


def in_our_words(option: str) -> str:
    """A message about an option of the authors' scripts; empty for any other option."""
    return f"the authors' {option} is {OFFICIAL[option]}" if option in OFFICIAL else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """A question that suggests the closest known word; empty if none is close."""
    by_letters = {name.lstrip("-"): name for name in known}
    close = get_close_matches(word.lstrip("-"), by_letters, 1)
    return f"did you mean {by_letters[close[0]]}?" if close else ""


def options_of(target: Any) -> set[str]:
    """The long options of a command, which is a function or a dataclass, and of dataclasses in it."""
    options = {"--help"}
    for name, annotation in get_type_hints(target, include_extras=True).items():
        if name == "return" or tyro.conf.Positional in _markers(annotation):
            continue
        kind = get_args(annotation)[0] if get_args(annotation) else annotation
        options |= options_of(kind) if is_dataclass(kind) else {f"--{name.replace('_', '-')}"}
    return options


def _actions(command: Callable) -> dict[str, type]:
    """The second words of a command that takes one of several dataclasses."""
    annotation = next(iter(get_type_hints(command).values()), None)
    kinds = [kind for kind in get_args(annotation) if is_dataclass(kind)]
    return {kind.__name__.lower(): kind for kind in kinds}  # type: ignore[union-attr]


def _markers(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__metadata__", ())


def _spelt(option: str) -> str:
    return option.split("=")[0].replace("_", "-")
