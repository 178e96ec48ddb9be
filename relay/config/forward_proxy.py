"""The proxy on the way out, by the environment's variables."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from relay.config.hosts import is_host
from relay.errors import StartError


@dataclass(frozen=True, slots=True)
class ForwardProxy:
    """The proxy on the way out, as HTTPS_PROXY, HTTP_PROXY and NO_PROXY name it."""

    url: URL | None = None
    # The header that logs in there, if it takes one.
    login: Sequence[tuple[bytes, bytes]] = ()

    @classmethod
    def of_environment(cls, scheme: str, host: str, port: int) -> "ForwardProxy":
        """The one on the way to there, or none.

        Raises StartError where what is named cannot be used; the value, which may hold a password, is not told.
        """
        named = getproxies().get(scheme)
        if not named or proxy_bypass(f"{host}:{port}"):
            return cls()
        try:
            return cls._of(named)
        except ValueError:
            raise StartError(
                f"the environment variable {scheme.upper()}_PROXY (or in small letters) is no proxy's address; "
                "write one like http://proxy.example.com:3128, or set upstream.trust_env: false"
            ) from None

    @classmethod
    def _of(cls, named: str) -> "ForwardProxy":
        """Raises ValueError."""
        url = URL(named)
        if url.scheme not in {"http", "https"} or not url.port or not is_host(url.raw_host or ""):
            raise ValueError(named)
        if url.user is None:
            return cls(url)
        login = aiohttp.encode_basic_auth(url.user, url.password or "")
        return cls(url.with_user(None), [(b"Proxy-Authorization", login.encode("ascii"))])
