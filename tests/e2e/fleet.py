"""A node's login to the Fleet API by hand, with a timestamp of one's choice: what a thief of one could do with it.

Flower's interface for this is not public; all that is used of it is here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import grpc
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.common.constant import PUBLIC_KEY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from tests.e2e.plants import Plants

Login = Sequence[tuple[str, str | bytes]]


def login(plants: Plants, site: str, ahead_seconds: float = 0.0) -> Login:
    """What a site's node sends with each call, by a clock that is ahead by so many seconds, or behind."""
    key = load_ssh_private_key(plants.connection(site).node_key.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    timestamp = (datetime.now(UTC) + timedelta(seconds=ahead_seconds)).isoformat()
    return (
        (PUBLIC_KEY_HEADER, public_key_to_bytes(key.public_key())),
        (TIMESTAMP_HEADER, timestamp),
        (SIGNATURE_HEADER, sign_message(key, timestamp.encode())),
    )


def heartbeat(plants: Plants, site: str, signed: Login, *, interval: float = 30.0) -> str:
    """Says "I am here" for a site's node with somebody's login; empty if that is believed, else the refusal."""
    node = int(json.loads(plants.owner.registered.read_text())[site])
    request = SendNodeHeartbeatRequest(heartbeat_interval=interval)
    request.node.node_id = node
    with grpc.secure_channel(plants.owner.fleet, grpc.ssl_channel_credentials(plants.owner.ca.read_bytes())) as channel:
        call = channel.unary_unary(
            "/flwr.proto.Fleet/SendNodeHeartbeat",
            request_serializer=SendNodeHeartbeatRequest.SerializeToString,
            response_deserializer=SendNodeHeartbeatResponse.FromString,
        )
        try:
            return "" if call(request, metadata=signed, timeout=60).success else "no success"
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
