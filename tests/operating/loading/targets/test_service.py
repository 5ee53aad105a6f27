"""Target ``service =``: from the value in an ini to a `Service` with its options."""

from __future__ import annotations

import pytest

from daemons.operating.loading.targets import target_of
from daemons.serving.pump import Pump
from daemons.settings.complaints import ConfigurationError
from tests.operating.folder import Folder
from tests.operating.loading.targets.loading import GREETER, complaints, load, service_of

SUITE = "daemons.launcelot"


def test_name_is_the_only_service_of_a_module_of_the_suite(folder: Folder) -> None:
    from daemons.launcelot import Launcelot

    assert isinstance(service_of(load(folder, "service = launcelot")), Launcelot)


def test_module_beside_the_conf_folder_is_found(project: Folder) -> None:
    handler = load(project, "service = greeter:Plain")
    assert type(service_of(handler)).__name__ == "Plain"
    assert issubclass(handler, Pump)
    assert handler.binding.service is handler.service


def test_module_of_a_package_is_found(folder: Folder) -> None:
    (folder.path / "package").mkdir()
    folder.module("package/inner", GREETER)
    assert type(service_of(load(folder, "service = package.inner:Plain"))).__name__ == "Plain"


def test_options_come_from_the_section_named_after_the_service(project: Folder) -> None:
    service = service_of(load(project, "service = greeter:Greeter", "[greeter]\ntimes = 3\n"))
    assert service.respond(b"ho!") == b"ho!ho!ho!"  # type: ignore[attr-defined]
    assert service.options.wait == 9  # type: ignore[attr-defined]


def test_wrong_options_are_reported_all_at_once(project: Folder) -> None:
    project.write("defaults", "[greeter]\ntims = 3\n")
    assert complaints(project, "service = greeter:Greeter", "[greeter]\ntimes = often\nwait = 0\n") == [
        "conf/defaults.ini [greeter] tims: no such setting; did you mean times?",
        "conf/x.ini [greeter] times = often: not a count; write a whole number above 0",
        "conf/x.ini [greeter] wait = 0: not a count; write a whole number above 0",
    ]


def test_options_of_a_service_without_options_are_refused(project: Folder) -> None:
    assert complaints(project, "service = greeter:Plain", "[plain]\ntimes = 3\n") == [
        "conf/x.ini [plain] times: Plain has no options"
    ]


def test_two_services_in_a_module_of_the_suite_are_ambiguous(project: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    import daemons.launcelot

    another = type("Another", (daemons.launcelot.Launcelot,), {"__module__": SUITE})
    monkeypatch.setattr(daemons.launcelot, "Another", another, raising=False)
    assert complaints(project, "service = launcelot") == [
        "conf/x.ini [daemon] service = launcelot: "
        "one Service is expected in daemons.launcelot, found Launcelot, Another; write module:Class"
    ]
    assert type(service_of(load(project, "service = daemons.launcelot:Another"))) is another


def test_service_without_state_has_a_shared_memory(folder: Folder) -> None:
    handler = load(folder, "service = launcelot")
    assert issubclass(handler, Pump)
    assert handler.binding is not None


@pytest.mark.parametrize(
    "listen", ["tcp://127.0.0.1:1", "fd://0", "tls://127.0.0.1:1 unix:run/x.sock\n[tls]\ncertificate = x.pem"]
)
def test_service_that_requires_tls_is_refused_without_tls(folder: Folder, listen: str) -> None:
    folder.write("x", f"[daemon]\nservice = tlsd\nlisten = {listen}\n")
    with pytest.raises(ConfigurationError) as raised:
        target_of(folder.read()).request_handlers()
    (complaint,) = raised.value.complaints
    assert complaint.startswith("conf/x.ini [daemon] service = tlsd: the service requires TLS; not encrypted: ")
    assert complaint.endswith("; write listen = tls://HOST:PORT")
