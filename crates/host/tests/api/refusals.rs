//! Who is refused, and how; and who can hold up nobody.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use keep_protocol::Message;
use keep_protocol::host::{HostErrorCode as Code, HostInfo, Keeps, NewKeep, Platform, Tee};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::client::{SNP, ping, read_answer};
use crate::site::{LONG, Site, TOKENS};

#[test]
fn nobody_is_let_in_without_proof() {
    let site = Site::start(|config| config["keeps"]["warm"] = json!(0));
    for client in [site.client(None), site.client(Some("a guess"))] {
        for (method, path) in
            [("GET", "/v1"), ("GET", "/v1/keeps"), ("POST", "/v1/keeps"), ("GET", "/nothing")]
        {
            assert_eq!(client.refused(method, path, &[]), Code::Unauthorised, "{method} {path}");
        }
    }
    let answer = site.client(None).request("GET", "/v1", &[]);
    assert!(answer.head.to_lowercase().contains("www-authenticate: bearer"), "{}", answer.head);
}

#[test]
fn a_client_certificate_is_a_proof_by_its_digest() {
    let key = KeyPair::generate().unwrap();
    let known = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
    let other = rcgen::CertificateParams::new(vec!["other".into()]).unwrap().self_signed(&key).unwrap();
    let digest = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, known.der()));
    let site = Site::start(|config| {
        config["tenants"] = json!([{"name": "acme", "certificates": [digest]}]);
    });
    let client = |der: &rustls::pki_types::CertificateDer<'static>| {
        site.client(None).with_certificate(der.clone(), key.serialize_der())
    };
    assert!(!client(known.der()).get::<HostInfo>("/v1").draining);
    assert_eq!(client(other.der()).refused("GET", "/v1", &[]), Code::Unauthorised);
}

#[test]
fn an_open_api_is_loopback_only_and_configured() {
    let site = Site::start(|config| {
        config["tenants"] = json!([]);
        config["api"]["open"] = json!({"keeps": 1});
    });
    let client = site.client(None);
    let lease = client.lease().unwrap();
    let mut channel = client.channel(&lease.id).unwrap();
    ping(&mut channel, b"open");
    assert_eq!(client.lease().unwrap_err().code, Code::QuotaExceeded);
    drop(channel);
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut config = json!({
            "directory": "host",
            "backends": [{"process": {"name": "p", "platform": "p", "keep": {"executable": "/bin/true"}}}],
            "api": {"listen": "127.0.0.1:0", "open": {}},
        });
        change(&mut config);
        host::Config::parse(config.to_string().as_bytes(), "/base".as_ref())
            .map(|_| ())
            .map_err(|it| it.to_string())
    };
    refused(&|_| {}).unwrap();
    assert!(
        refused(&|config| config["api"]["listen"] = json!("0.0.0.0:1")).unwrap_err().contains("loopback")
    );
    let closed = refused(&|config| config["api"] = json!({"listen": "127.0.0.1:0"}));
    assert!(closed.unwrap_err().contains("nobody is let in"));
}

#[test]
fn s55_no_tenant_sees_or_ends_or_reaches_anothers_keep() {
    let site = Site::start(|_| {});
    let (acme, zeta) = (site.client(Some(TOKENS[0])), site.client(Some(TOKENS[1])));
    let lease = acme.lease().unwrap();
    let path = format!("/v1/keeps/{}", lease.id);
    assert!(zeta.get::<Keeps>("/v1/keeps").keeps.is_empty());
    assert_eq!(zeta.refused("DELETE", &path, &[]), Code::NoSuchKeep);
    assert_eq!(zeta.channel(&lease.id).err().unwrap().code, Code::NoSuchKeep);
    let nobodys = zeta.request("DELETE", "/v1/keeps/00000000000000000000000000000000", &[]);
    assert_eq!(zeta.request("DELETE", &path, &[]).body, nobodys.body);
    // Nor a warm one that is nobody's.
    let warm = site.await_processes(|processes| processes.len() == 2);
    for process in warm {
        let id = process.name.as_str().trim_start_matches("k-").to_owned();
        assert_eq!(zeta.channel(&id).err().unwrap().code, Code::NoSuchKeep);
    }
    ping(&mut acme.channel(&lease.id).unwrap(), b"unharmed");
}

#[test]
fn quotas_and_room_are_refused_with_a_time() {
    let site = Site::start(|config| config["keeps"]["warm"] = json!(0));
    let client = site.client(Some(TOKENS[0]));
    let leases = [client.lease().unwrap(), client.lease().unwrap()];
    let wanted = NewKeep { tees: vec![SNP], label: String::new(), memory: 0, volumes: false }.to_bytes();
    let answer = client.request("POST", "/v1/keeps", &wanted);
    assert_eq!((answer.status, answer.error().code), (429, Code::QuotaExceeded));
    assert!(answer.head.to_lowercase().contains("retry-after: "), "{}", answer.head);
    assert_eq!(client.request("DELETE", &format!("/v1/keeps/{}", leases[0].id), &[]).status, 204);
    let began = Instant::now();
    while client.lease().is_err() {
        assert!(began.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(20));
    }
    let real = Tee { emulated: false, platform: Platform::Snp };
    assert_eq!(site.client(Some(TOKENS[1])).lease_of(&[real]).unwrap_err().code, Code::NoSuchTee);
}

#[test]
fn s43_malformed_requests_are_refused_and_the_agent_lives() {
    let site = Site::start(|_| {});
    let client = site.client(Some(TOKENS[0]));
    let wanted = NewKeep { tees: vec![SNP], label: String::new(), memory: 0, volumes: false }.to_bytes();
    for body in
        [&[][..], b"\xff", b"{}", &wanted[..wanted.len() - 1], &[&wanted[..], &[0]].concat(), &[0; 65536]]
    {
        assert_eq!(client.refused("POST", "/v1/keeps", body), Code::Malformed);
    }
    assert_eq!(client.refused("PUT", "/v1/keeps", &[]), Code::NotFound);
    assert_eq!(client.refused("GET", "/v2", &[]), Code::VersionUnsupported);
    assert_eq!(client.refused("GET", "/v1/keeps/../../etc/passwd", &[]), Code::NotFound);
    let lease = client.lease().unwrap();
    // A channel without its upgrade, and with another.
    let path = format!("/v1/keeps/{}/channel", lease.id);
    assert_eq!(client.refused("GET", &path, &[]), Code::Malformed);
    let mut stream = client.connect().unwrap();
    let head = client.head("GET", &path, "Connection: Upgrade\r\nUpgrade: h2c\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().error().code, Code::Malformed);
    // A head without end, and one that is no HTTP.
    let endless = format!("GET /v1 HTTP/1.1\r\nX: {}", "x".repeat(100_000));
    for head in [endless.as_bytes(), b"\0\0\0\r\n\r\n"] {
        let mut stream = client.connect().unwrap();
        let _ = stream.write_all(head).and_then(|()| stream.flush());
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&rest));
    }
    ping(&mut client.channel(&lease.id).unwrap(), b"alive");
}

#[test]
fn slow_clients_hold_up_nobody() {
    let site = Site::start(|_| {});
    let client = site.client(Some(TOKENS[0]));
    // Some say nothing at all, some say half a request.
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(("127.0.0.1", client.port)).unwrap()).collect();
    let mut half: Vec<_> = (0..20).map(|_| client.connect().unwrap()).collect();
    for stream in &mut half {
        stream.write_all(b"GET /v1 HTTP/1.1\r\nHost: ").and_then(|()| stream.flush()).unwrap();
    }
    let lease = client.lease().unwrap();
    ping(&mut client.channel(&lease.id).unwrap(), b"in time");
    // They are sent away in the end.
    let mut stream = half.pop().unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    drop(silent);
}

#[test]
fn one_address_does_not_take_all_connections() {
    let site = Site::start(|config| config["api"]["connections"] = json!(8));
    let client = site.client(Some(TOKENS[0]));
    let held: Vec<_> = (0..8).map(|_| TcpStream::connect(("127.0.0.1", client.port)).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(200));
    // The ninth is closed at once, before anything is said.
    let mut ninth = TcpStream::connect(("127.0.0.1", client.port)).unwrap();
    ninth.set_read_timeout(Some(LONG)).unwrap();
    assert!(ninth.read(&mut [0; 1]).map_or(true, |count| count == 0));
    drop(held);
    std::thread::sleep(Duration::from_millis(200));
    assert!(!client.get::<HostInfo>("/v1").draining);
}

#[test]
fn requests_have_a_rate() {
    let site = Site::start(|config| {
        config["tenants"][0]["quota"]["requests_per_minute"] = json!(3);
    });
    let client = site.client(Some(TOKENS[0]));
    let codes: Vec<u16> = (0..8).map(|_| client.request("GET", "/v1", &[]).status).collect();
    assert!(codes.contains(&429), "{codes:?}");
    assert!(!site.client(Some(TOKENS[1])).get::<HostInfo>("/v1").draining);
}

#[test]
fn s44_metrics_have_no_secret() {
    let site = Site::start(|_| {});
    let client = site.client(Some(TOKENS[0]));
    let lease = client.lease().unwrap();
    let mut channel = client.channel(&lease.id).unwrap();
    ping(&mut channel, b"canary-in-a-channel");
    let _ = site.client(Some("a guess")).request("GET", "/v1", &[]);
    let port = std::fs::read_to_string(site.directory.path().join("agent-0.log")).unwrap();
    let port: u16 = port.lines().find_map(|line| line.strip_prefix("metrics ")?.parse().ok()).unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let text = get("/metrics");
    for line in [
        "bailey_host_tenant_keeps{tenant=\"acme\"} 1",
        "bailey_host_refusals_total{code=\"UNAUTHORISED\"} 1",
        "bailey_host_requests_total{route=\"/v1/keeps\",status=\"201\"} 1",
        "bailey_host_leases_total{warm=",
        "bailey_host_keeps{backend=\"emulated\",state=\"leased\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    for secret in [lease.id.as_str(), TOKENS[0], "guess", "canary", "127.0.0.1"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    assert!(get("/").starts_with("HTTP/1.1 404"));
    ping(&mut channel, b"still there");
    // Nor is the API's own address a way to them.
    assert_eq!(client.refused("GET", "/metrics", &[]), Code::NotFound);
}
