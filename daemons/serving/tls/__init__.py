"""TLS contexts, sessions and sockets."""
