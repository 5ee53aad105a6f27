"""The sans-IO part: conversations, services and replies, without sockets, clocks, threads or logs."""
