"""What names a host: a DNS name or an IP address, alone or in a URL."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

# Labels of a DNS name; container networks also use underscores. What ends in a number is an IPv4 address or nothing
# (url.spec.whatwg.org/#ends-in-a-number-checker).
LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST = re.compile(rf"(?=.{{1,253}}\Z)(?!(?:.*\.)?[0-9]+\.?\Z){LABEL}(?:\.{LABEL})*\.?")


def is_host(text: str) -> bool:
    return bool(HOST.fullmatch(text)) or is_ip(text)


def is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def names_host(url: SplitResult) -> bool:
    """Whether it names a host that can be looked up, with or without a port; IPv6 in brackets, and nothing else."""
    host = url.hostname or ""
    written = re.escape(f"[{host}]" if ":" in host else host)
    return is_host(host) and bool(re.fullmatch(rf"{written}(?::[0-9]*)?", url.netloc, re.IGNORECASE))


def split_authority(text: str) -> tuple[str, int | None] | None:
    """Host (in lower case, without brackets) and port of `host`, `host:port` or `[::1]:port`; None for all else."""
    try:
        url = urlsplit(f"//{text}")
        if url.netloc == text and names_host(url):
            return str(url.hostname), url.port
    except ValueError:  # what is no port, or half a bracket
        pass
    return None
