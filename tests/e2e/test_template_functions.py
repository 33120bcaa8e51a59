"""Functions of pyconsul-template's both languages, by the command and an agent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from running_agent import RunningAgent
from template_process import run

METADATA = "myplug-1.0.dist-info"


def rendered(
    folder: Path, agent: RunningAgent, name: str, text: str, **env: str
) -> str:
    """Return what a template of this file name makes, rendered once."""
    (folder / name).write_text(text)
    address = f"127.0.0.1:{agent.ports['http']}"
    flags = ("-once", "-once-timeout=60s", f"-template={name}:out")
    done = run(folder, *flags, CONSUL_HTTP_ADDR=address, **env)
    assert done.returncode == 0, done.stderr
    return (folder / "out").read_text()


def test_sprig_in_both_languages(tmp_path: Path, agent: RunningAgent) -> None:
    agent.put("/v1/kv/names", b"beta alpha")
    go = """\
{{ key "names" | splitList " " | sprig_sortAlpha | sprig_join "," }}
{{ sprig_dict "a" 1 | sprig_toJson }} {{ sprig_semverCompare ">1" "1.2.0" }}
{{ key "names" | sprig_camelcase | sprig_abbrev 8 }} {{ sprig_addf 1.1 2.2 }}
{{ sprig_urlParse "http://h:1/p" | sprig_pluck "host" | sprig_first }}
""".replace("splitList", "sprig_splitList")
    jinja = """\
{{ key('names') | sprig_splitList(' ') | sprig_sortAlpha | sprig_join(',') }}
{{ sprig_dict('a', 1) | sprig_toJson }} \
{{ 'true' if sprig_semverCompare('>1', '1.2.0') }}
{{ key('names') | sprig_camelcase | sprig_abbrev(8) }} {{ sprig_addf(1.1, 2.2) }}
{{ sprig_urlParse('http://h:1/p') | sprig_pluck('host') | sprig_first }}
"""
    expected = 'alpha,beta\n{"a":1} true\nBetaA... 3.3\nh:1\n'
    assert rendered(tmp_path, agent, "t.ctmpl", go) == expected
    assert rendered(tmp_path, agent, "t.j2", jinja) == expected


def test_metadata_tags_and_ports(tmp_path: Path, agent: RunningAgent) -> None:
    for number, zone in ((1, "eu.west-1"), (2, "us.east-1")):
        meta = {"zone": zone, "weight": str(number)}
        service = {
            "Name": "web",
            "ID": f"w{number}",
            "Port": 80 + number,
            "Tags": ["t", f"t{number}"],
            "Meta": meta,
        }
        agent.put("/v1/agent/service/register", service)
    agent.eventually("/v1/health/service/web", lambda found: len(found) == 2)
    go = """\
{{ range $k, $l := service "web" | byMeta "zone,weight|int" }}{{ $k }} {{ end }}
{{ range $k, $l := service "web" | byMeta "zone|raw" }}{{ $k }}={{ len $l }} {{ end }}
{{ range $k, $l := service "web" | byTag }}{{ $k }}={{ len $l }} {{ end }}
{{ range $k, $l := service "web" | byPort }}{{ $k }} {{ end }}
{{ range $k, $l := services | byTag }}{{ $k }} {{ end }}
"""
    line = "{% for k, l in ({}).items() %}{{ k }}{}{% endfor %}\n\n"

    def loop(found: str, more: str = "") -> str:
        start, _, rest = line.partition("{}")
        middle, _, end = rest.partition("{}")
        return f"{start}{found}{middle}{more} {end}"

    jinja = (
        loop("service('web') | byMeta('zone,weight|int')")
        + loop("by_meta('zone', service('web'), raw=true)", "={{ l | length }}")
        + loop("service('web') | by_tag", "={{ l | length }}")
        + loop("service('web') | byPort")
        + loop("services() | byTag")
    )
    expected = [
        "eu_west_1_00001 us_east_1_00002",
        "eu.west-1=1 us.east-1=1",
        "t=2 t1=1 t2=1",
        "81 82",
        "t t1 t2",
    ]
    for name, text in (("t.ctmpl", go), ("t.j2", jinja)):
        found = rendered(tmp_path, agent, name, text).splitlines()
        assert [part.strip() for part in found if part.strip()] == expected, name


def test_texts_of_other_formats(tmp_path: Path, agent: RunningAgent) -> None:
    agent.put("/v1/kv/hosts", b"id;port\nw1;80\nw2;81\n")
    agent.put("/v1/kv/json", b'{"net": "10.1.2.3/8"}')
    go = """\
{{ range key "hosts" | parseCSV "header" ";" }}{{ .id }}:{{ .port }} {{ end }}
{{ timestamp "2006" "Europe/Berlin" | len }}
"""
    jinja = """\
{% for r in key('hosts') | parse_csv(header=true, delimiter=';') -%}
  {{ r.id }}:{{ r.port }} {% endfor +%}
{{ timestamp('2006', 'Europe/Berlin') | length }}
{{ (key('json') | from_json).net | ipaddr('network') }} \
{{ 'v1.2' | regex_replace('^v', '') }} {{ {'b': [1], 'a': 2} | to_nice_json(indent=1) }}
"""
    assert rendered(tmp_path, agent, "t.ctmpl", go) == "w1:80 w2:81 \n4\n"
    found = rendered(tmp_path, agent, "t.j2", jinja)
    assert found == ('w1:80 w2:81 \n4\n10.0.0.0 1.2 {\n "a": 2,\n "b": [\n  1\n ]\n}\n')


def test_lookups_of_ours_in_go_templates(tmp_path: Path, agent: RunningAgent) -> None:
    agent.put("/v1/kv/word", b"told")
    agent.put("/v1/agent/service/register", {"Name": "db", "ID": "d1"})
    agent.eventually("/v1/health/service/db", lambda found: len(found) == 1)
    agent.request("POST", "/v1/query", {"Name": "q", "Service": {"Service": "db"}})
    session = agent.put("/v1/session/create", {"Name": "mine", "TTL": "600s"})["ID"]
    agent.put("/v1/event/fire/deploy", b"now")
    agent.eventually("/v1/event/list?name=deploy", lambda found: len(found) == 1)
    entry = {"Kind": "service-defaults", "Name": "db", "Protocol": "http"}
    agent.put("/v1/config", entry)
    text = f"""\
{{{{ with kv "word" }}}}{{{{ .Path }}}} {{{{ .Value }}}}{{{{ end }}}}
{{{{ range query "q" }}}}{{{{ .ID }}}}{{{{ end }}}}
{{{{ (session "{session}").Name }}}}
{{{{ range event "deploy" }}}}{{{{ .Name }}}}{{{{ end }}}}
{{{{ (configEntry "service-defaults" "db").Protocol }}}}
{{{{ len (configEntries "service-defaults") }}}}
{{{{ (agentSelf).Config.NodeName }}}} {{{{ len (healthState "critical") }}}}
{{{{ range checks }}}}{{{{ .Status }}}}{{{{ end }}}} {{{{ len (intentions) }}}}
{{{{ if intention "a" "b" }}}}yes{{{{ else }}}}none{{{{ end }}}}
{{{{ if coordinate }}}}{{{{ end }}}}
{{{{ (index (httpJSON "http://127.0.0.1:{agent.ports["http"]}/v1/kv/word") 0).Key }}}}
"""
    assert rendered(tmp_path, agent, "t.ctmpl", text).split() == [
        *("word", "told", "d1", "mine", "deploy", "http", "1"),
        *("n1", "0", "passing", "0", "none", "word"),
    ]


def test_a_plugin_in_python(tmp_path: Path, agent: RunningAgent) -> None:
    package = tmp_path / "site"
    (package / METADATA).mkdir(parents=True)
    (package / "myplug.py").write_text("def twice(a, b=''):\n    return [a, b] * 2\n")
    (package / METADATA / "METADATA").write_text("Name: myplug\nVersion: 1.0\n")
    entry = "[pyconsul_template.plugins]\ntwice = myplug:twice\n"
    (package / METADATA / "entry_points.txt").write_text(entry)
    env = {"PYTHONPATH": str(package)}
    go = '{{ plugin "twice" "x" 1 | len }} {{ plugin "echo" "y" }}'
    assert rendered(tmp_path, agent, "t.ctmpl", go, **env) == "4 y"
    jinja = "{{ plugin('twice', 'x') | join('-') }} {{ plugin('echo', 'y') }}"
    assert rendered(tmp_path, agent, "t.j2", jinja, **env) == "x--x- y"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.ctmpl", '{{ secret "a/b" }}', "secret needs Vault"),
        ("t.j2", "{{ secret('a/b') }}", "secret needs Vault"),
        ("t.ctmpl", '{{ nomadService "a" }}', "nomadService needs Nomad"),
        ("t.j2", "{{ nomad_service('a') }}", "nomad_service needs Nomad"),
        ("t.j2", "{{ partitions() }}", "partitions needs Consul Enterprise"),
        ("t.ctmpl", "{{ sprig_genCA }}", "sprig_genCA makes keys"),
        ("t.j2", "{{ sprig_uuidv4() }}", "sprig_uuidv4 makes keys"),
        ("t.ctmpl", '{{ parseCSV "header" "a,a\\n" }}', "the same name"),
    ],
)
def test_what_is_not_there_says_so(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)
    done = run(tmp_path, "-once", f"-template={name}:out")
    assert done.returncode == 14
    assert words in done.stderr
    assert re.search(rf"{re.escape(name)}:1", done.stderr), done.stderr
    assert not (tmp_path / "out").exists()


def test_a_denied_function_is_denied_in_both(tmp_path: Path) -> None:
    for name, text in (
        ("t.ctmpl", '{{ parseCSV "a" }}'),
        ("t.j2", "{{ 'a' | parseCSV }}"),
        ("t.j2", "{{ sprig_env('HOME') }}"),
        ("t.ctmpl", '{{ sprig_env "HOME" }}'),
        ("t.j2", "{{ '10.0.0.1' | ipaddr }}"),
    ):
        (tmp_path / name).write_text(text)
        denied = ["parseCSV", "sprig_*", "ipaddr"]
        block = {"source": name, "destination": "out", "function_denylist": denied}
        (tmp_path / "c.json").write_text(json.dumps({"template": [block]}))
        done = run(tmp_path, "-once", "-config=c.json")
        assert done.returncode == 14, text
        assert "is denied by function_denylist" in done.stderr, text
