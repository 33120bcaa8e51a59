"""Every scene of ``cli_scenes``, typed by a user: real agent, real processes."""

from __future__ import annotations

import http.server
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_scenes import SCENES, Step, pattern

from pyconsul.cli.main import COMMANDS
from pyconsul.testing import Agent, run_agent

PYCONSUL = [sys.executable, "-m", "pyconsul.cli.main"]
PLAIN = {key: text for key, text in os.environ.items() if "CONSUL" not in key}


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    settings = {"disable_remote_exec": False}
    with run_agent(name="n1", process=True, settings=settings) as running:
        yield running


def typed(step: Step, folder: Path, env: dict[str, str]) -> None:
    """Run a step and compare all that can be seen of it."""
    for name, content in step.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    done = subprocess.run(
        [*PYCONSUL, *step.words],
        cwd=folder,
        env=PLAIN | env | step.env,
        input=step.given,
        capture_output=True,
        text=True,
        timeout=100,
    )
    told = f"$ pyconsul {step.typed}\n{done.stdout}{done.stderr}"
    assert done.returncode == step.status, told
    assert pattern(step.out).fullmatch(done.stdout), told
    assert pattern(step.err).fullmatch(done.stderr), told


@pytest.mark.parametrize("scene", SCENES)
def test_scene(agent: Agent, tmp_path: Path, scene: str) -> None:
    for step in SCENES[scene]:
        typed(step, tmp_path, agent.environ)


class _Answers(http.server.BaseHTTPRequestHandler):
    """The key ``tls``, told to whoever has a certificate."""

    def do_GET(self) -> None:
        body = b"secret"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that do not trust us hang up: that is the test."""
        del request, client_address


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with certificates, and the address of who wants one of them."""
    folder = tmp_path_factory.mktemp("certified")
    for words in (
        "ca create",
        "cert create -server",
        "cert create -cli",
        "ca create -domain=other",
    ):
        command = [*PYCONSUL, "tls", *words.split()]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "trusted").mkdir()
    (folder / "trusted" / "ca.pem").write_bytes(
        (folder / "consul-agent-ca.pem").read_bytes()
    )
    server = _Quiet(("127.0.0.1", 0), _Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        folder / "dc1-server-consul-0.pem", folder / "dc1-server-consul-0-key.pem"
    )
    context.load_verify_locations(folder / "consul-agent-ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.1}
    )
    thread.start()
    yield folder, f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


OURS = "-client-cert=dc1-cli-consul-0.pem -client-key=dc1-cli-consul-0-key.pem"
NAMED = "-tls-server-name=server.dc1.consul"


@pytest.mark.parametrize(
    "flags",
    [
        f"-ca-file=consul-agent-ca.pem {OURS}",
        f"-ca-file=consul-agent-ca.pem {OURS} {NAMED}",
        f"-ca-path=trusted {OURS}",
    ],
)
def test_a_connection_with_certificates(
    certified: tuple[Path, str], flags: str
) -> None:
    folder, address = certified
    step = Step(f"kv get -http-addr={address} {flags} tls", out=("secret",))
    typed(step, folder, {})


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (
            f"-ca-file=other-agent-ca.pem {OURS}",
            "tls: failed to verify certificate: x509: ",
        ),
        (
            f"-ca-file=consul-agent-ca.pem {OURS} -tls-server-name=server.dc2.consul",
            "tls: failed to verify certificate: x509: ",
        ),
        ("-ca-file=consul-agent-ca.pem", ""),
    ],
)
def test_a_connection_nobody_trusts(
    certified: tuple[Path, str], flags: str, reason: str
) -> None:
    folder, address = certified
    url = f"{address}/v1/kv/tls"
    error = f'Error querying Consul agent: Get "{url}?raw": <any>{reason}<any>'
    step = Step(f"kv get -http-addr={address} {flags} tls", err=(error,), status=1)
    typed(step, folder, {})


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_is_laid_out(tmp_path: Path, command: str) -> None:
    """Flags sorted by name in their group, texts within 80 columns."""
    typed(Step(f"{command} -h", out=("<help>",)), tmp_path, {})
    done = subprocess.run(
        [*PYCONSUL, *command.split(), "-h"],
        env=PLAIN,
        capture_output=True,
        text=True,
        check=True,
    )
    usage, *groups = re.split(r"\n(HTTP API|Command) Options\n", done.stdout)
    assert usage.startswith(f"Usage: pyconsul {command}")
    assert max(map(len, done.stdout.splitlines())) <= 80
    titles, texts = groups[::2], groups[1::2]
    assert titles == [one for one in ("HTTP API", "Command") if one in titles]
    for text in texts:
        names = re.findall(r"^  -([\w-]+)(?:=<[^>]+>)?$", text, re.MULTILINE)
        assert names == sorted(names)
        assert len(names) == len(re.findall(r"^  -", text, re.MULTILINE))
        assert names
