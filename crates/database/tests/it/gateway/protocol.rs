//! Bytes that break the protocol, or try to slip past it.

use bytes::{BufMut, BytesMut};
use database::audit::Event;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{SSL_REQUEST, Served, Tls, served};

fn start(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u32(3 << 16);
    for (key, value) in parameters {
        body.put_slice(format!("{key}\0{value}\0").as_bytes());
    }
    body.put_u8(0);
    [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

/// Reads messages up to one of that type; all bodies that came, with their types.
async fn until(stream: &mut (impl AsyncReadExt + Unpin), last: u8) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while let Ok(kind) = stream.read_u8().await {
        let Ok(length) = stream.read_u32().await else { break };
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await.unwrap();
        messages.push((kind, body));
        if kind == last {
            break;
        }
    }
    messages
}

fn kinds(messages: &[(u8, Vec<u8>)]) -> String {
    messages.iter().map(|it| char::from(it.0)).collect()
}

fn sqlstate(messages: &[(u8, Vec<u8>)]) -> String {
    let error = messages.iter().find(|it| it.0 == b'E').map(|it| String::from_utf8_lossy(&it.1).into_owned());
    let error = error.unwrap_or_else(|| panic!("no error: {}", kinds(messages)));
    error.split('\0').find_map(|it| it.strip_prefix('C')).unwrap_or_default().to_owned()
}

async fn session(served: &Served) -> Tls {
    let mut stream = served.opened(Some(&served.parties.auditor.issue("x"))).await;
    stream.write_all(&start(&[("user", "x"), ("database", "test")])).await.unwrap();
    assert_eq!(kinds(&until(&mut stream, b'Z').await).chars().last(), Some('Z'));
    stream
}

/// Refusals of whoever had no session yet, once there are so many: code and reason.
async fn strangers(served: &Served, count: usize) -> Vec<(String, String)> {
    loop {
        let denied = served.audited().await.into_iter().filter_map(|it| match it {
            Event::LoginDenied { code, reason, .. } => Some((code, reason)),
            _ => None,
        });
        let denied: Vec<_> = denied.collect();
        // TLS tells the client before the entry is written.
        if denied.len() >= count {
            return denied;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn without_tls_there_is_no_session() {
    let Some(served) = served().await else { return };
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(&start(&[("user", "x"), ("database", "test")])).await.unwrap();
    assert_eq!(sqlstate(&until(&mut stream, b'Z').await), "08P01");
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it is closed");
    assert_eq!(strangers(&served, 1).await[0].0, "PROTOCOL_VIOLATION");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let Some(served) = served().await else { return };
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    // A ClientHello of TLS 1.2 without the extension that names later versions.
    let mut hello = BytesMut::new();
    hello.put_slice(&[3, 3]);
    hello.put_slice(&[7; 32]);
    hello.put_slice(&[0, 0, 4, 0xc0, 0x2f, 0xc0, 0x2b, 1, 0, 0, 0]);
    let handshake = [&[1, 0, 0, u8::try_from(hello.len()).unwrap()][..], &hello].concat();
    let record = [&[0x16, 3, 1, 0, u8::try_from(handshake.len()).unwrap()][..], &handshake].concat();
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&0x15), "an alert");
    assert_eq!(strangers(&served, 1).await[0].0, "TLS_REFUSED");
}

/// CVE-2021-23214: whoever sits in between puts bytes behind the client's request for TLS.
#[tokio::test]
async fn what_is_sent_in_the_clear_with_the_request_for_tls_counts_for_nothing() {
    let Some(served) = served().await else { return };
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let smuggled =
        [&SSL_REQUEST[..], &start(&[("user", "x"), ("database", "test")]), &message(b'Q', b"SELECT 1\0")];
    stream.write_all(&smuggled.concat()).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let came = until(&mut stream, b'Z').await;
    assert_eq!((kinds(&came).as_str(), sqlstate(&came).as_str()), ("E", "08P01"));
    let (code, reason) = strangers(&served, 1).await.remove(0);
    assert_eq!((code.as_str(), reason.contains("in the clear")), ("PROTOCOL_VIOLATION", true));
}

#[tokio::test]
async fn first_messages_that_are_cut_off_or_make_no_sense_are_refused_with_08p01() {
    let Some(served) = served().await else { return };
    let whole = start(&[("user", "x"), ("database", "test")]);
    let mut old = whole.clone();
    old[5] = 2;
    let faults: [&[u8]; 5] =
        [&whole[..whole.len() - 3], &[255, 255, 255, 255], &old, &SSL_REQUEST, &[0, 0, 0, 4]];
    for bytes in faults {
        let mut stream = served.opened(Some(&served.parties.auditor.issue("x"))).await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let came = until(&mut stream, b'Z').await;
        assert_eq!((kinds(&came).as_str(), sqlstate(&came).as_str()), ("E", "08P01"), "{bytes:?}");
    }
    let recorded = strangers(&served, faults.len()).await;
    assert!(recorded.iter().all(|it| it.0 == "PROTOCOL_VIOLATION"), "{recorded:?}");
}

/// Anyone who reaches the port can be refused without end, and every entry stays for good.
#[tokio::test]
async fn strangers_do_not_fill_the_audit_log() {
    let Some(served) = served().await else { return };
    for _ in 0..110 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(&start(&[("user", "x"), ("database", "test")])).await.unwrap();
        assert_eq!(sqlstate(&until(&mut stream, b'Z').await), "08P01");
    }
    assert_eq!(strangers(&served, 100).await.len(), 100);
}

#[tokio::test]
async fn tls_without_a_request_is_taken_with_the_protocols_name_alone() {
    let Some(served) = served().await else { return };
    let holder = served.parties.auditor.issue("x");
    for (named, taken) in [(true, true), (false, false)] {
        let connector = served.tls(Some(&holder));
        let mut config = connector.config().as_ref().clone();
        config.alpn_protocols = if named { vec![b"postgresql".to_vec()] } else { vec![] };
        let stream = TcpStream::connect(served.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(&start(&[("user", "x"), ("database", "test")])).await.unwrap();
        let came = until(&mut stream, b'Z').await;
        assert_eq!(kinds(&came).ends_with('Z'), taken);
        assert!(taken || sqlstate(&came) == "08P01");
    }
    assert_eq!(strangers(&served, 1).await.len(), 1);
}

#[tokio::test]
async fn start_up_parameters_that_change_rights_are_refused() {
    let Some(served) = served().await else { return };
    for (key, value) in [
        ("replication", "true"),
        ("options", "-c synchronous_commit=off"),
        ("synchronous_commit", "off"),
        ("search_path", "bailey"),
        ("role", "bailey"),
        ("client_encoding", "SJIS"),
    ] {
        let mut stream = served.opened(Some(&served.parties.auditor.issue("x"))).await;
        stream.write_all(&start(&[("user", "bailey"), ("database", "test"), (key, value)])).await.unwrap();
        assert_eq!(sqlstate(&until(&mut stream, b'Z').await), "42501", "{key}");
    }
    let mut stream = served.opened(Some(&served.parties.auditor.issue("x"))).await;
    stream.write_all(&start(&[("user", "x"), ("database", "postgres")])).await.unwrap();
    assert_eq!(sqlstate(&until(&mut stream, b'Z').await), "3D000");
    let codes = served.audited().await.into_iter().filter(|it| matches!(it, Event::Denied { .. })).count();
    assert_eq!(codes, 6);
}

#[tokio::test]
async fn oversized_truncated_and_unknown_messages_end_the_session_with_08p01() {
    let Some(served) = served().await else { return };
    let huge = [&b"Q"[..], &(i32::MAX).to_be_bytes()].concat();
    let faults: [(&str, Vec<u8>); 11] = [
        ("a length below its own size", vec![b'Q', 0, 0, 0, 3]),
        ("a negative length", vec![b'Q', 255, 255, 255, 255]),
        ("too long", huge),
        ("a text that does not end", message(b'Q', b"SELECT 1")),
        ("more after the text", message(b'Q', b"SELECT 1\0SELECT 2\0")),
        ("a text that is not UTF-8", message(b'Q', b"SELECT '\xff'\0")),
        ("a password", message(b'p', b"x\0")),
        ("an unknown type", message(b'~', b"")),
        ("types that are missing", message(b'P', b"\0SELECT 1\0\0\x02")),
        ("a portal without a name", message(b'E', b"x")),
        ("neither a statement nor a portal", message(b'D', b"X\0")),
    ];
    let count = faults.len();
    for (what, bytes) in faults {
        let mut stream = session(&served).await;
        stream.write_all(&bytes).await.unwrap();
        let came = until(&mut stream, b'Z').await;
        assert_eq!((kinds(&came).as_str(), sqlstate(&came).as_str()), ("E", "08P01"), "{what}");
    }
    let recorded = |it: &Event| matches!(it, Event::Denied { code, .. } if code == "PROTOCOL_VIOLATION");
    assert_eq!(served.audited().await.iter().filter(|it| recorded(it)).count(), count);
}

#[tokio::test]
async fn a_message_that_is_cut_off_does_nothing_and_is_recorded() {
    let Some(served) = served().await else { return };
    let mut values = message(b'B', &[0; 4000]);
    values.truncate(2000);
    for bytes in [&message(b'Q', b"INSERT INTO notes VALUES (1, 'x')\0")[..20], &[b'Q', 0], &values] {
        let mut stream = session(&served).await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let came = until(&mut stream, b'Z').await;
        assert_eq!(sqlstate(&came), "08P01", "{bytes:?}");
    }
    let recorded = |it: &Event| matches!(it, Event::Denied { code, .. } if code == "PROTOCOL_VIOLATION");
    assert_eq!(served.audited().await.iter().filter(|it| recorded(it)).count(), 3);
}

#[tokio::test]
async fn function_calls_of_the_protocol_are_refused_and_the_session_goes_on() {
    let Some(served) = served().await else { return };
    let mut stream = session(&served).await;
    // lo_creat
    stream.write_all(&message(b'F', &[0, 0, 3, 0xbd, 0, 0, 0, 0, 0, 0])).await.unwrap();
    let came = until(&mut stream, b'Z').await;
    assert_eq!((kinds(&came).as_str(), sqlstate(&came).as_str()), ("EZ", "42501"));
    stream.write_all(&message(b'Q', b"SELECT 1\0")).await.unwrap();
    assert_eq!(kinds(&until(&mut stream, b'Z').await), "TDCZ");
}

#[tokio::test]
async fn rows_for_a_copy_that_was_refused_go_nowhere() {
    let Some(served) = served().await else { return };
    let mut stream = session(&served).await;
    let mut bytes = message(b'Q', b"COPY notes FROM STDIN\0");
    bytes.extend(message(b'd', b"1\tx\n"));
    // What looks like a message within rows is rows.
    bytes.extend(message(b'd', &message(b'Q', b"DELETE FROM notes\0")));
    bytes.extend(message(b'c', b""));
    bytes.extend(message(b'Q', b"SELECT count(*) FROM notes\0"));
    stream.write_all(&bytes).await.unwrap();
    let came = until(&mut stream, b'Z').await;
    assert_eq!((kinds(&came).as_str(), sqlstate(&came).as_str()), ("EZ", "42501"));
    assert_eq!(kinds(&until(&mut stream, b'Z').await), "TDCZ");
}

#[tokio::test]
async fn statements_among_the_rows_of_a_copy_end_the_session() {
    let Some(served) = served().await else { return };
    let mut stream = served.opened(Some(&served.parties.bank_b.issue("x"))).await;
    stream.write_all(&start(&[("user", "x"), ("database", "test")])).await.unwrap();
    until(&mut stream, b'Z').await;
    let copy = message(b'Q', b"COPY notes FROM STDIN\0");
    let bytes = [copy, message(b'd', b"1\tx\n"), message(b'Q', b"SELECT 1\0"), message(b'c', b"")].concat();
    stream.write_all(&bytes).await.unwrap();
    let came = until(&mut stream, b'Z').await;
    assert_eq!((kinds(&came).as_str(), sqlstate(&came).as_str()), ("GE", "08P01"));
    let rows = served.superuser().await.query("SELECT FROM notes", &[]).await.unwrap();
    assert!(rows.is_empty());
}

#[tokio::test]
async fn after_an_error_everything_up_to_sync_is_skipped_also_what_was_already_passed_on() {
    let Some(served) = served().await else { return };
    let mut stream = served.opened(Some(&served.parties.bank_b.issue("x"))).await;
    stream.write_all(&start(&[("user", "x"), ("database", "test")])).await.unwrap();
    until(&mut stream, b'Z').await;
    let parse = |text: &str| message(b'P', format!("\0{text}\0\0\0").as_bytes());
    let run = [message(b'B', &[0, 0, 0, 0, 0, 0, 0, 0]), message(b'E', &[0, 0, 0, 0, 0])].concat();
    for (first, code) in [("DELETE FROM notes", "42501"), ("INSERT INTO notes VALUES ('x', 'x')", "22P02")] {
        let bytes = [
            parse(first),
            run.clone(),
            parse("INSERT INTO notes VALUES (1, 'x')"),
            run.clone(),
            message(b'S', b""),
        ];
        stream.write_all(&bytes.concat()).await.unwrap();
        let came = until(&mut stream, b'Z').await;
        assert_eq!((kinds(&came).as_str(), sqlstate(&came).as_str()), ("EZ", code), "{first}");
    }
    let bytes = [parse("INSERT INTO notes VALUES (2, 'x')"), run, message(b'S', b"")].concat();
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(kinds(&until(&mut stream, b'Z').await), "12CZ");
    let rows = served.superuser().await.query("SELECT id FROM notes", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|it| it.get::<_, i64>(0)).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn newer_minor_versions_and_options_of_the_protocol_are_answered_with_what_is_spoken() {
    let Some(served) = served().await else { return };
    let mut stream = served.opened(Some(&served.parties.auditor.issue("x"))).await;
    let mut bytes = start(&[("user", "x"), ("database", "test"), ("_pq_.command", "on")]);
    bytes[7] = 2;
    stream.write_all(&bytes).await.unwrap();
    let came = until(&mut stream, b'Z').await;
    assert_eq!(came[0], (b'v', b"\0\x03\0\0\0\0\0\x01_pq_.command\0".to_vec()));
    assert!(kinds(&came).ends_with("KZ"));
}
