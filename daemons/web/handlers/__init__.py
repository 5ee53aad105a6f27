"""Handlers of ``http.server``, run in memory."""
