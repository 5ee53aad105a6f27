"""Handlers of the standard library's ``http.server``, unchanged, and WSGI applications, under every engine.

    server.py           WebServer: ``http.server.HTTPServer``, hardened, which runs such handlers in memory
    service.py          from a request to a handler's method, and from what that wrote to a reply
    handlers.py         which handlers can be run so, and what they inherit then
    answer.py           what a handler writes to: the answer, complete before its first octet is sent
    heads.py            what handlers want to know of a request
    memory_socket.py    what stands in the place of a handler's socket

    wsgi.py             WSGI applications: from a request to a call
    environ.py          what an application is told of it
    reply.py            from what it does then to a reply
    fields.py           the head of that: checked, with Date and Server

Requests are read by `daemons.framings.http`.
"""
