"""The YAML: read once, checked whole, then frozen."""

from relay.config.loader import Findings, Loaded, examine, load
from relay.config.mistakes import Mistake
from relay.config.models import (
    AdminConfig,
    CaptureConfig,
    Config,
    DeadLettersConfig,
    ListenConfig,
    LogConfig,
    OutboxConfig,
    ShutdownConfig,
    UpstreamConfig,
)
from relay.config.rules import EnvironmentConfig, HeapConfig
from relay.config.source import Source

__all__ = [
    "AdminConfig",
    "CaptureConfig",
    "Config",
    "DeadLettersConfig",
    "EnvironmentConfig",
    "Findings",
    "HeapConfig",
    "ListenConfig",
    "Loaded",
    "LogConfig",
    "Mistake",
    "OutboxConfig",
    "ShutdownConfig",
    "Source",
    "UpstreamConfig",
    "examine",
    "load",
]
