"""Request handlers of ``http.server``, run without a socket."""
