"""How gunicorn serves the shop: here, in the lab and in the container."""

import os

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
reuse_port = True


def post_fork(server, worker):
    """
    Give the worker a listener of its own beside the shared one.

    Whoever wakes first takes all that wait at a shared one: of 100 buyers who came
    at once up to 100 were one worker's, and the other had nothing to do. Between
    listeners of one address the kernel spreads them.
    """
    by_port = [shared for shared in worker.sockets if isinstance(shared.getsockname(), tuple)]
    worker.sockets += [type(s)(s.getsockname(), s.conf, s.log) for s in by_port]
