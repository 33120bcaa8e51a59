"""Configuration files in HCL, JSON and TOML; the layers; the hints."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyconsul_template.config import ConfigError, environment_keys, load_files, settle
from pyconsul_template.flags import declare, settings_of

HCL = """
consul {
  address = "10.0.0.1:8500"
  retry { attempts = 3 }
}
wait { min = "1s" }
template {
  source      = "a.ctmpl"
  destination = "a"
  perms       = 0640
}
template {
  contents    = "x"
  destination = "b"
  command     = ["reload", "b"]
}
exec {
  command       = ["app", "-f"]
  reload_signal = "SIGHUP"
  env { custom = ["A=1"] }
}
"""


def test_hcl_blocks_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.hcl").write_text(HCL)
    settings = settle(load_files([str(tmp_path / "c.hcl")]), environ={})
    first, second = settings.templates
    assert settings.consul.url == "http://10.0.0.1:8500"
    assert settings.attempts == 3
    assert first.target is not None
    assert first.target.mode == 0o640
    assert (first.wait.min_s, first.wait.max_s) == (1, 4) if first.wait else False
    assert second.command is not None
    assert second.command.argv == ("reload", "b")
    (child,) = settings.children
    assert child.command.argv == ("app", "-f")
    assert child.custom == ("A=1",)


def test_a_folder_holds_all_languages_and_skips_others(tmp_path: Path) -> None:
    (tmp_path / "1.hcl").write_text('template { contents = "1" destination = "1" }')
    (tmp_path / "2.json").write_text(
        '{"template": {"contents": "2", "destination": "2"}}'
    )
    (tmp_path / "3.toml").write_text(
        '[[template]]\ncontents = "3"\ndestination = "3"\n'
    )
    (tmp_path / "notes.txt").write_text("not a configuration")
    settings = settle(load_files([str(tmp_path)]), environ={})
    assert [plan.source.contents for plan in settings.templates] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("c.hcl", "consul {\n  adress = 1\n}", r":2: .*adress.*did you mean address"),
        ("c.hcl", "consul {\n  address = \n}", r"c.hcl:[23]: "),
        ("c.hcl", "\nvault {}", r":2: vault: Vault is not supported"),
        ("c.json", '{\n"log_levle": "x"}', r":2: .*did you mean log_level"),
        ("c.hcl", 'max_stale = "5s"\nonce = "yes"', r":2: .*bool"),
        ("c.toml", "a = ", r"c.toml: "),
    ],
)
def test_an_error_names_line_and_hint(
    tmp_path: Path, name: str, text: str, error: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=error):
        load_files([str(tmp_path / name)])


def test_flags_beat_the_environment_and_that_the_files(tmp_path: Path) -> None:
    path = tmp_path / "c.hcl"
    path.write_text(
        'consul { address = "file:1" token = "file" }\nlog_level = "err"\n'
        'template { contents = "x" destination = "y" }'
    )
    flags = declare()
    flags.parse(["-config", str(path), "-consul-token", "flag"])
    environ = {
        "CONSUL_HTTP_ADDR": "env:2",
        "CONSUL_HTTP_TOKEN": "env",
        "CT_LOG": "info",
    }
    settings = settings_of(flags, environ)
    assert settings.consul.url == "http://env:2"
    assert settings.consul.token == "flag"
    assert settings.log_level == 20
    assert settings_of(flags, {}).consul.url == "http://file:1"


def test_a_certificate_in_the_environment_alone_is_no_tls() -> None:
    flags = declare()
    flags.parse(["-template", "a:b"])
    environ = {"CONSUL_CACERT": "/ca.pem"}
    assert not settings_of(flags, environ).consul.tls
    environ["CONSUL_HTTP_ADDR"] = "https://agent:8501"
    assert settings_of(flags, environ).consul.tls


def test_a_whole_configuration_may_be_in_the_environment() -> None:
    text = 'template {\n contents = "x"\n destination = "y"\n}'
    assert environment_keys({"CT_LOCAL_CONFIG": text})["template"]
    with pytest.raises(ConfigError, match=r"CT_LOCAL_CONFIG:1: .*bogus"):
        environment_keys({"CT_LOCAL_CONFIG": "bogus = 1"})


@pytest.mark.parametrize(
    ("check", "argv"),
    [
        ("haproxy -c -f {{tmp}}", ("haproxy", "-c", "-f", "{{ path }}")),
        (["nginx", "-t", "-c", "{{ tmp }}"], ("nginx", "-t", "-c", "{{ path }}")),
        ("cat '{{tmp}}' | x", ("/bin/sh", "-c", 'cat "$CHECK_FILE" | x')),
    ],
)
def test_a_check_names_the_new_file_and_no_name_is_shell_text(
    check: str | list[str], argv: tuple[str, ...]
) -> None:
    block = {"contents": "x", "destination": "y", "check": check}
    plan = settle({"template": [block]}, environ={}).templates[0]
    assert plan.check is not None
    assert plan.check.argv == argv


@pytest.mark.parametrize(
    "content",
    [
        {"kill_signal": "SIGKILL"},
        {"reload_signal": "SIGNOPE"},
        {"deduplicate": {"ttl": "5s"}},
        {"exec": {"command": "x", "env": {"custom": ["novalue"]}}},
        {"consul": {"namespace": "n"}},
        {"consul": {"retry": {"attempts": -1}}},
    ],
)
def test_wrong_values_are_refused(content: dict[str, object]) -> None:
    block = {"contents": "x", "destination": "y"}
    with pytest.raises(ConfigError):
        settle({"template": [block], **content}, environ={})
