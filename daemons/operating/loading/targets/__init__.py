"""Targets: the five keys of [daemon] that name the code to serve, one class for each.

    service = launcelot            `ServiceTarget`: the Service of a module of the suite, or module:Class
    handler = module:Class         `HandlerTarget`: any socketserver.BaseRequestHandler
    wsgi    = module:application   `WSGITarget`: any WSGI application
    rpc     = module               `XMLRPCTarget`: functions of a module, over XML-RPC
    jsonrpc = module               `JSONRPCTarget`: functions of a module, over JSON-RPC

A target validates the text of its key, imports the named module, parses its options, and builds the request handlers
and the class of the stream server.  Modules that most daemons do without are imported by the target that needs them.
"""

from __future__ import annotations

from daemons.operating.config.sections import Settings
from daemons.operating.loading.targets.handler import HandlerTarget
from daemons.operating.loading.targets.published import JSONRPCTarget, XMLRPCTarget
from daemons.operating.loading.targets.service import ServiceTarget
from daemons.operating.loading.targets.target import RequestHandlers, Target
from daemons.operating.loading.targets.wsgi import WSGITarget

__all__ = ["TARGETS", "RequestHandlers", "Target", "target_of"]

#: Every key of [daemon] that names a target, in the order of the documentation.
TARGETS: dict[str, type[Target]] = {
    target.key: target for target in (ServiceTarget, HandlerTarget, WSGITarget, XMLRPCTarget, JSONRPCTarget)
}


def target_of(settings: Settings) -> Target:
    """Return the target that the settings name."""
    return TARGETS[settings.target](settings)
