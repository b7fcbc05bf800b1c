"""Tokens that say who asks: keys, of which only hashes are kept, and signed ones of an identity provider."""

import asyncio
import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
from msgspec import Struct, field

from refold.errors import WiringError
from refold.http.access import ROLES, Principal, Role, checked_role, rule
from refold.http.problem import Refusal

logger = logging.getLogger("refold.http")
PREFIX = "refold_"
HASH = re.compile("[0-9a-f]{64}")
LATER = {"Retry-After": "1"}
LOOK_SECONDS = 1.0
"""How often keys are looked for anew: so long one that was revoked may still work, and a new one may not."""
WAIT_SECONDS = 5.0
"""How long who changes a file of keys waits for another who does."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Those with two keys: who can check a token cannot make one."""


class Key(Struct, frozen=True, omit_defaults=True):
    """A key, by its hash, with what it allows."""

    name: str
    role: Role
    sha256: str
    expires: datetime | None = None
    commands: Sequence[str] | None = None
    views: Sequence[str] | None = None
    tags: Sequence[str] | None = None

    def principal(self) -> Principal:
        """Return who has it."""
        return Principal(self.name, self.role, rule(self.commands), rule(self.views), rule(self.tags), self.sha256)

    @property
    def is_good(self) -> bool:
        """Whether it has not expired."""
        return self.expires is None or self.expires > datetime.now(UTC)


class _File(Struct):
    keys: list[Key] = field(default_factory=list[Key])


class Keys:
    """Keys in a file, which may change while it is used; while it cannot be read, nobody comes in."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._keys: dict[str, Key] = {}
        self._seen: tuple[int, int] | None = None
        self._looked = -LOOK_SECONDS
        self._trouble = ""
        self._read()

    async def principal(self, token: str) -> Principal | None:
        """Return whose key this is."""
        # The hash is looked up, not the key: what the time of this tells of a hash is of no use.
        return await self.again(hash_of(token)) if token.startswith(PREFIX) else None

    async def again(self, proof: str) -> Principal | None:
        """Return whose key has this hash."""
        if not HASH.fullmatch(proof):  # the proof of a signed token, which does not hang on this file
            return None
        now = asyncio.get_running_loop().time()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._look()
        if self._trouble:
            raise Refusal(503, "UNAVAILABLE", "the keys cannot be read now; the log of the server says why", LATER)
        key = self._keys.get(proof)
        return key.principal() if key is not None and key.is_good else None

    def _look(self) -> None:
        """Read the file if it has changed; remember that it could not be."""
        try:
            self._read()
            trouble = ""
        except WiringError as error:
            self._keys, self._seen, trouble = {}, None, str(error)
        if trouble and trouble != self._trouble:
            logger.error("nobody with a key is let in: %s", trouble)
        self._trouble = trouble

    def _read(self) -> None:
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._keys = {key.sha256: key for key in keys_in(self._path)}
                self._seen = seen
        except OSError as error:
            raise WiringError(f"cannot read the keys in {self._path}: {error.strerror}; `refold key create`") from None


def hash_of(token: str) -> str:
    """Return what is kept of a key: it has 256 random bits, so a plain hash cannot be turned back."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def keys_in(path: Path) -> list[Key]:
    """Return the keys of a file; none if there is no file."""
    if not path.exists():
        return []
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).keys
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WiringError(f"{path} is no file of keys: {error}") from None


def create(path: Path, name: str, role: Role, **rules: Any) -> str:
    """Add a key to a file, which is made if need be; return it: it cannot be had again."""
    with _replaced(path) as new:
        keys = keys_in(path)
        if any(key.name == name for key in keys):
            raise WiringError(f"there is a key {name!r} in {path} already: revoke it first, or choose another name")
        token = f"{PREFIX}{secrets.token_urlsafe(32)}"
        _write(new, [*keys, Key(name, role, hash_of(token), **rules)])
    return token


def revoke(path: Path, name: str) -> None:
    """Remove a key from a file."""
    with _replaced(path) as new:
        keys = keys_in(path)
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            names = ", ".join(key.name for key in keys) or "none"
            raise WiringError(f"there is no key {name!r} in {path}; there is {names}")
        _write(new, left)


@contextmanager
def _replaced(path: Path) -> Generator[BinaryIO]:
    """Replace a file in one step, readable by its owner only, while nobody else does: the new one is there once."""
    new, until = path.with_name(f"{path.name}.new"), time.monotonic() + WAIT_SECONDS
    while True:
        try:
            file = os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
            break
        except FileExistsError:
            if time.monotonic() > until:
                said = f"another `refold key` is changing {path}; if there is none, one was stopped: remove {new}"
                raise WiringError(said) from None
            time.sleep(0.02)
        except OSError as error:
            raise WiringError(f"cannot change the keys in {path}: {error.strerror}") from None
    try:
        with file:
            yield file
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _write(file: BinaryIO, keys: Sequence[Key]) -> None:
    file.write(msgspec.json.format(msgspec.json.encode(_File(list(keys))), indent=2) + b"\n")
    file.flush()
    os.fsync(file.fileno())


class _Said(Struct, tag="jwt"):
    """What a session keeps of a signed token; the session is signed, too."""

    name: str
    role: Role
    until: float
    """Seconds since 1970."""
    called: str = ""


class Jwt:
    """Signed tokens of an identity provider (OpenID Connect), checked with the keys that it publishes."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        keys: str,
        claim: str = "roles",
        roles: Mapping[str, str] | None = None,
        algorithms: Sequence[str] = ("RS256", "ES256"),
    ) -> None:
        """Say whose tokens are accepted.

        `keys` is the address of the provider's key set (its `jwks_uri`), which is read again when a token names a new
        key. `claim` names what a token says its owner is: a text or a list of them. Those are roles, or `roles` says
        which role each of them means; of several the highest counts. Who has none is not let in. The name of
        somebody, in the log too, is made of `sub` and `iss`: `u-1@https://login.example`.
        """
        try:
            import jwt
        except ModuleNotFoundError as error:
            raise WiringError(f"signed tokens need PyJWT ({error}): pip install refold[oidc]") from None
        if wrong := [each for each in algorithms if each not in ALGORITHMS]:
            raise WiringError(f"{wrong[0]!r} is not accepted: take {', '.join(ALGORITHMS)}")
        self._jwt: Any = jwt
        self._client: Any = jwt.PyJWKClient(keys, timeout=5, cooldown_duration=LOOK_SECONDS)
        self._issuer, self._audience, self._algorithms = issuer, audience, list(algorithms)
        self._claim = claim
        self._down_until = 0.0
        self._roles: dict[str, Role] = {name: checked_role(role) for name, role in (roles or _themselves()).items()}

    async def principal(self, token: str) -> Principal | None:
        """Return whose token this is."""
        if token.startswith(PREFIX) or token.count(".") != 2:
            return None
        try:
            claims = await asyncio.to_thread(self._claims, token)
        except (self._jwt.PyJWTError, TypeError, ValueError, OverflowError):  # the latter of keys of another kind
            return None
        roles = [self._roles[each] for each in _texts(claims.get(self._claim)) if each in self._roles]
        if not roles:
            return None
        # Who it is, nobody but the issuer says: addresses and names may be chosen, or be those of somebody else.
        name = f"{claims['sub']}@{self._issuer}"
        called = [*_texts(claims.get("email")), *_texts(claims.get("preferred_username")), ""][0]
        role = ROLES[max(map(ROLES.index, roles))]
        proof = msgspec.json.encode(_Said(name, role, float(claims["exp"]), called)).decode()
        return Principal(name, role, proof=proof, called=called)

    async def again(self, proof: str) -> Principal | None:
        """Return whose token was good when the session began, until the token ends."""
        try:
            said = msgspec.json.decode(proof, type=_Said)
        except msgspec.MsgspecError:
            return None
        return Principal(said.name, said.role, proof=proof, called=said.called) if said.until > time.time() else None

    def _claims(self, token: str) -> dict[str, Any]:
        self._ask()
        key = self._client.get_signing_key_from_jwt(token).key
        options = {"require": ["exp", "iss", "aud", "sub"]}
        found: dict[str, Any] = self._jwt.decode(
            token, key, self._algorithms, audience=self._audience, issuer=self._issuer, options=options
        )
        return found

    def _ask(self) -> None:
        """Have the provider's keys at hand, or refuse; one that could not say them is not asked again at once."""
        if time.monotonic() >= self._down_until:
            try:
                self._client.get_signing_keys()
            except (self._jwt.PyJWTError, OSError, ValueError) as error:
                self._down_until = time.monotonic() + LOOK_SECONDS
                logger.warning("nobody with a signed token is let in: %s", error)
            else:
                return
        raise Refusal(503, "UNAVAILABLE", "the keys of the identity provider cannot be had now", LATER)


def _texts(claim: Any) -> list[str]:
    """Return what a claim says: a text, or a list of them; whatever else it may be says nothing."""
    listed = cast(list[object], claim) if isinstance(claim, list) else [claim]
    return [each for each in listed if isinstance(each, str)]


def _themselves() -> dict[str, str]:
    return {role: role for role in ROLES}
