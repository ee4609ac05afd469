"""The web process: uvicorn on a socket that the supervisor has opened and keeps through restarts.

A port that stays open lets callers wait for a web process that is starting again instead of being refused.
"""
from __future__ import annotations

import socket
import sys

import uvicorn


def main(descriptor: int) -> None:
    listener = socket.socket(fileno=descriptor)
    config = uvicorn.Config(
        "opspawn_site.asgi:application",
        loop="uvloop",
        http="httptools",
        ws="none",  # whoever asks to upgrade gets the answer without
        lifespan="auto",
        access_log=False,
        log_config=None,  # the site's own logging
        server_header=False,
        timeout_graceful_shutdown=4,
        timeout_keep_alive=30,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(int(sys.argv[1]))
