"""A TCP proxy that cuts its connections in the middle, with a reset, or lets nobody in."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading

_RESET = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Passes bytes between whoever connects and `port` of this machine; everything is done by one thread.

    `cut_after_bytes`: cut each connection when so many bytes have come from the server; None: never.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.cut_after_bytes: int | None = None
        self.cuts = 0
        self.accepted = 0
        self.bytes_from_server = 0
        self.refuse = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._peer: dict[socket.socket, socket.socket] = {}
        self._from_server: dict[socket.socket, int] = {}
        self._stopping = False
        self._cut_now = threading.Event()
        self._is_cut = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Cut all connections; returns when they are."""
        self._is_cut.clear()
        self._cut_now.set()
        self._wake.send(b"x")
        self._is_cut.wait()

    def stop(self) -> None:
        self._stopping = True
        self._wake.send(b"x")
        self._thread.join()
        for one in (self._server, self._wake, self._woken):
            one.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select():
                one = key.fileobj
                assert isinstance(one, socket.socket)
                if one is self._woken:
                    one.recv(100)
                elif one is self._server:
                    self._accept()
                elif one in self._peer:
                    self._pass(one)
            if self._cut_now.is_set():
                self._cut_now.clear()
                self._close_all()
                self._is_cut.set()
        self._close_all()

    def _close_all(self) -> None:
        for one in list(self._from_server):
            self._reset(one)

    def _accept(self) -> None:
        client, _ = self._server.accept()
        self.accepted += 1
        if self.refuse:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        self._peer |= {client: server, server: client}
        self._from_server[server] = 0
        for one in (client, server):
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, one: socket.socket) -> None:
        try:
            data = one.recv(1 << 18)
            if data:
                self._peer[one].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._reset(one)
            return
        if one in self._from_server:
            self._from_server[one] += len(data)
            self.bytes_from_server += len(data)
            if self.cut_after_bytes is not None and self._from_server[one] >= self.cut_after_bytes:
                self.cuts += 1
                self._reset(one)

    def _reset(self, one: socket.socket) -> None:
        for end in (one, self._peer[one]):
            self._selector.unregister(end)
            del self._peer[end]
            self._from_server.pop(end, None)
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()
