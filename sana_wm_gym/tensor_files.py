"""Safetensors files with a JSON header and a SHA-256 of all that they hold.

The digest covers the header without it and the tensors in the order of their names. A file that
another program wrote has none, and is read without.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, BinaryIO, Literal

from safetensors import SafetensorError, safe_open

from sana_wm_gym.files import atomic_path, parse_json, require_file

Framework = Literal["torch", "numpy"]
Path_ = str | os.PathLike[str]

_HEADER, _DIGEST = "sana_wm_gym", "sha256"
_LARGEST_HEADER = 2**24  # bytes


def write_tensors(
    path: Path_,
    kind: str,
    tensors: Mapping[str, Any],
    header: Mapping[str, Any] | None = None,
    framework: Framework = "torch",
) -> None:
    """Write tensors, or NumPy arrays, in one step.

    Args:
        path: File to write; replaced if it exists.
        kind: What the file is, such as "sana_wm_gym/prompt/1".
        tensors: By name; in C order, each with memory of its own.
        header: JSON values to keep with them.
        framework: Of the tensors.

    Raises:
        OSError: It cannot be written; names the file.
    """
    text = json.dumps({"format": kind, **(header or {})})
    facts = {_HEADER: text, _DIGEST: "0" * 64}
    save = import_module(f"safetensors.{framework}").save_file
    with atomic_path(path) as partial:
        try:
            save(dict(tensors), partial, facts)
        except SafetensorError as error:  # its name for a full disk
            raise OSError(f"{path} was not written: {error}") from error
        with partial.open("r+b") as stream:
            # Now with the digest, and in one order: safetensors writes metadata in any.
            final = json.dumps(facts | {_DIGEST: _digest(stream)}, separators=(",", ":")).encode()
            stream.seek(8 + len('{"__metadata__":'))
            assert json.loads(stream.read(len(final))) == facts
            stream.seek(-len(final), os.SEEK_CUR)
            stream.write(final)


def read_header(path: Path_, kind: str | None = None) -> dict[str, Any]:
    """The header of a file whose digest, if it has one, is right; tensors are hashed, not kept.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or not of this kind.
    """
    path = require_file(path, f"a file of format {kind or 'safetensors'}")
    with path.open("rb") as stream:
        size = _size(stream)
        if size > _LARGEST_HEADER:
            raise damaged(path, f"its header has {size} bytes, at most {_LARGEST_HEADER} expected")
        try:
            with safe_open(path, framework="numpy") as file:
                facts = file.metadata() or {}
        except SafetensorError as error:
            raise damaged(path, error) from error
        if (digest := facts.pop(_DIGEST, None)) is not None and digest != _digest(stream):
            raise ValueError(f"{path} is damaged: its SHA-256 does not match its contents")
    header = parse_json(facts.pop(_HEADER, "{}"), f"{path}: the header")
    if kind is not None and (facts or header.get("format") != kind):
        more = f" and metadata {sorted(facts)}" if facts else ""
        raise ValueError(f"{path} has format {header.get('format')!r}{more}, expected {kind!r}")
    return header


def read_tensors(
    path: Path_, kind: str, framework: Framework = "torch"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and tensors of a file that `write_tensors` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or not of this kind.
    """
    header = read_header(path, kind)
    load = import_module(f"safetensors.{framework}").load_file
    try:
        return header, load(path)
    except (KeyError, SafetensorError, TypeError) as error:  # NumPy lacks some types
        raise damaged(path, error) from error


def damaged(path: Path_, error: Exception | str) -> ValueError:
    """What a library raised about a file, in one line."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ValueError(f"{path} is truncated, damaged or of another format: {reason}")


def write_values(path: Path_, kind: str, values: Mapping[str, Any]) -> None:
    """Write torch tensors, numbers, strings, and lists, tuples and dicts of them, in one step.

    Axes of a tensor keep their order in memory, and what is one tensor stays one.

    Raises:
        TypeError: A value is none of those.
        OSError: It cannot be written; names the file.
    """
    tensors: dict[str, Any] = {}
    write_tensors(path, kind, tensors, {"values": _flat(values, "", tensors, {})})


def read_values(path: Path_, kind: str) -> dict[str, Any]:
    """Inverse of `write_values`; errors as of `read_tensors`."""
    header, tensors = read_tensors(path, kind)
    # Clones have memory of their own, not the file's, which products round differently at times.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    try:
        values = _nested(header.get("values"), tensors)
        if not isinstance(values, dict):
            raise ValueError(f"a {type(values).__name__}, expected a dict")
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} does not hold values of {kind!r}: {error}") from error
    return values


def _flat(value: Any, name: str, tensors: dict[str, Any], names: dict[Any, str]) -> Any:
    """JSON values that stand for a value; its tensors go to `tensors`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        parts = [[k, _flat(part, f"{name}.{k}", tensors, names)] for k, part in value.items()]
        return {"dict": parts}
    if isinstance(value, list | tuple):
        parts = [_flat(part, f"{name}.{i}", tensors, names) for i, part in enumerate(value)]
        return {"tuple": parts} if isinstance(value, tuple) else parts
    if not hasattr(value, "untyped_storage"):
        raise TypeError(f"{name.lstrip('.')} is a {type(value).__name__}, which no file holds")
    key = value.data_ptr(), value.dtype, value.shape, value.stride()
    order = sorted(range(value.ndim), key=lambda axis: -value.stride(axis))
    if key not in names:
        names[key] = f"{len(tensors)}{name}"
        kept = value.detach().cpu().permute(order).contiguous()
        alone = kept.untyped_storage().nbytes() == kept.nbytes
        tensors[names[key]] = kept if alone else kept.clone()
    return {"tensor": [names[key], order]}


def _nested(document: Any, tensors: Mapping[str, Any]) -> Any:
    """Inverse of `_flat`."""
    match document:
        case None | bool() | int() | float() | str():
            return document
        case list(parts):
            return [_nested(part, tensors) for part in parts]
        case {"tuple": list(parts)}:
            return tuple(_nested(part, tensors) for part in parts)
        case {"dict": list(parts)} if all(
            isinstance(part, list) and len(part) == 2 and isinstance(part[0], str | int)
            for part in parts
        ):
            return {key: _nested(part, tensors) for key, part in parts}
        case {"tensor": [str(name), list(order)]} if name in tensors:
            axes = range(tensors[name].ndim)
            if len(order) == len(axes) and all(axis in order for axis in axes):
                return tensors[name].permute([order.index(axis) for axis in axes])
    raise ValueError(f"unknown value {str(document)[:60]}")


def _size(stream: BinaryIO) -> int:
    """Bytes of the header."""
    stream.seek(0)
    return int.from_bytes(stream.read(8), "little")


def _digest(stream: BinaryIO) -> str:
    """SHA-256 of a safetensors file, without the digest in it."""
    begin = 8 + (size := _size(stream))
    header = json.loads(stream.read(size))
    facts = header.pop("__metadata__")
    del facts[_DIGEST]
    kinds = {name: [part["dtype"], part["shape"]] for name, part in header.items()}
    digest = hashlib.sha256(json.dumps([facts, kinds], sort_keys=True).encode())
    for name in sorted(header):
        at, end = (begin + offset for offset in header[name]["data_offsets"])
        stream.seek(at)
        while at < end:
            part = stream.read(min(end - at, 2**20))
            digest.update(part)
            at += len(part)
    return digest.hexdigest()
