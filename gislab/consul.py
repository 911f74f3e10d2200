"""Consul's key-value store and its tokens, over HTTP at the Pis' own addresses. Knows no Pi.

Any server answers for all (developer.hashicorp.com/consul/api-docs): the first one that does is
asked, so that a dark Pi costs one second, once. Works with 1.8 (Debian's) and later.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import httpx

from .settings import Lab

LARGEST = 500_000  # bytes in one value; Consul takes 512 KiB
PORT = 8500


class ConsulError(RuntimeError):
    """Consul cannot be asked, or refuses; the text says what to do."""


@dataclass(frozen=True)
class Entry:
    """One key and what it holds; `index` is what check-and-set compares."""

    key: str
    value: bytes
    index: int

    @property
    def text(self) -> str:
        return self.value.decode(errors="replace")


class Consul:
    """The store, asked with one token; use it in `with`.

    Every verb waits at most 10 s for a server, 1 s for one that is dark, and raises ConsulError:
    none answers, or this token may not do that.
    """

    def __init__(self, urls: Iterable[str], token: str):
        self.urls = list(urls)
        self._http = httpx.Client(headers={"X-Consul-Token": token},
                                  timeout=httpx.Timeout(10, connect=1))

    def __enter__(self) -> Consul:
        return self

    def __exit__(self, *_) -> None:
        self._http.close()

    def get(self, key: str) -> Entry | None:
        """Return the entry of `key`, or None."""
        return next(iter(self._entries(f"kv/{quote(key)}")), None)

    def list(self, prefix: str) -> list[Entry]:
        """Return all entries whose keys begin with `prefix`, in the order of their keys."""
        return self._entries(f"kv/{quote(prefix)}?recurse=true")

    def keys(self, prefix: str) -> list[str]:
        """Return all keys that begin with `prefix`."""
        answer = self.ask("GET", f"kv/{quote(prefix)}?keys=true", fine=(200, 404))
        return answer.json() if answer.status_code == 200 else []

    def put(self, key: str, value: bytes) -> None:
        """Set a key, whatever it held; at most LARGEST bytes."""
        self._said_true(self.ask("PUT", f"kv/{quote(key)}", content=value), f"to write {key}")

    def delete(self, key: str) -> None:
        """Remove a key; a key that ends with / takes all below it along."""
        path = f"kv/{quote(key)}" + ("?recurse=true" if key.endswith("/") else "")
        self._said_true(self.ask("DELETE", path), f"to remove {key}")

    def commit(self, *steps: dict) -> bool:
        """Take all steps in one transaction; False if one of them no longer fits.

        Parameters
        ----------
        steps : at most 64 of them, made by `written` and `there`.
        """
        answer = self.ask("PUT", "txn", json=[{"KV": step} for step in steps], fine=(200, 409))
        return answer.status_code == 200

    def ask(self, method: str, path: str, *, fine: tuple[int, ...] = (200,),
            **how) -> httpx.Response:
        """Ask the first server that answers.

        Raises
        ------
        ConsulError : none answers, or the answer's status is not one of `fine`.
        """
        said = ""
        for url in list(self.urls):
            try:
                answer = self._http.request(method, f"{url}/v1/{path}", **how)
            except httpx.TransportError as error:
                said = str(error) or type(error).__name__
                self.urls.append(self.urls.pop(0))  # the next question begins with the next one
                continue
            if answer.status_code == 500 and "leader" in answer.text:
                raise ConsulError("Consul has no leader at this moment; see: gislab status")
            if answer.status_code not in fine:
                raise ConsulError(f"Consul refuses {method} {path.partition('?')[0]} with "
                                  f"{answer.status_code}: {answer.text.strip()[:200]}")
            return answer
        raise ConsulError(f"no Consul server answers ({said}); see: gislab status, then gislab up")

    def _entries(self, path: str) -> list[Entry]:
        answer = self.ask("GET", path, fine=(200, 404))
        if answer.status_code == 404:
            return []
        return [Entry(e["Key"], base64.b64decode(e["Value"] or ""), e["ModifyIndex"])
                for e in answer.json()]

    @staticmethod
    def _said_true(answer: httpx.Response, what: str) -> None:
        if answer.text.strip() != "true":
            raise ConsulError(f"Consul refuses {what}: {answer.text.strip()[:200]}")


def of(lab: Lab) -> Consul:
    """Return the lab's store, asked with the token that may do everything."""
    return Consul([f"http://{m.address}:{PORT}" for m in lab.machines],
                  lab.secret("consul_token"))


def written(key: str, value: bytes, index: int) -> dict:
    """Return the step that sets `key` if its index is still `index`; 0: if it is not there."""
    return {"Verb": "cas", "Key": key, "Value": base64.b64encode(value).decode(),
            "Index": index}


def there(key: str) -> dict:
    """Return the step that fails the transaction if `key` is not there."""
    return {"Verb": "get", "Key": key}


def allow(store: Consul, name: str, rules: str, secret: str) -> bool:
    """Have a token of our own choice that may do what `rules` say; True if anything changed.

    Parameters
    ----------
    name : of the policy; the token's public id is derived from it, so that there is only one.
    rules : in Consul's language (api-docs/acl/policies).
    secret : the token itself, a UUID.
    """
    policy = next((p for p in store.ask("GET", "acl/policies").json() if p["Name"] == name), None)
    wanted = {"Name": name, "Rules": rules}
    changed = False
    if policy is None:
        store.ask("PUT", "acl/policy", json=wanted)
        changed = True
    elif store.ask("GET", f"acl/policy/{policy['ID']}").json()["Rules"] != rules:
        store.ask("PUT", f"acl/policy/{policy['ID']}", json={**wanted, "ID": policy["ID"]})
        changed = True
    public = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.gislab"))
    tokens = {t["AccessorID"]: t for t in store.ask("GET", "acl/tokens").json()}
    if public not in tokens:
        store.ask("PUT", "acl/token", json={
            "AccessorID": public, "SecretID": secret, "Description": name,
            "Policies": [{"Name": name}]})
        changed = True
    return changed
