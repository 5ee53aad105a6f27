"""The grammars for the tests of memory and of CPU time before a refusal.

To add one: a module beside this one with a `Grammar`, and its name in `GRAMMARS`.
"""

from __future__ import annotations

from tests.promises.grammars import (
    framings,
    heads,
    http,
    json_rpc,
    names,
    passwords,
    responses,
    rpyc,
    site,
    tls,
    xml_rpc,
)
from tests.promises.grammars.grammar import Grammar

GRAMMARS: dict[str, Grammar] = {
    grammar.name: grammar
    for grammar in (
        *framings.GRAMMARS,
        *http.GRAMMARS,
        *heads.GRAMMARS,
        *names.GRAMMARS,
        *json_rpc.GRAMMARS,
        *rpyc.GRAMMARS,
        *site.GRAMMARS,
        *xml_rpc.GRAMMARS,
        *passwords.GRAMMARS,
        *responses.GRAMMARS,
        *tls.GRAMMARS,
    )
}
