"""docker-compose.yml against the Compose schema, and against the files and ports that it names."""

from __future__ import annotations

import fnmatch
import importlib.resources
import ipaddress
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bridge import config
from bridge.media.slots import SlotMap
from tests.lab.services import keys

ROOT = Path(__file__).resolve().parents[2]
GIVEN = {"ARI_PASSWORD": "a-secret", "PHONE_PASSWORD": "another"}  # what .env holds
Table = dict[str, Any]


def interpolate(text: str, environment: dict[str, str]) -> str:
    """Fill in `${NAME}`, `${NAME:-default}` and `${NAME:?what to do}` as Compose does."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if environment.get(name):
            return environment[name]
        if kind == ":-":
            return str(rest)
        raise KeyError(f"{name}: {rest or 'not set, and no default'}")

    return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, text)


@pytest.fixture(scope="module")
def compose() -> Table:
    text = (ROOT / "docker-compose.yml").read_text()
    table: Table = yaml.safe_load(interpolate(text, GIVEN))
    return table


@pytest.fixture(scope="module")
def services(compose: Table) -> Table:
    table: Table = compose["services"]
    return table


def address(services: Table, name: str) -> str:
    return str(services[name]["networks"]["calls"]["ipv4_address"])


def dockerfile(build: Table) -> Path:
    return ROOT / build["context"] / build.get("dockerfile", "Dockerfile")


def instructions(file: Path) -> list[list[str]]:
    """The words of each instruction of a Dockerfile."""
    text = re.sub(r"(?m)^\s*#.*\n", "", file.read_text())
    return [shlex.split(line) for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]


def test_it_keeps_to_the_schema() -> None:
    schema = importlib.resources.files("check_jsonschema").joinpath(
        "builtin_schemas/vendor/compose-spec.json"
    )
    raw = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    jsonschema.validate(raw, json.loads(schema.read_text()))


@pytest.mark.parametrize("missing", sorted(GIVEN))
def test_it_does_not_start_with_a_password_that_everybody_knows(missing: str) -> None:
    some = {name: value for name, value in GIVEN.items() if name != missing}
    with pytest.raises(KeyError, match=r"put \w+ into \.env"):
        interpolate((ROOT / "docker-compose.yml").read_text(), some)


def test_what_a_service_names_is_there(compose: Table, services: Table) -> None:
    for service in services.values():
        assert set(service["networks"]) <= set(compose["networks"])
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in compose["volumes"]
        for item in service.get("configs", []):
            assert item["source"] in compose["configs"]
        for name, needed in service.get("depends_on", {}).items():
            assert needed["condition"] == "service_healthy"
            assert "healthcheck" in services[name]


def test_every_file_that_an_image_copies_is_in_its_context(services: Table) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    builds = [service["build"] for service in services.values() if "build" in service]
    assert len(builds) == 2
    for build in builds:
        context = (ROOT / build["context"]).resolve()
        copied = [
            words[1:-1]
            for words in instructions(dockerfile(build))
            if words[0] == "COPY" and not words[1].startswith("--from=")  # of another stage
        ]
        for source in (source for sources in copied for source in sources):
            found = sorted(context.glob(source))
            assert found, f"{dockerfile(build)}: COPY {source}"
            if context == ROOT:
                assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source


def test_what_the_wheel_holds_is_copied_into_its_image() -> None:
    """Else the build fails, where nobody sees it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], *wheel["shared-data"]}
    copied = {words[1] for words in instructions(ROOT / "Dockerfile") if words[0] == "COPY"}
    assert needed <= copied


def test_without_the_demo_the_bridge_serves_another_asterisk(services: Table) -> None:
    assert services["asterisk"]["profiles"] == ["demo"]
    assert services["bridge"]["depends_on"]["asterisk"]["required"] is False
    assert all("profiles" not in services[name] for name in ("bridge", "redis"))
    text = (ROOT / "docker-compose.yml").read_text()
    other = yaml.safe_load(interpolate(text, {**GIVEN, "ASTERISK_URL": "http://10.0.0.2:8088"}))
    assert 'url = "http://10.0.0.2:8088"' in other["configs"]["bridge.toml"]["content"]


def test_images_do_not_run_as_root(services: Table) -> None:
    for service in services.values():
        if "build" in service:
            users = [
                words[1]
                for words in instructions(dockerfile(service["build"]))
                if words[0] == "USER"
            ]
            assert users
            assert users[-1] not in ("root", "0")


def test_the_media_process_may_raise_its_priority_as_under_systemd(services: Table) -> None:
    """By limits: Docker gives a capability to root's processes alone, and ours are not."""
    limits = keys(ROOT / "systemd" / "ari-bridge-media@.service")["Service"]
    assert services["bridge"]["ulimits"] == {
        "nice": 20 - int(limits["LimitNICE"][0]),  # setrlimit(2), RLIMIT_NICE
        "rtprio": int(limits["LimitRTPRIO"][0]),
    }
    assert "cap_add" not in services["bridge"]


def test_the_published_ports_are_those_asterisk_listens_on(services: Table) -> None:
    given = services["asterisk"]["environment"]
    rtp = f"{given['RTP_START']}-{given['RTP_END']}"
    assert set(services["asterisk"]["ports"]) == {
        f"{given['SIP_PORT']}:{given['SIP_PORT']}/udp",
        f"{given['TLS_PORT']}:{given['TLS_PORT']}/tcp",
        f"{rtp}:{rtp}/udp",
    }
    assert "ports" not in services["bridge"]
    assert "ports" not in services["redis"]


def test_every_placeholder_of_the_configuration_has_a_value(services: Table) -> None:
    start = (ROOT / "asterisk-config/demo/start.sh").read_text()
    known = set(services["asterisk"]["environment"]) | set(re.findall(r'(\w+)="\$\{', start))
    named = {
        name
        for template in (ROOT / "asterisk-config/demo").glob("*.conf")
        if not template.name.endswith("-loopback.conf")
        for name in re.findall(r"@([A-Z_]+)@", template.read_text())
    }
    assert named <= known


def test_the_bridge_is_told_where_the_others_are(
    compose: Table, services: Table, tmp_path: Path
) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(compose["configs"]["bridge.toml"]["content"])
    told = config.load(file)
    asterisk = services["asterisk"]["environment"]
    assert told.asterisk[0].url == f"http://{address(services, 'asterisk')}:{asterisk['ARI_PORT']}"
    assert told.asterisk[0].password == asterisk["ARI_PASSWORD"]
    user = f"[{told.asterisk[0].username}]"
    assert user in (ROOT / "asterisk-config/ari-bridge-ari.conf").read_text()
    assert told.media.listen_address == address(services, "bridge")
    assert told.redis.url == f"redis://{address(services, 'redis')}:6379/0"
    command = next(words for words in instructions(ROOT / "Dockerfile") if words[0] == "CMD")
    assert services["bridge"]["configs"][0]["target"] in " ".join(command)


def test_the_slots_lie_in_memory_and_have_room(
    compose: Table, services: Table, tmp_path: Path
) -> None:
    """In /dev/shm: a tmpfs of its own would need an owner, which not every engine can give it."""
    file = tmp_path / "bridge.toml"
    file.write_text(compose["configs"]["bridge.toml"]["content"])
    media = config.load(file).media
    assert Path(media.runtime_dir).parent == Path("/dev/shm")
    SlotMap.create(tmp_path / "slots", media.max_calls, media.playout_ms)
    room = int(services["bridge"]["shm_size"].removesuffix("m")) << 20
    assert (tmp_path / "slots").stat().st_size < room


def test_addresses_are_in_the_network_and_each_is_one_services(
    compose: Table, services: Table
) -> None:
    subnet = ipaddress.ip_network(compose["networks"]["calls"]["ipam"]["config"][0]["subnet"])
    addresses = [ipaddress.ip_address(address(services, name)) for name in services]
    assert len(set(addresses)) == len(addresses)
    hosts = list(subnet.hosts())
    assert all(a in hosts and a != hosts[0] for a in addresses)  # the first is the gateway's
