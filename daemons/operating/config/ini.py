"""Reader of ini files: returns `Settings`, or raises all complaints at once.

Each complaint names the file, the section, the key, the expected form, and the nearest valid key.
Values come from ``defaults.ini``, then ``NAME.ini``, then the command line; the last one wins.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from daemons.operating.config import sources
from daemons.operating.config.section_parser import parse_section
from daemons.operating.config.sections import (
    NO_LISTENER,
    SECTIONS,
    TABLES,
    DaemonSettings,
    MetricsSettings,
    Settings,
    TLSSettings,
)
from daemons.operating.config.sources import Layer, display_path
from daemons.operating.loading.targets import TARGETS
from daemons.serving.listening.address import UNIX_PATH_LIMIT, Address, parse_addresses
from daemons.settings.complaints import ConfigurationError
from daemons.settings.values import comment_hint, hint

#: Files in conf/ that are not the ini of one daemon.
SHARED = ("defaults", "logging")


@dataclass(frozen=True)
class Override:
    """One option of the command line: ``--set limits.idle_timeout=2s``."""

    origin: str
    section: str
    key: str
    value: str


def parse_override(text: str) -> Override:
    """Parse ``SECTION.KEY=VALUE``.  Raises `ValueError`."""
    match = re.fullmatch(r"(\w+)\.(\w+|/[^=\s]*)=(.*)", text, re.DOTALL)
    if match is None:
        raise ValueError(f"--set {text}: not a setting; write SECTION.KEY=VALUE, for example limits.idle_timeout=2s")
    return Override("--set", *(part.strip() for part in match.groups()))


def names(conf: Path) -> list[str]:
    """Return the names of the daemons that have an ini in the folder `conf`.  Hidden files, such as the
    ``.#launcelot.ini`` of an editor, do not count.  Raises `ConfigurationError` if the folder cannot be read."""
    try:
        files = [Path(file) for file in os.listdir(conf) if file.endswith(".ini") and file[0] != "."]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigurationError([f"{conf}: {(error.strerror or str(error)).lower()}"]) from error
    return sorted(path.stem for path in files if path.stem not in SHARED)


def absolute(conf: Path) -> Path:
    """Return `conf` as an absolute path.  A symbolic link is not followed: the project is the folder that holds it."""
    conf = Path(os.path.abspath(conf))
    return conf.parent.resolve() / conf.name


def run_folder(conf: Path, run: Path | None = None) -> Path:
    """Return ``run`` beside the folder `conf`, unless --run names another."""
    return absolute(conf).parent / "run" if run is None else run.absolute()


def read(conf: Path, name: str, overrides: Iterable[Override] = (), run: Path | None = None) -> Settings:
    """Read the settings of the daemon `name`.  Raises `ConfigurationError` with all complaints."""
    try:
        if not conf.is_dir():
            raise ConfigurationError([f"{conf}: no such folder; name the folder of the ini files with --conf DIR"])
        conf = absolute(conf)
        path = conf / f"{name}.ini"
        exists = name not in SHARED and path.is_file()
    except OSError as error:
        raise ConfigurationError([f"{conf}: {(error.strerror or str(error)).lower()}"]) from error
    if not exists:
        raise ConfigurationError([f"{display_path(path)}: no such file{hint(name, {*names(conf)} - {name})}"])
    # Absolute, because a reload reads them again from another working folder.
    overrides, run = list(overrides), run and run.absolute()
    return _Reader(conf, name, overrides, run, partial(read, conf, name, overrides, run)).read()


class _Reader:
    """Reads one daemon's layers and collects the complaints."""

    def __init__(
        self, conf: Path, name: str, overrides: list[Override], run: Path | None, reread: Callable[[], Settings]
    ) -> None:
        self.reread = reread
        self.conf = conf
        self.name = name
        self.base = conf.parent
        self.run = run_folder(conf, run)
        self.complaints: list[str] = []
        #: Whether an ini could not be read, so that its keys are unknown.
        self.unread = False
        self.layers = [
            *self._file(conf / "defaults.ini"),
            *self._file(conf / f"{name}.ini"),
            *(Layer(each.origin, {each.section: {each.key: each.value}}) for each in overrides),
        ]

    def read(self) -> Settings:
        sections: dict[str, Any] = {}
        origins: dict[tuple[str, str], str] = {}
        for name, declaration in SECTIONS.items():
            sections[name], found = parse_section(declaration, name, self._section(name), self.complaints)
            origins |= found
        target = self._target(sections["daemon"])
        others: dict[str, Any] = dict.fromkeys(TARGETS.keys() - {target}, "")
        daemon = sections["daemon"] = dataclasses.replace(sections["daemon"], **others)
        own_section = TARGETS[target].section_name(getattr(daemon, target))
        self._check_sections(own_section)
        addresses = self._addresses()
        self._check_public(daemon, addresses)
        sections["metrics"] = self._metrics_settings(sections["metrics"], daemon)
        self._check_tls(sections["tls"], addresses, target)
        self._check_overlap(addresses)
        if self.complaints:
            raise ConfigurationError(dict.fromkeys(self.complaints))
        texts: dict[str, dict[str, str]] = {}
        for section in (own_section, *TABLES):
            texts[section] = {}
            for origin, values in self._section(section):
                texts[section] |= values
                origins |= {(section, key): origin for key in values}
        logging_ini = self.conf / "logging.ini"
        return Settings(
            name=self.name,
            base=self.base,
            run=self.run,
            logging_ini=logging_ini if os.path.lexists(logging_ini) else None,
            addresses=addresses,
            target=target,
            own_section=own_section,
            own=texts[own_section],
            tables={section: texts[section] for section in TABLES if texts[section]},
            origins=origins,
            reread=self.reread,
            **sections,
        )

    def _file(self, path: Path) -> list[Layer]:
        try:
            layer = sources.of_file(path)
        except ConfigurationError as error:
            # Keys that may be in it are not reported as missing.
            self.unread = True
            self.complaints += error.complaints
            return []
        return [] if layer is None else [layer]

    def _section(self, name: str) -> list[tuple[str, Mapping[str, str]]]:
        return [(layer.origin, layer.values[name]) for layer in self.layers if name in layer.values]

    def _target(self, daemon: DaemonSettings) -> str:
        """Return the key of the target.  If several layers have one, the last layer wins."""
        target = ""
        for origin, section in self._section("daemon"):
            keys = [key for key in TARGETS if key in section]
            for key in keys[1:]:
                reason = f"there is a {keys[0]} too; write only one of the two"
                self.complaints.append(f"{origin} [daemon] {key}: {reason}")
            target = keys[0] if keys else target
        text = getattr(daemon, target) if target else ""
        if not text:
            if target or not self.unread:
                self.complaints.append(f"{self._shown} [daemon] service: missing; write service = NAME or module:Class")
        elif not TARGETS[target].pattern.fullmatch(text):
            self.complaints.append(
                f"{self._origin(target)} [daemon] {target} = {text}: write {TARGETS[target].form}{comment_hint(text)}"
            )
        return target or "service"

    def _check_sections(self, own_section: str) -> None:
        known = [*SECTIONS, own_section, *TABLES]
        for layer in self.layers:
            for section in layer.values:
                if section not in known:
                    self.complaints.append(f"{layer.origin} [{section}]: no such section{hint(section, known)}")

    def _addresses(self) -> tuple[Address, ...]:
        """Return the listeners.

        A later layer's port or host replaces that of every inet listener of an earlier layer; a later listen replaces
        all listeners."""
        addresses: tuple[Address, ...] = (Address("tcp", host=DaemonSettings.host),)
        complete = self.unread
        for origin, section in self._section("daemon"):
            if "listen" in section and {"port", "host"} & set(section):
                self.complaints.append(
                    f"{origin} [daemon] listen: there is a port or host too; write listen alone, or host and port"
                )
            try:
                if "listen" in section:
                    addresses = parse_addresses(section["listen"])
                    complete = bool(addresses)
                one, _ = parse_section(DaemonSettings, "daemon", [(origin, section)], [])
            except ValueError:
                return ()  # reported by parse_section
            host = one.host.strip("[]") if "host" in section else None
            addresses = tuple(address.at(host=host, port=one.port) for address in addresses)
            complete = complete or "port" in section
        if not complete:
            self.complaints.append(f"{self._shown} [daemon] port: missing; write port = N, or listen = ADDRESS")
        return tuple(self._with_absolute_path(address) for address in addresses)

    def _with_absolute_path(self, address: Address) -> Address:
        """Return the address; the path of a Unix address is made absolute, with ``run/x.sock`` in the run folder."""
        if address.scheme != "unix":
            return address
        path = Path(address.path)
        path = self.run / path.relative_to("run") if path.parts[:1] == ("run",) else self.base / path
        if len(os.fsencode(path)) > UNIX_PATH_LIMIT:
            self.complaints.append(
                f"{self._origin('listen')} [daemon] listen: {path} is longer than {UNIX_PATH_LIMIT} bytes, "
                "the maximum for the path of a Unix socket"
            )
        return Address("unix", path=str(path))

    def _check_public(self, daemon: DaemonSettings, addresses: tuple[Address, ...]) -> None:
        keys = [
            (origin, key) for origin, values in self._section("daemon") for key in ("listen", "host") if key in values
        ]
        for address in addresses:
            if not daemon.public and not address.loopback:
                origin, key = keys[-1]
                self.complaints.append(
                    f"{origin} [daemon] {key}: {address} can be reached from other machines; "
                    "to allow that, write public = yes"
                )

    def _check_tls(self, tls: TLSSettings, addresses: tuple[Address, ...], target: str) -> None:
        secure = [address for address in addresses if address.scheme == "tls"]
        if secure and not tls.certificate:
            self.complaints.append(
                f"{self._origin('listen')} [daemon] listen: {secure[0]} needs a certificate; write [tls] "
                "certificate = FILE; `daemons cert` makes one to try it with"
            )
        # [tls] in defaults.ini is for the daemons that have TLS.
        own = [each for each in self._section("tls") if each[0] != display_path(self.conf / "defaults.ini")]
        # Only the class of a service tells whether it begins TLS on a tcp:// listener: checked when it is imported.
        may_start = target == "service" and any(values for _, values in own)
        if own and addresses and not secure and not (may_start and any(each.may_be_tcp for each in addresses)):
            self.complaints.append(f"{own[-1][0]} [tls]: {NO_LISTENER}")

    def _metrics_settings(self, metrics: MetricsSettings, daemon: DaemonSettings) -> MetricsSettings:
        origin = [origin for origin, section in self._section("metrics") if "listen" in section][-1:]
        for address in metrics.listen:
            if not daemon.public and not address.loopback:
                self.complaints.append(
                    f"{origin[0]} [metrics] listen: {address} can be reached from other machines; "
                    "to allow that, write public = yes under [daemon]"
                )
        return dataclasses.replace(
            metrics, listen=tuple(self._with_absolute_path(address) for address in metrics.listen)
        )

    def _check_overlap(self, addresses: tuple[Address, ...]) -> None:
        for one, other in combinations(addresses, 2):
            if one.conflicts_with(other):
                self.complaints.append(f"{self._origin('listen')} [daemon] listen: {one} and {other} overlap")

    @property
    def _shown(self) -> str:
        return display_path(self.conf / f"{self.name}.ini")

    def _origin(self, key: str) -> str:
        """Return the origin of the last layer that set `key` of [daemon]."""
        origins = [origin for origin, section in self._section("daemon") if key in section]
        return origins[-1] if origins else self._shown
