"""HTTP servers: ``http.server`` handlers and WSGI applications under every engine, static files, and a gateway.

    handlers/               request handlers of ``http.server``, run without a socket
        server.py           WebServer: a hardened ``http.server.HTTPServer`` that runs handlers in memory
        service.py          calls the handler's ``do_`` method and completes its response
        mixins.py           base classes that replace socket input and output
        head_cache.py       parsed request heads
        memory_socket.py    stands in for the handler's socket
        response_buffer.py  the handler's ``wfile``: collects the response
        response_head.py    checks the status line and header fields
        response_parts.py   sends a response from memory and files

    wsgi/                   WSGI applications (PEP 3333)
        service.py          calls the application
        environ.py          builds its environ
        response.py         makes a response from start_response, write and the returned iterable
        fields.py           checks status and header fields, adds Date and Server
        file_wrapper.py     wsgi.file_wrapper
        body.py             transfer coding and order of body pieces

    files/                  static files
        static.py           GET and HEAD of the files below a root
        lookup.py           opens the file of a URL path without leaving the root
        conditions.py       conditional requests: ETag, Last-Modified
        ranges.py           range requests
        negotiation.py      content codings
        languages.py        content languages
        media.py            media types by suffix
        representations.py  selects and sends a representation
        listing.py          directory listings
        identities.py       configured paths of an opened file, by device and inode
        hard_links.py       hard links and bind mounts of protected files
        inode_probe.py      detects file systems that number inodes by name

    site/                   configured parts of a site
        router.py           selects the responder of a path
        prefix_map.py       URL paths, and maps from path prefixes to values
        redirects.py        redirects, also from HTTP to HTTPS
        protection.py       Basic authentication
        gate.py             authentication by the opened file
        partly_protected.py protected paths below documents and upstream servers
        documents.py        GET, POST, PUT and DELETE of documents
        store.py            document storage
        unnamed_file.py     temporary files without a name

    gateway/                upstream servers
        forwarding.py       forwards requests and responses
        upstream.py         one upstream server: limits and kept connections
        exchange.py         one request and its response
        upstream_address.py the setting for an upstream server
        upstream_socket.py  a connection to one
        request_table.py    counts requests across processes
        circuit_breaker.py  refuses requests while an upstream server fails

    responses.py            response heads and error pages, and a cache of one second
    dates.py                HTTP dates
    basic.py                Basic credentials
    field_cache.py          cache for parsed field values
    asking.py               requests of ``daemons ask``

Requests are decoded by `daemons.framings.http`.
"""
