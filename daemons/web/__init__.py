"""Handlers of the standard library's ``http.server``, unchanged, and WSGI applications, under every engine; and sites.

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

    static.py           the files below a root
    files.py            from the path of a URL to an open file below a root that cannot be left
    conditions.py       ETag, Last-Modified, and what a request makes depend on them
    ranges.py           parts of a file
    negotiation.py      as it is, or compressed
    languages.py        in one language or another
    media.py            types by suffix
    representations.py  what of a file is sent
    listing.py          a page that lists a folder
    responses.py        heads and error pages, and what is remembered for a second

    subtrees.py         what of a site is not simply a file
    places.py           paths, and what holds below them
    redirects.py        what has moved, and what is to be had over TLS
    protection.py       who may see it
    gate.py             passwords by the file that is opened
    identities.py       from an opened file to the configured paths that lead to it
    hard_links.py       further names of protected files: hard links, bind mounts
    inode_probe.py      whether a file has one inode number under all its names
    partly_protected.py what is protected below documents and other servers
    documents.py        what clients write: PUT, POST and DELETE
    store.py            where that is kept
    forwarding.py       what another server answers
    upstream.py         requests to that, bounded in number and time
    upstream_socket.py  connections to it
    behind.py           how such a server is written

Requests are read by `daemons.framings.http`.
"""
