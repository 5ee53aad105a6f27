"""HTML pages: links, fragments, forms and values, parsed by Beautiful Soup with lxml."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag
from bs4.dammit import EncodingDetector
from bs4.element import PageElement
from soupsieve import SelectorSyntaxError

from daemons.clients import tools
from daemons.clients.cpu_limit import cpu_limit
from daemons.clients.web import charset
from daemons.clients.web.common import Failure

# Beautiful Soup does not name the missing package if lxml is not installed.
importlib.import_module("lxml.etree")

# It warns about malformed bytes, which the user cannot fix.
logging.getLogger("bs4.dammit").setLevel(logging.ERROR)

#: Maximum bytes of a page.
LONGEST = 8 * 1024 * 1024

#: Maximum tags of a page: each takes about 800 bytes of memory and 10 µs.
MOST_TAGS = 200_000

#: Maximum visits per node of a page, on average, while text is extracted; characters are read up to four times the
#: length of the longest page.  The text of nested elements includes that of the inner ones, so that the work could grow
#: with the square of the page.
VISITS = 100

#: Maximum seconds of CPU time for a selector.  With `:has()` the work of soupsieve grows with the square of the page:
#: 2000 elements take 7 s, and `MOST_TAGS` would take a day.
SELECTION = 20.0

#: Maximum characters of all resolved links of a page: each relative link repeats the path of its base.
MOST_LINKED = 4 * LONGEST

#: Elements with links, and their attributes.  A form's action is not checked as a link: it needs the form's fields.
LINKS = {
    "a": "href",
    "area": "href",
    "audio": "src",
    "embed": "src",
    "frame": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}

#: Bytes of a page that are searched for its encoding declaration (HTML Standard, section 13.2.3.2).
PRESCAN = 1024

FIELDS = ["input", "select", "textarea", "button"]

#: Types of form fields that are submitted only if they were pressed.
BUTTONS = frozenset(("submit", "image", "button", "reset"))


@dataclass(frozen=True)
class Form:
    """The request that submits a form."""

    method: str
    action: str
    multipart: bool
    #: Names and values, in the order of the page.
    fields: list[tuple[str, str]] = field(default_factory=list)


class Page:
    """A parsed page and its URL.  Raises `Failure` if it cannot be parsed within the limits."""

    def __init__(self, url: str, data: bytes, declared: str | None = None) -> None:
        self.url = url
        # libxml2's time grows with the square of the number of NUL characters.  The replacement is that of the HTML
        # Standard, section 13.2.5.
        text = _text_of(data, declared).replace("\0", "\ufffd")
        if (tags := text.count("<")) > MOST_TAGS:
            raise Failure(f"{url}: the page has more than {MOST_TAGS} tags")
        self._visits, self._characters = VISITS * (tags + 1000), 4 * LONGEST
        self._fragments: frozenset[str] | None = None
        try:
            with warnings.catch_warnings():
                # It warns about text that resembles XML or a file name.
                warnings.simplefilter("ignore")
                # Not `html.parser`, whose time grows with the square of the number of unclosed elements.
                self._soup = BeautifulSoup(text, "lxml")
        except Exception as error:  # a malformed page can raise any exception of Beautiful Soup and lxml
            raise Failure(f"{url}: this page cannot be parsed: {tools.reason_of(error)}") from error
        base = self._soup.find("base", href=True)
        self._base = self._join(url, _text(base, "href")) if base is not None else None
        self._base = self._base or url

    def links(self, *names: str) -> list[str]:
        """Return the http and https URLs in elements of these names (default: all of `LINKS`), without duplicates and
        with their fragments.  Raises `Failure` if they have more than `MOST_LINKED` characters."""
        found = []
        characters = 0
        for element in self._soup.find_all(names or list(LINKS)):
            reference = _text(element, LINKS[element.name]).strip()
            joined = self._join(self._base or self.url, reference) if reference else ""
            characters += len(joined)
            if characters > MOST_LINKED:
                raise Failure(f"{self.url}: the links have more than {MOST_LINKED} characters")
            if joined and urlsplit(joined).scheme in ("http", "https"):
                found.append(joined)
        return list(dict.fromkeys(found))

    def has(self, fragment: str) -> bool:
        """Return whether the page has an id or a named anchor for a fragment (HTML Standard, section 7.4.6.4)."""
        if self._fragments is None:
            anchors = (_text(each, "name") for each in self._soup.find_all("a", attrs={"name": True}))
            self._fragments = frozenset((*(_text(each, "id") for each in self._soup.find_all(id=True)), *anchors))
        return fragment.lower() in ("", "top") or fragment in self._fragments

    def selected(self, selector: str) -> list[str]:
        """Return the text of each element that matches a CSS selector.  Raises `Failure`."""
        try:
            with cpu_limit(SELECTION):
                return [self._inner_text(element) for element in self._soup.select(selector)]
        except TimeoutError as error:
            raise Failure(f"{self.url}: --select {selector!r} took {error}; use a simpler selector") from error
        except (SelectorSyntaxError, NotImplementedError, ValueError, RecursionError) as error:
            raise Failure(f"--select {selector!r}: {str(error).splitlines()[0]}") from error

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield names and values: from table rows with two cells, and from description lists."""
        for element in self._soup.find_all(["tr", "dl"]):
            if element.name == "tr":
                cells = element.find_all(["th", "td"], recursive=False)
                if len(cells) == 2:
                    yield self._inner_text(cells[0]).rstrip(":"), self._inner_text(cells[1])
            else:
                name = ""
                for part in self._within(element, "dt", "dd"):
                    if part.name == "dt":
                        name = self._inner_text(part).rstrip(":")
                    else:
                        yield name, self._inner_text(part)

    def form(self, given: Sequence[tuple[str, str]]) -> Form:
        """Return the first form that has all the `given` fields, filled in with them; other fields keep their values.
        Raises `Failure`."""
        wanted = {name for name, _ in given}
        forms = self._soup.find_all("form")
        for element in forms:
            if wanted <= {_text(each, "name") for each in self._within(element, *FIELDS)}:
                return self._filled(element, given)
        there = sorted({_text(each, "name") for form in forms for each in self._within(form, *FIELDS)} - {""})
        names = ", ".join(map(repr, sorted(wanted)))
        raise Failure(f"{self.url}: no form has {names}; there are: {', '.join(map(repr, there)) or 'none'}")

    def _filled(self, form: Tag, given: Sequence[tuple[str, str]]) -> Form:
        encoding = _text(form, "enctype").lower()
        if encoding == "text/plain":
            raise Failure(f"{self.url}: the form is encoded as text/plain, which is ambiguous and not supported")
        values = dict[str, list[str]]()
        for name, value in given:
            values.setdefault(name, []).append(value)
        fields: list[tuple[str, str]] = []
        pressed = False
        for element in self._within(form, *FIELDS):
            name, kind = _text(element, "name"), _kind(element)
            if not name or element.has_attr("disabled"):
                continue
            if name in values:
                fields += [(name, value) for value in values.pop(name)]
            elif not any(name == given_name for given_name, _ in given):
                if kind in ("submit", "image"):
                    # The first button is submitted, as by pressing Enter.
                    fields += [(name, _text(element, "value"))] * (kind == "submit" and not pressed)
                    pressed = True
                else:
                    fields += [(name, value) for value in self._values(element, kind)]
        action = self._join(self._base or self.url, _text(form, "action").strip()) or self.url
        method = "POST" if _text(form, "method").lower() == "post" else "GET"
        return Form(method, urldefrag(action).url, encoding == "multipart/form-data", fields)

    def _values(self, element: Tag, kind: str) -> list[str]:
        """Return the values that a field submits unless it is changed."""
        if kind in ("checkbox", "radio"):
            return [_text(element, "value") or "on"] * element.has_attr("checked")
        if kind in BUTTONS or kind == "file":
            return []
        if kind == "textarea":
            self._inner_text(element)  # raises `Failure` if the limits are exceeded
            return [element.get_text().removeprefix("\n")]
        if kind == "select":
            options = [each for each in self._within(element, "option") if not each.has_attr("disabled")]
            chosen = [each for each in options if each.has_attr("selected")]
            if not element.has_attr("multiple"):
                chosen = chosen[-1:] or options[:1]
            return [_text(each, "value") if each.has_attr("value") else self._inner_text(each) for each in chosen]
        return [_text(element, "value")]

    def _inner_text(self, element: Tag) -> str:
        """Return the text of an element.  Raises `Failure` if the limits of text extraction are exceeded."""
        for _ in self._descendants(element):
            pass
        return _inner_text(element)

    def _within(self, element: Tag, *names: str) -> list[Tag]:
        """Return the descendants with these names.  Raises `Failure` as `_inner_text` does."""
        return [each for each in self._descendants(element) if isinstance(each, Tag) and each.name in names]

    def _descendants(self, element: Tag) -> Iterator[PageElement]:
        for each in element.descendants:
            self._visits -= 1
            self._characters -= 0 if isinstance(each, Tag) else len(str(each))
            if self._visits < 0 or self._characters < 0:
                raise Failure(f"{self.url}: the elements are nested too deeply to extract their text")
            yield each

    @staticmethod
    def _join(base: str, reference: str) -> str:
        """Return the resolved reference, empty if it is malformed, with its fragment or without it."""
        with suppress(ValueError):
            joined = urljoin(base, reference)
            # `urldefrag` drops an empty authority, so that the path becomes the authority: https:////[#x.
            urlsplit(urldefrag(joined).url)
            return joined
        return ""


def _text_of(data: bytes, declared: str | None) -> str:
    """Decode a page by its byte order mark, else the charset of Content-Type, else its own declaration (HTML Standard,
    section 13.2.3.1); without these as UTF-8, or as windows-1252 if it is not valid UTF-8."""
    named = declared or charset.codec_of(_declaration(data))
    if charset.marked(data) is None and named is None:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            named = "windows-1252"
    return charset.decode(data, named)


def _declaration(data: bytes) -> str | None:
    """Return the encoding that a page declares, unchecked; None if it declares none."""
    # The time of Beautiful Soup's patterns grows with the cube of the length.
    return EncodingDetector.find_declared_encoding(data[:PRESCAN], is_html=True)


def _kind(element: Tag) -> str:
    if element.name in ("input", "button"):
        return _text(element, "type").lower() or ("text" if element.name == "input" else "submit")
    return element.name


def _text(element: Tag, name: str) -> str:
    value = element.get(name) or ""
    return value if isinstance(value, str) else " ".join(value)


def _inner_text(element: Tag) -> str:
    return " ".join(element.get_text(" ").split())
