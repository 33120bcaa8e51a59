"""Go's flag grammar, options from flags and environment, settings files."""

import pytest

from pyconsul_client import goflags, options, settings
from pyconsul_client.errors import (
    FlagError,
    HelpRequested,
    OptionsError,
    SettingsError,
)


def flags():
    made = goflags.FlagSet()
    made.string("sep", "/", "Separator of keys.")
    made.strings("tag")
    made.boolean("recurse")
    made.integer("n")
    made.integer("flags", unsigned=True)
    made.duration("wait", 1.0)
    made.pairs("meta")
    return made


def parsed(*argv):
    made = flags()
    made.parse(argv)
    return made


def test_forms_of_flags():
    got = parsed(
        "-sep=a=b", "--tag", "x", "-tag=y", "-recurse", "-n", "-3", "--wait=1m30s",
        "-meta", "a=b=c", "key", "-sep", "z",
    )  # fmt: skip
    assert got.text("sep") == "a=b"
    assert got.many("tag") == ["x", "y"]
    assert got.switch("recurse")
    assert got.number("n") == -3
    assert got.seconds("wait") == 90.0
    assert got.mapping("meta") == {"a": "b=c"}
    assert got.operands == ["key", "-sep", "z"]
    assert got.given == {"sep", "tag", "recurse", "n", "wait", "meta"}


def test_booleans_take_values_only_with_equals():
    assert parsed("-recurse", "true").operands == ["true"]
    assert parsed("-recurse=F", "-").operands == ["-"]
    assert not parsed("-recurse=0").switch("recurse")
    assert parsed("-n=0x10", "--", "-n").operands == ["-n"]
    assert parsed("-n=010").number("n") == 8


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("-bogus", "flag provided but not defined: -bogus"),
        ("-bogus=1", "flag provided but not defined: -bogus"),
        (
            "-recurse=maybe",
            'invalid boolean value "maybe" for -recurse: parse error',
        ),
        ("-n", "flag needs an argument: -n"),
        ("--n", "flag needs an argument: -n"),
        ("-n=x", 'invalid value "x" for flag -n: parse error'),
        ("-flags=-1", 'invalid value "-1" for flag -flags: parse error'),
        ("-flags=+1", 'invalid value "+1" for flag -flags: parse error'),
        ('-flags=a"\\', 'invalid value "a\\"\\\\" for flag -flags: parse error'),
        ("-wait=3000000h", 'invalid value "3000000h" for flag -wait: parse error'),
        ("-wait=10", 'invalid value "10" for flag -wait: parse error'),
        ("---x", "bad flag syntax: ---x"),
        ("-=x", "bad flag syntax: -=x"),
        (
            "-meta=q",
            'invalid value "q" for flag -meta: Missing "=" value in argument: q',
        ),
    ],
)
def test_messages(word, text):
    with pytest.raises(FlagError) as caught:
        parsed(word)
    assert str(caught.value) == text


def test_help_is_seen_anywhere_before_the_double_dash():
    with pytest.raises(HelpRequested):
        parsed("ls", "-h")
    assert parsed("--", "ls", "-h").operands == ["ls", "-h"]
    text = flags().help("Usage: x")
    assert text.startswith("Usage: x\n\nCommand Options\n\n  -flags=<uint>")
    assert "  -sep=<value>\n     Separator of keys.\n" in text
    assert "  -recurse\n" in text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h30m", 5400), ("300ms", 0.3), ("1.5h", 5400), ("0", 0), ("-2s", -2)],
)
def test_durations(text, seconds):
    assert goflags.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "1x", "s", ".s", "1.2.3s", "1 s"])
def test_bad_durations(text):
    with pytest.raises(ValueError, match="time: "):
        goflags.parse_duration(text)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:8500", "http://127.0.0.1:8500"),
        ("https://c.example:8501/", "https://c.example:8501"),
        ("http://c.example/consul/", "http://c.example:80/consul"),
        ("[::1]:8500", "http://[::1]:8500"),
        ("unix:///run/c.sock", "http://localhost"),
    ],
)
def test_addresses(address, url):
    assert options.resolve({"CONSUL_HTTP_ADDR": address}).url == url


def test_environment_and_flags(tmp_path):
    env = {
        "CONSUL_HTTP_TOKEN": "env",
        "CONSUL_HTTP_SSL": "true",
        "CONSUL_HTTP_SSL_VERIFY": "false",
        "CONSUL_HTTP_AUTH": "u:p",
    }
    got = options.resolve(env)
    assert got.url == "https://127.0.0.1:8500"
    assert not got.verify
    assert got.headers() == {"X-Consul-Token": "env", "Authorization": "Basic dTpw"}
    assert options.resolve(env, token="flag").token == "flag"
    file = tmp_path / "token"
    file.write_text(" filed\n")
    got = options.resolve(env, token="flag", token_file=str(file))
    assert got.token == "filed"
    assert "filed" not in repr(got)


def test_bad_options(tmp_path, capsys):
    with pytest.raises(OptionsError, match="Unknown protocol scheme: ftp"):
        options.resolve({}, address="ftp://x")
    with pytest.raises(OptionsError, match="invalid port"):
        options.resolve({}, address="x:99999")
    with pytest.raises(OptionsError, match="no such file or directory"):
        options.resolve({}, token_file=str(tmp_path / "none"))
    with pytest.raises(OptionsError, match="cannot carry"):
        options.resolve({}, token="a\r\nX: y")
    assert not options.resolve({"CONSUL_HTTP_SSL": "perhaps"}).tls
    assert "could not parse CONSUL_HTTP_SSL" in capsys.readouterr().err


def test_settings_name_file_and_field(tmp_path):
    import msgspec

    class Inner(msgspec.Struct, forbid_unknown_fields=True):
        wait: str = ""

    class Outer(msgspec.Struct, forbid_unknown_fields=True):
        name: str
        items: list[Inner] = []

    path = tmp_path / "s.json"

    def failure(text):
        path.write_text(text)
        with pytest.raises(SettingsError) as caught:
            settings.load(path, Outer)
        return str(caught.value).removeprefix(str(path))

    path.write_text('{"name": "a", "items": [{"wait": "1m"}]}')
    assert settings.load(path, Outer).items[0].wait == "1m"
    assert failure('{"name": 3}') == ": name: expected `str`, got `int`"
    assert failure("{}") == ": name: is missing"
    assert failure('{"name": "", "x": 1}') == ": x: unknown field"
    assert failure('{"name": "", "items": [{"y": 1}]}') == (
        ": items[0].y: unknown field"
    )
    assert failure('{\n "name": oops}').startswith(":2:")
    with pytest.raises(SettingsError, match="no such file"):
        settings.load(tmp_path / "none", Outer)
    assert settings.seconds("1m", "wait") == 60.0
    with pytest.raises(SettingsError, match="wait: time: missing unit"):
        settings.seconds("5", "wait")


def test_some_flags_say_why_a_value_is_none():
    made = goflags.FlagSet()
    made.boolean("stale", explained=True)
    made.integer("n", unsigned=True, explained=True)
    made.duration("wait", explained=True)
    for argument, reason in (
        ("-stale=x", 'boolean value "x" for -stale: strconv.ParseBool: parsing "x": '),
        ("-n=x", 'value "x" for flag -n: strconv.ParseUint: parsing "x": '),
        ("-wait=x", 'value "x" for flag -wait: time: invalid duration "x"'),
    ):
        with pytest.raises(FlagError) as caught:
            made.parse([argument])
        assert str(caught.value).startswith(f"invalid {reason}")


def test_a_word_in_back_quotes_names_the_value():
    made = goflags.FlagSet()
    options.add_client_flags(made)
    assert "  -http-addr=<address>\n" in made.help("Usage: x")


PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----"


def test_a_folder_of_authorities_needs_no_special_names(tmp_path):
    (tmp_path / "b.pem").write_text(f"about b\n{PEM.format('YQ==')}\n")
    (tmp_path / "a.crt").write_text(f"{PEM.format('Yg==')}\n{PEM.format('Yw==')}")
    (tmp_path / "key.pem").write_bytes(b"\xff -----BEGIN PRIVATE KEY-----")
    (tmp_path / "below").mkdir()
    expected = [PEM.format(text) for text in ("Yg==", "Yw==", "YQ==")]
    assert options.authorities(str(tmp_path)) == "\n".join(expected)
    with pytest.raises(OSError, match="no certificates in"):
        options.authorities(str(tmp_path / "below"))
    made = options.resolve({"CONSUL_CAPATH": str(tmp_path / "nowhere")})
    with pytest.raises(OptionsError, match=r"^lstat .*: no such file or directory$"):
        made.ssl_context()
