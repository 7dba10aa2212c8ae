"""Whom a browser may bring: requests to this server's own names, from pages of its own.

A page elsewhere can let its own name point to 127.0.0.1 and then read this server's answers as if they were its own
(DNS rebinding); or it can post a form here without reading the answer. The request's Host shows the first, its Origin
the second: a browser sets both, and no page can change them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

_AUTHORITY = re.compile(r"(\[[^\[\]@/\s]+\]|[^\[\]@/:\s]+)(?::\d*)?")


@dataclass(frozen=True)
class Site:
    """The names by which a server may be asked.

    Raises:
        ValueError: one of the names is an address of a page, or has a port.
    """

    host: str
    """What it listens on. Where others reach it, every address in numbers will do: no name is rebound to be one."""
    names: tuple[str, ...] = ()
    """Further ones (`--host-name`); those of the loopback are always known. Pages under these names may post, too."""

    def __post_init__(self) -> None:
        for name in self.names:
            if name_of(name) != name:
                raise ValueError(f"--host-name {name}: expected a name in small letters, such as depth.example.org")

    def refusal(self, host: str | None, origin: str | None) -> tuple[int, str] | None:
        """Status and line for a request with these headers; None where it may be carried out.

        A request without Host comes from no browser, and is carried out.
        """
        name = name_of(host) if host is not None else "localhost"
        others = not is_loopback(self.host)
        known = name is not None and (
            is_loopback(name) or name in (self.host, *self.names) or (others and is_address(name))
        )
        if not known:
            return 421, f"this server is not called {host!r}: start it with --host-name NAME for each name it has"
        if origin is None:
            return None
        _, _, authority = origin.partition("://")
        if authority.lower() == (host or "").lower() or name_of(authority) in self.names:
            return None
        return 403, f"a page of {origin} asks: only this server's own page may, and those of its --host-name NAME"


def name_of(authority: str) -> str | None:
    """The host of `name:port` or `[address]:port`, in small letters; None for anything else."""
    found = _AUTHORITY.fullmatch(authority if authority.count(":") < 2 or authority[0] == "[" else f"[{authority}]")
    return found[1].lower().strip("[]").rstrip(".") if found else None


def is_address(name: str) -> bool:
    """Whether it is an IP address in numbers."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Whether it names this machine and cannot be reached by others."""
    return name == "localhost" or (is_address(name) and ip_address(name).is_loopback)
