"""Variables on disk and on paper: the cache, formats of files, JSON trees."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconsul_client.tool import common, schema
from pyconsul_client.tool.exits import ToolError
from pyconsul_envconsul.cache import Cache, default_path
from pyconsul_envconsul.config import SCHEMA, CommandLine, Config
from pyconsul_envconsul.output import difference, render, write_private
from pyconsul_envconsul.sources import Key, Prefix
from pyconsul_envconsul.tree import flattened


def config(*argv: str, environ: dict[str, str] | None = None) -> Config:
    return CommandLine(list(argv)).config(environ or {})


VARIABLES = {b"A": b"\xff\xfe", "é".encode(): b"1"}


def refused(_: str) -> None:
    raise AssertionError("nothing is to be left out")


def test_files_only_we_may_read(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    assert cache.read() is None
    cache.keep({b"old": b"1"})
    cache.keep(VARIABLES)
    assert stat.S_IMODE(os.stat(cache.path).st_mode) == 0o600
    assert cache.read() == VARIABLES
    assert os.listdir(tmp_path) == ["cache"]
    broken = (b"[]", b"{", b'{"version": 2}', b'{"version": 1, "variables": 3}')
    for text in (*broken, b'{"version": 1, "sealed": "xx"}', b"[" * 100_000):
        write_private(cache.path, text)
        with pytest.raises(ValueError, match=r"\w"):
            cache.read()


def test_a_cache_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    cache.keep(VARIABLES)
    os.chmod(cache.path, 0o620)
    with pytest.raises(ValueError, match="others may write"):
        cache.read()
    folder = Cache(str(tmp_path))
    with pytest.raises(ValueError, match=r"regular|directory"):
        folder.read()


def test_a_sealed_cache(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    path = str(tmp_path / "cache")
    cache = Cache(path, str(tmp_path / "one"))
    cache.keep({b"SECRET": b"hunter2"})
    content = Path(path).read_bytes()
    assert b"hunter2" not in content
    assert b"SECRET" not in content
    assert cache.read() == {b"SECRET": b"hunter2"}
    with pytest.raises(ValueError, match="another key"):
        Cache(path, str(tmp_path / "two")).read()
    with pytest.raises(ValueError, match="sealed"):
        Cache(path).read()
    Cache(path).keep({b"A": b"1"})
    with pytest.raises(ValueError, match="not sealed"):
        cache.read()
    (tmp_path / "two").write_text("short")
    with pytest.raises(ValueError, match="32 bytes"):
        Cache(path, str(tmp_path / "two"))
    with pytest.raises(ToolError, match="no such file"):
        config("-prefix=a", "-cache=c", f"-cache-key-file={tmp_path}/no", "true")


def test_where_the_cache_is_by_default() -> None:
    one = Prefix("app")

    def place(**environ: str) -> str:
        return default_path(environ, "http://127.0.0.1:8500", [one])

    name = place(STATE_DIRECTORY="/s").removeprefix("/s/")
    assert place(STATE_DIRECTORY="/s:/t", HOME="/h") == f"/s/{name}"
    assert place(XDG_STATE_HOME="/x", HOME="/h") == f"/x/envconsul/{name}"
    assert place(HOME="/h") == f"/h/.local/state/envconsul/{name}"
    other = default_path({"HOME": "/h"}, "http://127.0.0.1:8500", [Prefix("b")])
    assert other != place(HOME="/h")
    with pytest.raises(ToolError, match="-cache FILE"):
        config("-prefix=app", "-start-without-consul", "true")


def test_variables_as_text() -> None:
    variables = {b"B": b'q"$x\n', b"A": b"it's"}
    shown = {form: render(variables, form, refused) for form in FORMS}
    assert shown["export"] == b"export A='it'\\''s'\nexport B='q\"$x\n'\n"
    assert shown["dotenv"] == b"A=\"it's\"\nB='q\"$x\n'\n"
    assert shown["json"] == b'{\n  "A": "it\'s",\n  "B": "q\\"$x\\n"\n}\n'
    assert shown["systemd"] == b'A="it\'s"\nB="q\\"\\$x\n"\n'


FORMS = ("dotenv", "export", "json", "systemd")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(TEXT)
def test_a_shell_reads_what_was_written(value: str) -> None:
    text = render({b"V": value.encode()}, "export", refused)
    script = text + b'printf %s "$V"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert done.stdout == value.encode()


def test_names_that_could_be_commands_are_left_out() -> None:
    variables = {b"x;touch pwned;y": b"1", b"a\nB": b"2", b"GOOD": b"3"}
    for form in ("dotenv", "export", "systemd"):
        told: list[str] = []
        text = render(variables, form, told.append)
        assert b"GOOD" in text
        assert text.count(b"\n") == 1
        assert len(told) == 2
        assert "-sanitize" in told[0]
    assert render(variables, "json", refused).count(b"\n") == 5


def test_what_is_new_changed_and_gone() -> None:
    before = {b"GONE": b"1", b"SAME": b"2", b"OLD": b"3"}
    after = {b"SAME": b"2", b"OLD": b"4", b"NEW": b"5", b"a\nb": b"6"}
    assert difference(before, after) == "- GONE\n+ NEW\n~ OLD\n+ 'a\\nb'\n"


@pytest.mark.parametrize(
    ("value", "leaves"),
    [
        ('{"a": 1, "b": {"c": [true, "x"]}}',
         {"k/a": "1", "k/b/c/0": "true", "k/b/c/1": "x"}),
        (' [1.50, -0, 1e3, false]',
         {"k/0": "1.50", "k/1": "-0", "k/2": "1e3", "k/3": "false"}),
        ('{"n": null, "e": {}, "l": [], "s": ""}', {"k/s": ""}),
        ('{"a/b": "é", "x": "\\ud800"}', {"k/a/b": "é", "k/x": "?"}),
        ('{"\\ud800": 1}', {"k/?": "1"}),
        ("{}", {}),
        ("12", {"k": "12"}),
        ('"text"', {"k": '"text"'}),
        ("{not json", {"k": "{not json"}),
        ("[NaN]", {"k": "[NaN]"}),
        ("[" * 100_000, {"k": "[" * 100_000}),
        ("", {"k": ""}),
    ],
)  # fmt: skip
def test_leaves_of_json(value: str, leaves: dict[str, str]) -> None:
    found = {name: text.decode() for name, text in flattened("k", value.encode())}
    assert found == leaves


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(JSON)
def test_any_json_gives_pairs(value: Any) -> None:
    import json

    for name, text in flattened("k", json.dumps(value).encode()):
        assert name == "k" or name.startswith("k/")
        text.decode()


def test_trees_of_prefixes_and_keys() -> None:
    answer = [("app/db", b'{"host": "h", "ports": [5432]}'), ("app/z", b"1")]
    tree = Prefix("app", tree=True, with_path=True, format="X_{{ key }}")
    wanted = [("X_app_db/host", b"h"), ("X_app_db/ports/0", b"5432")]
    assert tree.variables(answer) == [*wanted, ("X_app_z", b"1")]
    assert Prefix("app").variables(answer)[0] == ("db", answer[0][1])
    assert Key("DB", "app/db", tree=True).variables(answer[:1]) == [
        ("DB/host", b"h"),
        ("DB/ports/0", b"5432"),
    ]
    wrong = {"CT_LOCAL_CONFIG": 'tree = "yaml" prefix { path = "a" }'}
    with pytest.raises(ToolError, match="tree"):
        config("true", environ=wrong)


def test_durations_without_a_unit_are_told() -> None:
    raw: dict[str, Any] = {
        "max_stale": 5,
        "wait": {"min": 2},
        "exec": {"kill_timeout": 3, "splay": 0},
    }
    raw["consul"] = {"retry": {"backoff": "250ms", "max_backoff": 1.5}}
    values = schema.check(raw, SCHEMA, "c.hcl")
    assert dict(schema.bare_numbers(values)) == {
        "max_stale": 5,
        "wait": 2,
        "exec.kill_timeout": 3,
        "consul.retry.max_backoff": 1.5,
    }


def test_settings_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "upcase: yes\nmax_stale: 5s\nprefix:\n  - path: a\n  - {path: b}\n"
        "exec:\n  command: [x, 'y z']\n"
    )
    found = config(f"-config={tmp_path}")
    assert found.upcase
    assert found.program.argv == ["x", "y z"]
    assert [source.question[0] for source in found.sources] == [
        "/v1/kv/a/",
        "/v1/kv/b/",
    ]
    for wrong in ("- a\n", "a: [1", "max_stale: -.inf\n", "max_stale: .nan\n"):
        path.write_text(wrong)
        with pytest.raises(ToolError, match=r"c\.yaml: ") as caught:
            config(f"-config={path}")
        assert caught.value.status == 15


def test_the_level_of_the_log_by_the_environment() -> None:
    assert common.environment_values({"CT_LOG": "debug"})["log_level"] == 1
    both = {"CT_LOG": "", "CONSUL_TEMPLATE_LOG_LEVEL": "err"}
    assert common.environment_values(both)["log_level"] == 4
    with pytest.raises(ToolError, match="CT_LOG: invalid log level"):
        config("-prefix=a", "true", environ={"CT_LOG": "loud"})


def test_the_path_in_front_by_either_name() -> None:
    def names(*argv: str, text: str = "") -> list[str]:
        found = config(*argv, "true", environ={"CT_LOCAL_CONFIG": text})
        answer = [("t/d/b", b"1")]
        return [source.variables(answer)[0][0] for source in found.sources]

    assert names("-prefix=t/d", "-with-prefix") == ["t_d_b"]
    assert names("-prefix=t/d", "-with-prefix", "-no-prefix") == ["t_d_b"]
    assert names("-prefix=t/d", "-no-prefix", text="no_prefix = false") == ["b"]
    blocks = 'with_prefix = true prefix { path = "t/d" no_prefix = true } '
    assert names(text=blocks + 'prefix { path = "t/d" }') == ["b", "t_d_b"]


def test_required_names_in_one_word() -> None:
    assert config("-prefix=a", "-required=A,B", "true").required == ["A", "B"]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_private(str(pipe), b"A=1\n")
    write_private(str(pipe), b"A=2\n")
    assert os.read(reader, 100) == b"A=1\nA=2\n"
    os.close(reader)
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]
    with pytest.raises(IsADirectoryError):
        write_private(str(tmp_path), b"")


def test_stdout_stays_a_link(tmp_path: Path) -> None:
    code = (
        "from pyconsul_envconsul.output import write_private\n"
        "write_private('/dev/stdout', b'A=1\\n')"
    )
    with open(tmp_path / "out", "wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"A=1\n"
    assert os.path.islink("/dev/stdout")
