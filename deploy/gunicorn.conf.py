"""How gunicorn serves the shop: here, in the lab and in the container."""

import os
from functools import partial
from typing import Any

bind = os.environ.get("BIND", "127.0.0.1:8000")
worker_class = "asgi" if os.environ.get("SERVER_KIND") == "asgi" else "gthread"
workers = int(os.environ.get("WEB_WORKERS", "2"))
threads = 1 if worker_class == "asgi" else int(os.environ.get("WEB_THREADS", "16"))
backlog = 2048
worker_connections = 2000
keepalive = 10
timeout = 15
graceful_timeout = 5
control_socket_disable = True
asgi_loop = "asyncio"
asgi_disconnect_grace_period = 0  # a request is cancelled as soon as its client has gone
reuse_port = True  # a listener for each worker: docs/decisions/0011-a-listener-for-each-worker.md


def post_worker_init(worker: Any) -> None:
    """Have the asgi worker's listener keep `backlog` waiting; asyncio would keep 100."""
    if worker_class == "asgi":
        worker.loop.create_server = partial(worker.loop.create_server, backlog=backlog)
