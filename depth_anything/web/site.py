"""Protection against requests that foreign pages send through a browser.

A foreign page can point its own host name to 127.0.0.1 and read the responses of this server as its own (DNS
rebinding), or it can post a form to this server without reading the response. The Host header reveals the first, the
Origin header the second: the browser sets both, and a page cannot change them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

_ORIGIN = re.compile(r"https?://([^/\[\]@:*\sA-Z]+|\[[0-9a-f:]+\])(:\d+)?")
_AUTHORITY = re.compile(r"(\[[^\[\]@/\s]+\]|[^\[\]@/:\s]+)(?::\d*)?")


@dataclass(frozen=True)
class Site:
    """The host names of a server.

    Raises:
        ValueError: a name is a URL or has a port, or an origin is not one.
    """

    host: str
    """The address it listens on. If others can reach it, all IP addresses are accepted: they cannot be rebound."""
    names: tuple[str, ...] = ()
    """Further names (`--host-name`) besides those of the loopback. Pages under these names may post, too."""
    origins: tuple[str, ...] = ()
    """Pages of other servers (`--allow-origin`) that may send requests and read the responses (CORS)."""

    def __post_init__(self) -> None:
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"--allow-origin {origin}: expected a page's scheme and host in small letters, such as "
                    "https://app.example.org or http://localhost:3000"
                )
        for name in self.names:
            if name_of(name) != name:
                raise ValueError(f"--host-name {name}: expected a name in small letters, such as depth.example.org")

    def refusal(self, host: str | None, origin: str | None) -> tuple[int, str] | None:
        """Status and message that refuse a request with these headers; None if it is allowed.

        A request without Host does not come from a browser, and is allowed.
        """
        name = name_of(host) if host is not None else "localhost"
        others = not is_loopback(self.host)
        known = name is not None and (
            is_loopback(name) or name in (self.host, *self.names) or (others and is_address(name))
        )
        if not known:
            return 421, f"{host!r} is not a name of this server: start it with --host-name NAME for each of its names"
        if origin is None or origin in self.origins:
            return None
        _, _, authority = origin.partition("://")
        if authority.lower() == (host or "").lower() or name_of(authority) in self.names:
            return None
        return (
            403,
            f"request from a page of {origin}: only pages of this server, of its --host-name NAME and of an "
            "--allow-origin URL may send requests",
        )


def name_of(authority: str) -> str | None:
    """The host of `name:port` or `[address]:port` in lower case; None for anything else."""
    found = _AUTHORITY.fullmatch(authority if authority.count(":") < 2 or authority[0] == "[" else f"[{authority}]")
    return found[1].lower().strip("[]").rstrip(".") if found else None


def is_address(name: str) -> bool:
    """Whether it is an IP address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Whether it is this machine and other machines cannot reach it."""
    return name == "localhost" or (is_address(name) and ip_address(name).is_loopback)
