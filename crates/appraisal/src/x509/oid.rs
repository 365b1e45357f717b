//! Object identifiers, as they are encoded.

use x509_parser::asn1_rs::{Oid, oid};

/// 1.2.840.10045.2.1, encoded.
pub(super) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// 1.2.840.113549.1.1.1, encoded.
pub(super) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// 2.5.4.5.
pub(super) const SERIAL_NUMBER: Oid<'static> = oid!(2.5.4.5);
/// 2.5.29.17.
pub(super) const SUBJECT_ALTERNATIVE_NAME: Oid<'static> = oid!(2.5.29.17);
/// 2.5.29.37.
pub(super) const EXTENDED_KEY_USAGE: Oid<'static> = oid!(2.5.29.37);
/// The parameters of RSA keys (RFC 3279, §2.3.1).
pub(super) const NULL: &[u8] = &[5, 0];
/// 1.2.840.10045.3.1.7, encoded.
pub(super) const PRIME_256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// 1.3.132.0.34, encoded.
pub(super) const SECP_384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
/// 1.2.840.10045.4.3.2, encoded.
pub(super) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// 1.2.840.10045.4.3.3, encoded.
pub(super) const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// 1.2.840.113549.1.1.11 to 13, encoded: vendors of TPMs sign so.
pub(super) const RSA_PKCS1_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
pub(super) const RSA_PKCS1_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
pub(super) const RSA_PKCS1_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
/// 2.16.840.1.101.3.4.2.1, encoded.
pub(super) const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
/// 1.2.840.113549.1.1.10, encoded. Of its parameters only the digest is read: for each there is one set that is
/// verified.
pub(super) const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
/// 2.5.4.3, encoded.
pub(super) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// 2.5.29.15, encoded.
pub(super) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
/// 2.5.29.19, encoded.
pub(super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
/// 2.5.29.20, encoded.
pub(super) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
