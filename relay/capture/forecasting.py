"""Let the forecast see what every answer comes to, and try out on the way what `send: on_change` would send."""

import secrets
from collections.abc import Mapping
from hashlib import blake2b

from relay.capture.reading import Prepared
from relay.core.coalesce import decide
from relay.core.forecast import Forecast, ways
from relay.core.recent import Recent
from relay.core.status import ForecastStatus
from relay.model import Clock, Pace, Sent, Verdict

# Identities of all environments together that on_change is tried out with; about 120 bytes each, measured.
IDENTITIES = 20_000


class Forecasts:
    """A forecast for each environment that `follow` named last. It begins with the process."""

    def __init__(self, clock: Clock) -> None:
        self._paces: Mapping[str, Pace] = {}
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._sent: Recent[bytes, Sent] = Recent(IDENTITIES)
        self._forecasts: dict[str, Forecast] = {}

    def follow(self, paces: Mapping[str, Pace]) -> None:
        """Tell of the environments of *paces* from now on; others are forgotten."""
        self._paces = paces
        self._forecasts = {name: found for name, found in self._forecasts.items() if name in paces}

    def see_answer(self, environment: str, prepared: Prepared) -> None:
        """Count what an answer of *environment* came to."""
        if not prepared.refused:
            verdict = prepared.journal.verdict if prepared.journal else Verdict(False, prepared.skipped)
            self.see(environment, verdict, 1, prepared)

    def see(self, environment: str, verdict: Verdict, times: int, prepared: Prepared | None = None) -> None:
        """Count answers of *environment* that came to *verdict*; for unchanged ones nothing more need be known."""
        if (pace := self._paces.get(environment)) is not None:
            sent = ways(verdict, pace.send, lambda: self._is_news(prepared, pace.heartbeat))
            now = self._clock.monotonic()
            self._forecast(environment, now).see(verdict.reason, sent, now, times)

    def tell(self, environment: str) -> ForecastStatus | None:
        """The forecast as of now; None for an environment that is not followed."""
        pace = self._paces.get(environment)
        if pace is None:
            return None
        now = self._clock.monotonic()
        return self._forecast(environment, now).tell(pace, now, overflowed=self._sent.overflowed)

    def _is_news(self, prepared: Prepared | None, heartbeat: float) -> bool:
        if prepared is None or prepared.journal is None or prepared.fingerprint is None:
            return False
        entry, fingerprint = prepared.journal, prepared.fingerprint
        name = f"{entry.environment}\0{entry.identity}".encode()
        who = blake2b(name, key=self._key, digest_size=8).digest()
        news = decide(fingerprint, entry.at, self._sent.get(who), heartbeat).send
        if news:
            self._sent.put(who, Sent(fingerprint, entry.at))
        return news

    def _forecast(self, environment: str, now: float) -> Forecast:
        if (found := self._forecasts.get(environment)) is None:
            found = self._forecasts[environment] = Forecast(now)
        return found
