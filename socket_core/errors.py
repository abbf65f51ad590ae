"""The one exception family of the product.

Every message says what was expected, what was found, where, and what to do about it;
:class:`SocketError` puts these parts together so that no caller forgets one.
Exit codes are listed in ``docs/exit-codes.md``.
"""

from __future__ import annotations

from typing import ClassVar


class SocketError(Exception):
    """Base of all errors that a user can act on.

    Args:
        what: What was expected and what was found, in one sentence.
        where: The file, key or index concerned; empty if there is none.
        remedy: What the user can do; empty only if nothing can be done.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "error"

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        parts = [f"{where}: {what}" if where else what]
        if remedy:
            parts.append(f"What to do: {remedy}")
        super().__init__("\n".join(parts))


class ConfigError(SocketError):
    """A configuration file or key is wrong."""

    exit_code = 2
    code = "config"


class DataError(SocketError):
    """Images on disk are missing, unreadable or do not fit together."""

    exit_code = 3
    code = "data"


class ReleaseError(SocketError):
    """A release cannot be trusted or does not fit the network."""

    exit_code = 4
    code = "release"


class MethodError(SocketError):
    """A method was set up in a way that it cannot run with."""

    exit_code = 5
    code = "method"


class FederationError(SocketError):
    """A federation cannot start or go on (quorum, checkpoint, a failed run)."""

    exit_code = 6
    code = "federation"


class PolicyError(SocketError):
    """A site's policy refuses what it was asked to do."""

    exit_code = 7
    code = "policy"


class PrivacyError(SocketError):
    """Differential privacy was asked for and cannot be had: nothing is trained without it then."""

    exit_code = 8
    code = "privacy"


class DeploymentError(SocketError):
    """A deployment cannot be set up or started (keys, certificates, ports, services)."""

    exit_code = 9
    code = "deployment"
