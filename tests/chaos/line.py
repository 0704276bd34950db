"""A line between programs and a server that can break in the ways that real ones do."""

import socket
import threading
from contextlib import suppress

_PIECE = 65_536


class Line:
    """Passes bytes between `port` here and a server's port, until it is told otherwise."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._silent: set[socket.socket] = set()
        self._refuses = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="line", daemon=True).start()

    def fall_silent(self) -> int:
        """Pass nothing on over the connections there are, and close none; new ones get through.

        Returns:
            How many there were.
        """
        pairs = list(self._pairs)
        self._silent.update(end for pair in pairs for end in pair)
        return len(pairs)

    def refuse(self, refuses: bool) -> None:
        """Cut all connections and refuse new ones, or let them through again."""
        self._refuses = refuses
        if refuses:
            for pair in list(self._pairs):
                self._cut(pair)

    def close(self) -> None:
        """Refuse everything, for ever."""
        self.refuse(True)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            if self._refuses:
                raise ConnectionRefusedError
            far = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            near.close()
            return
        pair = near, far
        self._pairs.add(pair)
        for ends in ((near, far), (far, near)):
            threading.Thread(target=self._pass_on, args=(pair, *ends), daemon=True).start()

    def _pass_on(
        self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket
    ) -> None:
        with suppress(OSError):
            while received := source.recv(_PIECE):
                if source not in self._silent:
                    sink.sendall(received)
        if source in self._silent:
            return  # the other end is not told either, until it gives up itself
        self._cut(pair)

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for end in pair:
            self._silent.discard(end)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
