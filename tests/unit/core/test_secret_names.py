"""Which variables are taken to hold secrets, by name and by value, and which are not."""

from __future__ import annotations

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.secret_names import is_secret_name
from ansible_collections.modelship.core.plugins.module_utils._core.secret_values import (
    is_secret,
    is_secret_value,
    passwords_in,
    secret_values,
)


def listed(names: str) -> list[str]:
    return names.split()


SECRET = listed(
    """
    DB_PASSWORD DB_PASSWORD_PRIMARY PASSWORD_2 POSTGRES_PASSWORD PGPASSWORD dbPassword userpassword passwords PASSWD
    HTPASSWD MYSQL_PWD PWD_PRIMARY MYSQLPWD passphrase KEY_PASSPHRASE PASSCODE DB_PASS DB_PASS_PRIMARY SMTPPASS
    smtp.pass TOKEN API_TOKEN api_token accessToken HF_TOKEN TOKEN_PROD tokenSource GITHUBTOKEN API_TOKENS
    access-tokens OAuth2Token client-secret SECRET_KEY_BASE clientsecret APP_SECRET_V2 SECRETS VAULT_SECRET_ID API_KEY
    apiKey API_KEYS APIKEY API_KEY_2 X-Api-Key SIGNING_KEY SIGNING_KEY_PRIMARY AZURE_STORAGE_KEY
    AZURE_STORAGE_PRIMARY_KEY STORAGE_KEY_1 AWS_SECRET_ACCESS_KEY ACCESS_KEY private_key TLS_PRIVATE_KEY_PEM
    ENCRYPTION_KEY OPENAI_KEY STRIPE_KEY LICENSE_KEY SSH_KEYS KEY SESSION_KEY FERNET_KEY storageAccountKey JWT AUTH_JWT
    JWT_SECRET JWT_PROD CREDENTIAL DB_CREDENTIALS AWS_CREDENTIALS_JSON CREDS GIT_CREDS Authorization
    PROXY_AUTHORIZATION BEARER SENTRY_DSN DATABASE_DSN AZURE_STORAGE_CONNECTION_STRING CONNSTR BASIC_AUTH REDISCLI_AUTH
    LDAP_BIND_PW AZURE_STORAGE_SAS GITHUB_PAT DOCKER_AUTH_CONFIG SESSION_COOKIE PUBLIC_KEY_PASSWORD
    REDIS_AUTH WPA_PSK bindpw ROOTPW AESKEY preSharedKey PRESHAREDKEY .dockerconfigjson
    """
)

OTHERS = listed(
    """
    PWD OLDPWD MODE PATH LOG_LEVEL DEBUG PASSENGERS PASSAGE COMPASS_HEADING EPOCHS_PER_PASS BYPASS_CACHE BYPASS LOW_PASS
    HIGH_PASS_CUTOFF LOWPASS PASSWORDLESS_LOGIN SAS_HOME PAT FIRST_PASS NUM_PASS PASS_THROUGH PASS_COUNT FUSION_PASS
    SECRETARY_NAME SECRETION_RATE MAX_TOKENS max_new_tokens MIN_TOKENS tokens NUM_TOKENS TOKENS_PER_SECOND
    TOKENIZERS_PARALLELISM TOKENIZER_PATH tokenizer TOKENISER MAX_TOKEN_LENGTH MAX_TOKEN TOKEN_LIMIT TOKEN_COUNT
    PAD_TOKEN EOS_TOKEN SPECIAL_TOKEN token_type_ids TOKEN_URL NEXT_TOKEN KEYBOARD MONKEY TURKEY_REGION KEYCLOAK_URL
    KEYSTORE KEYWORDS HOCKEY CACHE_KEY CACHE_KEY_PREFIX KEY_PREFIX SORT_KEY PRIMARY_KEY PARTITION_KEY FEATURE_KEY
    NUM_KEY_VALUE_HEADS KEY_DIM FEATURE_KEYS KEYS PUBLIC_KEY JWT_PUBLIC_KEY PUBLIC_KEY_PEM KEY_ID AWS_ACCESS_KEY_ID
    API_KEY_ID SSH_KEY_PATH TLS_KEY_FILE KEY_VAULT AUTHORIZED_KEYS IDEMPOTENCY_KEY topologyKey ROUTING_KEY
    MODELSHIP_JWT_JWKS MODELSHIP_JWT_ISSUER MODELSHIP_JWT_AUDIENCE JWT_ALGORITHM PASSWORD_FILE PASSWORD_MIN_LENGTH
    SECRET_NAME TOKEN_FILE TOKEN_EXPIRY SECRET_STORE CREDENTIALS_PROVIDER BEARER_FORMAT COOKIE_DOMAIN
    SESSION_COOKIE_NAME AUTH_MODE AUTH_ENABLED CONNECTION_TIMEOUT STRING AUTHOR AUTHORITY
    """
)


@pytest.mark.parametrize("name", SECRET)
def test_names_with_the_word_of_a_secret_are_recognised(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", OTHERS)
def test_names_that_only_look_alike_or_describe_a_secret_are_not(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("value", "passwords"),
    [
        ("postgres://app:hunter22@db:5432/digits", {"hunter22"}),
        ("redis://:hunter22@cache", {"hunter22"}),
        ("amqp://app:p%40ss%2Fword@mq/%2F", {"p%40ss%2Fword", "p@ss/word"}),
        ("mongodb+srv://app:a@b@cluster/?w=1", {"a@b"}),
        ("see https://ann:s3cret@git.example/x.git please", {"s3cret"}),
        ("Server=db;User Id=app;Password=hunter22;", {"hunter22"}),
        ("host=db user=app password='hunter22'", {"hunter22"}),
        ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=bm90IGEga2V5;", {"bm90IGEga2V5"}),
        ("https://a.blob.example/c?sv=2024&sig=abc%2Fdef", {"abc%2Fdef", "abc/def"}),
        ("Bearer eyJhbGciOi.abc-_", {"eyJhbGciOi.abc-_"}),
        ("--user=app --password=hunter22", {"hunter22"}),
    ],
)
def test_passwords_in_urls_and_connection_strings_are_found(value: str, passwords: set[str]) -> None:
    assert passwords_in(value) == passwords
    assert is_secret_value(value)
    assert is_secret("DATABASE_URL", value)


@pytest.mark.parametrize(
    "value",
    [
        "http://db:5432/a@b",
        "https://user@git.example/x.git",
        "postgres://app:$(DB_PASSWORD)@db/digits",
        "postgres://app:${DB_PASSWORD}@db/digits",
        "max_token=5;tokenizer=x",
        "password=$(PW)",
        "ann@example.com: 5",
        "key=value",
        "basic authentication is on",
        "Bearer tokens",
        "-----BEGIN CERTIFICATE-----",
        "registry.example:5000/digits@sha256:0f1e",
    ],
)
def test_values_without_a_password_are_not_secret(value: str) -> None:
    assert not is_secret_value(value)
    assert not is_secret("PLACE", value)


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_private_keys_are_secret_whatever_their_variable_is_called(kind: str) -> None:
    assert is_secret("PEM", f"-----BEGIN {kind}PRIVATE KEY-----\nMIIB\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOW_EMPTY_PASSWORD", "yes"),
        ("CORS_ALLOW_CREDENTIALS", "true"),
        ("MODELSHIP_TLS_KEY", "/run/modelship/tls/tls.key"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/google/key.json"),
        ("API_TOKEN", ""),
    ],
)
def test_switches_and_paths_are_no_secrets_whatever_their_name_is(name: str, value: str) -> None:
    assert not is_secret(name, value)


def test_a_password_that_looks_like_a_path_is_still_one() -> None:
    assert is_secret("DB_PASSWORD", "/9j4AAQSkZJRg")
    assert is_secret("DB_PASSWORD", "hunter22")


def test_secret_values_have_the_passwords_in_them_too() -> None:
    found = secret_values({"DATABASE_URL": "postgres://a:hunter22@b", "API_KEY": "k-1", "LEVEL": "info", "TOKEN": None})
    assert found == {"postgres://a:hunter22@b", "hunter22", "k-1"}
