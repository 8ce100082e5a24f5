"""Tokens that other parsers let pass, and some that break them: each is a 401, none is a 500."""

import base64
import hmac
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import jwt
import pytest
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from fastapi_prodkit import Claims, ConfigurationError, JWTAuth, ProblemError
from fastapi_prodkit.auth import InvalidTokenError

from .verifying import verified

SECRET = "a-secret-of-the-tests-0123456789abcdefghij"
NOW = 1_800_000_000.0
GOOD: dict[str, Any] = {"sub": "ada", "exp": NOW + 60}


def b64(data: bytes | str) -> str:
    data = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(
    payload: str | bytes,
    header: str = '{"alg":"HS256","typ":"JWT"}',
    *,
    secret: str = SECRET,
    digest: str = "sha256",
) -> str:
    """A token with exactly this text in it, and a signature that holds."""
    message = f"{b64(header)}.{b64(payload)}"
    return f"{message}.{b64(hmac.digest(secret.encode(), message.encode(), digest))}"


def with_claims(**claims: Any) -> str:
    return signed(json.dumps({**GOOD, **claims}))


def tampered(change: Callable[[str, str, str], str]) -> str:
    return change(*signed(json.dumps(GOOD)).split("."))


def make(**options: Any) -> JWTAuth:
    return JWTAuth(SECRET, algorithms=["HS256"], clock=lambda: NOW, **options)


REFUSED = {
    "empty": "",
    "two parts": "a.b",
    "five parts": "a.b.c.d.e",
    "signed with another key": signed(json.dumps(GOOD), secret="another-secret-0123456789-0123456789"),
    "alg none": tampered(lambda h, p, s: ".".join([b64('{"alg":"none"}'), p, ""])),
    "alg None with a signature": signed(json.dumps(GOOD), '{"alg":"None"}'),
    "alg not pinned": signed(json.dumps(GOOD), '{"alg":"HS512"}', digest="sha512"),
    "alg missing": signed(json.dumps(GOOD), '{"typ":"JWT"}'),
    "alg a list": signed(json.dumps(GOOD), '{"alg":["HS256"]}'),
    "padded": tampered(lambda h, p, s: f"{h}.{p}.{s}="),
    "line break": tampered(lambda h, p, s: f"{h}.{p}.{s}\n"),
    "standard base64": tampered(lambda h, p, s: f"{h}.{p}.{s[:-1]}+"),
    "bits left over": tampered(lambda h, p, s: f"{h}.{p}.{s[:-1]}{chr(ord(s[-1]) + 1)}"),
    "lone surrogate": tampered(lambda h, p, s: f"{h}.{p}\ud800.{s}"),
    "non-ASCII letters": tampered(lambda h, p, s: f"{h}.{p}é.{s}"),
    "a mebibyte": tampered(lambda h, p, s: f"{h}.{p}.{s}" + "A" * (1 << 20)),
    "duplicate claim": signed('{"sub":"ada","sub":"eve","exp":1800000060}'),
    "duplicate claim inside": signed('{"sub":"ada","exp":1800000060,"x":{"a":1,"a":2}}'),
    "duplicate in the header": signed(json.dumps(GOOD), '{"alg":"none","alg":"HS256"}'),
    "critical extension": signed(json.dumps(GOOD), '{"alg":"HS256","crit":["x"],"x":1}'),
    "b64 false": signed(json.dumps(GOOD), '{"alg":"HS256","b64":false}'),
    "another typ": signed(json.dumps(GOOD), '{"alg":"HS256","typ":"logout+jwt"}'),
    "typ not a string": signed(json.dumps(GOOD), '{"alg":"HS256","typ":7}'),
    "payload a list": signed("[]"),
    "payload not JSON": signed("{"),
    "payload not UTF-8": signed(b'{"sub":"\xff","exp":1800000060}'),
    "NaN": signed('{"sub":"ada","exp":NaN}'),
    "Infinity": signed('{"sub":"ada","exp":Infinity}'),
    "NaN in another claim": signed('{"sub":"ada","exp":1800000060,"x":NaN}'),
    "1e400 in another claim": signed('{"sub":"ada","exp":1800000060,"x":[-1e400]}'),
    "an integer of 5000 digits": signed('{"sub":"ada","exp":' + "9" * 5000 + "}"),
    "exp missing": signed('{"sub":"ada"}'),
    "exp null": with_claims(exp=None),
    "exp a string": with_claims(exp=str(NOW + 60)),
    "exp true": with_claims(exp=True),
    "exp absurd": with_claims(exp=10**30),
    "exp 1e400": signed('{"sub":"ada","exp":1e400}'),
    "exp negative": with_claims(exp=-1),
    "exp past": with_claims(exp=NOW - 1),
    "exp now": with_claims(exp=NOW),
    "nbf to come": with_claims(nbf=NOW + 10),
    "nbf a string": with_claims(nbf="0"),
    "nbf true": with_claims(nbf=True),
    "iat false": with_claims(iat=False),
    "iat to come": with_claims(iat=NOW + 10),
    "sub missing": signed('{"exp":1800000060}'),
    "sub empty": with_claims(sub=""),
    "sub a number": with_claims(sub=7),
    "sub with a control character": with_claims(sub="ada\r\nX-Admin: 1"),
    "sub with a lone surrogate": signed('{"sub":"\\ud800","exp":1800000060}'),
    "lone surrogate in another claim": signed('{"sub":"ada","name":"\\udfff","exp":1800000060}'),
    "jti a number": with_claims(jti=7),
    "aud that nobody configured": with_claims(aud="billing"),
    "aud of another shape": with_claims(aud={"a": 1}),
    "scope a number": with_claims(scope=7),
    "scopes not strings": with_claims(scp=[1]),
}


@pytest.mark.parametrize("token", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused(token: str) -> None:
    auth = make(sources=[lambda connection: token])
    app = FastAPI()

    @app.get("/")
    async def endpoint(claims: Annotated[Claims, Depends(auth)]) -> str:
        raise AssertionError("let in")

    response = TestClient(app).get("/")
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


ACCEPTED = {
    "plain": (with_claims(), Claims("ada", expires=NOW + 60)),
    "without typ": (signed(json.dumps(GOOD), '{"alg":"HS256"}'), Claims("ada", expires=NOW + 60)),
    "access token type, RFC 9068": (
        signed(json.dumps(GOOD), '{"alg":"HS256","typ":"application/AT+JWT"}'),
        Claims("ada", expires=NOW + 60),
    ),
    "scope": (with_claims(scope="a b  c"), Claims("ada", frozenset("abc"), NOW + 60)),
    "scp": (with_claims(scp=["a", "b"]), Claims("ada", frozenset("ab"), NOW + 60)),
    "fractions of a second": (with_claims(exp=NOW + 0.5), Claims("ada", expires=NOW + 0.5)),
    "a paired surrogate": (
        signed('{"sub":"\\ud83d\\ude00","exp":1800000060}'),
        Claims("😀", expires=NOW + 60),
    ),
    "not ASCII": (with_claims(sub="Ада Л"), Claims("Ада Л", expires=NOW + 60)),
    "jti and iss": (with_claims(jti="7", iss="me"), Claims("ada", frozenset(), NOW + 60, "me", "7")),
}


@pytest.mark.parametrize(("token", "claims"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_it_is_accepted(token: str, claims: Claims) -> None:
    assert verified(make(), token) == claims


@pytest.mark.parametrize("place", ["header", "payload"])
def test_deep_nesting_breaks_nothing(place: str) -> None:
    """How deep a parser can follow differs between interpreters: it is a refusal or a value, no crash."""
    deep = "[" * 2900 + "]" * 2900
    token = (
        signed(json.dumps(GOOD), '{"alg":"HS256","x":' + deep + "}")
        if place == "header"
        else signed('{"sub":"ada","exp":1800000060,"x":' + deep + "}")
    )
    with suppress(InvalidTokenError):
        assert verified(make(), token).subject == "ada"


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
def test_no_text_whatever_is_more_than_refused(token: str) -> None:
    with pytest.raises(InvalidTokenError):
        verified(make(), token)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud", "jti", "scope", "scp", "x"]), _json
    )
)
def test_whatever_is_signed_becomes_claims_or_a_refusal(payload: dict[str, Any]) -> None:
    token = signed(json.dumps(payload))
    try:
        claims = verified(make(), token)
    except InvalidTokenError:
        return
    assert claims.subject == payload["sub"]
    assert claims.expires > NOW


def test_leeway_moves_all_three_dates() -> None:
    token = with_claims(exp=NOW - 5, nbf=NOW + 5, iat=NOW + 5)
    assert verified(make(leeway=10), token).subject == "ada"
    with pytest.raises(InvalidTokenError):
        verified(make(leeway=4), token)


def test_the_issuer_has_to_be_one_of_the_configured() -> None:
    auth = make(issuer=["https://a", "https://b"])
    assert verified(auth, with_claims(iss="https://b")).issuer == "https://b"
    for claims in ({"iss": "https://c"}, {}, {"iss": "https://"}):
        with pytest.raises(InvalidTokenError):
            verified(auth, with_claims(**claims))


def test_the_audience_has_to_have_a_configured_one() -> None:
    auth = make(audience="shop")
    assert verified(auth, with_claims(aud="shop")).subject == "ada"
    assert verified(auth, with_claims(aud=["billing", "shop"])).subject == "ada"
    others: list[Any] = ["billing", [], "shops"]
    for aud in others:
        with pytest.raises(InvalidTokenError):
            verified(auth, with_claims(aud=aud))
    with pytest.raises(InvalidTokenError):
        verified(auth, with_claims())


def test_a_required_claim_has_to_be_there() -> None:
    auth = make(required=["tenant"])
    assert verified(auth, with_claims(tenant="t1")).raw["tenant"] == "t1"
    with pytest.raises(InvalidTokenError, match="tenant"):
        verified(auth, with_claims())


def test_what_is_issued_is_accepted_here_and_by_pyjwt() -> None:
    auth = make(issuer="https://a", audience="shop")
    token = auth.issue("ada", ttl=60, scopes=["b", "a"], name="Ada")
    claims = verified(auth, token)
    assert (claims.subject, claims.scopes, claims.expires) == ("ada", frozenset("ab"), NOW + 60)
    assert claims.raw["name"] == "Ada"
    assert claims.token_id != verified(auth, auth.issue("ada", ttl=60)).token_id
    seen = jwt.decode(
        token,
        SECRET,
        algorithms=["HS256"],
        audience="shop",
        issuer="https://a",
        options={"verify_iat": False, "verify_exp": False},
    )
    assert seen["sub"] == "ada"


@pytest.mark.parametrize(
    "arguments",
    [
        {"sub": "", "ttl": 60},
        {"sub": "a\nb", "ttl": 60},
        {"sub": "ada", "ttl": 0},
        {"sub": "ada", "ttl": float("inf")},
        {"sub": "ada", "ttl": float("nan")},
        {"sub": "ada", "ttl": 60, "nbf": NOW + 10},
        {"sub": "ada", "ttl": 60, "note": "x" * 9000},
    ],
)
def test_nothing_is_issued_that_would_be_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        make().issue(**arguments)


@pytest.mark.parametrize(
    ("claims", "mend"), [({"exp": NOW + 4}, "ttl="), ({"scopes": ["a"], "scope": "b"}, "scopes=")]
)
def test_a_claim_that_an_option_sets_is_refused_beside_it(claims: dict[str, Any], mend: str) -> None:
    with pytest.raises(ConfigurationError, match=mend):
        make().issue("ada", ttl=60, **claims)


def test_what_is_added_to_a_token_may_be_given_instead() -> None:
    auth = make(issuer=["https://a", "https://b"], audience="shop")
    given: dict[str, Any] = {"iat": NOW - 1, "jti": "mine", "iss": "https://b", "aud": "shop", "scope": "a b"}
    raw = verified(auth, auth.issue("ada", ttl=60, **given)).raw
    assert {name: raw[name] for name in given} == given


def test_a_token_is_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    auth = make()
    token = auth.issue("ada", ttl=60, card="4111")
    bad = token[:-4] + "AAAA"
    app = FastAPI()

    @app.get("/")
    async def endpoint(claims: Annotated[Claims, Depends(auth)]) -> None: ...

    response = TestClient(app).get("/", headers={"Authorization": f"Bearer {bad}"})
    assert response.status_code == 401
    assert "refused a token: the signature does not hold" in caplog.text
    for text in (caplog.text, response.text, str(response.headers), repr(auth), repr(verified(auth, token))):
        assert bad not in text
        assert SECRET not in text
        assert "4111" not in text


async def test_a_refusal_is_a_problem() -> None:
    auth = make(realm="shop")
    with pytest.raises(ProblemError) as refused:
        await auth.authenticate(HTTPConnection({"type": "http", "headers": [], "method": "GET"}))
    assert refused.value.document() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "A bearer token is needed.",
    }
    assert refused.value.headers == {"WWW-Authenticate": 'Bearer realm="shop"'}
