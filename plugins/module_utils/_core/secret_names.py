# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognition of secrets by the words in a variable's name; :mod:`.secret_values` recognizes them in values.

Names are split into words at everything that is not a letter and at camelCase humps, so that C(MONKEY) has no C(KEY) and
C(TOKENIZER_PATH) no C(TOKEN). A name whose last word describes a secret (C(API_KEY_ID), C(PASSWORD_FILE)) does not hold it.
"""

from __future__ import annotations

import itertools
import re

_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[A-Za-z]+")
#: The shell's working directory, not a password.
_WORKING_DIRECTORY = frozenset(("PWD", "OLDPWD"))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Secret wherever they are in a name.
_ALWAYS = _words(
    "PASSWORD PASSWORDS PASSWD PASSPHRASE PASSPHRASES PASSCODE PWD SECRET SECRETS CREDENTIAL CREDENTIALS CREDS CRED "
    "AUTHORIZATION BEARER DSN JWT CONNSTR CONNECTIONSTRING PSK DOCKERCONFIGJSON"
)
#: The same without separators (PGPASSWORD, clientsecret); not SECRETARY, SECRETION.
_INSIDE = re.compile(r"PASSWORD(?!LESS)|PASSWD|PASSPHRASE|CREDENTIAL|SECRET(?!AR|ION|OR|IV|E)")
_ENDS = re.compile(
    r"(?:API|ACCESS|PRIVATE|PRIV|SIGNING|ENCRYPTION|MASTER|STORAGE|ACCOUNT|AUTH|SSH|SHARED|AES|HMAC|RSA|LICENSE|LICENCE)KEYS?$"
    r"|(?<!^SUB)(?<!^PRE)(?<!^MULTI)(?<!^NEXT)(?<=.)TOKEN$|(?<=.)PWD$|^(?:ADMIN|BIND|DB|ROOT|USER)PW$"
)
#: English words, and filters of signals, that end in PASS.
_NO_PASSWORDS = _words(
    "BYPASS COMPASS TRESPASS SURPASS ENCOMPASS OVERPASS UNDERPASS LOWPASS HIGHPASS BANDPASS ALLPASS MULTIPASS "
    "ONEPASS TWOPASS"
)
#: As a name's last word: what follows is about the secret.
_DESCRIBES = _words(
    "FILE FILES FILENAME PATH PATHS DIR DIRS DIRECTORY FOLDER MOUNT NAME NAMES NAMESPACE ID IDS PREFIX PREFIXES "
    "SUFFIX LENGTH LEN SIZE BITS COUNT COUNTS LIMIT LIMITS BUDGET RATE MIN MAX TTL EXPIRY EXPIRES EXPIRATION "
    "LIFETIME TIMEOUT INTERVAL SECONDS AGE DAYS HOURS MINUTES TYPE TYPES FORMAT ENCODING ALGORITHM ALGORITHMS ALG "
    "CIPHER VERSION ENABLED DISABLED REQUIRED POLICY REGEX PATTERN FIELD COLUMN ISSUER AUDIENCE SCOPE SCOPES MODE "
    "METHOD STRATEGY ROTATION PROVIDER MANAGER STORE BACKEND ENDPOINT URL URI HOST PORT REGION ARN FINGERPRINT JWKS "
    "REF KIND STRENGTH ROUNDS EMBEDDING EMBEDDINGS DROPOUT VAULT THROUGH"
)
#: Before TOKEN: parts of texts, of which language models speak.
_OF_TEXTS = _words(
    "PAD EOS BOS UNK SEP CLS MASK STOP START END SPECIAL NEXT LAST FIRST IMAGE PROMPT PER NUM MAX MIN N SUB WORD "
    "EVERY NEW INPUT OUTPUT"
)
#: Before TOKENS, which are parts of a text otherwise.
_OF_ACCESS = _words(
    "API ACCESS AUTH BEARER REFRESH SESSION SERVICE DEPLOY BOT CLIENT ADMIN HF GITHUB GITLAB STATIC VALID"
)
#: Before PASS: not a password.
_RUNS = _words(
    "LOW HIGH BAND ALL FIRST SECOND SINGLE MULTI TWO ONE N NUM FORWARD BACKWARD BY TEST GRAPH FUSION OPTIMIZER COMPILER "
    "PER"
)
#: Before KEY: it opens something. Also where further words follow (STORAGE_KEY_PRIMARY).
_OPENS = _words(
    "API ACCESS PRIVATE PRIV SIGNING SIGN ENCRYPTION ENCRYPT DECRYPTION DECRYPT AUTH STORAGE ACCOUNT MASTER SERVICE "
    "SHARED SSH SSL TLS GPG PGP RSA DSA ECDSA ED AES HMAC FERNET SESSION COOKIE WEBHOOK ADMIN ROOT APP APPLICATION "
    "CLIENT SERVER LICENSE LICENCE DEPLOY AZURE AWS GCP COSMOS OPENAI ANTHROPIC HF WANDB STRIPE SENDGRID"
)
#: Directly before KEY: it names or orders something.
_NAMES = _words(
    "PUBLIC PUB PUBLISHABLE SITE AUTHORIZED TRUSTED CACHE SORT FOREIGN PARTITION ROUTING GROUP INDEX LABEL TOPOLOGY "
    "OBJECT BUCKET JSON DICT MAP FEATURE INPUT OUTPUT TARGET METRIC HOT SHORTCUT MESSAGE EVENT ROW RANGE HASH SHARD "
    "LOOKUP CONFIG ENV TRANSLATION QUERY STATE ATTENTION IDEMPOTENCY DEDUP CORRELATION COMPOSITE UNIQUE NATURAL "
    "SURROGATE CONTEXT SECTION FIELD COLUMN TAG ATTRIBUTE PROPERTY HEADER PRNG RNG RANDOM JAX"
)
#: The same, but for the two keys of a storage account.
_ORDINALS = _words("PRIMARY SECONDARY")
_BEFORE_SAS = _words("STORAGE BLOB ACCOUNT CONTAINER AZURE SERVICE QUEUE TABLE")
_BEFORE_PAT = _words("GITHUB GITLAB GH GIT AZURE DEVOPS ADO")
_BEFORE_AUTH = _words("BASIC REDIS HTTP PROXY REGISTRY DOCKER REDISCLI NPM")


def is_secret_name(name: str) -> bool:
    """Tell whether a variable, header or field called *name* is taken to hold a secret."""
    if name in _WORKING_DIRECTORY:
        return False
    words = _words_of(name)
    if not words or (words[-1] in _DESCRIBES and words[-2:] != ["SECRET", "ID"]):
        return False
    return any(_is_secret_word(words, index) for index in range(len(words)))


def describes(name: str) -> bool:
    """Tell whether a field called *name* says something about a secret, beside which it is (C(path), C(expirationSeconds))."""
    return (_words_of(name) or [""])[-1] in _DESCRIBES


def _words_of(name: str) -> list[str]:
    return [part.upper() for part in _WORD.findall(_HUMPS.sub(" ", name))]


def _is_secret_word(words: list[str], index: int) -> bool:
    """Tell whether the word at *index* makes the name of *words* that of a secret."""
    word, before = words[index], words[index - 1] if index else ""
    after = words[index + 1] if index + 1 < len(words) else ""
    if word == "JWT" and _is_public_key(words):
        return False
    if word in _ALWAYS or _INSIDE.search(word) or _ENDS.search(word):
        return True
    if word in ("KEY", "KEYS"):
        return _is_secret_key(words, index)
    if word == "TOKEN":
        return before not in _OF_TEXTS and after not in _DESCRIBES
    if word == "TOKENS":
        return before in _OF_ACCESS
    if word.endswith("PASS") and word not in _NO_PASSWORDS:
        return before not in _RUNS and after not in _DESCRIBES
    if word in ("COOKIE", "COOKIES"):
        return not after
    if word in ("PW", "SAS", "PAT") and not after:
        return bool(before) if word == "PW" else before in (_BEFORE_SAS if word == "SAS" else _BEFORE_PAT)
    if word == "STRING":
        return before in ("CONNECTION", "CONN")
    if word == "STR":
        return before == "CONN"
    return word == "AUTH" and before in _BEFORE_AUTH and after in ("", "CONFIG")


def _is_secret_key(words: list[str], index: int) -> bool:
    before, after = words[max(0, index - 1) : index], words[index + 1 : index + 2]
    if before and before[0] in _NAMES:
        return False
    if after and after[0] in _DESCRIBES:
        return False
    if any(word in _OPENS for word in words[:index]):
        return True
    return words[index] == "KEY" and not after and not (before and before[0] in _ORDINALS)


def _is_public_key(words: list[str]) -> bool:
    return any(one in ("PUBLIC", "PUB") and other in ("KEY", "KEYS") for one, other in itertools.pairwise(words))
