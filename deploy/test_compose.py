"""docker-compose.yml, the Dockerfile and what they name fit together: seen without an engine."""

from __future__ import annotations

import ast
import ipaddress
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parent.parent
READERS = ("shop/settings.py", "deploy/gunicorn.conf.py")
WELL_KNOWN = {
    "PATH": "finds the virtual environment's programs",
    "PYTHONDONTWRITEBYTECODE": "read by Python: the containers' file systems are read-only",
    "PYTHONUNBUFFERED": "read by Python: the log is complete when a container dies",
}
VARIABLE = re.compile(r"(?<!\$)\$(?:\{(?P<name>\w+)(?P<rest>[^}]*)\}|(?P<bare>\w+))")
URL = re.compile(r"\w+://[^\s'\"]+")

Json = dict[str, Any]
Stage = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What the files say, parsed."""

    compose: Json
    stages: list[Stage]
    ignored: list[str]

    @property
    def services(self) -> dict[str, Json]:
        """All services by name."""
        services: dict[str, Json] = self.compose["services"]
        return services

    @property
    def ours(self) -> dict[str, Json]:
        """The services that run the image built here."""
        built = {service["image"] for service in self.services.values() if "build" in service}
        return {name: it for name, it in self.services.items() if it["image"] in built}

    @property
    def image_environment(self) -> dict[str, str]:
        """The variables that the image brings along."""
        words = [word for line in self.lines("ENV") for word in shlex.split(line)]
        return dict(word.split("=", 1) for word in words)

    @property
    def copied(self) -> list[str]:
        """What the final stage copies from the source tree."""
        return copy_sources(self.stages[-1])

    def lines(self, keyword: str) -> list[str]:
        """The arguments of each such instruction of the final stage."""
        return [rest for word, rest in self.stages[-1] if word == keyword]

    def command(self, name: str) -> list[str]:
        """The words a service starts with: its own, or the image's."""
        command = self.services[name].get("command")
        if command is None:
            command = json.loads(self.lines("CMD")[-1]) if name in self.ours else []
        parts = [command] if isinstance(command, str) else command
        return [word for part in parts for word in shlex.split(part)]

    def environment(self, name: str) -> dict[str, str]:
        """The variables a service is given, with stand-ins for what comes from outside."""
        given = self.services[name].get("environment", {})
        image = self.image_environment if name in self.ours else {}
        return {**image, **{key: filled_in(value) for key, value in given.items()}}

    def ports(self, name: str) -> list[int]:
        """The container ports that a service publishes."""
        return [int(port.rsplit(":", 1)[1]) for port in self.services[name].get("ports", [])]

    def urls(self, name: str) -> Iterator[str]:
        """Every URL a service is given, apart from that of its own health check."""
        for text in [*self.environment(name).values(), *self.command(name)]:
            yield from URL.findall(text)

    def health_url(self, name: str) -> str:
        """The address that a service's health check asks."""
        found = URL.search(" ".join(self.services[name]["healthcheck"]["test"]))
        return found.group() if found else ""


def parse_dockerfile(text: str) -> list[Stage]:
    """Split a Dockerfile into stages of (keyword, arguments)."""
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    stages: list[Stage] = []
    for line in kept.replace("\\\n", " ").splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "FROM":
            stages.append([])
        if keyword:
            stages[-1].append((keyword, " ".join(rest.split())))
    return stages


def copy_sources(stage: Stage) -> list[str]:
    """List what a stage copies from the source tree, not from another stage."""
    copies = [rest for keyword, rest in stage if keyword == "COPY" and "--from=" not in rest]
    words = [word for rest in copies for word in rest.split()[:-1]]
    return [word for word in words if not word.startswith("--")]


def filled_in(value: str) -> str:
    """Put the default, or a stand-in of its own, in the place of every variable."""

    def stand_in(found: re.Match[str]) -> str:
        name, rest = found["name"] or found["bare"], found["rest"] or ""
        return rest[2:] if rest.startswith(":-") else f"stand-in-for-{name}"

    return VARIABLE.sub(stand_in, value)


def strings(node: Any) -> Iterator[str]:
    """Walk through all strings of a parsed document."""
    if isinstance(node, dict | list):
        for part in node.values() if isinstance(node, dict) else node:
            yield from strings(part)
    elif isinstance(node, str):
        yield node


def variables_read() -> set[str]:
    """Name the environment variables that our two readers of them read."""
    names = set()
    for path in READERS:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Call) and re.match(r"(os\.environ|env)\.", ast.unparse(node)):
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    names.add(first.value)
    return names


# The checks: each returns its complaints.


def every_file_named_exists(it: Deployment) -> list[str]:
    dockerfiles = {
        f"{service['build']}/Dockerfile" for service in it.ours.values() if "build" in service
    }
    mounts = [
        volume.split(":")
        for service in it.services.values()
        for volume in service.get("volumes", [])
    ]
    wanted = dockerfiles | {source for source, *_ in mounts if source.startswith(".")}
    missing = [f"{path} does not exist" for path in wanted if not (ROOT / path).is_file()]
    for name in it.services:
        targets = [volume.split(":")[1] for volume in it.services[name].get("volumes", [])]
        for word in it.command(name):
            path = word.rsplit("=", 1)[-1]
            if not path.endswith((".py", ".conf", ".cnf")):
                continue
            in_image = (ROOT / path).is_file() and path.split("/")[0] in it.copied
            if not (in_image if name in it.ours else path in targets):
                missing.append(f"{name} starts with {path}, which is not there")
    return missing


def every_named_volume_and_config_is_declared(it: Deployment) -> list[str]:
    complaints = []
    for name, service in it.services.items():
        volumes = [volume.split(":")[0] for volume in service.get("volumes", [])]
        configs = [config["source"] for config in service.get("configs", [])]
        lost = {volume for volume in volumes if not volume.startswith(".")} - set(
            it.compose["volumes"]
        )
        lost |= set(configs) - set(it.compose["configs"])
        complaints += [f"{name}: {source} is not declared" for source in lost]
    return complaints


def every_management_command_exists(it: Deployment) -> list[str]:
    texts = [" ".join(it.command(name)) for name in it.ours] + it.lines("RUN")
    named = [command for text in texts for command in re.findall(r"manage\.py (\w+)", text)]
    return [f"there is no command {command}" for command in named if command not in get_commands()]


def every_variable_given_is_read(it: Deployment) -> list[str]:
    known = variables_read() | set(WELL_KNOWN)
    return [
        f"{name} is given {variable}, which nothing reads"
        for name in it.ours
        for variable in it.environment(name)
        if variable not in known
    ]


def every_variable_used_has_a_default_or_a_message(it: Deployment) -> list[str]:
    return [
        f"{found.group()} may be missing without a word"
        for text in strings(it.compose)
        for found in VARIABLE.finditer(text)
        if not re.match(r":-|:\?.", found["rest"] or "")
    ]


def the_shop_starts_with_what_it_is_given(it: Deployment) -> list[str]:
    complaints = []
    for name in it.ours:
        if "manage.py" in it.command(name) or "shop.wsgi" in it.command(name):
            environment = {**it.environment(name), "PATH": os.environ["PATH"]}
            tried = subprocess.run(
                [sys.executable, "-c", "import shop.settings"],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
            )
            complaints += [f"{name}: {tried.stderr}"] if tried.returncode else []
    return complaints


def the_ports_of_web_agree(it: Deployment) -> list[str]:
    host, bound = it.environment("web")["BIND"].rsplit(":", 1)
    said = {
        "published": it.ports("web"),
        "exposed": [int(port) for port in it.lines("EXPOSE")],
        "checked for health": [urlsplit(it.health_url("web")).port],
    }
    wrong = [
        f"{what}: {ports}, bound: {bound}" for what, ports in said.items() if ports != [int(bound)]
    ]
    if not ipaddress.ip_address(host).is_unspecified:
        wrong.append(f"nothing outside of the container reaches {host}")
    return wrong


def everything_is_published_to_this_machine_alone(it: Deployment) -> list[str]:
    return [
        f"{name} publishes {port}"
        for name, service in it.services.items()
        for port in service.get("ports", [])
        if not port.startswith("127.0.0.1:")
    ]


def every_address_leads_to_a_service(it: Deployment) -> list[str]:
    complaints = []
    for name in it.ours:
        for url in map(urlsplit, it.urls(name)):
            if url.hostname not in it.services or url.port not in it.ports(url.hostname):
                complaints.append(f"{name}: nothing answers at {url.hostname}:{url.port}")
        for word in it.command(name):
            if word.startswith("--master-host=") and word.split("=")[1] not in it.services:
                complaints.append(f"{name}: there is no service for {word}")
    return complaints


def web_answers_to_the_names_it_is_asked_by(it: Deployment) -> list[str]:
    allowed = it.environment("web")["ALLOWED_HOSTS"].split(",")
    hosts = {urlsplit(url).hostname for name in it.ours for url in it.urls(name)} & {"web"}
    hosts.add(urlsplit(it.health_url("web")).hostname)
    return [f"{host} is not in ALLOWED_HOSTS" for host in hosts if host not in allowed]


def every_dependency_is_a_service(it: Deployment) -> list[str]:
    complaints = []
    for name, service in it.services.items():
        for other, how in service.get("depends_on", {}).items():
            if other not in it.services:
                complaints.append(f"{name} waits for {other}, which is no service")
            elif how["condition"] == "service_healthy" and "healthcheck" not in it.services[other]:
                complaints.append(f"{name} waits for the health of {other}, which has no check")
    return complaints


def the_database_is_opened_with_the_key_it_was_given(it: Deployment) -> list[str]:
    complaints = []
    for name in it.ours:
        if "DATABASE_URL" not in it.environment(name):
            continue
        url = urlsplit(it.environment(name)["DATABASE_URL"])
        made = it.environment(url.hostname or "") if url.hostname in it.services else {}
        for key, value in (
            ("MARIADB_USER", url.username),
            ("MARIADB_PASSWORD", url.password),
            ("MARIADB_DATABASE", url.path.removeprefix("/")),
        ):
            if made.get(key) != value:
                complaints.append(f"{name}: {value} is not the {key} of {url.hostname}")
    return complaints


def nothing_of_ours_runs_as_root(it: Deployment) -> list[str]:
    users = {"Dockerfile": (it.lines("USER") or ["root"])[-1]}
    users |= {name: str(one["user"]) for name, one in it.ours.items() if "user" in one}
    return [
        f"{where}: {user} is not a number above 0"
        for where, user in users.items()
        if not re.match(r"[1-9]\d*(:|$)", user)
    ]


def everything_copied_exists_and_reaches_the_builder(it: Deployment) -> list[str]:
    sources = [source for stage in it.stages for source in copy_sources(stage)]
    absent = [f"{source} does not exist" for source in sources if not (ROOT / source).exists()]
    hidden = [f"{one} is ignored" for one in sources if f"!{one}" not in it.ignored]
    return absent + hidden


def only_what_is_copied_reaches_the_builder(it: Deployment) -> list[str]:
    let_in = {line[1:] for line in it.ignored if line.startswith("!")}
    sources = {source for stage in it.stages for source in copy_sources(stage)}
    everything = [] if "*" in it.ignored else ["the whole tree is sent"]
    return everything + [f"{one} is sent, and not copied" for one in let_in - sources]


def what_is_installed_is_locked_and_was_copied(it: Deployment) -> list[str]:
    complaints = []
    for stage in it.stages:
        for line in (rest for keyword, rest in stage if keyword == "RUN"):
            if "pip install" not in line:
                continue
            files = re.findall(r"-r (\S+)", line)
            complaints += [
                f"{one} was not copied" for one in files if one not in copy_sources(stage)
            ]
            complaints += [] if files and "--require-hashes" in line else [f"not locked: {line}"]
    return complaints


Check = Callable[[Deployment], list[str]]
CHECKS: list[Check] = [
    every_file_named_exists,
    every_named_volume_and_config_is_declared,
    every_management_command_exists,
    every_variable_given_is_read,
    every_variable_used_has_a_default_or_a_message,
    the_shop_starts_with_what_it_is_given,
    the_ports_of_web_agree,
    everything_is_published_to_this_machine_alone,
    every_address_leads_to_a_service,
    web_answers_to_the_names_it_is_asked_by,
    every_dependency_is_a_service,
    the_database_is_opened_with_the_key_it_was_given,
    nothing_of_ours_runs_as_root,
    everything_copied_exists_and_reaches_the_builder,
    only_what_is_copied_reaches_the_builder,
    what_is_installed_is_locked_and_was_copied,
]


def deployment() -> Deployment:
    """What the files of this tree say."""
    return Deployment(
        compose=yaml.safe_load((ROOT / "docker-compose.yml").read_text()),
        stages=parse_dockerfile((ROOT / "Dockerfile").read_text()),
        ignored=(ROOT / ".dockerignore").read_text().splitlines(),
    )


def with_compose(path: str, value: Any) -> Deployment:
    """A copy in which docker-compose.yml says `value` at `path`; None takes the key away."""
    compose = json.loads(json.dumps(deployment().compose))  # nothing shared between services
    *way, last = path.split("/")
    node = compose["services"]
    for step in way:
        node = node[int(step) if isinstance(node, list) else step]
    if value is None:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return replace(deployment(), compose=compose)


def with_dockerfile(old: str, new: str) -> Deployment:
    """A copy whose Dockerfile says `new` in the place of `old`."""
    text = (ROOT / "Dockerfile").read_text()
    assert old in text, f"the Dockerfile no longer says {old}"
    return replace(deployment(), stages=parse_dockerfile(text.replace(old, new)))


def with_ignored(old: str, new: str) -> Deployment:
    """A copy whose .dockerignore says `new` in the place of `old`."""
    ignored = deployment().ignored
    assert old in ignored, f".dockerignore no longer says {old}"
    return replace(deployment(), ignored=[new if line == old else line for line in ignored])


MOUNT = "/etc/mysql/conf.d/last-unit.cnf:ro"
Break = Callable[[str, Any], Deployment]
BROKEN: list[tuple[Check, Break, str, Any]] = [
    (every_file_named_exists, with_compose, "db/volumes/0", f"./deploy/gone.cnf:{MOUNT}"),
    (every_file_named_exists, with_compose, "redis/command/1", "/etc/valkey/gone.conf"),
    (every_file_named_exists, with_compose, "locust-worker/command/1", "-f=loadtests/gone.py"),
    (every_file_named_exists, with_compose, "migrate/build", "./gone"),
    (every_file_named_exists, with_dockerfile, "COPY deploy deploy\n", ""),
    (every_named_volume_and_config_is_declared, with_compose, "db/volumes/1", "gone:/var/lib"),
    (every_named_volume_and_config_is_declared, with_compose, "db/configs/0/source", "gone"),
    (every_management_command_exists, with_compose, "migrate/command/2", "python manage.py gone"),
    (every_management_command_exists, with_dockerfile, "manage.py collectstatic", "manage.py gone"),
    (every_variable_given_is_read, with_compose, "web/environment/WEB_WORKER", "2"),
    (every_variable_given_is_read, with_dockerfile, "BIND=", "BINDING="),
    (
        every_variable_used_has_a_default_or_a_message,
        with_compose,
        "web/environment/SECRET_KEY",
        "${SECRET_KEY}",
    ),
    (
        every_variable_used_has_a_default_or_a_message,
        with_compose,
        "web/environment/SECRET_KEY",
        "${SECRET_KEY:?}",
    ),
    (
        every_variable_used_has_a_default_or_a_message,
        with_compose,
        "web/environment/SECRET_KEY",
        "$SECRET_KEY",
    ),
    (
        the_shop_starts_with_what_it_is_given,
        with_compose,
        "web/environment/REDIS_URL",
        "redis://redis:6379/0",
    ),
    (the_shop_starts_with_what_it_is_given, with_compose, "migrate/environment/SECRET_KEY", ""),
    (the_ports_of_web_agree, with_compose, "web/environment/BIND", "0.0.0.0:8001"),
    (the_ports_of_web_agree, with_compose, "web/environment/BIND", "127.0.0.1:8000"),
    (the_ports_of_web_agree, with_compose, "web/ports/0", "127.0.0.1:8000:8001"),
    (the_ports_of_web_agree, with_compose, "web/healthcheck/test/3", "'http://127.0.0.1:8001/'"),
    (the_ports_of_web_agree, with_dockerfile, "EXPOSE 8000", "EXPOSE 8001"),
    (everything_is_published_to_this_machine_alone, with_compose, "db/ports/0", "33306:3306"),
    (
        every_address_leads_to_a_service,
        with_compose,
        "web/environment/REDIS_URL",
        "redis://valkey:6379",
    ),
    (every_address_leads_to_a_service, with_compose, "redis/ports/0", "127.0.0.1:36379:6380"),
    (
        every_address_leads_to_a_service,
        with_compose,
        "locust-worker/command/4",
        "--master-host=gone",
    ),
    (
        web_answers_to_the_names_it_is_asked_by,
        with_compose,
        "web/environment/ALLOWED_HOSTS",
        "localhost,127.0.0.1",
    ),
    (
        web_answers_to_the_names_it_is_asked_by,
        with_compose,
        "web/environment/ALLOWED_HOSTS",
        "localhost,web",
    ),
    (
        every_dependency_is_a_service,
        with_compose,
        "web/depends_on/gone",
        {"condition": "service_started"},
    ),
    (every_dependency_is_a_service, with_compose, "redis/healthcheck", None),
    *(
        (
            the_database_is_opened_with_the_key_it_was_given,
            with_compose,
            f"db/environment/{key}",
            "x",
        )
        for key in ("MARIADB_USER", "MARIADB_PASSWORD", "MARIADB_DATABASE")
    ),
    (nothing_of_ours_runs_as_root, with_dockerfile, "USER 10001:10001\n", ""),
    (nothing_of_ours_runs_as_root, with_dockerfile, "USER 10001", "USER 0"),
    (nothing_of_ours_runs_as_root, with_compose, "web/user", "root"),
    (everything_copied_exists_and_reaches_the_builder, with_dockerfile, "COPY shop", "COPY gone"),
    (everything_copied_exists_and_reaches_the_builder, with_ignored, "!shop", "shop"),
    (only_what_is_copied_reaches_the_builder, with_ignored, "*", "docs"),
    (only_what_is_copied_reaches_the_builder, with_dockerfile, "COPY loadtests loadtests\n", ""),
    (
        what_is_installed_is_locked_and_was_copied,
        with_dockerfile,
        "COPY requirements.txt",
        "COPY requirements-dev.txt",
    ),
    (what_is_installed_is_locked_and_was_copied, with_dockerfile, "--require-hashes", ""),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_deployment_fits_together(check: Check) -> None:
    assert check(deployment()) == []


@pytest.mark.parametrize(
    ("check", "broken", "where", "what"),
    BROKEN,
    ids=[f"{check.__name__}-{where.strip()}-{what}" for check, _, where, what in BROKEN],
)
def test_a_broken_deployment_is_rejected(
    check: Check, broken: Break, where: str, what: object
) -> None:
    assert check(broken(where, what)) != []


def test_every_check_has_been_seen_to_reject_something() -> None:
    assert {check for check, *_ in BROKEN} == set(CHECKS)
