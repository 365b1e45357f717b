//! What reference values are about: a class of devices or workloads, or one instance of it.

use super::{FORMAT, fields};
use crate::Malformed;
use crate::cbor::Cursor;

/// Tags of CBOR items (IANA; draft-ietf-rats-corim, §11).
pub(super) const OID: u64 = 111;
pub(super) const UUID: u64 = 37;
pub(super) const BYTES: u64 = 560;

/// An environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The class, as its profile numbers it.
    pub class_id: Option<ClassId>,
    /// Who makes it.
    pub vendor: Option<String>,
    /// What they call it.
    pub model: Option<String>,
    /// The one instance that is meant, when one is: the bytes under whatever tag.
    pub instance: Option<Vec<u8>>,
}

/// How a class is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassId {
    /// An object identifier: the contents of its DER encoding.
    Oid(Vec<u8>),
    /// A UUID.
    Uuid([u8; 16]),
    /// Bytes, whatever they are.
    Bytes(Vec<u8>),
}

impl Environment {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        const FIELD: &str = "environment";
        let start = cursor.offset();
        let mut environment = Self::default();
        fields(cursor, FIELD, |key, cursor| {
            match key {
                0 => environment.read_class(cursor)?,
                1 => environment.instance = Some(tagged(cursor, "instance")?.1),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        match environment == Self::default() {
            true => Err(cursor.value(FIELD, start, "a class or an instance", "neither")),
            false => Ok(environment),
        }
    }

    fn read_class(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        fields(cursor, "class", |key, cursor| {
            match key {
                0 => self.class_id = Some(ClassId::read(cursor)?),
                1 => self.vendor = Some(cursor.text("vendor")?.to_owned()),
                2 => self.model = Some(cursor.text("model")?.to_owned()),
                // Layer and index tell classes apart: without them, values of one would be taken for another's.
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

impl ClassId {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        const FIELD: &str = "class id";
        let start = cursor.offset();
        match tagged(cursor, FIELD)? {
            (OID, bytes) => Ok(Self::Oid(bytes)),
            (BYTES, bytes) => Ok(Self::Bytes(bytes)),
            (_, bytes) => bytes
                .try_into()
                .map(Self::Uuid)
                .map_err(|_| cursor.value(FIELD, start, "16 bytes of a UUID", "another length")),
        }
    }
}

/// Bytes under one of the tags that name things.
fn tagged(cursor: &mut Cursor<'_>, field: &'static str) -> Result<(u64, Vec<u8>), Malformed> {
    const UEID: u64 = 550;
    let start = cursor.offset();
    match [OID, UUID, BYTES, UEID].into_iter().find(|tag| cursor.has_tag(*tag)) {
        Some(tag) => Ok((tag, cursor.bytes(field)?.to_vec())),
        None => Err(Malformed::unsupported(FORMAT, field, start, "tag 37, 111, 550 or 560", "another item")),
    }
}
