"""Settings of the tools: files, layers, errors that name file and key."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconsul_client.errors import FlagError, SettingsError
from pyconsul_client.goflags import FlagSet
from pyconsul_client.hcl import loads
from pyconsul_client.tool import common, schema
from pyconsul_client.tool.journal import Journal, level_of

SCHEMA = common.COMMON | {"prefix": schema.Many({"path": schema.text})}


def read(tmp_path: Path, *texts: str, suffix: str = "hcl") -> dict[str, Any]:
    paths: list[str] = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.{suffix}"
        path.write_text(text)
        paths.append(str(path))
    return schema.read(paths, SCHEMA)


def layers(file: dict[str, Any], environ: dict[str, str], *argv: str) -> dict[str, Any]:
    flags = FlagSet()
    common.add_common_flags(flags)
    flags.parse(argv)
    env = common.environment_values(environ)
    return common.layered(file, env, common.flag_values(flags), SCHEMA)


def test_hcl_and_json_and_toml_say_the_same(tmp_path: Path) -> None:
    hcl = read(
        tmp_path, 'max_stale = "5s"\nprefix { path = "a" }\nprefix { path = "b" }'
    )
    json = read(
        tmp_path, '{"max_stale": "5s", "prefix": [{"path": "a"}, {"path": "b"}]}'
    )
    toml = read(
        tmp_path,
        'max_stale = "5s"\n[[prefix]]\npath = "a"\n[[prefix]]\npath = "b"\n',
        suffix="toml",
    )
    assert hcl == json == toml
    assert hcl == {"max_stale": 5.0, "prefix": [{"path": "a"}, {"path": "b"}]}


def test_later_files_win_and_blocks_append(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'consul { address = "a:1" token = "t" }\nprefix { path = "a" }',
        'consul { address = "b:2" }\nprefix { path = "b" }',
    )
    assert found["consul"] == {"address": "b:2", "token": "t"}
    assert [item["path"] for item in found["prefix"]] == ["a", "b"]


def test_a_folder_in_lexical_order_without_strangers(tmp_path: Path) -> None:
    (tmp_path / "b.hcl").write_text('pid_file = "b"')
    (tmp_path / "a.json").write_text('{"pid_file": "a", "max_stale": "1s"}')
    (tmp_path / "README").write_text("not settings {{{")
    (tmp_path / "z.hcl").symlink_to(tmp_path / "a.json")
    assert schema.read([str(tmp_path)], SCHEMA) == {"pid_file": "b", "max_stale": 1.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bogus = 1", "the settings has invalid keys: bogus"),
        ('prefix { path = "a" colour = "red" }', "'prefix' has invalid keys: colour"),
        ('max_stale = "soon"', "max_stale: time: invalid duration"),
        ('kill_signal = "SIGNO"', 'kill_signal: invalid signal "SIGNO"'),
        ('wait = "10s:1s"', "wait: the maximum is below the minimum"),
        ('wait { min = "5s" max = "1s" }', "wait: the maximum is below"),
        ("prefix = 3", "prefix: expected a block"),
        ("prefix {\n  path = \n}\n", "At 3:1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert "0.hcl" in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SettingsError, match=r"none\.hcl: no such file"):
        schema.read(["none.hcl"], SCHEMA)


@pytest.mark.parametrize(
    ("text", "times"),
    [('wait = "5s"', (5.0, 20.0)), ('wait = "1s:3s"', (1.0, 3.0)),
     ('wait { min = "1s" max = "2s" }', (1.0, 2.0)),
     ('wait { min = "1s" enabled = false }', (0.0, 0.0))],
)  # fmt: skip
def test_wait(tmp_path: Path, text: str, times: tuple[float, float]) -> None:
    assert read(tmp_path, text)["wait"] == times


def test_a_bare_number_is_seconds(tmp_path: Path) -> None:
    assert read(tmp_path, "max_stale = 5")["max_stale"] == 5.0


def test_flags_over_environment_over_file() -> None:
    file = {"consul": {"address": "file:1", "token": "file"}, "max_stale": 9.0}
    environ = {"CONSUL_HTTP_ADDR": "env:2", "CONSUL_HTTP_TOKEN": "env"}
    found = layers(file, environ, "-consul-addr", "flag:3", "-max-stale=1s")
    assert found["consul"] == {"address": "flag:3", "token": "env"}
    assert found["max_stale"] == 1.0


def test_consul_token_is_first() -> None:
    found = layers({}, {"CONSUL_TOKEN": "a", "CONSUL_HTTP_TOKEN": "b"})
    assert found["consul"]["token"] == "a"


def test_a_token_hides_the_token_file_of_lower_layers(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("of-the-file\n")
    file = {"consul": {"token_file": str(path)}}
    assert common.connection(layers(file, {})).token == "of-the-file"
    options = common.connection(layers(file, {}, "-consul-token=flag"))
    assert options.token == "flag"


def test_tls_settings_switch_tls_on_but_the_environments_files_do_not() -> None:
    on = common.connection(layers({}, {}, "-consul-ssl-ca-cert=ca.pem"))
    assert (on.tls, on.ca_file, on.verify) == (True, "ca.pem", True)
    assert not common.connection(layers({}, {"CONSUL_CACERT": "ca.pem"})).tls
    off = common.connection(layers({"consul": {"ssl": {"enabled": False}}}, {}))
    assert not off.tls


def test_a_certificate_alone_holds_the_key_too() -> None:
    options = common.connection(layers({}, {}, "-consul-ssl-cert=both.pem"))
    assert (options.client_cert, options.client_key) == ("both.pem", "both.pem")


def test_basic_authentication() -> None:
    assert common.connection(layers({}, {}, "-consul-auth=u:p:q")).auth == "u:p:q"


def test_retries_of_the_flags() -> None:
    found = layers({}, {}, "-consul-retry-attempts=1", "-consul-retry-backoff=2s")
    backoff = common.backoff(found)
    assert [backoff.failed(), backoff.failed()] == [2.0, None]
    off = common.backoff(layers({}, {}, "-consul-retry=false"))
    assert off.failed() is None


def test_a_wrong_flag_says_why() -> None:
    with pytest.raises(FlagError, match="invalid log level"):
        layers({}, {}, "-log-level=loud")
    with pytest.raises(FlagError, match="Vault is not supported"):
        common.refuse_unsupported(["-once", "--vault-addr=x"])


def test_levels_by_name() -> None:
    assert level_of("WARN") == level_of("warning") == 3
    with pytest.raises(ValueError, match="trace, debug"):
        level_of("loud")


def test_a_line_of_the_journal(capfd: pytest.CaptureFixture[str]) -> None:
    journal = Journal(level_of("info"))
    journal.debug("not shown")
    journal.warn("two\nlines")
    text = capfd.readouterr().err
    assert text.endswith(" [WARN] (cli) two\\nlines\n")
    assert len(text.splitlines()) == 1


def test_hcl_heredocs_and_repeats() -> None:
    text = 'a = <<-EOF\n    x\n      y\n    EOF\nb "l" { c = 1 }\nb "m" { c = 2 }\n'
    assert loads(text) == {
        "a": "x\n  y\n",
        "b": [{"l": [{"c": 1}]}, {"m": [{"c": 2}]}],
    }


@given(st.text(alphabet='ab={}[],"\\n #/*<E$.-1e\\\\', max_size=60))
def test_no_text_does_worse_than_an_error(words: str) -> None:
    for name in ("x.hcl", "x.toml"):
        with contextlib.suppress(SettingsError):
            schema.check(schema.parse(words, name), SCHEMA, name)


@pytest.mark.parametrize("name", ["x.hcl", "x.toml"])
def test_deep_nesting_is_an_error(name: str) -> None:
    with pytest.raises(SettingsError, match="nested too deeply"):
        schema.parse("a = " + "[" * 20_000, name)
