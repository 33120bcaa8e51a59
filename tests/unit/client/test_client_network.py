"""Client, views and one-shot requests against a stub agent on 127.0.0.1."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading

import anyio
import pytest
from client_stub import StubAgent

from pyconsul_client import ApiError, Client, Read, Rules, TransportError, Views
from pyconsul_client.oneshot import request
from pyconsul_client.options import resolve
from pyconsul_client.transport import HttpTransport

FAST = Rules(backoff_base=0.01, poll_interval=0.05, rate=1000.0, burst=100)


def pair(key, value, index=1):
    return [{"Key": key, "Value": value, "ModifyIndex": index}]


def client_of(agent, **kwargs):
    return Client(options=resolve({}, address=agent.address, token="secret"), **kwargs)


def noting(client, errors):
    """Return views that add the texts of errors to a list."""
    return Views(
        client,
        lambda query: None,
        on_error=lambda query, error, delay: errors.append(str(error)),
        rules=FAST,
    )


async def until(condition):
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - the stub runs in another thread
            await anyio.sleep(0.005)


def test_views_follow_changes_and_leave_nothing_behind():
    async def main(agent):
        changes = []
        async with client_of(agent) as client:
            a, gone = client.queries.kv_key("a"), client.queries.kv_key("gone")
            async with Views(client, changes.append, rules=FAST) as views:
                view = views.get(a)
                assert views.get(client.queries.kv_key("a")) is view
                await view.wait_ready()
                assert (view.data.raw, view.index) == (b"1", 5)
                other = views.get(gone)
                await other.wait_ready()
                assert other.data is None
                await until(lambda: agent.open >= 2)
                agent.put("/v1/kv/a", pair("a", "Mg=="))
                await until(lambda: len(changes) == 3)
                assert view.data.raw == b"2"
                assert changes == [a, gone, a]
                views.keep({a})
                assert len(views) == 1
                await until(lambda: client.transport.lanes == 1)
            assert client.transport.lanes == 0
        await until(lambda: agent.open == 0)

    with StubAgent() as agent:
        agent.put("/v1/kv/a", pair("a", "MQ=="), index=5)
        anyio.run(main, agent)
        tokens = {fields.get("x-consul-token") for _, _, fields, _ in agent.requests}
        assert tokens == {"secret"}


def test_errors_are_noted_and_healed():
    async def main(agent):
        errors = []
        async with client_of(agent) as client, noting(client, errors) as views:
            view = views.get(client.queries.nodes())
            with anyio.fail_after(20):
                await view.wait_ready()
            assert view.error is None
            assert view.data[0].node == "n1"
        assert errors == [
            "Unexpected response code: 500 (No cluster leader)",
            "Unexpected response code: 429 (slow down)",
        ]

    with StubAgent() as agent:
        agent.put("/v1/catalog/nodes", [{"Node": "n1"}])
        agent.failures = [(500, "No cluster leader"), (429, "slow down")]
        anyio.run(main, agent)


def test_a_view_stopped_before_it_began_asks_nothing():
    async def main(agent):
        async with client_of(agent) as client, Views(client, print) as views:
            views.get(client.queries.nodes())
            views.keep(set())
            await anyio.sleep(0.02)

    with StubAgent() as agent:
        anyio.run(main, agent)
        assert agent.requests == []


def test_an_error_beside_views_comes_out_as_it_is():
    async def main(agent):
        async with client_of(agent) as client, Views(client, print) as views:
            views.get(client.queries.nodes())
            await until(lambda: agent.requests)
            raise KeyError("mine")

    with StubAgent() as agent, pytest.raises(KeyError):
        anyio.run(main, agent)


def test_more_views_than_the_server_takes_connections_all_settle():
    count, limit = 120, 40

    async def main(agent):
        async with client_of(agent) as client:
            queries = [client.queries.kv_key(f"k{i}") for i in range(count)]
            async with Views(client, lambda query: None, rules=FAST) as views:
                for query in queries:
                    views.get(query)
                with anyio.fail_after(20):
                    for query in queries:
                        await views.get(query).wait_ready()
                await until(
                    lambda: agent.refused and client.transport.max_lanes < limit
                )
                for i in range(count):
                    agent.put(f"/v1/kv/k{i}", pair(f"k{i}", "Mg=="))
                await until(lambda: all(views.get(q).data.raw == b"2" for q in queries))
                await until(
                    lambda: client.transport.lanes <= client.transport.max_lanes
                )

    with StubAgent(max_connections=limit) as agent:
        for i in range(count):
            agent.put(f"/v1/kv/k{i}", pair(f"k{i}", "MQ=="))
        anyio.run(main, agent)
        assert agent.peak <= limit


def test_a_limit_that_others_use_up_is_told():
    async def main(agent):
        errors = []
        async with client_of(agent) as client, noting(client, errors) as views:
            view = views.get(client.queries.kv_key("a"))
            await until(lambda: errors)
            agent.max_connections = 8
            with anyio.fail_after(20):
                await view.wait_ready()
            assert view.error is None
        assert set(errors) == {"too many concurrent connections"}

    with StubAgent(max_connections=0) as agent:
        agent.put("/v1/kv/a", pair("a", "MQ=="), index=5)
        anyio.run(main, agent)


def test_typed_calls():
    async def main(agent):
        async with client_of(agent) as client:
            found = await client.kv.get("a")
            assert found.value is not None
            assert (found.value.text, found.index) == ("1", 5)
            assert (await client.kv.get("none")).value is None
            assert await client.kv.put("w", b"v", cas=0, acquire="s")
            assert (await client.health.service("web", ["t"])).value[0].status == (
                "critical"
            )
            assert await client.status.leader() == "127.0.0.1:8300"
            with pytest.raises(ApiError) as caught:
                await client.catalog.nodes(Read(dc="nowhere"))
            assert caught.value.status == 500
            assert caught.value.retryable
            with pytest.raises(TransportError, match="unexpected answer"):
                await client.catalog.services()
        method, target, _, body = agent.requests[2]
        assert (method, target, body) == ("PUT", "/v1/kv/w?cas=0&acquire=s", b"v")

    with StubAgent() as agent:
        agent.put("/v1/kv/a", pair("a", "MQ=="), index=5)
        agent.put("/v1/kv/w", True)
        agent.put("/v1/status/leader", "127.0.0.1:8300")
        agent.put("/v1/catalog/services", ["wrong"])
        agent.put("/v1/catalog/nodes", b"No path to datacenter", status=500)
        agent.put(
            "/v1/health/service/web",
            [{"Node": {}, "Service": {}, "Checks": [{"Status": "critical"}]}],
        )
        anyio.run(main, agent)


def test_redirects_stay_with_the_origin():
    async def main(agent):
        agent.headers = {"Location": "/v1/kv/b"}
        transport = HttpTransport(resolve({}, address=agent.address))
        with pytest.raises(TransportError, match="redirects"):
            await transport.fetch("/v1/kv/a", 5)
        agent.headers = {"Location": "http://evil.example/"}
        with pytest.raises(TransportError, match="another origin"):
            await transport.fetch("/v1/kv/a", 5)
        with pytest.raises(TransportError, match="another origin"):
            await transport.request("GET", "/v1/kv/a")
        await transport.aclose()

    with StubAgent() as agent:
        for key in "ab":
            agent.put(f"/v1/kv/{key}", b"", status=301)
        anyio.run(main, agent)


def test_unix_socket(tmp_path):
    async def main(agent):
        async with client_of(agent) as client:
            assert (await client.kv.get("a")).index == 5
            response = await client.transport.fetch("/v1/kv/a", 5)
            assert response.index == 5

    with StubAgent(socket_path=str(tmp_path / "s")) as agent:
        agent.put("/v1/kv/a", pair("a", "MQ=="), index=5)
        anyio.run(main, agent)
        options = resolve({}, address=agent.address)
        assert request("GET", "/v1/kv/a", options=options)[0] == 200


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl for a key")
def test_tls_verifies_the_agent(tmp_path):
    key, cert = str(tmp_path / "key"), str(tmp_path / "cert")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=agent", "-days", "2",
         "-addext", "subjectAltName=DNS:agent.example", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def main(options, works):
        transport = HttpTransport(options)
        try:
            for ask in (
                lambda: transport.fetch("/v1/kv/a", 5),
                lambda: transport.request("GET", "/v1/kv/a"),
            ):
                if works:
                    assert (await ask()).index == 5
                else:
                    with pytest.raises(TransportError):
                        await ask()
        finally:
            await transport.aclose()

    with StubAgent(tls=context) as agent:
        agent.put("/v1/kv/a", pair("a", "MQ=="), index=5)
        good = resolve(
            {}, address=agent.address, ca_file=cert, server_name="agent.example"
        )
        bad = resolve({}, address=agent.address, ca_file=cert, server_name="other")
        assert request("GET", "/v1/kv/a", options=good)[0] == 200
        verify = "tls: failed to verify certificate: x509: "
        with pytest.raises(TransportError, match=f"{verify}Hostname mismatch, "):
            request("GET", "/v1/kv/a", options=bad)
        stranger = resolve({}, address=agent.address)
        with pytest.raises(TransportError, match=f"{verify}certificate signed by unk"):
            request("GET", "/v1/kv/a", options=stranger)
        anyio.run(main, good, True)
        anyio.run(main, bad, False)


def test_https_asked_of_http_says_so():
    def serve(listener: socket.socket) -> None:
        taken, _ = listener.accept()
        # Who asked gives up, perhaps with a reset.
        with taken, contextlib.suppress(OSError):
            taken.recv(1)
            taken.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            while taken.recv(4096):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        address = f"https://127.0.0.1:{listener.getsockname()[1]}"
        said = "http: server gave HTTP response to HTTPS client"
        with pytest.raises(TransportError, match=said):
            request("GET", "/v1/kv/a", options=resolve({}, address=address))
        thread.join()


def test_oneshot_requests():
    with StubAgent() as agent:
        agent.put("/v1/kv/a", b"x" * 200_000, index=5)
        options = resolve({}, address=agent.address, token="t")
        status, headers, body = request(
            "PUT", "/v1/kv/a", b"value", {"X-More": "1"}, options=options
        )
        assert (status, headers["x-consul-index"], len(body)) == (200, "5", 200_000)
        _, _, fields, sent = agent.requests[0]
        assert (fields["x-consul-token"], fields["x-more"], sent) == (
            "t",
            "1",
            b"value",
        )
        agent.drop_next = 1
        with pytest.raises(TransportError, match=r'^Get "http://127\.0\.0\.1:.*EOF$'):
            request("GET", "/v1/kv/a", options=options)
    with pytest.raises(
        TransportError, match=r"dial tcp .*: connect: connection refused"
    ):
        request("GET", "/v1/kv/a", options=options)


def test_light_imports():
    code = (
        "import sys, pyconsul_client, pyconsul_client.oneshot, pyconsul_client.goflags;"
        "heavy = {'httpx', 'anyio', 'ssl', 'asyncio', 'msgspec', 'typing', 'h11'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() in ("[]", "['typing']")


def test_a_signal_during_the_start_is_not_lost():
    from pyconsul_client.process import Runner

    async def main():
        runner, ends = Runner(), []

        async def run():
            ends.append(await runner.run(["sleep", "60"]))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await until(lambda: runner.busy)
            runner.send_signal(signal.SIGTERM)
            with anyio.fail_after(20):
                await runner.wait_idle()
        assert str(ends[0]) == "signal: terminated"

    anyio.run(main)


def test_a_run_cancelled_during_the_start_leaves_no_child():
    from pyconsul_client.process import Runner

    async def main():
        runner = Runner()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await runner.run(["sleep", "60"], grace=5)
        assert not runner.busy
        assert children() == before

    def children():
        path = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
        with open(path) as file:
            return file.read()

    before = children()
    anyio.run(main)


def test_runner_ends_groups_and_survives_failures(tmp_path):
    from pyconsul_client.process import Runner, shell_argv

    async def main():
        runner = Runner()
        assert (
            await runner.run(shell_argv("cat >/dev/null; exit 3"), stdin=b"x")
        ).code == 3
        out = await runner.run(["true"], stdin=b"x" * 1_000_000)
        assert out.ok
        out = await runner.run(["/nonexistent/program"])
        assert out.code is None
        assert "no such file or directory" in str(out)
        out = await runner.run(
            shell_argv("trap '' TERM; sleep 60 & echo $! > pid; wait; sleep 60"),
            timeout=0.5,
            grace=0.1,
            env={"PWD": str(tmp_path)},
        )
        assert out.timed_out
        assert not out.ok
        pid = int((tmp_path / "pid").read_text())
        await until(lambda: not alive(pid))

        async def cancelled():
            with anyio.move_on_after(0.1):
                await runner.run(["sleep", "60"], grace=0.1)

        await cancelled()
        assert not runner.busy

    def alive(pid):
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().split()[2] != "Z"
        except OSError:
            return False

    old = os.getcwd()
    os.chdir(tmp_path)
    try:
        anyio.run(main)
    finally:
        os.chdir(old)


def test_what_the_system_refused_is_said_in_gos_words(tmp_path):
    async def main():
        async with Client("127.0.0.1:1", environ={}) as client:
            with pytest.raises(TransportError) as refused:
                await client.kv.put("a", b"")
        assert str(refused.value) == (
            'Put "http://127.0.0.1:1/v1/kv/a": '
            "dial tcp 127.0.0.1:1: connect: connection refused"
        )
        async with Client(f"unix://{tmp_path}/no", environ={}) as client:
            with pytest.raises(TransportError) as missing:
                await client.kv.get("a")
        assert str(missing.value) == (
            'Get "http://localhost/v1/kv/a": '
            f"dial unix {tmp_path}/no: connect: no such file or directory"
        )

    anyio.run(main)
