"""``daemons fetch URL``: download from or upload to a URL by HTTP/1.1 (RFC 9110 and 9112)."""

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
from daemons.clients.web.common import Failure, log
from daemons.printable import escape

if TYPE_CHECKING:
    import httpx2

    from daemons.clients.web.resume import PartialFile
    from daemons.clients.web.session import Session


#: Statuses of success without content (RFC 9110, sections 15.3.5 and 15.3.6): no file is written.
NOTHING_SENT = frozenset((204, 205))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_arguments(parser, default_timeout=False)
    parser.add_argument(
        "-o",
        dest="output",
        metavar="FILE",
        type=arguments.nonempty,
        help="the output file, written atomically (default: standard output)",
    )
    parser.add_argument("-C", dest="resume", action="store_true", help="resume an interrupted download to -o FILE")
    parser.add_argument("-I", "--head", action="store_true", help="send HEAD and print the header fields")
    parser.add_argument("-X", dest="method", metavar="METHOD", type=_method, help="the method to use instead")
    body = parser.add_mutually_exclusive_group()
    body.add_argument(
        "-d", "--data", metavar="NAME=VALUE", type=common.pair, action="append", help="send a form by POST"
    )
    body.add_argument("--json", metavar="TEXT", type=_json, help="send JSON by POST")
    body.add_argument("-T", dest="upload", metavar="FILE", type=arguments.nonempty, help="send a file by PUT")
    parser.add_argument("--no-redirects", action="store_true", help="print a redirect instead of following it")
    parser.epilog = (
        "Exit codes: 0 success, 1 failure (a status of 400 or above, with its body printed; no response; a "
        "truncated body), 2 wrong command line, 130 Ctrl-C."
    )
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    for wrong, message in (
        (options.resume and not options.output, "-C: requires -o FILE"),
        (options.resume and options.cache, "-C: cannot be combined with --cache, which stores complete responses"),
        (
            options.resume and (options.head or options.method or options.data or options.json or options.upload),
            "-C: requires a plain GET",
        ),
        (options.head and options.output, "-I: prints the header fields; cannot be combined with -o FILE"),
        (options.head and (options.data or options.json or options.upload), "-I: a HEAD request has no body"),
        (options.proxy and options.unix_socket, "--proxy: cannot be combined with --unix-socket"),
    ):
        if wrong:
            options.parser.error(message)
    return _fetch(options)


def _method(text: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", text) or text.upper() == "CONNECT":
        raise argparse.ArgumentTypeError(f"{text!r} is not a method; expected one such as GET, PUT or DELETE")
    return text


def _json(text: str) -> str:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    return text


def _refuse_constant(word: str) -> None:
    """Refuse NaN and Infinity, which Python's parser accepts (RFC 8259, section 6)."""
    raise ValueError(f"{word} is not a number")


def _fetch(options: argparse.Namespace) -> int:
    from daemons.clients.web.session import Session

    with Session(options) as session:
        return _resume(session, options) if options.resume else _once(session, options)


def _once(session: Session, options: argparse.Namespace) -> int:
    from daemons.clients.web.body import FileBody, write_body

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
        given.add("content-length")  # a message must not have both (RFC 9112, section 6.2)
    fields = [(name, value) for name, value in fields if name.lower() not in given]
    with session.ask(
        options.method or method, options.url, fields, content, follow=not options.no_redirects
    ) as response:
        if options.head or (options.no_redirects and response.has_redirect_location):
            _print_head(response)
        if options.output and not options.head and response.status_code < 400 and not _has_file(response):
            log(f"{options.output}: not written: {response.status_code} {response.reason_phrase}".rstrip())
        elif options.output and response.status_code < 400 and not options.head:
            if response.status_code == 206 and "Range" not in response.request.headers:
                raise Failure(f"{response.url}: 206: a part was sent, but no range was requested")
            _save(response, Path(options.output))
        elif not options.head:
            write_body(response)
        return _verdict(response)


def _has_file(response: httpx2.Response) -> bool:
    """Return whether the body of a response is the content of the URL: a response to HEAD has no body, and the body of
    a redirect is only a note for people."""
    status = response.status_code
    return status < 300 and status not in NOTHING_SENT and response.request.method != "HEAD"


def _print_head(response: httpx2.Response) -> None:
    print(escape(f"{response.http_version} {response.status_code} {response.reason_phrase}".rstrip()))
    for name, value in response.headers.raw:  # with the case of the names preserved
        print(escape((name + b": " + value).decode("utf-8", "backslashreplace")))
    print(flush=True)


def _verdict(response: httpx2.Response) -> int:
    if response.status_code < 400:
        return tools.DONE
    sys.stdout.flush()
    status = f"{response.status_code} {response.reason_phrase}".rstrip()
    return tools.refuse("fetch", escape(f"{response.url}: {status}"))


def _save(response: httpx2.Response, target: Path) -> None:
    from daemons.clients.web.atomic_write import replace_file
    from daemons.clients.web.content import decoded
    from daemons.clients.web.progress import Progress

    with replace_file(target) as file, Progress(_length(response)) as progress:
        before = 0
        for piece in decoded(response):
            file.write(piece)
            progress.advance(response.num_bytes_downloaded - before)
            before = response.num_bytes_downloaded


def _resume(session: Session, options: argparse.Namespace) -> int:
    from daemons.clients.web.resume import PartialFile

    identity = [("Accept-Encoding", "identity")]  # ranges of a coded body do not correspond to bytes of the file
    follow = not options.no_redirects
    with PartialFile(Path(options.output), options.url) as part:
        fields = part.fields()
        with session.ask("GET", options.url, [*fields, *identity], follow=follow) as response:
            if response.status_code != 416 and (
                response.status_code != 206 or (fields and part.total_length(response))
            ):
                return _receive(response, part, asked=bool(fields))
        log(f"{options.output}: the server does not have the requested range; restarting the download")
        with session.ask("GET", options.url, identity, follow=follow) as response:
            if response.status_code == 206:
                raise Failure(f"{options.url}: 206: a part was sent, but no range was requested")
            return _receive(response, part, asked=False)


def _receive(response: httpx2.Response, part: PartialFile, *, asked: bool) -> int:
    from daemons.clients.web.atomic_write import name_errors
    from daemons.clients.web.body import write_body
    from daemons.clients.web.content import coding_of, decoded
    from daemons.clients.web.progress import Progress
    from daemons.clients.web.resume import validator_of

    if response.status_code not in (200, 206):
        write_body(response)
        if response.status_code < 400:
            raise Failure(f"{response.url}: {response.status_code} {response.reason_phrase}; expected 200 or 206")
        return _verdict(response)
    coding = coding_of(response)
    if coding and response.status_code == 206:
        raise Failure(f"{response.url}: 206 with content coding {coding}; expected bytes of the file itself")
    there = part.size if response.status_code == 206 else 0
    rest = None
    if there:
        rest = part.total_length(response) - there
        log(f"{part.target}: resuming after {there} bytes")
    else:
        if asked:
            log(f"{part.target}: the file has changed, or the server ignores ranges; restarting the download")
        # The length of decoded data gives no position in a coded body, so that download cannot be resumed.
        part.begin("" if coding else validator_of(response))
    length = _length(response)
    with name_errors(part.path), part.path.open("ab") as file, Progress(length and length + there, there) as progress:
        received = 0
        for piece in decoded(response):
            received += len(piece)
            if rest is not None and received > rest:
                raise Failure(f"{response.url}: more than the {rest} bytes of Content-Range were sent")
            file.write(piece)
            progress.advance(len(piece))
    if rest is not None and received < rest:
        raise Failure(f"{response.url}: cut off: {received} of the {rest} bytes of Content-Range were sent")
    part.complete()
    return tools.DONE


def _length(response: httpx2.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None
