"""Errors for unknown words on the command line, which suggest the nearest one or ours for another program's option."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tyro

from depth_anything.system.words import did_you_mean, one_of

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
    "evaluate": {"--pictures": "--images"},
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
    """Refuse unknown commands, actions, options and values of options with fixed values, before other errors.

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
            said = did_you_mean(word, ("--help", "--version")) or "depth-anything --help says how it is used"
            raise ValueError(f"no option {word!r} before a command; {said.strip()}")
        return
    if word not in by_name:
        said = did_you_mean(word, (*by_name, "--help", "--version")) or "depth-anything --help lists them"
        raise ValueError(f"no command {word!r}; {said.strip()}")
    names, target, rest = [word], by_name[word], list(arguments[1:])
    actions = _actions(target)
    if actions:
        if rest and rest[0] in ("-h", "--help"):
            return
        if not rest or rest[0].startswith("-"):
            raise ValueError(f"{word}: expected an action, one of {', '.join(actions)}; then its options")
        _check_choice(f"{word} has no action", rest[0], actions)
        names, target, rest = [*names, rest[0]], actions[rest[0]], rest[1:]
    rest = rest[: rest.index("--")] if "--" in rest else rest
    _check_options(" ".join(names), options_of(target), rest)
    first = next(iter(get_type_hints(target, include_extras=True).values()), None)
    if rest and not rest[0].startswith("-") and tyro.conf.Positional in _markers(first) and _choices(first):
        _check_choice(f"{word} has no action", rest[0], _choices(first))


def _check_options(command: str, known: dict[str, Any], rest: Sequence[str]) -> None:
    """Refuse options that are not `known`, and values that an option does not take."""
    unknown = [argument for argument in rest if _is_option(argument) and _spelt(argument) not in known]
    unknown = [argument for argument in unknown if not argument.startswith("--tyro-")]
    if unknown:
        said = [in_our_words(_spelt(option)) or did_you_mean(_long(option, known), known).strip() for option in unknown]
        if not all(said):
            said = [*filter(None, said), f"depth-anything {command} --help lists what it has"]
        plain = ", ".join(option.split("=")[0] for option in unknown)
        raise ValueError(f"{command} has no {plain}: {'; '.join(said)}")
    for place, argument in enumerate(rest):
        choices = _choices(known.get(_spelt(argument))) if _is_option(argument) else ()
        value = argument.partition("=")[2] or next(iter(rest[place + 1 :]), "")
        if choices and value and not _is_option(value):
            _check_choice(f"{_spelt(argument)} has no", value, choices)


def _check_choice(what: str, word: str, known: Iterable[str]) -> None:
    if word not in known:
        raise ValueError(f"{what} {word!r}; {one_of(word, known)}")


def in_our_words(option: str) -> str:
    """A message about an option of the authors' scripts; empty for any other option."""
    return f"the authors' {option} is {OFFICIAL[option]}" if option in OFFICIAL else ""


def options_of(target: Any) -> dict[str, Any]:
    """The options of a command, a function or a dataclass, with their types; those of dataclasses in it too."""
    options: dict[str, Any] = {"--help": None, "-h": None}
    for name, annotation in get_type_hints(target, include_extras=True).items():
        markers = _markers(annotation)
        if name == "return" or tyro.conf.Positional in markers:
            continue
        kind = get_args(annotation)[0] if get_args(annotation) else annotation
        if is_dataclass(kind):
            options |= options_of(kind)
            continue
        options[f"--{name.replace('_', '-')}"] = annotation
        for marker in markers:
            options |= {alias: annotation for alias in getattr(marker, "aliases", None) or ()}
    return options


def _actions(command: Callable) -> dict[str, type]:
    """The second words of a command that takes one of several dataclasses."""
    annotation = next(iter(get_type_hints(command).values()), None)
    kinds = [kind for kind in get_args(annotation) if is_dataclass(kind)]
    return {kind.__name__.lower(): kind for kind in kinds}  # type: ignore[union-attr]


def _choices(annotation: Any) -> tuple[str, ...]:
    """The words that a type allows; empty where it allows any."""
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    found = [_choices(inner) for inner in get_args(annotation) if inner is not type(None)]
    return found[0] if found and get_origin(annotation) is not tuple else ()


def _markers(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__metadata__", ())


def _is_option(word: str) -> bool:
    """Whether a word begins as options do; a lone hyphen is standard input, and numbers may be below 0."""
    return word.startswith("-") and word != "-" and re.match(r"-\.?\d", word) is None


def _long(option: str, known: Iterable[str]) -> str:
    """A short option that is not known, as the one long option that begins with its letter."""
    spelt = _spelt(option)
    if len(spelt) != 2:
        return spelt
    begun = [name for name in known if name.startswith(f"--{spelt[1]}")]
    return begun[0] if len(begun) == 1 else spelt


def _spelt(option: str) -> str:
    return option.split("=")[0].replace("_", "-")
