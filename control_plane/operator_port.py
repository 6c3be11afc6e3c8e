"""How the operators' port listens: by TLS, or in plaintext where settings.py lets that be.

main.py binds it. Our own HTTP bridge goes to the same server: where its port wants TLS, by a socket
in a folder that is our user's alone, since no certificate need name what the bridge would dial.
"""

import contextlib
import tempfile
from collections.abc import Callable

import grpc

from control_plane.instruments import OPERATOR_CERTIFICATE_LEFT
from control_plane.settings import ControlPlaneSettings
from skerry.plumbing import logs
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Conflict, InvalidInput
from skerry.plumbing.host_metrics import certificate_left_seconds
from skerry.plumbing.rpc import public_server_credentials

_log = logs.get_logger(__name__)

# A Unix socket's path has 107 bytes; a temporary folder of one's own may be longer than this.
_FOLDER_BYTES_MAX = 80
_SHORT = "/tmp"


class OperatorPort:
    """The port of one run; `bridge_address` is where our own bridge dials once it is bound."""

    def __init__(self, settings: ControlPlaneSettings) -> None:
        """Listen nowhere yet."""
        self._settings = settings
        self._held = contextlib.ExitStack()
        self.bridge_address = settings.operator_address

    def bind(self, server: grpc.aio.Server) -> None:
        """Add the port; Conflict where it is taken, InvalidInput for files that cannot be read."""
        address, tls = self._settings.operator_address, self._settings.operator_tls
        shown = None if tls is None else tls.certificate
        OPERATOR_CERTIFICATE_LEFT.set_function(
            lambda: certificate_left_seconds(SystemClock(), shown)
        )
        if tls is None:
            _log.info("operator.plaintext", address=address)
            bind(server.add_insecure_port, address)
            return
        try:
            credentials = public_server_credentials(tls.certificate, tls.key)
        except OSError as error:
            raise InvalidInput(
                f"operator_tls: {error.filename} cannot be read: {error.strerror}; it must be a PEM"
                " file that the control plane's user may read",
                field="operator_tls",
            ) from None
        bind(lambda at: server.add_secure_port(at, credentials), address)
        self.bridge_address = f"unix:{self._private_folder()}/operator.sock"
        bind(server.add_insecure_port, self.bridge_address)

    def close(self) -> None:
        """Remove the socket's folder."""
        self._held.close()

    def _private_folder(self) -> str:
        folder = tempfile.gettempdir()
        if len(folder.encode()) > _FOLDER_BYTES_MAX:
            folder = _SHORT
        made = tempfile.TemporaryDirectory(prefix="skerry-", dir=folder)  # mode 0700
        return self._held.enter_context(made)


def bind(add_port: Callable[[str], int], address: str) -> None:
    """Add a port to a server; Conflict where it is taken."""
    try:
        add_port(address)
    except RuntimeError as error:
        raise Conflict(
            f"cannot listen on {address}: the port is taken; stop what holds it or choose another"
        ) from error
