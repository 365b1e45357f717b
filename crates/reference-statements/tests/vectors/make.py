#!/usr/bin/env python3
"""Makes the vectors `made-*.json`: a Sigstore instance of our own (CA, CT log, Rekor v1 log), and what it signed.

Needs `cryptography` (made with 48.0.0). Keys are new with each run and are not kept. Run in this folder.
"""
import base64, datetime, hashlib, json, struct
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SIGNED = 1_748_779_200  # 2025-06-01T12:00:00Z
IDENTITY = "https://forge.example/guest/.github/workflows/release.yml@refs/tags/v1"
ISSUER = "https://token.forge.example"
AT = datetime.datetime.fromtimestamp(SIGNED, datetime.timezone.utc)
DAY, MINUTE = datetime.timedelta(days=1), datetime.timedelta(minutes=1)
START = {"start": "2025-01-01T00:00:00Z"}
b64 = lambda data: base64.b64encode(data).decode()
sha = lambda data: hashlib.sha256(data).digest()
key = lambda: ec.generate_private_key(ec.SECP256R1())
sign = lambda by, data: by.sign(data, ec.ECDSA(hashes.SHA256()))
DER, SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
spki = lambda of: of.public_key().public_bytes(DER, SPKI)
pem = lambda of: of.public_key().public_bytes(serialization.Encoding.PEM, SPKI)
canonical = lambda value: json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
name = lambda cn: x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test"), x509.NameAttribute(NameOID.COMMON_NAME, cn)])

root_key, ca_key, ct_key, rekor_key, leaf_key, plain_key = (key() for _ in range(6))
usage = lambda ca: x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)


def certificate(subject, issuer, of, by, ca, until, extra=()):
    built = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(of.public_key())
             .serial_number(int.from_bytes(sha(str(subject).encode())[:8], "big"))
             .not_valid_before(AT - (DAY if ca else MINUTE)).not_valid_after(until)
             .add_extension(usage(ca), True))
    if ca:
        built = built.add_extension(x509.BasicConstraints(True, None if subject == issuer else 0), True)
    if subject != issuer:
        built = built.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
    built = built.add_extension(x509.SubjectKeyIdentifier.from_public_key(of.public_key()), False)
    built = built.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
    for extension, critical in extra:
        built = built.add_extension(extension, critical)
    return built.sign(by, hashes.SHA256())


root = certificate(name("root"), name("root"), root_key, root_key, True, AT + 3650 * DAY)
ca = certificate(name("ca"), name("root"), ca_key, root_key, True, AT + 3650 * DAY)


def leaf():
    oid = lambda text: x509.ObjectIdentifier(text)
    utf8 = lambda text: bytes([12, len(text)]) + text.encode() if len(text) < 128 else None
    base = [
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(IDENTITY)]), True),
        (x509.UnrecognizedExtension(oid("1.3.6.1.4.1.57264.1.8"), utf8(ISSUER)), False),
        (x509.UnrecognizedExtension(oid("1.3.6.1.4.1.57264.1.12"), utf8("https://forge.example/guest")), False),
        (x509.UnrecognizedExtension(oid("1.3.6.1.4.1.57264.1.13"), utf8("c0ffee" * 6 + "abcd")), False),
    ]
    of_list = lambda sct: (x509.UnrecognizedExtension(oid("1.3.6.1.4.1.11129.2.4.2"), octets(struct.pack(">HH", len(sct) + 2, len(sct)) + sct)), False)
    octets = lambda data: bytes([4, 0x81, len(data)]) + data if len(data) > 127 else bytes([4, len(data)]) + data
    build = lambda sct: certificate(x509.Name([]), name("ca"), leaf_key, ca_key, False, AT + 9 * MINUTE, base + [of_list(sct)])
    head = b"\0" + sha(spki(ct_key)) + struct.pack(">Q", SIGNED * 1000) + b"\0\0"
    draft = build(head + b"\4\3" + struct.pack(">H", 70) + bytes(70))
    tbs = x509.load_der_x509_certificate(draft.public_bytes(DER)).tbs_precertificate_bytes
    signed = b"\0\0" + struct.pack(">Q", SIGNED * 1000) + b"\0\1" + sha(spki(ca_key)) + len(tbs).to_bytes(3, "big") + tbs + b"\0\0"
    signature = sign(ct_key, signed)
    return build(head + b"\4\3" + struct.pack(">H", len(signature)) + signature)


def entry(kind, spec):
    """One of two entries of the log, with proof, checkpoint and SET."""
    body = canonical({"apiVersion": "0.0.1", "kind": kind, "spec": spec})
    mine, other = sha(b"\0" + body), sha(b"\0other")
    top, log = sha(b"\1" + other + mine), sha(spki(rekor_key))
    text = f"rekor.test - 1\n2\n{b64(top)}\n"
    note = f"{text}\n\u2014 rekor.test {b64(log[:4] + sign(rekor_key, text.encode()))}\n"
    promise = canonical({"body": b64(body), "integratedTime": SIGNED, "logID": log.hex(), "logIndex": 1})
    return {
        "logIndex": "1", "logId": {"keyId": b64(log)}, "kindVersion": {"kind": kind, "version": "0.0.1"},
        "integratedTime": str(SIGNED), "inclusionPromise": {"signedEntryTimestamp": b64(sign(rekor_key, promise))},
        "inclusionProof": {"logIndex": "1", "rootHash": b64(top), "treeSize": "2", "hashes": [b64(other)], "checkpoint": {"envelope": note}},
        "canonicalizedBody": b64(body),
    }


def bundle(material, entries, content):
    return {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {**material, "tlogEntries": entries, "timestampVerificationData": {"rfc3161Timestamps": []}}, **content}


def envelope(payload, by, verifier):
    kind = "application/vnd.in-toto+json"
    signature = sign(by, b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload))
    content = {"payload": b64(payload), "payloadType": kind, "signatures": [{"sig": b64(signature)}]}
    spec = {"envelopeHash": {"algorithm": "sha256", "value": sha(canonical(content)).hex()},
            "payloadHash": {"algorithm": "sha256", "value": sha(payload).hex()},
            "signatures": [{"signature": b64(signature), "verifier": b64(verifier)}]}
    return {"dsseEnvelope": content}, entry("dsse", spec)


def write(file, value):
    with open(file, "w") as out:
        out.write(json.dumps(value, indent=1) + "\n")


certified = leaf()
of_certificate = {"certificate": {"rawBytes": b64(certified.public_bytes(DER))}}
certificate_pem = certified.public_bytes(serialization.Encoding.PEM)
values = {
    "series": "guest", "serial": 1, "issued": "2025-06-01T12:00:00Z", "expires": "2030-01-01T00:00:00Z",
    "reference_values": [{"label": "guest 1", "platform": "snp", "measurement": "ab" * 48, "minimum": {"guest_svn": 2}}],
}
statement = canonical({"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "guest.img", "digest": {"sha256": "11" * 32}}],
                       "predicateType": "urn:bailey:reference-values:v1", "predicate": values})
dsse, logged = envelope(statement, leaf_key, certificate_pem)
write("made-values.json", bundle(of_certificate, [logged], dsse))
write("made-values-unlogged.json", bundle(of_certificate, [], dsse))
backdated = {**logged, "integratedTime": str(SIGNED - 60)}
write("made-values-backdated.json", bundle(of_certificate, [backdated], dsse))
payload = canonical(values)
signature = sign(leaf_key, payload)
message = {"messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": b64(sha(payload))}, "signature": b64(signature)}}
spec = {"data": {"hash": {"algorithm": "sha256", "value": sha(payload).hex()}},
        "signature": {"content": b64(signature), "publicKey": {"content": b64(certificate_pem)}}}
write("made-message.json", {"mediaType": "application/vnd.bailey.signed-values+json", "payload": b64(payload),
                            "bundle": bundle(of_certificate, [entry("hashedrekord", spec)], message)})
by_key, logged = envelope(statement, plain_key, pem(plain_key))
hint = {"publicKey": {"hint": "release"}}
write("made-key-values.json", bundle(hint, [logged], by_key))
write("made-key-values-unlogged.json", bundle(hint, [], by_key))
write("made-key-envelope.json", by_key["dsseEnvelope"])
with open("made-key.pem", "wb") as out:
    out.write(pem(plain_key))
public = lambda of: {"rawBytes": b64(spki(of)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": START}
instance = lambda of: {"baseUrl": "https://log.test", "hashAlgorithm": "SHA2_256", "publicKey": public(of), "logId": {"keyId": b64(sha(spki(of)))}}
write("made-trusted-root.json", {
    "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "tlogs": [instance(rekor_key)], "ctlogs": [instance(ct_key)], "timestampAuthorities": [],
    "certificateAuthorities": [{"subject": {"organization": "test", "commonName": "root"}, "uri": "https://ca.test",
                                "certChain": {"certificates": [{"rawBytes": b64(of.public_bytes(DER))} for of in (ca, root)]}, "validFor": START}],
})
