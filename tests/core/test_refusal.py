"""What the relay answers itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

from relay.core.refusal import DETAILS
from relay.route import FAILURES

PREFIXES = {"RequestRefused": "request", "UpstreamError": "upstream"}


def raised() -> Iterator[str]:
    """Every refusal that the code names where it raises it."""
    for path in Path("relay").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=kind), args=[_, ast.Constant(value=str(reason))]) if kind in PREFIXES:
                    yield f"{PREFIXES[kind]}_{reason}"


def test_every_refusal_has_its_words() -> None:
    """One without is answered 500 instead."""
    reasons = {*raised(), *(f"upstream_{reason}" for _, _, reason in FAILURES)}

    assert reasons - DETAILS.keys() == set()
    assert {"request_target_refused", "upstream_busy", "upstream_reset"} < reasons
