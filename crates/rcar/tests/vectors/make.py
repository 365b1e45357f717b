#!/usr/bin/env python3
"""Makes jwe.json: messages of an independent implementation (pyca/cryptography, that is OpenSSL), with the private keys
that read them. Keys and messages are made for these tests and protect nothing. Run: python3 make.py > jwe.json

ml-kem-768.key is a decapsulation key of aws-lc-rs, expanded (FIPS 203: 2400 bytes, the encapsulation key from byte 1152
on), because pyca/cryptography takes and gives seeds only. KMAC is of the program openssl.
"""

import json
import os
import subprocess
from base64 import b64decode, urlsafe_b64encode

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_wrap


def b64(data):
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def pkcs8(key):
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def jwe(header, cek, encrypted_key, plaintext):
    # Spaces and the order of members: what is authenticated is the text, whatever it looks like.
    protected = b64(json.dumps(header, indent=1).encode())
    iv = os.urandom(12)
    sealed = AESGCM(cek).encrypt(iv, plaintext, protected.encode())
    return {
        "protected": protected,
        "encrypted_key": b64(encrypted_key),
        "iv": b64(iv),
        "ciphertext": b64(sealed[:-16]),
        "tag": b64(sealed[-16:]),
    }


def with_rsa(plaintext):
    key = rsa.generate_private_key(65537, 3072)
    cek = os.urandom(32)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    message = jwe({"enc": "A256GCM", "alg": "RSA-OAEP-256"}, cek, key.public_key().encrypt(cek, oaep), plaintext)
    return {"alg": "RSA-OAEP-256", "private": b64(pkcs8(key)), "jwe": message}


def with_ec(curve, name, size, plaintext):
    key, ephemeral = ec.generate_private_key(curve), ec.generate_private_key(curve)
    algorithm = b"ECDH-ES+A256KW"
    # RFC 7518, section 4.6.2: AlgorithmID, PartyUInfo, PartyVInfo, SuppPubInfo.
    info = len(algorithm).to_bytes(4, "big") + algorithm + bytes(8) + (256).to_bytes(4, "big")
    secret = ephemeral.exchange(ec.ECDH(), key.public_key())
    wrapping = ConcatKDFHash(hashes.SHA256(), 32, info).derive(secret)
    cek = os.urandom(32)
    point = ephemeral.public_key().public_numbers()
    epk = {"kty": "EC", "crv": name, "x": b64(point.x.to_bytes(size, "big")), "y": b64(point.y.to_bytes(size, "big"))}
    header = {"epk": epk, "alg": algorithm.decode(), "enc": "A256GCM"}
    scalar = key.private_numbers().private_value.to_bytes(size, "big")
    return {"alg": name, "private": b64(scalar), "jwe": jwe(header, cek, aes_key_wrap(wrapping, cek), plaintext)}


def with_ml_kem(plaintext):
    private = b64decode(open("ml-kem-768.key").read())
    secret, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(private[1152:2336]).encapsulate()
    algorithm = b"ML-KEM-768+A192KW"
    info = len(algorithm).to_bytes(4, "big") + algorithm + (192).to_bytes(4, "big")
    kmac = ["openssl", "mac", "-macopt", "hexkey:" + secret.hex(), "-macopt", "size:24", "-in", "-", "KMAC-256"]
    wrapping = bytes.fromhex(subprocess.run(kmac, input=info, capture_output=True, check=True).stdout.decode())
    cek = os.urandom(32)
    header = {"ek": b64(ciphertext), "alg": algorithm.decode(), "enc": "A256GCM"}
    message = jwe(header, cek, aes_key_wrap(wrapping, cek), plaintext)
    return {"alg": algorithm.decode(), "private": b64(private), "jwe": message}


kek = bytes(range(24))
print(
    json.dumps(
        {
            "plaintext": "Live long and prosper.",
            "messages": [
                with_rsa(b"Live long and prosper."),
                with_ec(ec.SECP256R1(), "P-256", 32, b"Live long and prosper."),
                with_ec(ec.SECP384R1(), "P-384", 48, b"Live long and prosper."),
                with_ec(ec.SECP521R1(), "P-521", 66, b"Live long and prosper."),
                with_ml_kem(b"Live long and prosper."),
            ],
            "a192kw": {"kek": kek.hex(), "key": bytes(range(32)).hex(), "wrapped": aes_key_wrap(kek, bytes(range(32))).hex()},
        },
        indent=1,
    )
)
