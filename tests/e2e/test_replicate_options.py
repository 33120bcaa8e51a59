"""Every flag and key of pyconsul-replicate, given to the command itself.

What the agents are asked is seen by a face in front of each (``wan_front.py``).
Deletes, loops and dry runs by flag are in ``test_replicate.py``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from agent_stub import certificates
from replicate_world import (
    ENVIRON,
    REPLICATE,
    World,
    daemon,
    file,
    good,
    page,
    run,
    started,
    until,
)
from running_agent import free_port
from wan_front import WanFront

pytestmark = pytest.mark.timeout(300)


def test_tokens_and_passwords_of_each_side(world: World, tmp_path: Path) -> None:
    world.one.put("tokens/a")
    (tmp_path / "one").write_text("of-file-one\n")
    (tmp_path / "two").write_text("of-file-two\n")
    basic = "Basic " + base64.b64encode(b"me:secret").decode()
    ways: list[tuple[tuple[str, ...], str, tuple[str, str], str]] = [
        (("-consul-token=two", "-source-token=one"), "", ("one", "two"), ""),
        (("-consul-token=two",), "", ("", "two"), ""),
        (
            (
                f"-consul-token-file={tmp_path / 'two'}",
                f"-source-token-file={tmp_path / 'one'}",
            ),
            "", ("of-file-one", "of-file-two"), "",
        ),
        ((), 'consul { token = "k2" }\nsource { token = "k1" }', ("k1", "k2"), ""),
        (
            (),
            f'consul {{ token_file = "{tmp_path / "two"}" }}\n'
            f'source {{ token_file = "{tmp_path / "one"}" }}',
            ("of-file-one", "of-file-two"), "",
        ),
        (("-consul-auth=me:secret",), "", ("", ""), basic),
        (
            (),
            'consul { auth { enabled = true\nusername = "me"\npassword = "secret" } }',
            ("", ""), basic,
        ),
        (
            (),
            'consul { auth { enabled = false\nusername = "me"\npassword = "x" } }',
            ("", ""), "",
        ),
    ]  # fmt: skip
    for flags, text, tokens, password in ways:
        config = file(tmp_path, text)
        before = len(world.source.asked()), len(world.into.asked())
        good("-once", "-prefix=tokens/", *world.both, config, *flags)
        read = world.source.asked()[before[0] :]
        wrote = world.into.asked()[before[1] :]
        shown = tuple(
            {one.headers.get("x-consul-token", "") for one in side}
            for side in (read, wrote)
        )
        assert shown == ({tokens[0]}, {tokens[1]}), (flags, text)
        assert {one.headers.get("authorization", "") for one in wrote} == {password}
        assert not any("authorization" in one.headers for one in read)


def test_agents_by_environment_file_and_flag(world: World, tmp_path: Path) -> None:
    world.one.put("where/a", "1")
    prefix = ("-once", "-prefix=where/@dc1:where-env/")
    good(*prefix, CONSUL_HTTP_ADDR=world.into.address)
    assert world.two.pairs("where-env/") == {"a": "1"}
    text = (
        f'source {{ address = "{world.source.address}" }}\n'
        f'consul {{ address = "{world.into.address}" }}\n'
        'prefix { source = "where/"\ndestination = "where-file/" }\nonce = true\n'
    )
    good(file(tmp_path, text))
    assert world.two.pairs("where-file/") == {"a": "1"}
    # The environment beats the file, a flag both.
    wrong = file(tmp_path, 'consul { address = "127.0.0.1:1" }')
    once = ("-once", wrong, "-consul-retry=false")
    good(*once, "-prefix=where/@dc1:w1/", CONSUL_HTTP_ADDR=world.into.address)
    flag = f"-consul-addr={world.into.address}"
    good(*once, "-prefix=where/@dc1:w2/", flag, CONSUL_HTTP_ADDR="127.0.0.1:1")
    assert world.two.pairs("w1/") == world.two.pairs("w2/") == {"a": "1"}
    assert run(*once, "-prefix=where/@dc1").returncode == 14
    # One agent may do for both, asked for the other datacenter.
    text = (
        f'destination {{ address = "{world.source.address}"\ndatacenter = "dc2" }}\n'
        'prefix { source = "where/"\ndatacenter = "dc1"\ndestination = "where-dc/" }\n'
    )
    good("-once", file(tmp_path, text), f"-source-addr={world.source.address}")
    assert world.two.pairs("where-dc/") == {"a": "1"}
    assert {one.datacenter for one in world.source.asked("PUT")} == {"dc2"}


def test_several_destinations_by_flags(world: World) -> None:
    world.one.put("each/a", "1")
    with WanFront("dc2", world.ways) as third:
        flags = (f"-dest-addr={world.into.address}", f"-dest-addr={third.address}")
        good("-once", "-prefix=each/", f"-source-addr={world.source.address}", *flags)
        for front in (world.into, third):
            assert "/v1/kv/each/" in {one.path for one in front.asked("GET")}
    assert world.two.pairs("each/") == {"a": "1"}


TLS_KEYS = """
consul {
  ssl {
    enabled = true
    verify = true
    ca_cert = "FOLDER/ca.pem"
    cert = "FOLDER/both-cert.pem"
    key = "FOLDER/both-key.pem"
    server_name = "server.dc1.consul"
  }
}
"""


def test_tls_to_the_destination(world: World, tmp_path: Path) -> None:
    context = certificates(tmp_path)
    authority = tmp_path / "authority"
    authority.mkdir()
    shutil.copy(tmp_path / "ca.pem", authority)
    subprocess.run(["openssl", "rehash", authority], check=True, capture_output=True)
    world.one.put("tls/a")
    own = (
        f"-consul-ssl-cert={tmp_path}/both-cert.pem",
        f"-consul-ssl-key={tmp_path}/both-key.pem",
    )
    name = "-consul-ssl-server-name=server.dc1.consul"
    trust = f"-consul-ssl-ca-cert={tmp_path}/ca.pem"
    text = TLS_KEYS.replace("FOLDER", str(tmp_path))
    by_path = f'consul {{ ssl {{ ca_path = "{authority}" }} }}'
    unverified = f'consul {{ ssl {{ verify = false\ncert = "{tmp_path}/both.pem" }} }}'
    pem = (tmp_path / "ca.pem").read_text()
    in_bytes = (
        f"consul {{ ssl {{ ca_cert_bytes = <<EOF\n{pem}\nEOF\n"
        'server_name = "server.dc1.consul"\n'
        f'cert = "{tmp_path}/both.pem" }} }}'
    )
    files = (text, unverified, in_bytes)
    fine = [
        (*own, name, trust),
        (*own, name, f"-consul-ssl-ca-path={authority}"),
        (*own, name, file(tmp_path, by_path, "path.hcl")),
        ("-consul-ssl", *own, "-consul-ssl-verify=false"),
        (f"-consul-ssl-cert={tmp_path}/both.pem", "-consul-ssl-verify=false"),
        *((file(tmp_path, one, f"{at}.hcl"),) for at, one in enumerate(files)),
    ]
    refused = [
        (*own, name),
        (*own, trust, "-consul-ssl-server-name=other"),
        (name, trust),
        ("-consul-ssl=false", *own, name, trust),
    ]
    with WanFront("dc2", world.ways, context) as into:
        both = (world.both[0], f"-consul-addr={into.address}")
        once = ("-once", "-prefix=tls/", *both, "-consul-retry=false")
        for flags in fine:
            good(*once, *flags)
        for flags in refused:
            assert run(*once, *flags).returncode == 14, flags
    assert world.two.pairs("tls/") == {"a": "v"}


def test_tls_to_the_source_and_to_one_of_the_destinations(
    world: World, tmp_path: Path
) -> None:
    context = certificates(tmp_path)
    context.verify_mode = ssl.CERT_NONE
    world.one.put("tls2/a", "1")
    text = TLS_KEYS.replace("FOLDER", str(tmp_path))
    with WanFront("dc1", world.ways, context) as source:
        addresses = (
            f"-source-addr=https://{source.address}",
            f"-consul-addr={world.into.address}",
        )
        once = ("-once", "-prefix=tls2/", *addresses, "-consul-retry=false")
        good(*once, file(tmp_path, text.replace("consul {", "source {")))
        # The certificate is for another name: trusting its issuer is not enough.
        trusting = f"-source-ca-cert={tmp_path}/ca.pem"
        refused = run(*once, trusting)
        assert refused.returncode == 14
        assert "TLS: " in refused.stderr
        assert "mismatch" in refused.stderr
        named = 'source { ssl { server_name = "server.dc1.consul" } }'
        good(*once, trusting, file(tmp_path, named))
        assert run(*once, file(tmp_path, named)).returncode == 14
    with WanFront("dc2", world.ways, context) as into:
        block = text.replace(
            "consul {", f'destination {{\n  address = "{into.address}"'
        )
        other = f'destination {{ address = "{world.into.address}" }}'
        good(
            "-once", "-prefix=tls2/", world.both[0],
            file(tmp_path, f"{block}\n{other}"),
        )  # fmt: skip
        assert into.asked("GET")
        assert world.into.asked("GET")


def test_retries(tmp_path: Path) -> None:
    once = ("-once", "-prefix=x/@dc1", "-consul-addr=127.0.0.1:1")
    keys = """
    consul {
      retry {
        enabled = true
        attempts = 3
        backoff = "10ms"
        max_backoff = "15ms"
      }
    }
    """
    limits = ("-consul-retry-backoff=10ms", "-consul-retry-max-backoff=15ms")
    ways = [
        ((*limits, "-consul-retry-attempts=3"), 3),
        ((*limits, "-consul-retry=false"), 0),
        ((file(tmp_path, keys, "on.hcl"),), 3),
        ((file(tmp_path, "consul { retry { enabled = false } }", "off.hcl"),), 0),
    ]
    for flags, times in ways:
        done = run(*once, *flags)
        assert done.returncode == 14, flags
        pauses = [
            float(text) for text in re.findall(r"again in ([\d.]+) s", done.stderr)
        ]
        assert len(pauses) == times, (flags, done.stderr)
        assert max(pauses, default=0.0) < 0.1


def test_transport_settings_are_taken(world: World, tmp_path: Path) -> None:
    world.one.put("transport/a")
    flags = (
        "-consul-transport-dial-keep-alive=10s",
        "-consul-transport-dial-timeout=10s",
        "-consul-transport-disable-keep-alives",
        "-consul-transport-max-idle-conns-per-host=5",
        "-consul-transport-tls-handshake-timeout=10s",
    )
    good("-once", "-prefix=transport/", *world.both, *flags)
    text = """
    consul {
      transport {
        dial_keep_alive = "10s"
        dial_timeout = "10s"
        disable_keep_alives = false
        idle_conn_timeout = "5s"
        max_idle_conns = 100
        max_idle_conns_per_host = 5
        max_conns_per_host = 50
        tls_handshake_timeout = "10s"
      }
    }
    """
    good("-once", "-prefix=transport/", *world.both, file(tmp_path, text))
    assert world.two.pairs("transport/") == {"a": "v"}


def test_what_is_left_out(world: World, tmp_path: Path) -> None:
    for key in ("a", "tmp/b", "tmpfile", "c.bak", "d/e.bak", "f7"):
        world.one.put(f"out/{key}")
    ways = [
        ("-exclude=out/tmp", "-exclude-match=*.bak", r"-exclude-match=re:out/f\d"),
        (
            file(
                tmp_path,
                'exclude { source = "out/tmp" }\n'
                'exclude_matches { pattern = "*.bak" }\n'
                'exclude_matches { pattern = "re:out/f[0-9]" }\n',
            ),
        ),
    ]
    for number, flags in enumerate(ways):
        into = f"out{number}/"
        # What is left out is not deleted either.
        world.two.put(f"{into}tmp/mine", "kept")
        world.two.put(f"{into}x.bak", "kept")
        world.two.put(f"{into}gone")
        good("-once", f"-prefix=out/@dc1:{into}", *world.both, *flags)
        left = {"a": "v", "tmp/mine": "kept", "x.bak": "kept"}
        assert world.two.pairs(into) == left


def test_single_keys(world: World, tmp_path: Path) -> None:
    world.one.put("one/key", "1")
    world.one.put("one/key/below")
    good("-once", "-prefix=key:one/key@dc1:single/flag", *world.both)
    text = """
    prefix {
      source = "one/key"
      datacenter = "dc1"
      destination = "single/file"
      key = true
    }
    """
    good("-once", file(tmp_path, text), *world.both)
    assert world.two.pairs("single/") == {"flag": "1", "file": "1"}


def test_the_status_key_and_page(world: World, tmp_path: Path) -> None:
    world.one.put("page/a")
    port, other = free_port(), free_port()
    ways = [
        (f"-status-addr=127.0.0.1:{port}", "-status-dir=marks/flag"),
        (
            file(
                tmp_path,
                f'status_addr = "127.0.0.1:{other}"\nstatus_dir = "marks/file"\n',
            ),
        ),
    ]
    for way, at, folder in zip(ways, (port, other), ("flag", "file"), strict=True):
        prefix = f"-prefix=page/:paged/{folder}/"
        with daemon(prefix, *world.both, *way):
            until(lambda where=folder: world.two.pairs(f"marks/{where}/"))
            (mark,) = world.two.pairs(f"marks/{folder}/").values()
            assert json.loads(mark)["Destination"] == f"paged/{folder}/"
            # The destination knows of the key before its answer is counted.
            until(lambda where=at: json.loads(page(where, "status"))[0]["written"])
            (row,) = json.loads(page(at, "status"))
            assert (row["written"], row["source_keys"], row["errors"]) == (1, 1, 0)
            metrics = page(at, "metrics")
            labels = re.search(r"^pyconsul_replicate_written_total\{(.*)\} 1$",
                               metrics, re.MULTILINE)  # fmt: skip
            assert labels is not None
            assert 'source="page/"' in labels[1]
            assert page(at, "health") == "ok\n"
    refused = run("-prefix=page/", *world.both, "-status-addr=127.0.0.1:none")
    assert refused.returncode == 11
    assert "status page" in refused.stderr


def test_signals_and_the_pid_file(world: World, tmp_path: Path) -> None:
    world.one.put("signals/a")
    pid = tmp_path / "pid"
    keys = (
        'kill_signal = "SIGUSR1"\nreload_signal = "SIGUSR2"\n'
        f'pid_file = "{pid}"\nreconcile_interval = "200ms"\n'
    )
    flags = ("-kill-signal=SIGUSR1", "-reload-signal=SIGUSR2", f"-pid-file={pid}")
    for number, (text, given) in enumerate(((keys, ()), ("", flags))):
        name = f"s{number}.hcl"
        config = file(tmp_path, f'{text}prefix {{ source = "signals/" }}', name)
        with daemon(config, *given, *world.both, ends=signal.SIGUSR1) as process:
            until(lambda: world.two.pairs("signals/") == {"a": "v"})
            assert int(pid.read_text()) == process.pid
            block = 'prefix { source = "signals/"\ndestination = "reloaded/" }'
            file(tmp_path, text + block, name)
            process.send_signal(signal.SIGUSR2)
            until(lambda: world.two.pairs("reloaded/") == {"a": "v"})
        assert not pid.exists()
        for tree in ("signals", "reloaded"):
            assert world.two.agent.request("DELETE", f"/v1/kv/{tree}?recurse")[0] == 200


def test_ages_and_lengths_of_reads(world: World, tmp_path: Path) -> None:
    world.one.put("reads/a")
    stale = [
        (("-max-stale=5s",), True),
        ((file(tmp_path, 'max_stale = "5s"'),), True),
        (("-max-stale=0s",), False),
        ((), False),
    ]
    for flags, wanted in stale:
        before = len(world.source.asked())
        good("-once", "-prefix=reads/", *world.both, *flags)
        reads = [
            one for one in world.source.asked()[before:] if one.path == "/v1/kv/reads/"
        ]
        assert reads
        assert {"stale" in one.query for one in reads} == {wanted}
    with daemon("-prefix=reads/", *world.both, file(tmp_path, 'block_query_wait="7s"')):
        until(
            lambda: "7s" in {one.query.get("wait") for one in world.source.asked("GET")}
        )


def test_changes_that_settle_first(world: World, tmp_path: Path) -> None:
    for number, way in enumerate(
        ("-wait=3s:30s", file(tmp_path, 'wait { min = "3s"\nmax = "30s" }'))
    ):
        tree = f"settle{number}/"
        world.one.put(f"{tree}k", "first")
        with daemon(f"-prefix={tree}", *world.both, way):
            until(lambda at=tree: world.two.pairs(at) == {"k": "first"})
            before = len(world.into.asked("PUT"))
            for value in range(8):
                world.one.put(f"{tree}k", str(value))
            until(lambda at=tree: world.two.pairs(at) == {"k": "7"})
            assert len(world.into.asked("PUT")) == before + 1


def test_a_drifted_key_comes_back_in_time(world: World, tmp_path: Path) -> None:
    world.one.put("drift/a", "right")
    for way in (
        "-reconcile-interval=200ms",
        file(tmp_path, 'reconcile_interval = "200ms"'),
    ):
        with daemon("-prefix=drift/", *world.both, way):
            until(lambda: world.two.pairs("drift/") == {"a": "right"})
            world.two.put("drift/a", "wrong")
            world.two.put("drift/b", "extra")
            until(lambda: world.two.pairs("drift/") == {"a": "right"})


def test_safety_by_keys(world: World, tmp_path: Path) -> None:
    world.one.put("safe/a")
    for number in range(5):
        world.two.put(f"safe/old{number}")
    once = ("-once", "-prefix=safe/", *world.both)
    shown = run(*once[1:], file(tmp_path, "dry_run = true"))
    assert shown.returncode == 2
    assert re.findall(r"^([+-]) (\S+)", shown.stdout, re.MULTILINE) == [
        ("+", "safe/a"), *(("-", f"safe/old{n}") for n in range(5)),
    ]  # fmt: skip
    assert "a" not in world.two.pairs("safe/")
    refused = run(*once, file(tmp_path, "max_deletes = 4"))
    assert refused.returncode == 14
    assert "refusing 5 deletes: the limit is 4" in refused.stderr
    good(*once, file(tmp_path, "max_deletes = 4\ndelete = false"))
    assert len(world.two.pairs("safe/")) == 6
    good(*once, file(tmp_path, "max_deletes = 4\nallow_mass_delete = true"))
    assert world.two.pairs("safe/") == {"a": "v"}
    # A flag beats the file, both ways.
    world.two.put("safe/old")
    good(*once, file(tmp_path, "delete = true"), "-no-delete")
    assert "old" in world.two.pairs("safe/")
    good(*once, file(tmp_path, "max_deletes = 0"), "-max-deletes=1")
    assert world.two.pairs("safe/") == {"a": "v"}
    back = ("-once", "-prefix=safe/@dc2:safe/", f"-consul-addr={world.source.address}")
    loop = run(*back)
    assert (loop.returncode, "a loop" in loop.stderr) == (14, True)
    good(*back, file(tmp_path, "allow_loop = true"))


def test_progress_on_a_terminal(world: World) -> None:
    world.one.fill("many/", 400)
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        process = started("-once", "-prefix=many/", *world.both, stderr=theirs)
        os.close(theirs)
        shown = b""
        # A terminal that nobody holds any more is an error to its reader.
        with contextlib.suppress(OSError):
            while more := terminal.read(4096):
                shown += more
    assert process.wait(60) == 0
    assert b"many/@dc1 to http://" in shown
    assert b": 400/400 keys" in shown
    # Not a word of it where nobody watches.
    assert good("-once", "-prefix=many/:more/", *world.both) == ""


def test_log_levels(tmp_path: Path) -> None:
    once = (
        "-once", "-prefix=x/@dc1", "-consul-addr=127.0.0.1:1",
        "-consul-retry-attempts=1", "-consul-retry-backoff=1ms",
    )  # fmt: skip
    for flags, warned in (
        (("-log-level=err",), False),
        ((file(tmp_path, 'log_level = "err"'),), False),
        (("-log-level=debug",), True),
        ((), True),
    ):
        done = run(*once, *flags)
        assert done.returncode == 14
        assert "[ERR] (cli)" in done.stderr
        assert ("[WARN] (cli)" in done.stderr) == warned
    assert run(*once, "-log-level=loud").returncode == 13


def test_syslog(tmp_path: Path) -> None:
    # A /dev of its own, in which the system's log is our socket.
    script = 'mount -t tmpfs none /dev && ln -s "$1" /dev/log && shift && exec "$@"'
    heard = tmp_path / "log"
    private = ["unshare", "-Urm", "sh", "-c", script, "sh", str(heard)]
    if not shutil.which("unshare") or subprocess.call([*private, "true"]):
        pytest.skip("may not mount file systems")
    once = [*REPLICATE, "-once", "-prefix=x/@dc1", "-consul-retry=false"]
    where = "-consul-addr=127.0.0.1:1"
    block = 'syslog { enabled = true\nfacility = "LOCAL3"\nname = "from-file" }'
    ways = [
        (["-syslog", "-syslog-facility=LOCAL2", "-syslog-name=from-flag"], 18),
        ([file(tmp_path, block)], 19),
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(str(heard))
        system.settimeout(30)
        for flags, facility in ways:
            done = subprocess.run(
                [*private, *once, where, *flags], env=ENVIRON, check=False,
                capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 14, done.stderr
            line = system.recv(4096).decode()
            # Facility times eight plus the severity, an error.
            assert line.startswith(f"<{facility * 8 + 3}>")
            assert ("from-file[" if facility == 19 else "from-flag[") in line
            assert "connection refused" in line
    assert run("-once", "-syslog", "-syslog-facility=MOON").returncode == 15


def test_settings_in_folders_and_formats(world: World, tmp_path: Path) -> None:
    world.one.put("files/a")
    folder = tmp_path / "settings"
    folder.mkdir()
    prefix = {"prefix": [{"source": "files/", "destination": "files-json/"}]}
    (folder / "1.json").write_text(json.dumps(prefix))
    (folder / "2.hcl").write_text('prefix { source = "files/"\ndestination = "f2/" }')
    good("-once", f"-config={folder}", *world.both)
    assert world.two.pairs("files-json/") == world.two.pairs("f2/") == {"a": "v"}
    (tmp_path / "c.yaml").write_text("prefix:\n- {source: files/, destination: fy/}")
    local = 'prefix { source = "files/"\ndestination = "local/" }\nonce = true'
    good(f"-config={tmp_path / 'c.yaml'}", *world.both, CT_LOCAL_CONFIG=local)
    assert world.two.pairs("fy/") == world.two.pairs("local/") == {"a": "v"}
    assert run("-once", CT_LOCAL_CONFIG="bogus_key = 1").returncode == 15
    bare = file(tmp_path, "reconcile_interval = 5")
    assert "reconcile_interval" in good("-once", "-prefix=files/", *world.both, bare)
    for text in ("bogus_key = 1", "prefix { soruce = 1 }", "source { retry {} }"):
        refused = run("-once", file(tmp_path, text), *world.both)
        assert refused.returncode == 15, text
        assert re.search("bogus_key|soruce|retry", refused.stderr)


def test_words_about_itself() -> None:
    for flag in ("-version", "-v"):
        assert re.match(r"pyconsul-replicate v\d", good(flag))
    usage = good("-h")
    assert "-prefix" in usage
    # It starts no child, and says so rather than take what it will not do.
    assert "-exec" not in usage
    assert run("-exec-splay=1s", "-once").returncode == 13
    assert run("-once", "operand").returncode == 13
