"""The functions of Go templates, each by what it gives and what it refuses."""

# ruff: noqa: E501

from __future__ import annotations

import re

import pytest
from ctmpl_fixture import FixtureViews, render

from pyconsul_client import interfaces
from pyconsul_client.sockaddr import Interface
from pyconsul_template.ctmpl import functions, regex
from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.yaml_parse import parse_yaml
from pyconsul_template.render import TemplateError


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('{{base64Encode "a?>"}} {{base64Decode "YT8+"}} {{base64URLEncode "a?>"}} {{base64URLDecode "YT8-"}}', "YT8+ a?> YT8- a?>"),
        ('{{sha256Hex "a" | len}} {{md5sum "a"}} {{hmacSHA256Hex "m" "k" | slice | len}}', "64 0cc175b9c0f1b6a831c399e269772661 64"),
        ('{{"a, b" | split ","}} {{len (split "" "abc")}} {{split "," " "}}', "[a  b] 3 []"),
        ('{{"a=1,b" | splitToMap "," "="}}', "map[a:1 b:]"),
        ('{{trim "xy" "xaxy"}} {{trimPrefix "a" "ab"}} {{trimSuffix "b" "ab"}} {{trimSpace " a\t"}}', "a b a a"),
        ('{{toLower "É"}} {{toUpper "é"}} {{toTitle "foo bar_baz it\'s"}}', "é É Foo Bar_baz It'S"),
        ('{{replaceAll "a" "b" "aca"}}', "bcb"),
        ('{{regexMatch "^a.c$" "abc"}} {{regexMatch "^a$" "a\\n"}} {{regexMatch "(?i)B" "abc"}}', "true false true"),
        ('{{regexReplaceAll "a*" "x" "baaac"}} {{regexReplaceAll "(?P<n>b)" "<$n>" "abc"}} {{regexReplaceAll "b" "$$" "abc"}} {{regexReplaceAll "(b)" "$1x" "abc"}}', "xbxcx a<b>c a$c ac"),
        ('{{"a\\n\\nb" | indent 2}}', "  a\n\n  b"),
        ('{{timestamp "unix" | regexMatch "^[0-9]+$"}} {{timestamp | regexMatch "^[-0-9T:]+Z$"}} {{timestamp "2006" | len}}', "true true 4"),
        ('{{parseBool "t"}} {{parseFloat "1.5e3"}} {{parseInt "-5"}} {{parseUint "5"}}', "true 1500 -5 5"),
        ('{{parseJSON "[1,2.5,null,\\"x\\"]"}} {{parseJSON ""}} {{(parseJSON "{\\"a\\":{\\"b\\":[1]}}").a.b}}', "[1 2.5 <nil> x] map[] [1]"),
        ('{{parseJSON "\\"\\\\ud800\\""}}', "\ufffd"),
        ('{{parseJSON "{\\"z\\":1,\\"a\\":[true,null,1.5,1e21,1e-7,12345678]}" | toJSON}}', '{"a":[true,null,1.5,1e+21,1e-7,12345678],"z":1}'),
        ('{{toJSON "<a&\\u2028\\n\\x01>"}} {{toUnescapedJSON "<a&>"}}', '"\\u003ca\\u0026\\u2028\\n\\u0001\\u003e" "<a&>"'),
        ('{{parseJSON "{\\"a\\":[],\\"b\\":{},\\"c\\":\\"<\\"}" | toUnescapedJSONPretty}}', '{\n  "a": [],\n  "b": {},\n  "c": "<"\n}'),
        ('{{range service "v1.web"}}{{toJSON .Tags}}{{toJSON .NodeMeta}}{{end}}', '["http","release","v1"]{"rack":"r1"}'),
        ('{{parseJSON "{\\"b\\":[1,\\"2\\",{\\"x\\":null}],\\"a\\":true}" | toYAML}}', 'a: true\nb:\n- 1\n- "2"\n- x: null'),
        ('{{parseJSON "{\\"t\\":{\\"s\\":\\"a\\\\\\"b\\",\\"d\\":{\\"n\\":1.5}},\\"l\\":[1,2],\\"a\\":[{\\"x\\":\\"y\\"}]}" | toTOML}}', 'l = [1.0, 2.0]\n\n[[a]]\n  x = "y"\n\n[t]\n  s = "a\\"b"\n  [t.d]\n    n = 1.5'),
        ('{{range $k, $v := ls "users" | byKey}}x{{end}}{{range $k, $v := tree "cfg" | byKey}}{{$k}}:{{range $n, $p := $v}}{{$n}}={{$p.Key}}={{$p.Value}},{{end}} {{end}}', "cache:ttl=ttl=60, db:host=host=h1,port=port=5432, "),
        ('{{range $p, $l := service "web|any" | byPort}}{{$p}}:{{len $l}} {{end}}', "8080:2 8081:1 8082:1 "),
        ('{{range $k, $l := service "web|any" | byMeta "zone,w|int"}}{{$k}}:{{len $l}} {{end}}', "_no_zone__00000:1 a_00003:1 a_00007:1 b_00012:1 "),
        ('{{contains "a" (split "," "a,b")}} {{in (split "," "a,b") "c"}} {{contains "el" "hello"}} {{contains 1 (parseJSON "[1]")}} {{contains 1.0 (parseJSON "[1]")}}', "true false true false true"),
        ('{{$n := parseJSON "[\\"a\\",\\"x\\"]"}}{{$l := split "," "a,b"}}{{containsAll $n $l}} {{containsAny $n $l}} {{containsNone $n $l}} {{containsNotAll $n $l}}', "false true false true"),
        ('{{explodeMap (parseJSON "{\\"a/b\\":1,\\"a/c\\":2}")}}', "map[a:map[b:1 c:2]]"),
        ('{{mergeMap (parseJSON "{\\"a\\":1}") (parseJSON "{\\"a\\":2,\\"b\\":3}")}} {{mergeMapWithOverride (parseJSON "{\\"a\\":1}") (parseJSON "{\\"a\\":2}")}}', "map[a:1 b:3] map[a:2]"),
        ('{{add 1 2}} {{add 1.5 1}} {{subtract 2 5}} {{multiply 2 3.5}} {{divide 2 -7}} {{divide 2.0 7}} {{modulo 3 -7}} {{minimum 2 1}} {{maximum 2 1.5}}', "3 2.5 3 7 -3 3.5 -1 1 2"),
        ('{{add 9223372036854775807 1}}', "-9223372036854775808"),
        ('{{envOrDefault "NOPE_X" "d"}} {{env "NOPE_X"}}|{{mustEnv "CT_CASE"}}', "d |v"),
        ('{{plugin "echo" " a " "" "b;c"}} {{plugin "printf" "%s-%s" 1 "x y"}}', "a b;c 1-x y"),
        ('{{spew_sdump "a"}}{{spew_printf "%d" 3}}', '"a"\n3'),
        ('{{key_exists "app/name"}} {{key_or_default "no/such" "x"}}', "true x"),
        ('{{range safeLs "cfg"}}{{.Key}}{{end}} {{range safeTree "cfg/d"}}{{.Key}},{{end}}{{len (tree "cf")}}', "top b/host,b/port,4"),
        ('{{range tree "weig"}}{{.Key}};{{end}}', "hts/web1;hts/web2;"),
        ('{{executeTemplate "t" 1}}{{define "t"}}<{{.}}>{{end}}', "<1>"),
        ("{{`[\"a: b\",\"#x\",\"on\",\"1e3\",\"it's\",\"a\\tb\",\"\",\"-\",\"x \",\"'q'\",\"=\"]` | parseJSON | toYAML}}",
         "- 'a: b'\n- '#x'\n- \"on\"\n- \"1e3\"\n- it's\n- \"a\\tb\"\n- \"\"\n- '-'\n- 'x '\n- '''q'''\n- ="),
        ("{{`{\"t\":\"l1\\nl2\\n\",\"u\":\"a\\n\\nb\",\" v\":\" x\\ny\",\"k\\nl\":1}` | parseJSON | toYAML}}",
         "' v': |2-\n   x\n  y\n? |-\n  k\n  l\n: 1\nt: |\n  l1\n  l2\nu: |-\n  a\n\n  b"),
        ("{{`{\"a10\":1,\"a9\":2,\"B\":3,\"_\":4,\"10\":5,\"9\":6,\"09\":7}` | parseJSON | toYAML}}",
         '_: 4\n"9": 6\n"09": 7\n"10": 5\nB: 3\na9: 2\na10: 1'),
        ("{{`{\"a\":[{\"b\":[[1,{}]],\"c\":[]}]}` | parseJSON | toYAML}}",
         "a:\n- b:\n  - - 1\n    - {}\n  c: []"),
        ('{{tree "cfg/db" | toYAML}}',
         "- path: cfg/db/host\n  key: host\n  value: h1\n  createindex: 0\n  modifyindex: 7\n  lockindex: 0\n  flags: 0\n  session: \"\"\n"
         "- path: cfg/db/port\n  key: port\n  value: \"5432\"\n  createindex: 0\n  modifyindex: 7\n  lockindex: 0\n  flags: 0\n  session: \"\""),
        ("{{`{\"a\":{\"b\":[{\"c\":1e21},{\"d\":{\"e\":null}}],\"f\":[[{\"x\":1,\"y\":null}]]},\"z\":[{\"y\":{}}],\"é\":1e-7}` | parseJSON | toTOML}}",
         '"é" = 0.0000001\n\n[a]\n  f = [[{x = 1.0}]]\n\n  [[a.b]]\n    c = 1000000000000000000000.0\n\n  [[a.b]]\n    [a.b.d]\n\n[[z]]\n  [z.y]'),
        ('{{index (tree "cfg/db") 0 | toTOML}}',
         'Path = "cfg/db/host"\nKey = "host"\nValue = "h1"\nCreateIndex = 0\nModifyIndex = 7\nLockIndex = 0\nFlags = 0\nSession = ""'),
        ('{{regexReplaceAll "[[:^alpha:]]" "-" "a1é"}} {{regexReplaceAll `[\\D]` "" "a1é2"}}'
         ' {{regexReplaceAll `\\p{Lu}` "U" "aÀB"}} {{regexMatch `^[\\pZ\\PL]$` "a"}}', "a-- 12 aUU false"),
        ('{{regexMatch "a{,2}" "a{,2}"}} {{regexReplaceAll "{" "" "{a}"}} {{regexMatch "^a{2,3}$" "aa"}}',
         "true a} true"),
        ('{{parseFloat "1_000"}} {{parseFloat "0x1p-2"}} {{parseFloat "-inf"}} {{parseFloat "nan"}} {{parseFloat "1e-400"}}',
         "1000 0.25 -Inf NaN 0"),
        ('{{toUpper "straße ﬁ"}} {{toTitle "ǆ ß"}} {{toLower "ΑΣ İ"}}', "STRAßE ﬁ ǅ ß ασ i"),
        ('{{key "app/json" | parseJSON | toYAML}}', 'big: 1.2345678e+07\nf: 1.5\nl:\n- 1\n- two\n- null\n- true\nm:\n  a: 1\n  b: 2\n"n": 1\ns: x<y&z'),
        ('{{range services}}{{if eq .Name "db"}}{{toJSON .}}{{end}}{{end}}', '{"Name":"db","Tags":["primary"]}'),
        # sprig
        ('{{sprig_default "d" ""}} {{sprig_default "d" "v"}} {{"" | sprig_default "d"}} {{sprig_ternary "y" "n" true}} {{sprig_coalesce 0 "" 3}}', "d v d y 3"),
        ('{{sprig_list 3 1 2 | sprig_sortAlpha}} {{sprig_list 1 2 | sprig_first}} {{sprig_list 1 2 | sprig_last}} {{sprig_list 1 2 3 | sprig_rest}} {{sprig_list 1 1 2 | sprig_uniq}} {{sprig_append (sprig_list 1) 2}}', "[1 2 3] 1 2 [2 3] [1 2] [1 2]"),
        ('{{$d := sprig_dict "a" 1 "b" 2}}{{sprig_get $d "a"}}{{sprig_hasKey $d "c"}}{{sprig_keys $d}}{{sprig_values $d}}{{sprig_pick $d "a"}}{{sprig_omit $d "a"}}{{$d.b}}', "1false[a b][1 2]map[a:1]map[b:2]2"),
        ('{{sprig_upper "a"}}{{sprig_lower "A"}}{{sprig_title "ab c"}}{{sprig_trunc 2 "abc"}}{{sprig_trunc -2 "abc"}}{{sprig_nospace "a b"}}{{sprig_repeat 2 "x"}}', "AaAb Cabbcabxx"),
        ('{{sprig_quote "a" 1}} {{sprig_squote "a"}} {{sprig_cat "a" 1}} {{sprig_replace "a" "b" "aa"}} {{sprig_contains "a" "cat"}} {{sprig_hasPrefix "c" "cat"}} {{sprig_hasSuffix "c" "cat"}}', '"a" "1" \'a\' a 1 bb true true false'),
        ('{{sprig_splitList "," "a,b"}} {{sprig_list "a" 1 | sprig_join "-"}} {{sprig_until 3}} {{sprig_b64enc "a"}} {{sprig_b64dec "YQ=="}}', "[a b] a-1 [0 1 2] YQ== a"),
        ('{{sprig_add 1 2 3}} {{sprig_sub 5 2}} {{sprig_mul 2 3}} {{sprig_div 7 2}} {{sprig_mod 7 2}} {{sprig_max 1 3 2}} {{sprig_min 3 1}} {{sprig_int "7"}} {{sprig_float64 "1.5"}} {{sprig_int64 3.9}}', "6 3 6 3 1 3 1 7 1.5 3"),
        ('{{sprig_indent 2 "a\\nb"}} {{sprig_nindent 2 "a"}} {{sprig_toString 1.5}} {{sprig_empty ""}}', "  a\n  b \n  a 1.5 true"),
        ('{{sprig_regexMatch "a+" "caat"}} {{sprig_regexFind "a+" "caat"}} {{sprig_regexReplaceAll "a+" "caat" "o"}} {{sprig_sha256sum "a" | len}}', "true aa cot 64"),
        ('{{sprig_semverCompare ">=1.2, <2" "1.3.0"}} {{sprig_semverCompare "^1.2" "2.0.0"}} {{sprig_semverCompare "~1.2.3" "1.2.9"}} {{sprig_semverCompare "1.x" "1.5.0"}} {{sprig_semverCompare "^0.0.3" "0.0.4"}} {{(sprig_semver "v1.2.3-rc1").Minor}}', "true false true true false 2"),
        ('{{sprig_fromJson "[1]"}} {{sprig_toJson (sprig_dict "a" 1)}} {{sprig_dig "a" "b" "d" (sprig_dict "a" (sprig_dict "b" 3))}} {{sprig_now | sprig_date "2006" | len}}', '[1] {"a":1} 3 4'),
        ('{{sprig_merge (sprig_dict "a" 1) (sprig_dict "a" 2 "b" 3)}}', "map[a:1 b:3]"),
    ],
)  # fmt: skip
def test_gives(template: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOPE_X", raising=False)
    monkeypatch.setenv("CT_CASE", "v")
    assert render(template) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('{{parseInt "1.5"}}', 'parseInt: strconv.ParseInt: parsing "1.5": invalid syntax'),
        ('{{parseInt "9223372036854775808"}}', "value out of range"),
        ('{{parseUint "-1"}}', "invalid syntax"),
        ('{{parseFloat "1_"}}', "invalid syntax"),
        ('{{parseBool "maybe"}}', 'strconv.ParseBool: parsing "maybe"'),
        ('{{parseJSON "{"}}', "error calling parseJSON"),
        ('{{parseJSON "NaN"}}', "error calling parseJSON"),
        ('{{parseJSON "1e999"}}', "cannot unmarshal number"),
        ('{{base64Decode "a"}}', "illegal base64 data"),
        ('{{regexMatch "(" "a"}}', "error parsing regexp: missing closing )"),
        ('{{regexMatch "(?=a)" "a"}}', "unsupported Perl syntax"),
        ('{{regexMatch "(a)\\\\1" "a"}}', "invalid escape sequence"),
        ('{{modulo 0 1}}', "integer divide by zero"),
        ('{{add "1" 2}}', 'add: unknown type for "1" (string)'),
        ('{{loop true}}', "unknown type"),
        ('{{loop 1000000}}', "turns"),
        ('{{join "," (parseJSON "[1]")}}', "expected []string; got []interface {}"),
        ('{{containsAll (split "," "a") "a"}}', "expected []interface {}; got []string"),
        ('{{regexMatch "a{1001}" "a"}}', "invalid repeat count"),
        ('{{regexMatch `\\p{Nope}` "a"}}', "invalid character class range"),
        ('{{parseFloat "1e400"}}', "value out of range"),
        ('{{parseFloat "+nan"}}', "invalid syntax"),
        ('{{parseFloat "1__0"}}', "invalid syntax"),
        ('{{toTOML "a"}}', "top-level values must be Go maps"),
        ('{{toJSON (loop 3)}}', "unsupported type"),
        ('{{mustEnv "NOPE_X"}}', "NOPE_X is not set"),
        ('{{plugin "false"}}', "exit status 1"),
        ('{{plugin "/no/such/program"}}', "No such file"),
        ('{{service "web|bogus"}}', "bogus"),
        ('{{key "a@b@c"}}', "malformed"),
        ('{{explode (tree "a")}}', "explode"),
        ('{{sprig_fail "why not"}}', "why not"),
        ('{{sprig_required "need it" ""}}', "need it"),
        ('{{sprig_repeat 100000000 "x"}}', "too much"),
        ('{{sprig_semver "x"}}', "Invalid Semantic Version"),
        ('{{sockaddr "Nope"}}', 'function "Nope" not defined'),
        ('{{parseYAML "a: [1"}}', "yaml: line"),
        ('{{exportedServices "x"}}', "Enterprise"),
        ('{{$s := "xxxxxxxx"}}{{range loop 40}}{{$s = print $s $s}}{{end}}', "text is over"),
        ('{{printf "%1000000d%1000000d" 1 2 | len}}{{writeToFile "a" "" "" "0644" "x"}}', "sandbox_path"),
    ],
)  # fmt: skip
def test_refuses(template: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOPE_X", raising=False)
    monkeypatch.setattr("pyconsul_template.ctmpl.values.TEXT_MAX", 1 << 20)
    if "printf" in template:
        monkeypatch.setattr("pyconsul_template.ctmpl.values.TEXT_MAX", 1 << 22)
    views = FixtureViews({"a/b": "1", "a/b/c": "2"})
    with pytest.raises(TemplateError, match=re.escape(text)):
        render(template, views)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"[[:alpha:]]+", "12ab", "ab"), (r"[^[:space:]]+", " ab ", "ab"),
        (r"\pL+", "1é2", "é"), (r"\PL+", "é12", "12"), (r"\Qa.b\E", "aXb a.b", "a.b"),
        (r"(?m)^b$", "a\nb\nc", "b"), (r"a(?i)B", "xaB ab", "aB"), (r"(a(?i)B)C", "abC", "abC"),
        (r"(?s)a.b", "a\nb", "a\nb"), (r"a{2,3}?", "aaaa", "aa"), (r"\x{61}\z", "a", "a"),
        (r"[\]\-a]+", "x]-a", "]-a"), (r"[]a]+", "a]", "a]"), (r"\bfoo\b", "a foo", "foo"),
        (r"[\d_]+", "ab12_", "12_"), (r"\S+", " ab", "ab"), (r"a|b", "b", "b"),
    ],
)  # fmt: skip
def test_regular_expressions(pattern: str, text: str, found: str) -> None:
    match = regex.compiled(pattern).search(text)
    assert match is not None
    assert match[0] == found


@pytest.mark.parametrize(
    "pattern",
    ["(", ")", "[", "a**", "a++", r"\8", "(?<=a)b", "(?P=n)", "x{2}{3}", "\\"],
)
def test_wrong_expressions(pattern: str) -> None:
    with pytest.raises(GoExecError, match="error parsing regexp"):
        regex.compiled(pattern)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}), ("a: 1", {"a": 1}), ("- 1\n- b", [1, "b"]), ("x", "x"), ("3.5", 3.5),
        ("a:\n  b: c\n  d:\n  - 1\n  - 2\ne: ~", {"a": {"b": "c", "d": [1, 2]}, "e": None}),
        ("a:\n- b: 1\n  c: 2\n- b: 3", {"a": [{"b": 1, "c": 2}, {"b": 3}]}),
        ("- - 1\n  - 2\n- []", [[1, 2], []]),
        ("a: 'it''s'\nb: \"x\\ty\\u00e9\"\n'c d': \"#no\" # yes", {"a": "it's", "b": "x\tyé", "c d": "#no"}),
        ("a: [1, x y, {b: true, c: [null]}]\nb: {}", {"a": [1, "x y", {"b": True, "c": [None]}], "b": {}}),
        ("a: [1,\n  2]\nb: 2", {"a": [1, 2], "b": 2}),
        ("a: |\n  l1\n   l2\n\n  l3\nb: 1", {"a": "l1\n l2\n\nl3\n", "b": 1}),
        ("a: >-\n  x\n  y\n\n  z", {"a": "x y\nz"}), ("a: |+\n  x\n\n", {"a": "x\n\n"}),
        ("a: one\n  two\nb: c", {"a": "one two", "b": "c"}),
        ("---\n# c\na: http://x:1/y#z # c\n...\n", {"a": "http://x:1/y#z"}),
        ("a: &x {k: 1}\nb: *x\nc:\n  <<: *x\n  j: 2", {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "j": 2}}),
        ("a: yes\nb: off\nc: 0x10\nd: 1_000\ne: -.inf\nf: 1e3\ng: 012", {"a": True, "b": False, "c": 16, "d": 1000, "e": float("-inf"), "f": 1000.0, "g": 10}),
        ("a: \"1\"\nb: 1.2.3\nc: -x\nd: -5", {"a": "1", "b": "1.2.3", "c": "-x", "d": -5}),
        ("a:\n\nb:\n  - c:\n      d: e", {"a": None, "b": [{"c": {"d": "e"}}]}),
    ],
)  # fmt: skip
def test_yaml(text: str, value: object) -> None:
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    "text",
    ["a: b: c", "a: [1", "a: 1\n b: 2", "a: *x", "a: !!str 1", "\ta: 1", "a: 1\na: 2",
     "'a", "a: 1\nb", "[" * 100, "@a", '"\\q"', "a: {b"],
)  # fmt: skip
def test_wrong_yaml(text: str) -> None:
    with pytest.raises(GoExecError, match="yaml: line"):
        parse_yaml(text)


def test_sockaddr_reads_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Interface(name="lo", address="127.0.0.1", prefix=8),
        Interface(name="e0", address="10.0.0.5", prefix=24, default=True),
        Interface(name="e1", address="10.0.0.6", prefix=24),
        Interface(name="e2", address="8.8.8.8", prefix=24, default=True),
        Interface(name="e2", address="2001:4860::8", prefix=64, default=True),
    ]
    monkeypatch.setattr(interfaces, "interfaces", lambda: found)
    for call, expected in (
        ("GetPrivateIP", "10.0.0.5"),
        ("GetPrivateIPs", "10.0.0.5 10.0.0.6"),
        ("{{GetPublicIP}}", "8.8.8.8"),
        ('GetInterfaceIP \\"e1\\"', "10.0.0.6"),
        ('GetAllInterfaces | include \\"name\\" \\"^e1$\\" | attr \\"address\\"', "10.0.0.6"),
        ('GetAllInterfaces | exclude \\"flags\\" \\"loopback\\" | exclude \\"rfc\\"'
         ' \\"6890\\" | sort \\"type\\" | join \\"address\\" \\",\\"',
         "8.8.8.8,2001:4860::8"),
    ):  # fmt: skip
        assert render(f'{{{{sockaddr "{call}"}}}}') == expected, call
    assert render('{{sockaddr "GetInterfaceIP" "`e1`"}}') == "10.0.0.6"


def test_sockaddr_finds_the_loopback_interface() -> None:
    assert any(
        (one.name, one.address) == ("lo", "127.0.0.1")
        for one in interfaces.interfaces()
    )


def test_a_plugin_is_stopped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "PLUGIN_TIMEOUT_S", 0.05)
    with pytest.raises(TemplateError, match="timed out"):
        render('{{plugin "sleep" "30"}}')
