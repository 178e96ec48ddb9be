"""What a machine lacks skips a test, but never in CI: there, a check that did not run has failed."""

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """End the test because of *what* is missing."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
