"""Lookups of pyconsul-template beyond the catalog and KV, against an agent."""

from __future__ import annotations

import json
from pathlib import Path

from running_agent import RunningAgent
from template_process import run, starter


def rendered(folder: Path, agent: RunningAgent, text: str) -> str:
    """Return what a template makes, rendered once."""
    (folder / "t.j2").write_text(text)
    address = f"127.0.0.1:{agent.ports['http']}"
    flags = ("-once", "-once-timeout=60s", "-template=t.j2:out")
    done = run(folder, *flags, CONSUL_HTTP_ADDR=address)
    assert done.returncode == 0, done.stderr
    return (folder / "out").read_text()


def test_lookups_of_everything_else(tmp_path: Path, agent: RunningAgent) -> None:
    for number in (1, 2):
        service = {"Name": "web", "ID": f"w{number}", "Port": number}
        agent.put("/v1/agent/service/register", service)
    agent.eventually("/v1/health/service/web", lambda found: len(found) == 2)
    agent.request("POST", "/v1/query", {"Name": "q", "Service": {"Service": "web"}})
    session = agent.put("/v1/session/create", {"Name": "mine", "TTL": "600s"})["ID"]
    agent.put("/v1/event/fire/deploy", b"now")
    agent.eventually("/v1/event/list?name=deploy", lambda found: len(found) == 1)
    entry = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
    agent.put("/v1/config", entry)
    ended = "00000000-0000-0000-0000-000000000000"
    text = f"""\
{{{{ query('q') | map(attribute='id') | sort | join(' ') }}}}
{{{{ session('{session}').Name }}}} {{{{ session('{ended}') }}}}
{{% for e in event('deploy') %}}{{{{ e.name }}}}{{% endfor %}}

{{{{ config_entry('service-defaults', 'web').Protocol }}}}
{{{{ config_entry('service-defaults', 'none') }}}}
{{{{ agent_self().Config.NodeName }}}}
{{{{ health_state('critical') | length }}}} {{{{ coordinate() is iterable }}}}
"""
    assert rendered(tmp_path, agent, text).split() == [
        *("w1", "w2", "mine", "None", "deploy", "http", "None"),
        *("n1", "0", "True"),
    ]


def test_a_key_may_be_absent_for_a_time(tmp_path: Path, agent: RunningAgent) -> None:
    block = {"contents": "{{ key('soon', timeout='1s') }}", "destination": "out"}
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"template": [block]}))
    starting = starter(tmp_path, agent.ports["http"])
    start = next(starting)
    one = start("-config=c.json")
    assert one.process.wait(30) == 14
    assert "key soon is absent for 1s" in one.text()
    block["contents"] = "{{ key('soon', timeout='1h') }}"
    config.write_text(json.dumps({"template": [block]}))
    one = start("-config=c.json")
    agent.put("/v1/kv/soon", b"here")
    one.wrote("out", "here")
    assert one.end() == 0
    assert list(starting) == []


def test_functions_shared_with_go_templates(
    tmp_path: Path, agent: RunningAgent
) -> None:
    text = """\
{% set all = 'GetAllInterfaces | include "name" "^lo$"' %}
{% set lo = all ~ ' | include "type" "IPv4" | attr "address"' %}
{{ scratch.Set('n', 1) }}{{ scratch.SetX('n', 2) }}{{ scratch.Get('n') }} \
{{ scratch.Key('m') }}
{{ scratch.MapSet('m', 'b', 2) }}{{ scratch.MapSet('m', 'a', 1) }}\
{{ scratch.MapSetX('m', 'a', 9) }}{{ scratch.MapValues('m') }}
{{ parseYAML('a: [1, 2]').a | sum }} {{ ('x: 1' | parse_yaml).x }}
{{ {'k': 'v'} | toTOML }} {{ to_toml({'n': 1}) }}
{{ mergeMapWithOverride({'a': {'b': 1}}, {'a': {'b': 2}}).a.b }}
{{ plugin('echo', key('word', 'of it')) }} {{ sockaddr(lo) }}
{{ 'word' is key_exists }} {{ 'x' | dump }}
{{ writeToFile('side', '', '', '0600', 'append,newline', key('word', '-')) }}
"""
    agent.put("/v1/kv/word", b"told")
    (tmp_path / "t.j2").write_text(text)
    block = {"source": "t.j2", "destination": "out", "sandbox_path": "."}
    (tmp_path / "c.json").write_text(json.dumps({"template": [block]}))
    address = f"127.0.0.1:{agent.ports['http']}"
    for flags in (("-once", "-dry"), ("-once",)):
        done = run(tmp_path, *flags, "-config=c.json", CONSUL_HTTP_ADDR=address)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "side").exists() == ("-dry" not in flags)
    assert (tmp_path / "out").read_text().splitlines() == [
        "1 False",
        "[1, 2]",
        "3 1",
        'k = "v" n = 1',
        "2",
        "told 127.0.0.1",
        'True "x"',
        "",
    ]
    assert (tmp_path / "side").read_text() == "told\n"
    assert (tmp_path / "side").stat().st_mode & 0o777 == 0o600
    # Outside of the sandbox, without one, or denied: an error, nothing written.
    block["function_denylist"] = ["plugin"]
    for call in (
        "writeToFile('../s', '', '', '0600', 'x')",
        "plugin('touch', 'made')",
        "write_to_file('s')",
    ):
        (tmp_path / "t.j2").write_text(f"{{{{ {call} }}}}")
        (tmp_path / "c.json").write_text(json.dumps({"template": [block]}))
        done = run(tmp_path, "-once", "-config=c.json", CONSUL_HTTP_ADDR=address)
        assert done.returncode == 14, call
        assert "t.j2" in done.stderr
    assert not (tmp_path / "made").exists()
