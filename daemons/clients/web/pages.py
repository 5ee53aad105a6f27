"""What is in a page of HTML: links, marks to jump to, forms and values.  By Beautiful Soup, on lxml."""

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

# Beautiful Soup would not say which package is missing.
importlib.import_module("lxml.etree")

# It tells of octets that are no characters, which nobody can change.
logging.getLogger("bs4.dammit").setLevel(logging.ERROR)

#: Octets of the longest page that is read.
LONGEST = 8 * 1024 * 1024

#: Tags of the page with the most: each takes about 800 bytes of memory, and 10 µs.
MOST_TAGS = 200_000

#: How often each node of a page may be visited, on average, to read the text of elements; each character of the longest
#: page four times.  Elements that are nested in each other have all the text of the inner ones again, so that the work
#: could grow with the square of the page.
VISITS = 100

#: Seconds of CPU time for the elements that a selector finds.  With `:has()` the work of soupsieve grows with the
#: square of the page: 2000 elements take 7 s, and the most would take a day.
SELECTION = 20.0

#: Characters of all the links of a page, resolved: each relative one has the whole path of the page or its base again.
MOST_LINKED = 4 * LONGEST

#: Where links stand: the element and its attribute.  A form is no link: what is there depends on what is filled in.
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

#: Bytes of a page that are searched for its declaration (HTML Standard, section 13.2.3.2).
PRESCAN = 1024

FIELDS = ["input", "select", "textarea", "button"]

#: Fields of a form that say nothing unless they are pressed.
BUTTONS = frozenset(("submit", "image", "button", "reset"))


@dataclass(frozen=True)
class Form:
    """A form as it would be submitted."""

    method: str
    action: str
    multipart: bool
    #: Names and values, in the order of the page.
    fields: list[tuple[str, str]] = field(default_factory=list)


class Page:
    """One page, which was found at `url`."""

    def __init__(self, url: str, octets: bytes, declared: str | None = None) -> None:
        self.url = url
        # The time that libxml2 takes grows with the square of the NUL characters.  In an attribute this is what one
        # stands for (HTML Standard, section 13.2.5).
        text = _text_of(octets, declared).replace("\0", "\ufffd")
        if (tags := text.count("<")) > MOST_TAGS:
            raise Failure(f"{url}: more than {MOST_TAGS} tags; a page with fewer is expected")
        self._visits, self._characters = VISITS * (tags + 1000), 4 * LONGEST
        self._marks: frozenset[str] | None = None
        try:
            with warnings.catch_warnings():
                # That it looks like XML, or like a file's name: it is what it is said to be.
                warnings.simplefilter("ignore")
                # By lxml: the time that `html.parser` takes grows with the square of what is left open.
                self._soup = BeautifulSoup(text, "lxml")
        except Exception as error:  # of Beautiful Soup and lxml, for a page that they cannot read
            raise Failure(f"{url}: this page cannot be parsed: {tools.reason_of(error)}") from error
        base = self._soup.find("base", href=True)
        self._base = self._join(url, _text(base, "href")) if base is not None else None
        self._base = self._base or url

    def links(self, *names: str) -> list[str]:
        """The URLs of the web that it leads to, each once, with their fragments; of these elements, or of all.  Raises
        `Failure` if they have more than `MOST_LINKED` characters."""
        found = []
        characters = 0
        for element in self._soup.find_all(names or list(LINKS)):
            reference = _text(element, LINKS[element.name]).strip()
            joined = self._join(self._base or self.url, reference) if reference else ""
            characters += len(joined)
            if characters > MOST_LINKED:
                raise Failure(f"{self.url}: more than {MOST_LINKED} characters of links; fewer are expected")
            if joined and urlsplit(joined).scheme in ("http", "https"):
                found.append(joined)
        return list(dict.fromkeys(found))

    def has(self, fragment: str) -> bool:
        """Whether there is such a place in it (HTML, section 7.4.6.4): an id, or the name of an anchor."""
        if self._marks is None:
            anchors = (_text(each, "name") for each in self._soup.find_all("a", attrs={"name": True}))
            self._marks = frozenset((*(_text(each, "id") for each in self._soup.find_all(id=True)), *anchors))
        return fragment.lower() in ("", "top") or fragment in self._marks

    def selected(self, selector: str) -> list[str]:
        """The text of each element that a CSS selector finds.  Raises `Failure`."""
        try:
            with cpu_limit(SELECTION):
                return [self._words(element) for element in self._soup.select(selector)]
        except TimeoutError as error:
            raise Failure(f"{self.url}: --select {selector!r} took {error}; expected a simpler one") from error
        except (SelectorSyntaxError, NotImplementedError, ValueError, RecursionError) as error:
            raise Failure(f"--select {selector!r}: {str(error).splitlines()[0]}") from error

    def facts(self) -> Iterator[tuple[str, str]]:
        """Names and values: rows of two cells, and lists of definitions."""
        for element in self._soup.find_all(["tr", "dl"]):
            if element.name == "tr":
                cells = element.find_all(["th", "td"], recursive=False)
                if len(cells) == 2:
                    yield self._words(cells[0]).rstrip(":"), self._words(cells[1])
            else:
                name = ""
                for part in self._within(element, "dt", "dd"):
                    if part.name == "dt":
                        name = self._words(part).rstrip(":")
                    else:
                        yield name, self._words(part)

    def form(self, given: Sequence[tuple[str, str]]) -> Form:
        """The form that has all these fields, filled in; what else is in it stays as the page has it.  Raises
        `Failure`."""
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
            raise Failure(f"{self.url}: the form is sent as text/plain, which nobody can read again")
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
            elif not any(name == written for written, _ in given):
                if kind in ("submit", "image"):
                    # The first is pressed, as Enter would.
                    fields += [(name, _text(element, "value"))] * (kind == "submit" and not pressed)
                    pressed = True
                else:
                    fields += [(name, value) for value in self._values(element, kind)]
        action = self._join(self._base or self.url, _text(form, "action").strip()) or self.url
        method = "POST" if _text(form, "method").lower() == "post" else "GET"
        return Form(method, urldefrag(action).url, encoding == "multipart/form-data", fields)

    def _values(self, element: Tag, kind: str) -> list[str]:
        """What a field says that nobody has touched."""
        if kind in ("checkbox", "radio"):
            return [_text(element, "value") or "on"] * element.has_attr("checked")
        if kind in BUTTONS or kind == "file":
            return []
        if kind == "textarea":
            self._words(element)  # which raises `Failure` for too much
            return [element.get_text().removeprefix("\n")]
        if kind == "select":
            options = [each for each in self._within(element, "option") if not each.has_attr("disabled")]
            chosen = [each for each in options if each.has_attr("selected")]
            if not element.has_attr("multiple"):
                chosen = chosen[-1:] or options[:1]
            return [_text(each, "value") if each.has_attr("value") else self._words(each) for each in chosen]
        return [_text(element, "value")]

    def _words(self, element: Tag) -> str:
        """Return the text in an element.  Raises `Failure` if the page has been read too often."""
        for _ in self._visited(element):
            pass
        return _words(element)

    def _within(self, element: Tag, *names: str) -> list[Tag]:
        """Return the elements of these names in an element.  Raises `Failure` as `_words` does."""
        return [each for each in self._visited(element) if isinstance(each, Tag) and each.name in names]

    def _visited(self, element: Tag) -> Iterator[PageElement]:
        for each in element.descendants:
            self._visits -= 1
            self._characters -= 0 if isinstance(each, Tag) else len(str(each))
            if self._visits < 0 or self._characters < 0:
                raise Failure(f"{self.url}: too many elements are nested in each other to read the text of all")
            yield each

    @staticmethod
    def _join(base: str, reference: str) -> str:
        with suppress(ValueError):
            return urljoin(base, reference)
        return ""


def _text_of(octets: bytes, declared: str | None) -> str:
    """Decode a page, in the order of the HTML Standard (section 13.2.3.1): by its byte order mark, by the response's
    Content-Type, by its own declaration; else it is UTF-8, or windows-1252 if it is not valid UTF-8."""
    named = declared or charset.codec_of(_declaration(octets))
    if charset.marked(octets) is None and named is None:
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            named = "windows-1252"
    return charset.decode(octets, named)


def _declaration(octets: bytes) -> str | None:
    """Return the encoding that a page declares, as it is written there, None if it declares none."""
    # The patterns of Beautiful Soup take time that grows with the cube of what they search.
    return EncodingDetector.find_declared_encoding(octets[:PRESCAN], is_html=True)


def _kind(element: Tag) -> str:
    if element.name in ("input", "button"):
        return _text(element, "type").lower() or ("text" if element.name == "input" else "submit")
    return element.name


def _text(element: Tag, name: str) -> str:
    value = element.get(name) or ""
    return value if isinstance(value, str) else " ".join(value)


def _words(element: Tag) -> str:
    return " ".join(element.get_text(" ").split())
