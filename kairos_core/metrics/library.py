"""The libraries of the extra, imported when they are needed: the core does without."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

from kairos_core.errors import ConfigurationError

_DISTRIBUTION = "kairos"


def prometheus() -> Any:
    """The module `prometheus_client`.

    Raises:
        ConfigurationError: it is not installed.
    """
    return _module("prometheus_client", "metrics", "prometheus-client: pip install 'kairos[metrics]'")


def opentelemetry() -> Any:
    """The module `opentelemetry.trace`, of OpenTelemetry's API.

    Raises:
        ConfigurationError: it is not installed.
    """
    return _module("opentelemetry.trace", "spans", "opentelemetry-api: pip install opentelemetry-api")


def _module(name: str, setting: str, needed: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(setting, f"not without the package {needed}") from error


def version() -> str:
    """The version of Kairos that is installed; `unknown` where it runs from its sources."""
    try:
        return metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
