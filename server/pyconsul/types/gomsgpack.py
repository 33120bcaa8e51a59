"""Go's msgpack dialect: the one module that knows it.

Consul writes the old specification of msgpack: text and bytes are both "raw"
(no ``bin``, no ``str8``), structures are maps with sorted keys, nil stands for
nil slices, maps and pointers. Text need not be UTF-8; bytes that are not are
kept through ``surrogateescape``, so that any raw survives a round trip.

A structure's fields come from the records themselves (wire names, defaults);
``_EXTRA`` adds what Go writes and our records leave out.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgpack as _untyped  # pyright: ignore[reportMissingTypeStubs]
import msgspec

from pyconsul.types.config_entries import Field
from pyconsul.types.errors import BadRequestError
from pyconsul.types.gotime import Time, read_time, write_time
from pyconsul.types.messages import RegisterRequest, TxnOp
from pyconsul.types.proxies import (
    CONNECT,
    PROXY,
    BlockError,
    checked,
    complete_block,
    reduce_block,
)
from pyconsul.types.records import HealthCheckDefinition, NodeService, Session

msgpack: Any = _untyped  # it has no type stubs

T = TypeVar("T", bound=msgspec.Struct)
Plain = dict[str, Any]
_Convert = Callable[[Any], Any]

ZERO_PROXY: Plain = complete_block(PROXY, {})
ZERO_CONNECT: Plain = complete_block(CONNECT, {})

# What Go writes and our records do not hold.
_EXTRA: dict[type, Plain] = {
    RegisterRequest: {"CreateIndex": 0, "ModifyIndex": 0},
    TxnOp: {"Intention": None},
    Session: {"Checks": None},
}
# Structures that Go holds by value, and we as a map or ``None``.
_BLOCKS: dict[tuple[type, str], tuple[tuple[Field, ...], Plain]] = {
    (NodeService, "Proxy"): (PROXY, ZERO_PROXY),
    (NodeService, "Connect"): (CONNECT, ZERO_CONNECT),
}
_UNSIGNED = frozenset(
    (
        "ChoiceCount",
        "CreateIndex",
        "Flags",
        "Index",
        "LTime",
        "LastIndex",
        "LastTerm",
        "LockIndex",
        "MaxTrailingLogs",
        "MaximumRingSize",
        "MinQueryIndex",
        "MinQuorum",
        "MinimumRingSize",
        "ModifyIndex",
        "NumRetries",
        "OutputMaxSize",
        "PrimaryModifyIndex",
        "ReapIndex",
        "RelayFactor",
        "SerialNumber",
    )
)
"""Fields that Go holds unsigned; all other integers are signed."""


class MsgpackError(BadRequestError):
    """The bytes are not msgpack, or not of the wanted structure."""


_PREFIX = "msgpack decode error: "


def pack(value: Any, *, single_floats: bool = False) -> bytes:
    """Encode plain values (dicts keep their order); ``bytes`` become raw."""
    return cast(
        bytes,
        msgpack.packb(
            value,
            use_bin_type=False,
            unicode_errors="surrogateescape",
            use_single_float=single_floats,
        ),
    )


def unpack(data: bytes | memoryview) -> Any:
    """Decode one value; raws become ``str``. Raises ``MsgpackError``."""
    try:
        return _unpackb(
            data, raw=False, unicode_errors="surrogateescape", strict_map_key=False
        )
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise MsgpackError(f"msgpack decode error: {error}") from error


_unpackb: Callable[..., Any] = msgpack.unpackb


def unpack_stream(chunks: Iterable[bytes], limit: int) -> Iterator[Any]:
    """Yield the values of concatenated msgpack; ``limit`` bounds one value.

    Raises ``MsgpackError`` for malformed input, and for input that ends inside
    a value.
    """
    unpacker = msgpack.Unpacker(
        raw=False,
        unicode_errors="surrogateescape",
        strict_map_key=False,
        max_buffer_size=limit,
    )
    fed = 0
    try:
        for chunk in chunks:
            # Small feeds: the limit is on a value, not on the caller's slices.
            for start in range(0, len(chunk), 1 << 16):
                piece = chunk[start : start + (1 << 16)]
                fed += len(piece)
                unpacker.feed(piece)
                yield from cast(Iterator[Any], unpacker)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise MsgpackError(f"msgpack decode error: {error}") from error
    if unpacker.tell() != fed:
        raise MsgpackError("msgpack decode error: unexpected end of data")


def raw_bytes(text: str | bytes | None) -> bytes:
    """Return a raw's bytes as they stood on the wire."""
    if text is None:
        return b""
    if isinstance(text, bytes):
        return text
    return text.encode("utf-8", "surrogateescape")


def encode(value: msgspec.Struct) -> bytes:
    """Encode a record or request as Go would."""
    return pack(to_plain(value))


def decode(data: bytes | memoryview, kind: type[T]) -> T:
    """Decode a structure; unknown keys are ignored, missing ones are zero."""
    return from_plain(unpack(data), kind)


def to_plain(value: msgspec.Struct) -> Plain:
    """Return the map Go writes: wire names, sorted."""
    return _writer(type(value))(value)


def from_plain(plain: Any, kind: type[T]) -> T:
    """Build a structure from an unpacked map; raises ``MsgpackError``."""
    return cast(T, _reader(kind)(plain))


_writers: dict[type, Callable[[Any], Plain]] = {}
_readers: dict[type, _Convert] = {}


def _writer(kind: type) -> Callable[[Any], Plain]:
    found = _writers.get(kind)
    if found is None:
        found = _writers[kind] = _make_writer(kind)
    return found


def _make_writer(kind: type) -> Callable[[Any], Plain]:
    extra = _EXTRA.get(kind, {})
    fields: list[tuple[str, str | None, Any]] = [
        (name, None, value) for name, value in extra.items()
    ]
    slices: set[str] = set()  # those of ours that are never None
    for field in msgspec.structs.fields(kind):
        if field.encode_name == "PassingOnly":
            continue  # ours, not on the wire
        if field.default_factory is not msgspec.NODEFAULT:
            slices.add(field.encode_name)
        block = _BLOCKS.get((kind, field.encode_name))
        fields.append((field.encode_name, field.name, block))
    fields.sort(key=lambda field: field[0])

    def write(value: Any) -> Plain:
        plain: Plain = {}
        for wire, name, block in fields:
            if name is None:
                plain[wire] = block
                continue
            held = getattr(value, name)
            if block is not None:
                held = complete_block(block[0], held) if held else block[1]
            elif held is None:
                pass
            elif not held and wire in slices:
                held = None
            elif held.__class__ not in _SCALARS:
                held = _plain(held)
            plain[wire] = held
        return plain

    times = _times(kind)
    if not times:
        return write

    def write_with_times(value: Any) -> Plain:
        plain = write(value)
        for wire in times:
            if plain[wire] is not None:
                plain[wire] = write_time(plain[wire])
        return plain

    return write_with_times


def _times(kind: type) -> list[str]:
    """Return the wire names of the fields that are times."""
    hints = get_type_hints(kind)
    return [
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if hints[field.name] is Time or Time in get_args(hints[field.name])
    ]


_INT_MAX = (1 << 63) - 1
_SCALARS = frozenset({str, int, bool, float})


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return to_plain(value)
    if isinstance(value, list):
        return [_plain(item) for item in cast(list[Any], value)]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast(Plain, value).items()}
    if value == b"":
        return None  # Go holds no bytes as a nil slice
    return value


def _reader(kind: type) -> _Convert:
    found = _readers.get(kind)
    if found is None:
        found = _readers[kind] = _make_reader(kind)
    return found


def _make_reader(kind: type) -> _Convert:
    hints = get_type_hints(kind)
    fields: list[tuple[str, str, _Convert]] = []
    for field in msgspec.structs.fields(kind):
        wire = field.encode_name
        block = _BLOCKS.get((kind, wire))
        if block is not None:
            convert = _block(*block, wire)
        elif hints[field.name] is int and wire in _UNSIGNED:
            convert = _unsigned
        else:
            convert = _converter(hints[field.name])
        fields.append((wire, field.name, convert))
    session = kind is Session

    def read(plain: Any) -> Any:
        if not isinstance(plain, dict):
            raise MsgpackError(f"msgpack decode error: {kind.__name__} is no map")
        values: dict[str, Any] = {}
        get = cast(Plain, plain).get
        for wire, name, convert in fields:
            value = get(wire)
            if value is not None:
                try:
                    values[name] = convert(value)
                except MsgpackError as error:
                    raise _within(kind, wire, error) from None
        if session and "node_checks" not in values and get("Checks") is not None:
            values["node_checks"] = _text_list(get("Checks"))  # the old form
        return kind(**values)

    if kind is HealthCheckDefinition:
        # Nearly all definitions are empty, and have many fields.
        empty = HealthCheckDefinition()
        zero = to_plain(empty)
        return lambda plain: empty if plain == zero else read(plain)
    return read


def _within(kind: type, wire: str, error: MsgpackError) -> MsgpackError:
    """Return the error with the field's name in front, innermost last."""
    what = str(error).removeprefix(_PREFIX)
    return MsgpackError(f"{_PREFIX}{kind.__name__}.{wire}: {what}")


def _block(fields: tuple[Field, ...], zero: Plain, wire: str) -> _Convert:
    def convert(value: Any) -> Plain | None:
        if value == zero:
            return None
        try:
            return reduce_block(fields, value, wire) or None
        except BlockError as error:
            raise MsgpackError(f"{_PREFIX}{error}") from None

    return convert


def _expect(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise MsgpackError(
            f"msgpack decode error: {type(value).__name__} for {kind.__name__}"
        )
    return value


def _integer(value: Any) -> int:
    if value.__class__ is not int:
        raise MsgpackError(f"msgpack decode error: {type(value).__name__} for int")
    if value > _INT_MAX:
        raise MsgpackError(f"msgpack decode error: {value} overflows int")
    return cast(int, value)


def _unsigned(value: Any) -> int:
    if value.__class__ is not int:
        raise MsgpackError(f"msgpack decode error: {type(value).__name__} for uint")
    if value < 0:
        raise MsgpackError(f"msgpack decode error: {value} for uint")
    return cast(int, value)


def _text(value: Any) -> str:
    return cast(str, _expect(str, value))


def _text_list(value: Any) -> list[str]:
    return [_text(item) for item in _expect(list, value)]


def _number(value: Any) -> float:
    if value.__class__ is int or value.__class__ is float:
        return float(value)
    raise MsgpackError(f"msgpack decode error: {type(value).__name__} for float")


def _boolean(value: Any) -> bool:
    return cast(bool, _expect(bool, value))


def _bytes(value: Any) -> bytes:
    return raw_bytes(value if isinstance(value, bytes) else _text(value))


def _time(value: Any) -> Time:
    try:
        return read_time(_bytes(value))
    except ValueError as error:
        raise MsgpackError(f"{_PREFIX}{error}") from None


def _free_form(value: Any) -> Plain:
    """Return a map of anything that JSON can show, in its order."""
    try:
        checked(_expect(dict, value), "map")
    except BlockError as error:
        raise MsgpackError(f"{_PREFIX}{error}") from None
    return value


def _same(value: Any) -> Any:
    return value


_BASIC: dict[Any, _Convert] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _boolean,
    bytes: _bytes,
    Time: _time,
    Any: _same,
}


def _converter(hint: Any) -> _Convert:
    basic = _BASIC.get(hint)
    if basic is not None:
        return basic
    origin = get_origin(hint)
    arguments = get_args(hint)
    if origin in (Union, types.UnionType):
        return _converter(next(a for a in arguments if a is not type(None)))
    if origin is list:
        item = _converter(arguments[0])
        return lambda value: [item(v) for v in _expect(list, value) if v is not None]
    if origin is dict:
        if arguments[1] is Any:
            return _free_form
        part = _converter(arguments[1])
        return lambda value: {
            _text(k): part(v) for k, v in _expect(dict, value).items()
        }
    return _reader(hint)
