"""The dates of HTTP headers."""

from email.utils import parsedate_to_datetime


def read_date(text: str) -> float | None:
    """Seconds since 1970 of "Sun, 06 Nov 1994 08:49:37 GMT"; None where *text* is no date."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
