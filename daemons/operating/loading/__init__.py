"""From ``service``, ``handler``, ``wsgi``, ``rpc`` and ``jsonrpc`` in an ini to a server."""
