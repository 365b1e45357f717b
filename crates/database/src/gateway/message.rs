//! Messages of PostgreSQL's protocol 3.0 (its documentation, §55.7), as far as the gateway reads and makes them: pure
//! functions on bytes. Nothing here panics on what a peer sends; what is too short or too long is a [`Malformed`].

use bytes::{BufMut, BytesMut};

/// Bytes of a type and a length.
pub(super) const HEADER: usize = 5;
/// Bytes of the name of a statement or a portal.
const MAX_NAME: usize = 128;

/// A message that breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Type, and length of the body in bytes. `None`: more must come.
pub(super) fn header(bytes: &[u8]) -> Result<Option<(u8, usize)>, Malformed> {
    let Some((head, _)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [kind, length @ ..] = *head;
    let length = usize::try_from(i32::from_be_bytes(length)).ok().and_then(|it| it.checked_sub(4));
    length
        .map(|it| Some((kind, it)))
        .ok_or(Malformed("a message says that it is shorter than its own header"))
}

/// A text that ends with a zero, and what comes after.
pub(super) fn text(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let end = bytes.iter().position(|it| *it == 0).ok_or(Malformed("a text does not end"))?;
    let (text, rest) = (bytes.get(..end), bytes.get(end + 1..));
    let text = text.and_then(|it| std::str::from_utf8(it).ok()).ok_or(Malformed("a text is not UTF-8"))?;
    Ok((text, rest.unwrap_or_default()))
}

/// The name of a statement or a portal, and what comes after.
pub(super) fn name(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (name, rest) = text(bytes)?;
    if name.len() > MAX_NAME { Err(Malformed("a name is longer than 128 bytes")) } else { Ok((name, rest)) }
}

fn nothing_after(rest: &[u8]) -> Result<(), Malformed> {
    if rest.is_empty() { Ok(()) } else { Err(Malformed("a message is longer than what it holds")) }
}

/// `Query`: its text.
pub(super) fn query(body: &[u8]) -> Result<&str, Malformed> {
    let (query, rest) = text(body)?;
    nothing_after(rest).map(|()| query)
}

/// `Parse`.
pub(super) struct Parse<'a> {
    pub(super) name: &'a str,
    pub(super) query: &'a str,
    /// The number of parameters whose types are given, and their types: as they came.
    pub(super) types: &'a [u8],
}

pub(super) fn parse(body: &[u8]) -> Result<Parse<'_>, Malformed> {
    let (name, rest) = name(body)?;
    let (query, types) = text(rest)?;
    let (count, listed) = types.split_first_chunk::<2>().ok_or(Malformed("Parse has no number of types"))?;
    if listed.len() != usize::from(u16::from_be_bytes(*count)) * 4 {
        return Err(Malformed("Parse has another number of types than it says"));
    }
    Ok(Parse { name, query, types })
}

/// `Describe` and `Close`: whether a statement is meant (not a portal), and its name.
pub(super) fn target(body: &[u8]) -> Result<(bool, &str), Malformed> {
    let (kind, rest) = body.split_first().ok_or(Malformed("a message is empty"))?;
    let (name, rest) = name(rest)?;
    nothing_after(rest)?;
    match kind {
        b'S' => Ok((true, name)),
        b'P' => Ok((false, name)),
        _ => Err(Malformed("neither a statement nor a portal is meant")),
    }
}

/// `Execute`: the portal's name.
pub(super) fn execute(body: &[u8]) -> Result<&str, Malformed> {
    let (name, rest) = name(body)?;
    if rest.len() == 4 { Ok(name) } else { Err(Malformed("Execute has no number of rows")) }
}

/// `Bind`: portal, statement, and where the rest begins.
pub(super) fn bind(body: &[u8]) -> Result<(&str, &str, usize), Malformed> {
    let (portal, rest) = name(body)?;
    let (statement, rest) = name(rest)?;
    Ok((portal, statement, body.len() - rest.len()))
}

/// The rest of a `Bind` after its names: formats and values of parameters, formats of results, each as it came.
pub(super) fn bound(rest: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let short = Malformed("Bind is shorter than what it holds");
    let (count, mut tail) = rest.split_first_chunk::<2>().ok_or(short)?;
    tail = tail.get(usize::from(u16::from_be_bytes(*count)) * 2..).ok_or(short)?;
    let (count, mut tail) = tail.split_first_chunk::<2>().ok_or(short)?;
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = tail.split_first_chunk::<4>().ok_or(short)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        tail = after.get(length..).ok_or(short)?;
    }
    let (count, formats) = tail.split_first_chunk::<2>().ok_or(short)?;
    if formats.len() != usize::from(u16::from_be_bytes(*count)) * 2 {
        return Err(Malformed("Bind has another number of formats than it says"));
    }
    let at = rest.len() - tail.len();
    Ok((rest.get(..at).unwrap_or_default(), tail))
}

/// `DataRow`: its values as text.
pub(super) fn row(body: &[u8]) -> Result<Vec<Option<String>>, Malformed> {
    let short = Malformed("DataRow is shorter than what it holds");
    let (count, mut tail) = body.split_first_chunk::<2>().ok_or(short)?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = tail.split_first_chunk::<4>().ok_or(short)?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            (tail, values) = (after, {
                values.push(None);
                values
            });
            continue;
        };
        let value = after.get(..length).ok_or(short)?;
        values.push(Some(String::from_utf8(value.to_vec()).map_err(|_| Malformed("a value is not UTF-8"))?));
        tail = after.get(length..).ok_or(short)?;
    }
    Ok(values)
}

/// Appends a message whose body `write` makes.
pub(super) fn put(out: &mut BytesMut, kind: u8, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let at = out.len();
    out.put_i32(0);
    write(out);
    let length = i32::try_from(out.len() - at).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a text and the zero that ends it. A zero within would end it early and is left out.
pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().filter(|it| *it != 0));
    out.put_u8(0);
}

pub(super) fn put_query(out: &mut BytesMut, text: &str) {
    put(out, b'Q', |out| put_text(out, text));
}

pub(super) fn put_parse(out: &mut BytesMut, name: &str, text: &str, types: &[u8]) {
    put(out, b'P', |out| {
        put_text(out, name);
        put_text(out, text);
        out.put_slice(types);
    });
}

/// `Bind`, with the parameters and the formats as [`bound`] gives them.
pub(super) fn put_bind(out: &mut BytesMut, portal: &str, statement: &str, parameters: &[u8], formats: &[u8]) {
    put(out, b'B', |out| {
        put_text(out, portal);
        put_text(out, statement);
        out.put_slice(parameters);
        out.put_slice(formats);
    });
}

/// `Execute`, all rows.
pub(super) fn put_execute(out: &mut BytesMut, portal: &str) {
    put(out, b'E', |out| {
        put_text(out, portal);
        out.put_i32(0);
    });
}

/// `Close`; `kind`: `S` for a statement, `P` for a portal.
pub(super) fn put_close(out: &mut BytesMut, kind: u8, name: &str) {
    put(out, b'C', |out| {
        out.put_u8(kind);
        put_text(out, name);
    });
}

/// `Flush`.
pub(super) fn put_flush(out: &mut BytesMut) {
    put(out, b'H', |_| {});
}

/// `ErrorResponse`.
pub(super) fn put_error(out: &mut BytesMut, severity: &str, sqlstate: &str, sentence: &str) {
    put(out, b'E', |out| {
        for (kind, value) in [(b'S', severity), (b'V', severity), (b'C', sqlstate), (b'M', sentence)] {
            out.put_u8(kind);
            put_text(out, value);
        }
        out.put_u8(0);
    });
}

/// Fields of an `ErrorResponse` or a `NoticeResponse`.
pub(super) fn fields(mut body: &[u8]) -> Result<Vec<(u8, &str)>, Malformed> {
    let mut fields = Vec::new();
    while let Some((kind, rest)) = body.split_first().filter(|(kind, _)| **kind != 0) {
        let (value, rest) = text(rest)?;
        fields.push((*kind, value));
        body = rest;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_below_its_own_size_is_refused() {
        for length in [0_i32, 1, 3, -1, i32::MIN] {
            let bytes = [&b"Q"[..], &length.to_be_bytes()].concat();
            assert!(header(&bytes).is_err(), "{length}");
        }
        assert_eq!(header(b"Q\0\0\0\x04"), Ok(Some((b'Q', 0))));
        assert_eq!(header(b"Q\0\0\0"), Ok(None));
    }

    #[test]
    fn what_is_made_is_read_back() {
        let mut out = BytesMut::new();
        put_parse(&mut out, "a", "SELECT 1", &[0, 1, 0, 0, 0, 23]);
        let read = parse(&out[HEADER..]).expect("it is well-formed");
        assert_eq!((read.name, read.query, read.types), ("a", "SELECT 1", &[0, 1, 0, 0, 0, 23][..]));
        for cut in 0..out.len() - HEADER {
            assert!(parse(&out[HEADER..HEADER + cut]).is_err(), "{cut}");
        }
        let rest = [0, 1, 0, 0, 0, 2, 0, 0, 0, 1, b'x', 255, 255, 255, 255, 0, 1, 0, 1];
        assert_eq!(bound(&rest), Ok((&rest[..15], &rest[15..])));
        for cut in 0..rest.len() {
            assert!(bound(&rest[..cut]).is_err(), "{cut}");
        }
        assert_eq!(row(&[0, 2, 0, 0, 0, 1, b'x', 255, 255, 255, 255]), Ok(vec![Some("x".into()), None]));
    }
}
