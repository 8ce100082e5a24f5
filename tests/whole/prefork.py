"""A server that makes the app first and forks afterwards, as `gunicorn --preload` does: its port is given."""

from __future__ import annotations

import os
import signal
import socket
import sys

import uvicorn

from tests.whole.everything import create_app


def main(port: int) -> int:
    app = create_app()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(200)
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            uvicorn.Server(uvicorn.Config(app)).run(sockets=[listener])
            return 0
        children.append(child)

    def stop(*_: object) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    codes = {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
    return 0 if codes == {-signal.SIGTERM} else 1  # uvicorn raises the signal again once it has shut down


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
