from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")
jwt = pytest.importorskip("jwt", reason="PyJWT is not installed here")

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from modelship_serving.errors import RequestError, StartError
from modelship_serving.logs import Log
from modelship_serving.security import fetch
from modelship_serving.security.gate import Gate
from modelship_serving.security.jwt import Tokens
from modelship_serving.settings import Settings

LOG = Log("error")
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
KEYS = {"RS256": RSA, "PS256": RSA, "ES256": EC, "EdDSA": ED}
CLAIMS = {"iss": "https://issuer", "aud": "digits", "sub": "alice"}


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    kind = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm = next((value for base, value in kind.items() if isinstance(key, base)), OKPAlgorithm)
    found = algorithm.to_jwk(key.public_key(), as_dict=True)
    found.pop("key_ops", None)
    return {**found, **({} if kid is None else {"kid": kid}), **more}


def write(path: Path, *keys: dict[str, Any]) -> Path:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"keys": keys}))
    fresh.replace(path)
    return path


def token(
    algorithm: str = "RS256", kid: str | None = "RS256", key: Any = None, headers: Any = None, **claims: Any
) -> str:
    payload = {**CLAIMS, "exp": time.time() + 600, **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    headers = {**({} if kid is None else {"kid": kid}), **(headers or {})}
    return str(jwt.encode(payload, key or KEYS[algorithm], algorithm=algorithm, headers=headers))


def settings(path: Path | str, **more: Any) -> Settings:
    return Settings(**{"jwt_jwks": str(path), "jwt_issuer": "https://issuer", "jwt_audience": "digits", **more})


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    return write(tmp_path / "jwks.json", *(jwk(key, name) for name, key in KEYS.items()))


def made(path: Path, **more: Any) -> Gate:
    gate = Gate(settings(path, **more), LOG)
    gate.start(0)
    return gate


def ask(gate: Gate, credential: str) -> str:
    return gate.admit({"authorization": f"Bearer {credential}"}, None)


def refused(gate: Gate, credential: str) -> str:
    with pytest.raises(RequestError) as caught:
        ask(gate, credential)
    assert caught.value.status == 401
    assert 'error="invalid_token"' in caught.value.header[1]
    return caught.value.message


@pytest.mark.parametrize("algorithm", list(KEYS))
def test_every_algorithm_lets_in(jwks: Path, algorithm: str):
    gate = made(jwks)
    assert [ask(gate, token(algorithm, algorithm)) for _ in range(2)] == ["alice"] * 2


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": time.time() - 60}, "expired"),
        ({"exp": None}, "the claim exp is missing"),
        ({"nbf": time.time() + 86400}, "not valid yet"),
        ({"iss": "https://other"}, "another issuer"),
        ({"iss": None}, "the claim iss is missing"),
        ({"aud": "other"}, "another audience"),
        ({"aud": None}, "the claim aud is missing"),
        ({"sub": None}, "whose it is"),
        ({"sub": 7}, "not valid"),
        ({"exp": "soon"}, "not valid"),
    ],
)
def test_claims_are_demanded(jwks: Path, claims: dict[str, Any], why: str):
    assert why in refused(made(jwks), token(**claims))


def test_clocks_may_differ_a_little_and_an_audience_may_be_one_of_several(jwks: Path):
    gate = made(jwks)
    assert ask(gate, token(exp=time.time() - 10)) == "alice"
    assert ask(gate, token(nbf=time.time() + 10)) == "alice"
    assert ask(gate, token(aud=["other", "digits"])) == "alice"
    assert ask(gate, token(sub=None, client_id="batch")) == "batch"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: dict[str, Any], sign: Any) -> str:
    body = ".".join(_b64(json.dumps(x).encode()) for x in (header, {**CLAIMS, "exp": time.time() + 600}))
    return f"{body}.{_b64(sign(body.encode()))}"


def test_no_algorithm_and_public_keys_as_secrets_do_not_get_in(jwks: Path):
    gate = made(jwks)
    for name in ("none", "None", "NONE"):
        refused(gate, forged({"alg": name, "kid": "RS256"}, lambda _body: b""))
        refused(gate, forged({"alg": name}, lambda _body: b""))
    public = RSA.public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, form) for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1)
    ]
    secrets += [public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), b""]
    for secret in secrets:
        for algorithm, kid in (("HS256", "RS256"), ("HS256", "ES256"), ("HS256", "EdDSA")):
            message = refused(
                gate,
                forged({"alg": algorithm, "kid": kid}, lambda body, s=secret: hmac.digest(s, body, hashlib.sha256)),
            )
            assert "algorithm does not fit" in message
    # A key brought along, or pointed to, in the token itself is never looked at.
    own = rsa.generate_private_key(65537, 2048)
    refused(gate, token(key=own, headers={"jwk": jwk(own, "RS256")}))
    refused(gate, token(key=own, headers={"jku": "https://127.0.0.1:1/keys", "x5u": "https://127.0.0.1:1/x"}))


def test_a_key_serves_only_the_algorithm_that_it_names(tmp_path: Path):
    gate = made(write(tmp_path / "jwks", jwk(RSA, "k", alg="RS256")))
    assert ask(gate, token("RS256", "k")) == "alice"
    assert "algorithm does not fit" in refused(gate, token("PS256", "k"))


def test_broken_and_hostile_tokens_are_refused_quietly(jwks: Path):
    gate = made(jwks)
    good = token()
    head, body, signature = good.split(".")
    other = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed = _b64(json.dumps({**other, "sub": "root"}).encode())
    assert refused(gate, f"{head}.{changed}.{signature}") == "token: wrong signature"
    assert "kid" in refused(gate, token(kid="unknown"))
    assert "kid" in refused(gate, token(kid=None))
    assert "crit" in refused(gate, token(headers={"crit": ["b64"], "b64": False}))
    for text in ("a.b.c", "..", "x", "a" * 70_000, "é.é.é", f"{head}.{body}.", f"{head}..{signature}",
                 f"{_b64(b'[]')}.{body}.{signature}", f"{_b64(b'null')}.{body}.{signature}",
                 f"{_b64(json.dumps({'alg': ['RS256'], 'kid': {'a': 1}}).encode())}.{body}.{signature}",
                 f"{_b64(b'[' * 5000)}.{body}.{signature}", "\udce9.a.b"):  # fmt: skip
        refused(gate, text)
    assert ask(gate, good) == "alice"


def test_a_token_that_was_let_in_is_not_when_it_has_expired(jwks: Path, monkeypatch: Any):
    gate = made(jwks)
    good = token(exp=time.time() + 5)
    assert ask(gate, good) == "alice"
    later = time.time() + 36
    monkeypatch.setattr("modelship_serving.security.gate.time.time", lambda: later)
    monkeypatch.setattr("jwt.api_jwt.datetime", _Later)
    assert refused(gate, good) == "token: expired"


class _Later:
    @staticmethod
    def now(tz: Any = None) -> Any:
        import datetime

        return datetime.datetime.now(tz) + datetime.timedelta(seconds=36)


def test_a_key_taken_out_of_the_file_no_longer_counts_even_for_tokens_seen_before(jwks: Path):
    gate = made(jwks)
    old, new = token("RS256", "RS256"), token("ES256", "ES256")
    assert ask(gate, old) == "alice"
    write(jwks, jwk(EC, "ES256"))
    gate.tick()
    assert ask(gate, new) == "alice"
    assert "kid" in refused(gate, old)
    jwks.write_text("{}")
    gate.tick()
    assert ask(gate, new) == "alice"


def test_keys_and_tokens_side_by_side(jwks: Path, tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text(f"bob sha256:{hashlib.sha256(b'k.with.dots').hexdigest()}\n")
    gate = made(jwks, api_keys=str(keys))
    assert ask(gate, "k.with.dots") == "bob"
    assert ask(gate, token()) == "alice"
    assert "not known" in refused(gate, "another")


def test_what_providers_put_beside_signing_keys_is_passed_over(tmp_path: Path):
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it must be refused
    curve = ec.generate_private_key(ec.SECP384R1())
    others = [
        jwk(RSA, "enc", use="enc"),
        jwk(RSA, "oaep", alg="RSA-OAEP"),
        jwk(small, "small"),
        jwk(curve, "p384"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        {"kty": "RSA", "kid": "broken", "n": "AQ", "e": "!!"},
        {"kty": "EC", "crv": "P-256", "kid": "off", "x": "AQ", "y": "AQ"},
    ]
    gate = made(write(tmp_path / "jwks", *others, jwk(RSA, "good", use="sig")))
    assert ask(gate, token(kid="good")) == "alice"
    for kid in ("enc", "oaep"):
        assert "kid" in refused(gate, token(kid=kid))
    with pytest.raises(StartError, match="no key that can be used"):
        Tokens(settings(write(tmp_path / "none", *others)))


def test_a_lone_key_needs_no_name(tmp_path: Path):
    gate = made(write(tmp_path / "jwks", jwk(EC, None)))
    assert ask(gate, token("ES256", None)) == "alice"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"jwt_issuer": ""}, "needs MODELSHIP_JWT_ISSUER"),
        ({"jwt_audience": ""}, "needs MODELSHIP_JWT_AUDIENCE"),
        ({"jwt_jwks": "http://issuer/keys"}, "must be a file or an https URL"),
        ({"jwt_jwks": "https://me:secret@issuer/keys"}, "must be a file or an https URL.*are not used$"),
        ({"jwt_jwks": "/nowhere/keys"}, "cannot be read: no such file"),
    ],
)
def test_settings_that_would_let_in_too_many_or_nobody_end_the_start(jwks: Path, more: dict[str, str], message: str):
    with pytest.raises(StartError, match=message):
        Tokens(settings(jwks, **more))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"keys": {}}', '{"keys": [1]}', '{"keys": []}', '{"keys": null}'])
def test_a_file_that_is_no_jwks_ends_the_start(tmp_path: Path, content: str):
    path = tmp_path / "jwks"
    path.write_text(content)
    with pytest.raises(StartError, match="MODELSHIP_JWT_JWKS="):
        Tokens(settings(path))


@pytest.mark.parametrize("what", [http.client.BadStatusLine("???"), b"[" * 100_000, b"\xff"])
def test_whatever_an_issuer_answers_is_told_in_the_log(monkeypatch: pytest.MonkeyPatch, capfd: Any, what: Any):
    def found(_url: str, _seconds: float, _most: int) -> bytes:
        if isinstance(what, Exception):
            raise what
        return bytes(what)

    monkeypatch.setattr(fetch, "fetch", found)
    tokens = Tokens(settings("https://issuer/keys"))
    tokens.tick(Log("warning"))
    until = time.monotonic() + 10
    while tokens._fetch is not None:
        assert time.monotonic() < until
        time.sleep(0.01)
    event = json.loads(capfd.readouterr().err)
    assert event["message"] == "JWKS cannot be fetched"
    assert event["error"]


def test_a_file_that_is_nested_without_end_is_no_jwks(tmp_path: Path):
    path = tmp_path / "jwks.json"
    path.write_text("[" * 100_000)
    with pytest.raises(StartError, match="is no JWKS"):
        Gate(settings(path), LOG)
