//! Signature databases of Secure Boot: lists of certificates and digests (UEFI 2.10, §32.4.1 "Signature Database").

use crate::Malformed;
use crate::reader::Reader;

const FORMAT: &str = "signature list";
/// EFI_CERT_X509_GUID, A5C059A1-94E4-4AA7-87B5-AB155C2BF072.
const X509: [u8; 16] =
    [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
/// EFI_CERT_SHA256_GUID, C1C41626-504C-4092-ACA9-41F936934328.
const SHA256: [u8; 16] =
    [0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28];

/// The entries of PK, KEK, db or dbx.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureDatabase<'a> {
    /// Certificates, DER.
    pub certificates: Vec<&'a [u8]>,
    /// SHA-256 digests of images.
    pub digests: Vec<&'a [u8; 32]>,
    /// How many entries are of other types.
    pub others: usize,
}

impl<'a> SignatureDatabase<'a> {
    /// Parses the value of such a variable; empty where the variable is absent.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as the format demands.
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut database = Self::default();
        let mut reader = Reader::new(FORMAT, value);
        while !reader.rest().is_empty() {
            let start = reader.offset();
            let kind: [u8; 16] = reader.array("signature type")?;
            let list = reader.u32("list size")? as usize;
            let header = reader.u32("header size")? as usize;
            let size = reader.u32("signature size")? as usize;
            let body = list.checked_sub(28).and_then(|body| body.checked_sub(header));
            let Some(body) = body.filter(|body| size >= 16 && body.is_multiple_of(size)) else {
                let seen = format!("{list}, with a header of {header} and signatures of {size}");
                return Err(Malformed::value(FORMAT, "list size", start + 16, "sizes that fit", seen));
            };
            reader.take("header", header)?;
            for entry in reader.take("signatures", body)?.chunks_exact(size) {
                // The first 16 bytes name the owner.
                match (kind, entry.get(16..)) {
                    (X509, Some(certificate)) => database.certificates.push(certificate),
                    (SHA256, Some(digest)) if digest.len() == 32 => {
                        database.digests.extend(digest.first_chunk::<32>());
                    }
                    _ => database.others += 1,
                }
            }
        }
        Ok(database)
    }
}
