"""The Flower ClientApp: routes messages to handlers and turns every failure into a reason code.

Exception text never travels: Flower would send it to the server, paths included.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client import handlers
from client.egress import seal
from client.site import Site, open_site
from protos.codec import WireError, refusal
from protos.wire_pb2 import (
    REASON_CONFIG,
    REASON_DATA,
    REASON_INTERNAL,
    REASON_METHOD,
    REASON_POLICY,
    REASON_RELEASE,
    Reason,
)
from socket_core.errors import ConfigError, DataError, MethodError, PolicyError, PrivacyError, ReleaseError, SocketError

log = logging.getLogger("socket_fl.client")

REASONS: tuple[tuple[type[SocketError], Reason], ...] = (
    (PolicyError, REASON_POLICY),
    (PrivacyError, REASON_POLICY),
    (ConfigError, REASON_CONFIG),
    (DataError, REASON_DATA),
    (ReleaseError, REASON_RELEASE),
    (MethodError, REASON_METHOD),
)

app = ClientApp()


def answer(handler: Callable[[Site, RecordDict], RecordDict], message: Message, context: Context) -> Message:
    """Runs a handler; whatever goes wrong becomes a refusal with a code, and the details stay in the log here."""
    site: Site | None = None
    try:
        site = open_site(context)
        return Message(handler(site, message.content), reply_to=message)
    except WireError as error:
        log.warning("request refused: %s", error)
        reason = error.reason
    except SocketError as error:
        log.warning("request refused: %s", error)
        reason = next((code for kind, code in REASONS if isinstance(error, kind)), REASON_INTERNAL)
    except Exception:
        log.exception("request failed")
        reason = REASON_INTERNAL
    return Message(_refuse(site, reason), reply_to=message)


def _refuse(site: Site | None, reason: Reason) -> RecordDict:
    """A refusal, journalled like all that leaves; one that cannot be written down leaves without the site's name."""
    if site is not None:
        try:
            return seal(refusal(site.name, reason), site.gate)
        except Exception:
            log.exception("the refusal could not be journalled")
    return refusal("", reason)


@app.query("enrol")
def enrol(message: Message, context: Context) -> Message:
    """Who are you, and do you hold this release?"""
    return answer(handlers.enrol, message, context)


@app.query("release")
def release(message: Message, context: Context) -> Message:
    """Here is a release: check and keep it."""
    return answer(handlers.receive_release, message, context)


@app.train("round")
def train(message: Message, context: Context) -> Message:
    """Adapt for one round."""
    return answer(handlers.train_round, message, context)


@app.evaluate("round")
def evaluate(message: Message, context: Context) -> Message:
    """Test these parameters under your own BatchNorm."""
    return answer(handlers.evaluate_round, message, context)
