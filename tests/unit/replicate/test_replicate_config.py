"""Settings: layers, sides and their tokens, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from replicate_fakes import QUIET

from pyconsul_client.errors import FlagError, SettingsError
from pyconsul_client.tool.journal import Journal
from pyconsul_replicate.config import Config, load, make_flags
from pyconsul_replicate.page import Page
from pyconsul_replicate.runner import Runner


def read(*argv: str, **environ: str) -> Config:
    flags = make_flags()
    flags.parse(argv)
    return load(flags, environ)


def settings(folder: Path, text: str, name: str = "c.hcl") -> str:
    (folder / name).write_text(text)
    return f"-config={folder / name}"


def test_flags_beat_files_and_lists_append(tmp_path: Path) -> None:
    file = settings(
        tmp_path,
        """
        status_dir = "of/file"
        max_deletes = 7
        exclude { source = "app/x" }
        exclude_matches { pattern = "*/tmp" }
        prefix {
          source = "app/"
          datacenter = "dc1"
        }
        wait = "1s:3s"
        """,
    )
    config = read(
        file, "-status-dir=of/flag", "-exclude=app/y", "-exclude-match=re:z$",
        "-prefix=other@dc3:moved", "-no-delete",
    )  # fmt: skip
    assert config.job.status_dir == config.rules.own == "of/flag"
    assert config.rules.excludes == ("app/x", "app/y")
    assert config.rules.patterns == ("*/tmp", "re:z$")
    assert config.rules.max_deletes == 7
    assert not config.rules.delete
    found = [(p.source, p.datacenter, p.destination) for p in config.pairs]
    assert found == [("app/", "dc1", "app/"), ("other", "dc3", "moved")]
    assert config.job.settle == (1.0, 3.0)
    assert read(file, "-once").job.settle == (0.0, 0.0)


def test_a_token_does_not_follow_to_another_agent(tmp_path: Path) -> None:
    file = settings(
        tmp_path,
        """
        consul { token = "common" }
        source { address = "src:1" }
        destination { address = "one:1" }
        destination {
          address = "two:2"
          token = "two"
          datacenter = "dc7"
        }
        """,
    )
    config = read(file, CONSUL_HTTP_TOKEN="env")
    assert config.source is not None
    assert config.source.options.token == ""
    tokens = [side.options.token for side in config.destinations]
    assert tokens == ["", "two"]
    assert config.destinations[1].datacenter == "dc7"
    one = read("-dest-addr=one:1", "-consul-token=t")
    assert [side.options.token for side in one.destinations] == ["t"]
    plain = read(CONSUL_HTTP_ADDR="env:9", CONSUL_HTTP_TOKEN="e")
    assert plain.destinations[0].options.url == "http://env:9"
    assert plain.destinations[0].options.token == "e"
    given = read("-source-addr=s:1", "-source-token=x", CONSUL_HTTP_TOKEN="e")
    assert given.source is not None
    assert given.source.options.token == "x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('colour = "red"', "colour"),
        ('prefix { source = "app" }', "missing datacenter"),
        ('prefix { datacenter = "dc1" }', "missing source"),
        ('prefix { surce = "x" }', "surce"),
        ('exclude_matches { pattern = "re:(" }', "bad pattern"),
        ('max_deletes = "-1"', "max_deletes"),
        ('exec { command = "x" }', "exec"),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read(settings(tmp_path, text))


@pytest.mark.parametrize("second", ["b@dc1:x", "b@dc1:x/y", "b/@dc1:x/", "b@dc1:/"])
def test_destinations_that_overlap(second: str) -> None:
    with pytest.raises(SettingsError, match="overlap"):
        read("-prefix=a@dc1:x", f"-prefix={second}")
    assert len(read("-prefix=a@dc1:x", "-prefix=b@dc1:x2").pairs) == 2


def test_a_prefix_without_a_datacenter_needs_a_source() -> None:
    with pytest.raises(FlagError, match="missing datacenter"):
        read("-prefix=app")
    assert read("-prefix=app:copy", "-source-addr=s:1").pairs[0].destination == "copy"


def test_a_daemon_tries_for_ever_unless_told() -> None:
    assert not read("-prefix=a@dc1").attempts_given
    assert read("-prefix=a@dc1", "-consul-retry-attempts=3").attempts_given


def test_the_status_page() -> None:
    config = read('-prefix=a"b@dc1', "-dest-addr=x:1", "-dest-addr=y:2")
    runner = Runner(config, Journal(QUIET))
    page = Page("", runner.jobs)
    status, _, body = page.page("/metrics")
    assert status == "200 OK"
    line = (
        'pyconsul_replicate_written_total{source="a\\"b",datacenter="dc1",'
        'destination="a\\"b",to="http://x:1"} 0'
    )
    assert line in body.decode()
    assert page.page("/health")[0].startswith("503")
    assert b'"written": 0' in page.page("/status")[2]
    assert page.page("/other")[0].startswith("404")
