"""Take a lab's secrets out of a text that is to be shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from urllib.parse import quote

from .settings import Lab

REDACTED = "[redacted]"


def secrets(lab: Lab) -> dict[str, str]:
    """Return every secret that this lab has on this machine, by name; makes none."""
    found = {path.name: path.read_text().strip()
             for path in sorted((lab.home / "secrets").glob("*")) if path.is_file()}
    for path in sorted(lab.home.glob("id_*")):
        if path.suffix != ".pub" and path.is_file():
            # any line of the key's body gives it away
            lines = [line for line in path.read_text().splitlines() if "-----" not in line]
            found |= {f"{path.name} line {n}": line for n, line in enumerate(lines[1:], 2)}
    return {name: value for name, value in found.items() if len(value) >= 8}


def redact(text: str, secrets: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return `text` without the secrets, plain, URL-quoted or in base64, and their names."""
    names = []
    for name, value in secrets.items():
        for form in _forms(value):
            if form in text:
                text = text.replace(form, REDACTED)
                names.append(name)
    return text, list(dict.fromkeys(names))


def _forms(value: str) -> set[str]:
    """Return how a secret may be written, also as part of a longer text in base64."""
    forms = {value, quote(value, safe=""), json.dumps(value)[1:-1],
             value.replace("+", "&#43;").replace("=", "&#61;").replace("/", "&#47;")}
    for shift in range(3):
        # The first and last characters also depend on what stands beside it: leave them out.
        encoded = base64.b64encode(b"\0" * shift + value.encode()).decode().rstrip("=")
        forms.add(encoded[shift + (shift > 0):-1])
    return forms
