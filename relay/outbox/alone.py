"""The members of an outbox that one relay has for itself."""

from msgspec.structs import replace

from relay.fleet import Member


class Alone:
    """Knows of nobody but the relay in this process."""

    _member: Member | None = None

    async def announce(self, member: Member, *, now: float) -> None:
        """Remember what it told last."""
        self._member = replace(member, seen_at=now)

    async def depart(self, name: str) -> None:
        """Forget it."""
        if self._member and self._member.name == name:
            self._member = None

    async def members(self, *, now: float) -> list[Member]:  # noqa: ARG002 - others may be silent
        """It alone."""
        return [self._member] if self._member else []
