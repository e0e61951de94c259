"""JSON files of a run."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.run.runtime import writing


def write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
        os.replace(partial, path)


def read_json(path: pathlib.Path, required: Sequence[str], cure: str) -> dict[str, Any] | None:
    """A JSON file's object, None if there is none; a `ValueError` with the cure if it is damaged or lacks objects."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {cure}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in required):
        raise ValueError(f"{path} is damaged (it lacks {', '.join(required) or 'an object'}); {cure}")
    return content
