"""nginx as Debian ships it, with one worker: `python -m benchmarks.peers.nginx [copying]`.

That is with sendfile, tcp_nopush, and an access log in a file, unbuffered; no file is kept open. Two things are other
than shipped: a connection is not closed after 1,000 requests, which would measure connecting, and its folders are
temporary ones. `copying` is the same without sendfile and tcp_nopush: for small files that is faster.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

from benchmarks.peers.grail import BACKLOG, announce, end_with_parent
from benchmarks.unchanged import FILES_VARIABLE, SCRATCH_VARIABLE

CONFIGURATION = """
{user}
worker_processes 1;
daemon off;
pid {scratch}/nginx.pid;
error_log stderr;
events {{ worker_connections 768; }}
http {{
    sendfile {sendfile};
    tcp_nopush {sendfile};
    types {{ text/plain txt; }}
    access_log {scratch}/access.log;
    gzip on;
    keepalive_requests 1000000000;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog={backlog};
        root {files};
    }}
}}
"""


def main() -> None:
    """Becomes nginx, which takes over the listening socket, as from an older nginx that it replaces."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        sys.exit("nginx is not here; as root: make engines")
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.set_inheritable(True)
    port = listener.getsockname()[1]
    scratch = Path(os.environ[SCRATCH_VARIABLE])
    configuration = scratch / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(
            # The worker, too, has to get at the temporary files.
            user="user root root;" if os.geteuid() == 0 else "",
            scratch=scratch,
            sendfile="off" if sys.argv[1:] == ["copying"] else "on",
            port=port,
            backlog=BACKLOG,
            files=os.environ[FILES_VARIABLE],
        )
    )
    announce("nginx", port)
    end_with_parent()
    os.environ["NGINX"] = f"{listener.fileno()};"
    os.execv(program, [program, "-p", str(scratch), "-c", str(configuration), "-e", "stderr"])


if __name__ == "__main__":
    main()
