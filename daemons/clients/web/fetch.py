"""``daemons fetch URL``: what is there, or what is to be put there; HTTP/1.1 (RFC 9110 and 9112)."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from daemons.clients import arguments, tools
from daemons.clients.web import common
from daemons.clients.web.common import Failure, tell
from daemons.printable import escape

if TYPE_CHECKING:
    import httpx2

    from daemons.clients.web.resume import Part
    from daemons.clients.web.session import Session


#: Statuses of success without content (RFC 9110, sections 15.3.5 and 15.3.6): no file is written.
NOTHING_SENT = frozenset((204, 205))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_arguments(parser, hurry=False)
    parser.add_argument(
        "-o", dest="output", metavar="FILE", type=arguments.filled, help="where to put it; it is there when it is whole"
    )
    parser.add_argument("-C", dest="resume", action="store_true", help="go on where -o FILE was broken off")
    parser.add_argument("-I", "--head", action="store_true", help="ask for the head alone, and print it")
    parser.add_argument("-X", dest="method", metavar="METHOD", type=_method, help="the method, whatever else is asked")
    said = parser.add_mutually_exclusive_group()
    said.add_argument(
        "-d", "--data", metavar="NAME=VALUE", type=common.pair, action="append", help="send a form, by POST"
    )
    said.add_argument("--json", metavar="TEXT", type=_json, help="send JSON, by POST")
    said.add_argument("-T", dest="upload", metavar="FILE", type=arguments.filled, help="send a file, by PUT")
    parser.add_argument("--no-redirects", action="store_true", help="print what a redirect says, and do not follow")
    parser.epilog = (
        "Exit codes: 0 it is there, 1 it is not (a status from 400 on, whose page is printed all the same; nobody "
        "answers; the body is cut off), 2 a wrong command line, 130 Ctrl-C."
    )
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    for wrong, said in (
        (options.resume and not options.output, "-C: needs -o FILE, to go on with"),
        (options.resume and options.cache, "-C: not with --cache, which has whole answers"),
        (
            options.resume and (options.head or options.method or options.data or options.json or options.upload),
            "-C: goes with a plain GET alone",
        ),
        (options.head and (options.data or options.json or options.upload), "-I: nothing can be sent with it"),
        (options.proxy and options.unix_socket, "--proxy: not with --unix-socket"),
    ):
        if wrong:
            options.parser.error(said)
    return _fetch(options)


def _method(text: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", text) or text.upper() == "CONNECT":
        raise argparse.ArgumentTypeError(f"{text!r} is no method; write one like GET, PUT or DELETE")
    return text


def _json(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    return text


def _fetch(options: argparse.Namespace) -> int:
    from daemons.clients.web.session import Session

    with Session(options) as session:
        return _resume(session, options) if options.resume else _once(session, options)


def _once(session: Session, options: argparse.Namespace) -> int:
    from daemons.clients.web.body import FileBody, printed

    method, fields = "HEAD" if options.head else "GET", []
    content: bytes | FileBody | None = None
    if options.data:
        method, content = "POST", urlencode(options.data, errors="surrogateescape").encode("ascii")
        fields = [("Content-Type", "application/x-www-form-urlencoded")]
    elif options.json:
        method, content = "POST", options.json.encode("utf-8", "surrogateescape")
        fields = [("Content-Type", "application/json")]
    elif options.upload:
        method, content = "PUT", FileBody(Path(options.upload))
        fields = [("Content-Length", str(content.size))]
    given = {name.lower() for name, _ in options.headers}
    if "transfer-encoding" in given:
        given.add("content-length")  # a message has one of them (RFC 9112, section 6.2)
    fields = [(name, value) for name, value in fields if name.lower() not in given]
    with session.ask(
        options.method or method, options.url, fields, content, follow=not options.no_redirects
    ) as response:
        if options.head or (options.no_redirects and response.has_redirect_location):
            _print_head(response)
        if options.output and not options.head and response.status_code < 400 and not _has_file(response):
            tell(f"{options.output}: left as it is: {response.status_code} {response.reason_phrase}".rstrip())
        elif options.output and response.status_code < 400 and not options.head:
            if response.status_code == 206 and "Range" not in response.request.headers:
                raise Failure(f"{response.url}: 206: a part was sent, and the whole was asked for")
            _save(response, Path(options.output))
        elif not options.head:
            printed(response)
        return _verdict(response)


def _has_file(response: httpx2.Response) -> bool:
    """Return whether the body of a response is what is at the URL: HEAD has none, and that of a redirect that is not
    followed is a note about it."""
    status = response.status_code
    return status < 300 and status not in NOTHING_SENT and response.request.method != "HEAD"


def _print_head(response: httpx2.Response) -> None:
    print(escape(f"{response.http_version} {response.status_code} {response.reason_phrase}".rstrip()))
    for name, value in response.headers.raw:  # as they were written
        print(escape((name + b": " + value).decode("utf-8", "backslashreplace")))
    print(flush=True)


def _verdict(response: httpx2.Response) -> int:
    if response.status_code < 400:
        return tools.DONE
    sys.stdout.flush()
    said = f"{response.status_code} {response.reason_phrase}".rstrip()
    return tools.refuse("fetch", escape(f"{response.url}: {said}"))


def _save(response: httpx2.Response, target: Path) -> None:
    from daemons.clients.web.atomic_write import anew
    from daemons.clients.web.content import decoded
    from daemons.clients.web.progress import Progress

    with anew(target) as file, Progress(_length(response)) as progress:
        before = 0
        for piece in decoded(response):
            file.write(piece)
            progress.came(response.num_bytes_downloaded - before)
            before = response.num_bytes_downloaded


def _resume(session: Session, options: argparse.Namespace) -> int:
    from daemons.clients.web.resume import Part

    whole = [("Accept-Encoding", "identity")]  # the octets of the file, and no others, can be counted
    with Part(Path(options.output), options.url) as part:
        fields = part.fields()
        with session.ask("GET", options.url, [*fields, *whole]) as response:
            if response.status_code != 416 and (response.status_code != 206 or (fields and part.whole(response))):
                return _go_on(response, part, asked=bool(fields))
        tell(f"{options.output}: the server has no such part; from the beginning")
        with session.ask("GET", options.url, whole) as response:
            if response.status_code == 206:
                raise Failure(f"{options.url}: a part was sent, and the whole was asked for")
            return _go_on(response, part, asked=False)


def _go_on(response: httpx2.Response, part: Part, *, asked: bool) -> int:
    from daemons.clients.web.atomic_write import named
    from daemons.clients.web.body import printed
    from daemons.clients.web.content import coding_of, decoded
    from daemons.clients.web.progress import Progress
    from daemons.clients.web.resume import validator_of

    if response.status_code not in (200, 206):
        printed(response)
        if response.status_code < 400:
            raise Failure(f"{response.url}: {response.status_code} {response.reason_phrase}, which is no file")
        return _verdict(response)
    coding = coding_of(response)
    if coding and response.status_code == 206:
        raise Failure(f"{response.url}: a part in the coding {coding} was sent, and the part of the file was asked for")
    there = part.size if response.status_code == 206 else 0
    rest = None
    if there:
        rest = part.whole(response) - there
        tell(f"{part.target}: {there} octets are there; the rest")
    else:
        if asked:
            tell(f"{part.target}: it is another by now, or the server gives no parts; from the beginning")
        # Bytes that were decoded cannot be counted, so a coded body is not continued the next time.
        part.begin("" if coding else validator_of(response))
    length = _length(response)
    with named(part.path), part.path.open("ab") as file, Progress(length and length + there, there) as progress:
        came = 0
        for piece in decoded(response):
            came += len(piece)
            if rest is not None and came > rest:
                raise Failure(f"{response.url}: more than the {rest} bytes of Content-Range were sent")
            file.write(piece)
            progress.came(len(piece))
    if rest is not None and came < rest:
        raise Failure(f"{response.url}: cut off: {came} of the {rest} bytes of Content-Range were sent")
    part.complete()
    return tools.DONE


def _length(response: httpx2.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None
