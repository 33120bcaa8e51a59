"""The language of Go templates: text, pipelines, variables, control, errors."""

# ruff: noqa: E501

from __future__ import annotations

import pytest
from ctmpl_fixture import render

from pyconsul_template.render import TemplateError


@pytest.mark.parametrize(
    ("template", "text"),
    [
        # Text, delimiters, comments
        ("a {{- 3 }}", "a3"),
        ("a {{-3}}", "a -3"),
        ("a{{3 -}} \n\t b", "a3b"),
        ("a {{- /* c }} */ -}} b", "ab"),
        ("{{/* a\nb */}}x", "x"),
        ('{{"}}"}}', "}}"),
        ("{{\n  print\n  1\n  2\n}}", "1 2"),
        ("}} {", "}} {"),
        # Constants
        ("{{'\\u00e9'}} {{'\\x41'}} {{0o17}} {{0b101}} {{017}} {{+3}}", "233 65 15 5 15 3"),
        ('{{"\\x41\\101\\u00e9\\""}}', 'AAé"'),
        ("{{`a\nb`}}", "a\nb"),
        ("{{.5}} {{1e-7}} {{0x1p4}} {{-0.0}}", "0.5 1e-07 16 -0"),
        # Pipelines
        ('{{"abc" | len | printf "%03d"}}', "003"),
        ('{{("a" | print "b") | print "c"}}', "cba"),
        ('{{printf "%d-%s" (len "abc") ("x" | toUpper)}}', "3-X"),
        ("{{(1)}} {{((2))}}", "1 2"),
        # Variables
        ("{{$a := 1}}{{$b := $a}}{{$a = 2}}{{$a}}{{$b}}", "21"),
        ("{{$a := 1}}{{with 5}}{{$a = .}}{{end}}{{$a}}", "5"),
        ("{{with $a := 1}}{{$a := 2}}{{$a}}{{end}}", "2"),
        ("{{$a := 1}}{{if $a := 2}}{{$a}}{{end}}{{$a}}", "21"),
        ("{{if $a := 0}}{{else}}{{$a}}{{end}}", "0"),
        ("{{$i := 9}}{{range $i, $v := loop 0}}{{end}}{{$i}}", "9"),
        ("{{$v := 0}}{{range $v = loop 3}}{{end}}{{$v}}", "2"),
        # Control
        ("{{if 0}}a{{else if 0}}b{{else if 3}}c{{else}}d{{end}}", "c"),
        ("{{if 1}}{{if 0}}a{{else}}b{{end}}{{else}}c{{end}}", "b"),
        ("{{with 0}}a{{else with 6}}b{{.}}{{else}}c{{end}}", "b6"),
        ("{{range loop 5}}{{if eq . 1}}{{continue}}{{end}}{{if eq . 3}}{{break}}"
         "{{end}}{{.}}{{end}}", "02"),
        ("{{range loop 2}}{{range loop 3}}{{if .}}{{break}}{{end}}{{.}}{{end}};{{end}}",
         "0;0;"),
        ("{{range loop 0}}a{{else}}b{{end}}", "b"),
        ("{{range (parseJSON \"{}\").x}}a{{else}}b{{end}}", "b"),
        ("{{range $k, $v := parseJSON \"{\\\"b\\\":1,\\\"a\\\":2}\"}}{{$k}}{{$v}}{{end}}",
         "a2b1"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        # Definitions
        ('{{define "a"}}[{{.}}]{{end}}{{range loop 2}}{{template "a" .}}{{end}}', "[0][1]"),
        ('{{template "late" 1}}{{define "late"}}{{.}}{{end}}', "1"),
        ('{{define "a"}}{{$}}{{end}}{{with 5}}{{template "a" 7}}{{end}}', "7"),
        ('{{block "a" 2}}x{{.}}{{end}}{{template "a" 3}}', "x2x3"),
        ('{{define "a"}}{{.}}{{end}}{{template "a"}}', "<no value>"),
        ('{{define "a"}} {{end}}{{define "a"}}x{{end}}{{define "a"}}{{end}}{{template "a"}}', "x"),
        # Records
        ("{{range services}}{{if .Tags}}{{.}}{{end}}{{end}}",
         "{api [api http]}{db [primary]}{web [canary http release v1 v2]}"),
        ('{{range service "web|any"}}{{.Checks.AggregatedStatus}} {{end}}',
         "passing critical passing warning "),
        ('{{range service "v1.web"}}{{printf "%T %T" . .Tags}}{{end}} {{printf "%T" (nodes)}}',
         "*dependency.HealthService dependency.ServiceTags []*dependency.Node"),
        # Truth
        ('{{if ""}}a{{end}}{{if " "}}b{{end}}{{if 0.0}}c{{end}}{{if parseJSON "{}"}}d{{end}}',
         "b"),
        ("{{if loop 0}}channel{{end}}", "channel"),
        ("{{with node \"nosuch\"}}{{len .Services}}{{end}}", "0"),
        ("{{and 1 2 0 3}} {{or 0 \"\" 5 6}} {{not 1}} {{1 | and 0}} {{0 | or 7}}",
         "0 5 false 0 7"),
        ('{{or "x" (index (split "," "a") 5)}}', "x"),
        ('{{and "" (index (split "," "a") 5)}}', ""),
        # Comparison
        ("{{eq 1 2 3 1}} {{eq true true}} {{eq 1.5 1.5}} {{ne \"a\" \"b\"}}",
         "true true true true"),
        ('{{eq (parseInt "3") 3}} {{lt (parseUint "3") 4}}', "true true"),
        ('{{lt "a" "B"}} {{ge "b" "b"}} {{le 1.5 1.5}} {{gt 2 1}}',
         "false true true true"),
        ("{{eq nil nil}} {{eq (parseJSON \"{}\").x nil}} {{eq 1 nil}}", "true true false"),
        # Nil and missing
        ("{{.}} {{.a.b.c}} {{$.Key}}", "<no value> <no value> <no value>"),
        ('{{range service "web"}}{{.ServiceMeta.none}}|{{index .NodeMeta "x"}};{{end}}',
         "|;|;"),
        ('{{index (parseJSON "{\\"a\\":[1,{\\"b\\":7}]}") "a" 1 "b"}}', "7"),
        ('{{len (parseJSON "[]")}}{{len (parseJSON "{\\"a\\":1}")}}', "01"),
        ('{{slice "héllo" 0 3}} {{slice "abc" 1}} {{slice "abc"}} {{index "abc" 1}}',
         "hé bc abc 98"),
        ('{{$x := split "," "a,b,c"}}{{slice $x 1 2}} {{slice $x 1 2 3}}', "[b] [b]"),
        # Methods
        ('{{range service "web"}}{{if .Tags.Contains "v1"}}{{.ID}}{{end}}{{end}}', "web-1"),
        ('{{scratch.Set "a" 1}}{{scratch.SetX "a" 2}}{{scratch.Get "a"}}'
         '{{scratch.Key "a"}}{{scratch.Key "b"}}', "1truefalse"),
        ('{{scratch.MapSet "m" "b" 1}}{{scratch.MapSet "m" "a" 2}}'
         '{{scratch.MapSetX "m" "a" 3}}{{range scratch.MapValues "m"}}{{.}}{{end}}', "21"),
        ('{{3 | scratch.Set "a"}}{{scratch.Get "a"}}', "3"),
        ('{{html "<a b=\'c\'>"}} {{js "<\'="}} {{urlquery "a b/é"}}',
         "&lt;a b=&#39;c&#39;&gt; \\u003C\\'\\u003D a+b%2F%C3%A9"),
    ],
)  # fmt: skip
def test_renders(template: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(TemplateError):
            render(template)
    else:
        assert render(template) == text


@pytest.mark.parametrize(
    ("template", "line", "text"),
    [
        ("a\n{{", 2, "unclosed action"),
        ("\n{{if}}{{end}}", 2, "missing value for if"),
        ("{{range $a, $b, $c := .}}{{end}}", 1, "too many declarations"),
        ("{{$a, $b := 1}}", 1, "too many declarations"),
        ("{{break}}", 1, "outside {{range}}"),
        ("{{range .}}{{define \"a\"}}{{end}}{{end}}", 1, "unexpected {{define}}"),
        ("{{define \"a\"}}{{break}}{{end}}", 1, "outside"),
        ("\n\n{{else}}", 3, "unexpected {{else}}"),
        ("{{if 1}}{{else}}{{else}}{{end}}", 1, "{{else}}"),
        ("{{/* a }}", 1, "unclosed comment"),
        ("{{/* a */ x}}", 1, "comment ends before closing delimiter"),
        ('{{"a}}', 1, "unterminated quoted string"),
        ("{{`a}}", 1, "unterminated raw quoted string"),
        ("{{'a}}", 1, "unterminated character constant"),
        ("{{''}}", 1, "malformed character"),
        ("{{1a}}", 1, "bad number syntax"),
        ("{{0x}}", 1, "bad number syntax"),
        ("{{1__0}}", 1, "bad number syntax"),
        ("{{99999999999999999999}}", 1, "overflow"),
        ("{{(1}}", 1, "unclosed left paren"),
        ("{{1)}}", 1, "unexpected right paren"),
        ("{{1 | 2}}", 1, "non executable command in pipeline stage 2"),
        ("{{print 1 || print}}", 1, "unexpected '|' in command"),
        # What comes first is told first, at the line of the last token looked at
        ('{{nope}}{{"', 1, "not defined"),
        ("{{nope\n", 1, "not defined"),
        ("{{$x\n}}", 2, "undefined variable"),
        ("{{end\n}}", 2, "unexpected {{end}}"),
        ("{{break\n}}", 2, "outside {{range}}"),
        ("{{if 1}}{{else}}x{{else\n-}}{{end}}", 2, "found {{else}}"),
        ("{{- \n/* a", 2, "unexpected '/'"),
        ("{{-\n/* a", 2, "unclosed comment"),
        ('{{define ""}}a{{end}}b', 1, 'multiple definition of template ""'),
        ('{{template\n"nope"}}', 2, '"nope" not defined'),
        ("{{0x1.8}}", 1, "bad number syntax"),
        ("{{1e999}}", 1, "bad number syntax"),
        ('{{block"b" 3}}{{end}}', 1, "bad character U+0022"),
        ("{{..a}}", 1, "unexpected . after term"),
        ("{{indent (parseInt `2`) `x`}}", 1, "expected int; got int64"),
        ('{{explode (split "," "a")}}', 1, "expected []*dependency.KeyPair; got []string"),
        ('{{base64Decode "aGVsbG8"}}', 1, "illegal base64 data at input byte 4"),
        ('{{base64URLDecode "VsbG8_Pg=="}}', 1, "illegal base64 data at input byte 8"),
        ("{{print (print 1 |) | | }}", 1, "unexpected '|' in command"),
        ("{{template}}", 1, "template clause"),
        ("{{template 3}}", 1, "template clause"),
        ("{{\n\n$x}}", 3, "undefined variable"),
        ("{{$x = 1}}", 1, "undefined variable"),
        ("{{if true}}{{$x := 1}}{{end}}{{$x}}", 1, "undefined variable"),
        ("{{nope 1}}", 1, "not defined"),
        ('\n{{srevice "web"}}', 2, 'function "srevice" not defined (did you mean service?)'),
        ("{{true.x}}", 1, "unexpected . after term"),
        ("{{\"a\".x}}", 1, "unexpected . after term"),
        ("{{`a` b}}", 1, "not defined"),
        ("{{.a^}}", 1, "bad character"),
        ("{{print \"\\q\"}}", 1, "invalid syntax"),
        ("{{" + "(" * 100 + "1" + ")" * 100 + "}}", 1, "nested deeper"),
        ("{{if 1}}" * 100 + "{{end}}" * 100, 1, "nested deeper"),
        ("{{range .}}" * 30 + "{{end}}" * 30, 1, "nested deeper"),
        ('{{define "a"}}1{{end}}\n{{define "a"}}2{{end}}', 2, "multiple definition"),
        # While rendering
        ("{{loop 3}}", 1, "can't print"),
        ("a\n{{index (split \",\" \"a\") 3}}", 2, "index out of range: 3"),
        ("{{(print\n(index (split \",\" \"a\")\n3))}}", 2, "index out of range"),
        ("{{if 1}}\n{{else if 2}}\n{{end}}\n{{if 0}}{{else if (len 5)}}{{end}}", 4, "len of"),
        ("{{define \"d\"}}\n{{len 5}}{{end}}\n{{template \"d\"}}", 2, 'executing "d"'),
        ("{{index nil 1}}", 1, "index of untyped nil"),
        ('{{index (split "," "a") "x"}}', 1, "cannot index slice/array with type string"),
        ('{{index (parseJSON "{}") 1}}', 1, "value has type int; should be string"),
        ("{{slice 1 2}}", 1, "can't slice item of type int"),
        ('{{slice "abc" 2 1}}', 1, "invalid slice index"),
        ('{{slice "abc" 1 2 3}}', 1, "cannot 3-index slice a string"),
        ("{{call 1}}", 1, "non-function of type int"),
        ("{{toUpper 5}}", 1, "expected string; got int"),
        ("{{toUpper nil}}", 1, "expected string"),
        ("{{toUpper (parseJSON \"{}\").x}}", 1, "invalid value; expected string"),
        ("{{toUpper}}", 1, "wrong number of args for toUpper: want 1 got 0"),
        ('{{"a" | toUpper "b"}}', 1, "want 1 got 2"),
        ('{{indent "a" "b"}}', 1, "expected int; got string"),
        ("{{and}}", 1, "want at least 1 got 0"),
        ("{{ne 1 2 3}}", 1, "want 2 got 3"),
        ("{{eq 1}}", 1, "missing argument for comparison"),
        ("{{lt true false}}", 1, "invalid type for comparison"),
        ('{{eq (split "," "a") (split "," "a")}}', 1, "error calling eq"),
        ('{{range "abc"}}{{end}}', 1, "range can't iterate over abc"),
        ("{{range $i, $e := 2}}{{end}}", 1, "more than one variable"),
        ("{{range 1.5}}{{end}}", 1, "range can't iterate over 1.5"),
        ('{{range service "web"}}{{.id}}{{end}}', 1, "can't evaluate field id"),
        ('{{range service "web"}}{{.ID.X}}{{end}}', 1, "can't evaluate field X in type string"),
        ('{{range service "web"}}{{.ID 1}}{{end}}', 1, "cannot be invoked as function"),
        ('{{(parseJSON "{}").x 1}}', 1, "is not a method but has arguments"),
        ("{{$x := 1}}{{$x 2}}", 1, "can't give argument to non-function"),
        ('{{(node "nosuch").Node.Node}}', 1, "nil pointer evaluating"),
        ('{{define "r"}}{{template "r"}}{{end}}{{template "r"}}', 1, "maximum template depth"),
        ('{{define "r"}}{{executeTemplate "r"}}{{end}}{{template "r"}}', 1, "maximum"),
        ("{{range 10000000000}}{{end}}", 1, "turns of loops"),
        ('{{scratch.Set "a"}}', 1, "want 2 got 1"),
        ('{{scratch.Nope "a"}}', 1, "can't evaluate field Nope"),
        ('{{secret "a"}}', 1, "needs Vault"),
        ('{{nomadVar "a"}}', 1, "needs Nomad"),
        ("{{partitions}}", 1, "needs Consul Enterprise"),
        ("{{sprig_nope}}", 1, "not defined"),
    ],
)  # fmt: skip
def test_refuses(template: str, line: int, text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template)
    assert caught.value.line == line
    assert text in str(caught.value)


@pytest.mark.parametrize(("left", "right"), [("<%", "%>"), ("[[", "]]"), ("<<<", ">>")])
def test_delimiters(left: str, right: str) -> None:
    template = f'{{{{a}}}} {left}- "x" | toUpper -{right}  b{left}/* c */{right}'
    template = template.replace(f"{left}-", f"{left}- ").replace(
        f"-{right}", f" -{right}"
    )
    found = render(template, left_delimiter=left, right_delimiter=right)
    assert found == "{{a}}Xb"


def test_missing_keys_are_errors_when_told_so() -> None:
    for template in (
        '{{(parseJSON "{}").x}}',
        "{{.x}}",
        '{{with parseJSON "{\\"x\\":1}"}}{{.a.b}}{{end}}',
    ):
        render('{{with parseJSON "{}"}}{{.}}{{end}}', error_on_missing_key=True)
        with pytest.raises(TemplateError, match="entry for key"):
            render(template, error_on_missing_key=True)


def test_else_if_may_be_long() -> None:
    middle = "".join(f"{{{{else if eq $x {n}}}}}{n}" for n in range(90))
    assert render(f"{{{{$x := 77}}}}{{{{if eq $x 100}}}}{middle}{{{{end}}}}") == "77"


def test_deep_blocks_render() -> None:
    assert render("{{if 1}}" * 55 + "x" + "{{end}}" * 55) == "x"
    assert render("{{range loop 1}}" * 17 + "x" + "{{end}}" * 17) == "x"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('{{html nil 1 2 "a"}}', "&lt;no value&gt;1 2a"),
        ('{{js "a" nil}} {{urlquery .x}}', "a\\u003Cno value\\u003E %3Cno+value%3E"),
        ('{{html (index (tree "cfg/db") 0) 1}}', "{cfg/db/host host h1 0 7 0 0 } 1"),
        ('{{printf "%T %T" (index "abc" 0) (index (tree "cfg") 0).Flags}}', "uint8 uint64"),
        ("{{1i}} {{print 2.5i 1}} {{eq 1i 1.0i}} {{0x1p1i}}", "(0+1i) (0+2.5i) 1 true (0+2i)"),
        ('{{toJSON (parseJSON "[1e20,1.5e-6,0.1,87474724701161291776,-0.0]")}}',
         "[100000000000000000000,0.0000015,0.1,87474724701161290000,-0]"),
        # Channels have numbers of their items, too
        ("{{range $i, $e := loop 5 7}}{{$i}}={{$e}} {{end}}", "0=5 1=6 "),
        ("{{print scratch}}", "&{{{0 0} 0 0 0 0} map[]}"),
        # A pipeline may end with a bar; nil is an empty list, map or channel
        ("{{print 1 | }}{{if 0 |}}a{{end}}", "1"),
        ('{{join "," nil}}{{explode nil}} {{len (loop 3)}}', "map[] 0"),
        # A loop's variables have its list until there is a turn
        ('{{$y := 1}}{{range $y = split "," ""}}{{end}}{{$y}}', "[]"),
        ('{{range $i, $e := split "," ""}}a{{else}}{{$i}}{{$e}}{{end}}', "[][]"),
        ('{{range $p := tree "nope"}}a{{else}}{{$p}}{{end}}', "[]"),
        ('{{.x 1}} {{$.Key "a"}} {{1 | .x}}', "<no value> <no value> <no value>"),
        ('{{in 5 1}} {{contains 1 "a1"}} {{contains nil (parseJSON "[null]")}}'
         ' {{contains (split "," "a") (parseJSON "{}")}}', "false false false false"),
        ('{{subtract (parseUint "3") (parseUint "1")}}', "18446744073709551614"),
    ],
)  # fmt: skip
def test_prints(template: str, text: str) -> None:
    assert render(template) == text
