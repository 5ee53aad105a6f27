"""HTML page that documents the published methods.  All text from elsewhere is escaped."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from html import escape

from daemons.rpc.methods import Method

#: Content-Security-Policy that allows no scripts and loads no resources.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

#: All colors have a contrast of at least 4.5:1 in both color schemes: WCAG 2.2, 1.4.3.
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --quiet: #566072; --paper: #fbfaf7; --line: #d9d4c7; --name: #8a1c1c }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7e4dc; --quiet: #a3abb8; --paper: #171a21; --line: #363c49; --name: #f0a39a }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 44rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, sans-serif }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem }
h2 { font: 600 1.05rem/1.4 ui-monospace, monospace; margin: 0; overflow-wrap: anywhere }
h2 a { color: var(--name); text-decoration: none }
h2 a:hover, h2 a:focus { text-decoration: underline }
p { margin: .4rem 0 0 }
nav { margin: 1rem 0 0; line-height: 2 }
nav a { margin-right: .8rem; color: var(--name); font-family: ui-monospace, monospace }
article { border-top: 1px solid var(--line); padding: 1rem 0; margin-top: 1rem }
article + article { margin-top: 0 }
.quiet, .result { color: var(--quiet); font-weight: 400 }
.help { white-space: pre-line }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line); border-radius: .4rem; font-size: .85rem }
summary { cursor: pointer; padding: .6rem 0; color: var(--quiet) }
"""

_EXAMPLE = """from xmlrpc.client import ServerProxy

there = ServerProxy("{where}")
print(there.{call})"""


def page(title: str, about: str, where: str, methods: Mapping[str, Method]) -> bytes:
    """Return the page in UTF-8, for a server called `title`, with the description `about`, at the URL `where`."""
    own = [method for name, method in methods.items() if not name.startswith("system.")]
    system = [method for name, method in methods.items() if name.startswith("system.")]
    links = "".join(f'<a href="#{escape(each.name)}">{escape(each.name)}</a> ' for each in own)
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>\n",
        f"<p>{escape(about)}</p>\n" if about else "",
        '<p class="quiet">These functions are called over the network by XML-RPC.</p>\n',
        f"<nav>{links}</nav>\n<main>\n",
        *map(_article, own),
        "</main>\n",
    ]
    if own:
        example = _EXAMPLE.format(where=where, call=_call(own[0]))
        parts.append(f"<article><h2>From Python</h2>\n<pre tabindex=0>{escape(example)}</pre></article>\n")
    if system:
        listed = "".join(map(_article, system))
        parts.append(f"<details><summary>System methods: {len(system)}</summary>\n{listed}</details>\n")
    return "".join([*parts, "</html>\n"]).encode()


def _article(method: Method) -> str:
    name = escape(method.name)
    parameters, arrow, result = signature_text(method.signature).partition(" -> ")
    result = f' <span class="result">→ {escape(result)}</span>' if arrow else ""
    text = f'<p class="help">{escape(method.help)}</p>\n' if method.help else '<p class="quiet">No documentation.</p>\n'
    again = '<p class="quiet">Idempotent: safe to repeat.</p>\n'
    again *= method.idempotent
    head = f'<h2><a href="#{name}">{name}</a>{escape(parameters)}{result}</h2>'
    return f'<article id="{name}">{head}\n{text}{again}</article>\n'


def signature_text(signature: inspect.Signature) -> str:
    """Return a readable signature: ``(x: int, y: int = 3) -> int``.  Annotations of `Any` are omitted."""
    parameters = [
        each
        if isinstance(each.default, (int, float, str, bytes, type(None))) or each.default is each.empty
        # The repr of another default may disclose internals.
        else each.replace(default=...)
        for each in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=parameters)).replace("typing.", "").replace("collections.abc.", "")
    return re.sub(r": Any\b(?! \|)| -> Any$", "", text)


def _call(method: Method) -> str:
    """Return an example call, with dots for variadic arguments."""
    given = [
        "..." if each.kind is each.VAR_POSITIONAL else each.name
        for each in method.signature.parameters.values()
        if each.default is each.empty and each.kind is not each.VAR_KEYWORD
    ]
    return f"{method.name}({', '.join(given)})"
