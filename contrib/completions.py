"""Write the completion files of the shells, from the commands' own flags.

``python contrib/completions.py`` writes ``contrib/completion/``; with ``--check``
it writes nothing and fails when a file is not current.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from pyconsul.cli.main import COMMANDS, GROUPS
from pyconsul.cli.overview import synopsis
from pyconsul.config.flag_help import TEXTS
from pyconsul.config.flags import AGENT_FLAGS, VALIDATE_FLAGS, Flag

FOLDER = Path(__file__).parent / "completion"
OWN = {
    "exec": "pyconsul_watch.exec",
    "lock": "pyconsul_watch.lock",
    "watch": "pyconsul_watch.cli",
}
"""The commands that come from a tool, and its module."""
HELP = ("help", False, "Show the help of the command.")
Flags = list[tuple[str, bool, str]]
"""Name, whether it takes a value, and what it is for."""


def flags_of(command: str) -> Flags:
    """Return the flags of a command."""
    if command in ("agent", "validate"):
        return [*_agent_flags(AGENT_FLAGS if command == "agent" else VALIDATE_FLAGS)]
    if command in OWN:
        return [*importlib.import_module(OWN[command]).declared().listed(), HELP]
    module, _, name = COMMANDS[command].partition(":")
    loaded = importlib.import_module(f"pyconsul.cli.{module}")
    return [*getattr(loaded, name).flags().listed(), HELP]


def _agent_flags(table: dict[str, Flag]) -> Flags:
    found = [
        (name, flag.kind not in ("bool", "option-bool"), TEXTS.get(name, ""))
        for name, flag in sorted(table.items())
    ]
    return [*found, HELP]


def words_below(group: str) -> list[str]:
    """Return the commands and groups directly below a group, "" for the top."""
    below = f"{group} " if group else ""
    depth = below.count(" ")
    return sorted(
        name
        for name in {*COMMANDS, *GROUPS}
        if name.startswith(below) and name.count(" ") == depth
    )


def first_sentence(text: str) -> str:
    """Return the beginning of a help text, without quotes of any shell."""
    plain = text.partition(". ")[0].rstrip(".")
    return "".join(char for char in plain if char not in "`'\"\\$[]:")


def bash() -> str:
    """Return the completion file of bash."""
    lines = [
        "# bash completion of pyconsul; made by contrib/completions.py",
        "_pyconsul() {",
        "    local cur=${COMP_WORDS[COMP_CWORD]} path= word i words= flags=",
        "    # The command: the longest run of words that name one.",
        "    for ((i = 1; i < COMP_CWORD; i++)); do",
        "        word=${COMP_WORDS[i]}",
        '        case "${path:+$path }$word" in',
        *_names("path"),
        "            *) [[ $word == -* && -n $path ]] || break ;;",
        "        esac",
        "    done",
        "    COMPREPLY=()",
        '    case "$path" in',
    ]
    for group in ["", *sorted(GROUPS)]:
        names = " ".join(name.split()[-1] for name in words_below(group))
        lines.append(f'        "{group}") words="{names}" ;;')
    for command in sorted(COMMANDS):
        names = " ".join(f"-{name}" for name, _, _ in flags_of(command))
        lines.append(f'        "{command}") flags="{names}" ;;')
    lines += [
        "    esac",
        "    if [[ -n $words ]]; then",
        '        COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        "    elif [[ $cur == -* ]]; then",
        '        COMPREPLY=($(compgen -W "$flags" -- "$cur"))',
        "    fi",
        "}",
        "complete -o default -F _pyconsul pyconsul",
    ]
    return "\n".join(lines) + "\n"


def _names(variable: str) -> list[str]:
    """Return the case of every command, which adds the word to the variable."""
    names = sorted({*COMMANDS, *GROUPS})
    joined = " | \\\n                ".join(f'"{name}"' for name in names)
    return [f"            {joined}) {variable}=${{{variable}:+${variable} }}$word ;;"]


def zsh() -> str:
    """Return the completion file of zsh."""
    lines = [
        "#compdef pyconsul",
        "# zsh completion of pyconsul; made by contrib/completions.py",
        "_pyconsul() {",
        "    local path_= word i",
        "    local -a found",
        "    # The command: the longest run of words that name one.",
        "    for ((i = 2; i < CURRENT; i++)); do",
        "        word=${words[i]}",
        '        case "${path_:+$path_ }$word" in',
        *_names("path_"),
        "            *) [[ $word == -* && -n $path_ ]] || break ;;",
        "        esac",
        "    done",
        '    case "$path_" in',
    ]
    for group in ["", *sorted(GROUPS)]:
        lines.append(f'        "{group}") found=(')
        lines += [
            f"            '{name.split()[-1]}:{first_sentence(synopsis(name))}'"
            for name in words_below(group)
        ]
        lines.append("        ); _describe command found; return ;;")
    for command in sorted(COMMANDS):
        lines.append(f'        "{command}") found=(')
        lines += [
            f"            '-{name}:{first_sentence(text)}'"
            for name, _, text in flags_of(command)
        ]
        lines.append("        ) ;;")
    lines += [
        "    esac",
        "    if [[ ${words[CURRENT]} == -* ]]; then",
        "        _describe -o option found",
        "    else",
        "        _files",
        "    fi",
        "}",
        '_pyconsul "$@"',
    ]
    return "\n".join(lines) + "\n"


def fish() -> str:
    """Return the completion file of fish."""
    names = " ".join(f"'{name}'" for name in sorted({*COMMANDS, *GROUPS}))
    lines = [
        "# fish completion of pyconsul; made by contrib/completions.py",
        "function __pyconsul_at --description 'The command being typed is this one'",
        f"    set -l names {names}",
        "    set -l path",
        "    for word in (commandline -opc)[2..-1]",
        "        if contains -- (string join -- ' ' $path $word) $names",
        "            set path $path $word",
        "        else if not string match -q -- '-*' $word; or test -z \"$path\"",
        "            break",
        "        end",
        "    end",
        '    test "$path" = "$argv[1]"',
        "end",
    ]
    for group in ["", *sorted(GROUPS)]:
        lines += [
            f"complete -c pyconsul -n '__pyconsul_at \"{group}\"' -f "
            f"-a {name.split()[-1]} -d '{first_sentence(synopsis(name))}'"
            for name in words_below(group)
        ]
    for command in sorted(COMMANDS):
        lines += [
            f"complete -c pyconsul -n '__pyconsul_at \"{command}\"' "
            f"-o {name}{' -r' if value else ''} -d '{first_sentence(text)}'"
            for name, value, text in flags_of(command)
        ]
    return "\n".join(lines) + "\n"


FILES = {"pyconsul.bash": bash, "_pyconsul": zsh, "pyconsul.fish": fish}


def main(words: list[str]) -> int:
    """Write the files, or check them; 1 when one is not current."""
    stale = [
        name
        for name, make in FILES.items()
        if not (FOLDER / name).is_file()
        or (FOLDER / name).read_text(encoding="utf-8") != make()
    ]
    if "--check" in words:
        for name in stale:
            print(f"contrib/completion/{name} is not current", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (FOLDER / name).write_text(FILES[name](), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
