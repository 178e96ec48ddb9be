"""What an environment's rules make of an evaluation."""

import re
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from relay.core.identity import is_sampled
from relay.core.translate import Translation, translate
from relay.model import DeadLetter, Environment, Evaluation, Event, Verdict

# As Flagsmith's own integration does.
EVERY_CALL = Verdict(True, "every_call")
EMPTY = Verdict(False, "empty")
SHADOW = Verdict(False, "shadow")


class Decision(msgspec.Struct, frozen=True):
    """What becomes of an evaluation, and why."""

    verdict: Verdict
    # What goes into the outbox; None: nothing.
    entry: Event | DeadLetter | None = None
    # What the event is, or in shadow would be; None where the verdict came before there was one.
    translation: Translation | None = None


def decide(evaluation: Evaluation, environment: Environment, *, key: str, captured_at: float) -> Decision:
    """Whether *evaluation* is sent, and as what; *key* and *captured_at* are the event's, if there will be one.

    The first of these is the reason why it is not: "blocked", "filtered", "transient", "sampled_out", "empty" (after
    features are filtered), "shadow". An event that can never be sent is a dead letter, with the reasons of `translate`.
    """
    for reason, applies in SKIPS.items():
        if applies(evaluation, environment):
            return Decision(Verdict(False, reason))
    evaluation = _with_features(evaluation, environment.features)
    if environment.skip_empty and not evaluation.flags:
        return Decision(EMPTY)
    translation = translate(evaluation, environment, key=key, captured_at=captured_at)
    if environment.shadow:
        return Decision(SHADOW, None, translation)
    entry = translation.entry
    verdict = Verdict(False, entry.cause.reason) if isinstance(entry, DeadLetter) else EVERY_CALL
    return Decision(verdict, entry, translation)


def _with_features(evaluation: Evaluation, pattern: re.Pattern[str] | None) -> Evaluation:
    """*evaluation* with those features whose whole name is of *pattern*; None: all."""
    if pattern is None:
        return evaluation
    return replace(evaluation, flags=tuple(flag for flag in evaluation.flags if pattern.fullmatch(flag.name)))


def _is_blocked(evaluation: Evaluation, environment: Environment) -> bool:
    return environment.blocks is not None and environment.blocks(evaluation.identity)


def _is_filtered(evaluation: Evaluation, environment: Environment) -> bool:
    return environment.identities is not None and not environment.identities.fullmatch(evaluation.identity)


def _is_transient(evaluation: Evaluation, environment: Environment) -> bool:
    return environment.skip_transient and evaluation.transient


def _is_sampled_out(evaluation: Evaluation, environment: Environment) -> bool:
    return environment.sample < 1 and not is_sampled(environment.name, evaluation.identity, environment.sample)


# What is asked of the identity, in this order.
SKIPS: dict[str, Callable[[Evaluation, Environment], bool]] = {
    "blocked": _is_blocked,
    "filtered": _is_filtered,
    "transient": _is_transient,
    "sampled_out": _is_sampled_out,
}
