"""Pulumi's passphrase secrets provider: AES-256-GCM under a key that PBKDF2 makes of a passphrase.

The format is that of `pkg/secrets/passphrase` and `sdk/go/common/resource/config/crypt.go`: a salt is
`v1:<salt>:<the word pulumi, encrypted>`, a ciphertext `v1:<nonce>:<ciphertext and tag>`, all in base64.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64decode, b64encode
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sandbox.engine.errors import EngineError

_ITERATIONS = 1_000_000
_KEY_BYTES = 32
_NONCE_BYTES = 12
_CHECK_WORD = "pulumi"


@lru_cache(maxsize=8)
def _key(passphrase: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, _ITERATIONS, _KEY_BYTES)


class Crypter:
    """Encrypts and decrypts the secrets of one stack.

    Args:
        passphrase: what protects them; may be empty.
        salt: the `encryptionsalt` of the stack file.

    Raises:
        EngineError: the salt is malformed, or belongs to another passphrase.
    """

    def __init__(self, passphrase: str, salt: str) -> None:
        version, _, rest = salt.partition(":")
        encoded, _, check = rest.partition(":")
        if version != "v1" or not check:
            raise EngineError("encryptionsalt is malformed: it must look like v1:<salt>:v1:<nonce>:<text>")
        self.salt = salt
        self._cipher = AESGCM(_key(passphrase, b64decode(encoded)))
        self._known: dict[str, str] = {}
        if self.decrypt(check) != _CHECK_WORD:
            raise EngineError("the passphrase is not the one that this stack's secrets were encrypted with")

    def encrypt(self, plaintext: str) -> str:
        """Encrypt a text; one that was met before keeps its ciphertext, so that state does not churn."""
        if plaintext not in self._known:
            nonce = secrets.token_bytes(_NONCE_BYTES)
            encrypted = self._cipher.encrypt(nonce, plaintext.encode(), None)
            self._known[plaintext] = f"v1:{b64encode(nonce).decode()}:{b64encode(encrypted).decode()}"
        return self._known[plaintext]

    def decrypt(self, ciphertext: str) -> str:
        """Decrypt what `encrypt` made.

        Raises:
            EngineError: it was encrypted under another passphrase, or is damaged.
        """
        try:
            _, nonce, encrypted = ciphertext.split(":")
            plaintext = self._cipher.decrypt(b64decode(nonce), b64decode(encrypted), None).decode()
        except (ValueError, InvalidTag) as error:
            raise EngineError(
                "a secret cannot be decrypted: the passphrase is not the one that this stack was made with"
            ) from error
        self._known[plaintext] = ciphertext
        return plaintext
