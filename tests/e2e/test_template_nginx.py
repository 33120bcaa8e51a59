"""A running nginx that is reloaded by the command of a template."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RunningAgent, free_port
from template_process import Start, run, starter, until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin") or ""
UPSTREAMS = """
upstream web {
{{ range service "web" }}  server {{ .Address }}:{{ .Port }};
{{ else }}  server 127.0.0.1:9 down;
{{ end }}}
"""


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    """Start the daemon against the agent; it is stopped afterwards."""
    yield from starter(tmp_path, agent.ports["http"])


def fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return str(error.code)


@pytest.mark.interop
@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_upstreams_follow_the_catalog_through_reloads(
    agent: RunningAgent, start: Start, tmp_path: Path
) -> None:
    """The instances are servers of the same nginx: each says who it is."""
    port, one, two = free_port(), free_port(), free_port()
    conf = tmp_path / "nginx.conf"
    temporary = "".join(
        f"  {kind}_temp_path {tmp_path}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    instances = "".join(
        f'  server {{ listen 127.0.0.1:{at}; location / {{ return 200 "{name}"; }} }}\n'
        for name, at in (("one", one), ("two", two))
    )
    conf.write_text(
        f"pid {tmp_path}/nginx.pid;\nerror_log {tmp_path}/error.log;\nevents {{}}\n"
        f"http {{\n  access_log off;\n{temporary}{instances}"
        f"  include {tmp_path}/upstreams.conf;\n"
        f"  server {{ listen 127.0.0.1:{port};\n"
        "    location / { proxy_pass http://web; }\n  }\n}\n"
    )
    (tmp_path / "upstreams.ctmpl").write_text(UPSTREAMS)
    nginx = [NGINX, "-e", f"{tmp_path}/error.log", "-c", str(conf)]
    template = {
        "source": "upstreams.ctmpl",
        "destination": f"{tmp_path}/upstreams.conf",
        "command": [*nginx, "-s", "reload"],
        "on_command_error": "log",
    }
    (tmp_path / "c.json").write_text(json.dumps({"template": template}))
    # The first file is there before nginx is, which it could not tell.
    template_only = {k: v for k, v in template.items() if k != "command"}
    (tmp_path / "first.json").write_text(json.dumps({"template": template_only}))
    address = f"127.0.0.1:{agent.ports['http']}"
    done = run(tmp_path, "-once", "-config=first.json", CONSUL_HTTP_ADDR=address)
    assert done.returncode == 0, done.stderr
    server = subprocess.Popen([*nginx, "-g", "daemon off;"])
    try:
        url = f"http://127.0.0.1:{port}/"
        until("nginx", lambda: fetch(url) == "502")
        daemon = start("-config=c.json", "-log-level=info")
        service = {"Name": "web", "ID": "one", "Address": "127.0.0.1", "Port": one}
        agent.put("/v1/agent/service/register", service)
        until("the first instance", lambda: fetch(url) == "one")
        service |= {"ID": "two", "Port": two}
        agent.put("/v1/agent/service/register", service)
        until("the second too", lambda: fetch(url) == "two")
        agent.put("/v1/agent/service/deregister/one")
        until(
            "the second alone",
            lambda: f":{one};" not in (tmp_path / "upstreams.conf").read_text(),
        )
        until("it answers", lambda: {fetch(url) for _ in range(4)} == {"two"})
        agent.put("/v1/agent/service/deregister/two")
        until("nobody is left", lambda: fetch(url) == "502")
        assert daemon.text().count("ran ") >= 4
        assert daemon.end() == 0
    finally:
        server.terminate()
        server.wait(30)
