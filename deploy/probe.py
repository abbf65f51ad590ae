"""Whether an owner's SuperLink can be reached with a kit's certificate, and if not, why, in a sentence.

Flower's SuperNode tries again for ever and says nothing meanwhile.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

SECONDS = 10.0
EVERY, EVERY_WHEN_WELL = 15.0, 60.0
_FAULTS = (
    ((9,), "is not valid yet, by this machine's clock: compare it with the owner's"),
    ((10,), "has ended: the owner has to renew it, unless this machine's clock is wrong"),
    ((62, 64), "is for another name: correct connection.superlink, or ask the owner"),
)
"""What OpenSSL's codes for dates and names mean; both are checked once the authority is known to be the kit's."""


def reach(superlink: str, ca: Path, *, seconds: float = SECONDS) -> str:
    """Opens a TLS connection and closes it; empty if all is well, else what is wrong.

    Args:
        superlink: Host and port.
        ca: Certificate of the authority that the server's must be from.
        seconds: How long it may take.
    """
    host, _, port = superlink.rpartition(":")
    host = host.strip("[]")
    try:
        context = ssl.create_default_context(cafile=str(ca))
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((host, int(port)), timeout=seconds) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return ""
    except socket.gaierror:
        return f"the name {host} is not known here: check the name and this machine's DNS"
    except TimeoutError:
        return f"no answer from {superlink} within {seconds:.0f} s: check the firewall and whether the owner serves"
    except ConnectionRefusedError:
        return f"{superlink} refuses connections: is the owner serving?"
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {superlink} {_fault(error)}"
    except ssl.SSLError as error:
        return f"{superlink} does not speak TLS as expected ({error.reason or error})"
    except OSError as error:
        return f"{superlink} cannot be reached ({error.strerror or error})"


def _fault(error: ssl.SSLCertVerificationError) -> str:
    for codes, sentence in _FAULTS:
        if error.verify_code in codes:
            return sentence
    return f"is not the one of this kit ({error.verify_message})"


class Probing(threading.Thread):
    """Asks again and again, in a thread of its own: a name's look-up may take long.

    Args:
        ask: Empty if all is well, else what is wrong.
    """

    def __init__(self, ask: Callable[[], str]) -> None:
        super().__init__(daemon=True, name="probe")
        self._ask = ask
        self._ended = threading.Event()
        self.trouble = ""

    def end(self) -> None:
        """Asks no more."""
        self._ended.set()

    def run(self) -> None:
        """Until :meth:`end`."""
        while True:
            self.trouble = self._ask()
            if self._ended.wait(EVERY if self.trouble else EVERY_WHEN_WELL):
                return
