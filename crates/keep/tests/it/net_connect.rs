//! Whom a workload reaches: by name, below the roots that its configuration gives.

use std::net::{IpAddr, SocketAddr};

use appraisal::UnixTime;
use attested_tls::clock::Clock;
use keep::net::{Net, STREAM};
use keep_config::KeepConfig;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    net::{TLS, listen, network, network_of, read, within, write},
    pki::Root,
};

fn to(net: &Net, host: &str, port: u16) -> keep_config::Connect {
    net.destination(host, port).unwrap()
}

fn connect(host: &str, port: u16, rest: &str) -> String {
    format!("[[connect]]\nhost = \"{host}\"\nport = {port}\n{rest}\n")
}

#[tokio::test]
async fn a_server_counts_by_its_name_below_the_named_roots() {
    let (root, other) = (Root::new(), Root::new());
    let server = network("", &root);
    let listener = listen(&server, TLS);
    let port = listener.local_addr().port();
    let config = format!(
        "{}{}{}{}[roots]\nours = \"\"\"{}\"\"\"\nothers = \"\"\"{}\"\"\"",
        connect("localhost", port, "prot = \"tls\"\nroots = \"ours\""),
        connect("127.0.0.1", port, "prot = \"tls\"\nroots = \"others\""),
        connect("127.0.0.2", port, "prot = \"tls\"\nroots = \"ours\""),
        connect("LOCALHOST", 1, "prot = \"tls\""),
        root.pem(),
        other.pem()
    );
    let client = network(&config, &other);
    let connection = client.net.connect(&to(&client.net, "localhost", port), STREAM).await.unwrap();
    let accepted = within(listener.accept()).await;
    write(&connection, b"ping").await;
    assert_eq!(read(&accepted, 4).await.unwrap(), b"ping");
    assert!(connection.is_tls() && accepted.is_tls());
    // Below other roots, and under another name (the listener is on 127.0.0.1 only, so 127.0.0.2 is refused before).
    let error = client.net.connect(&to(&client.net, "127.0.0.1", port), STREAM).await.unwrap_err();
    assert_eq!(error.code(), "PEER_CERTIFICATE_INVALID");
    let everywhere = keep_config::Listen {
        addr: IpAddr::from([127, 0, 0, 2]),
        port,
        protection: keep_config::Protection::Tls(keep_config::Clients::Anyone),
    };
    let _second = server.net.listen(&everywhere, STREAM).unwrap();
    let error = client.net.connect(&to(&client.net, "127.0.0.2", port), STREAM).await.unwrap_err();
    assert_eq!(error.code(), "PEER_CERTIFICATE_INVALID");
}

#[tokio::test]
async fn roots_of_the_web_do_not_vouch_for_a_private_server() {
    let root = Root::new();
    let listener = listen(&network("", &root), TLS);
    let port = listener.local_addr().port();
    let client = network(&connect("localhost", port, "prot = \"tls\""), &root);
    let error = client.net.connect(&to(&client.net, "localhost", port), STREAM).await.unwrap_err();
    assert_eq!(error.code(), "PEER_CERTIFICATE_INVALID");
}

/// The Keep's certificate is nobody's business but that of Marbles and of servers below named roots.
#[tokio::test]
async fn our_certificate_is_shown_where_it_was_asked_for() {
    let root = Root::new();
    let config = format!("[roots]\ncallers = \"\"\"{}\"\"\"", root.pem());
    let server = network(&config, &root);
    let listener = listen(&server, "prot = \"tls\"\nclient = \"callers\"");
    let port = listener.local_addr().port();
    let roots = format!("[roots]\nours = \"\"\"{}\"\"\"", root.pem());
    let config = format!("{}{roots}", connect("localhost", port, "prot = \"tls\"\nroots = \"ours\""));
    let client = network(&config, &root);
    client.net.connect(&to(&client.net, "localhost", port), STREAM).await.unwrap();
    within(listener.accept()).await;
}

#[tokio::test]
async fn who_is_away_or_silent_is_told_apart() {
    let root = Root::new();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent_port = silent.local_addr().unwrap().port();
    let config = format!(
        "{}{}{}",
        connect("localhost", away, "prot = \"tcp\""),
        connect("localhost", silent_port, "prot = \"tls\""),
        connect("no-such-host.invalid", 1, "prot = \"tcp\"")
    );
    let client = network(&config, &root);
    let code = async |host: &str, port| {
        within(client.net.connect(&to(&client.net, host, port), STREAM)).await.unwrap_err().code()
    };
    assert_eq!(code("localhost", away).await, "PEER_UNREACHABLE");
    assert_eq!(code("localhost", silent_port).await, "PEER_SILENT");
    assert_eq!(code("no-such-host.invalid", 1).await, "PEER_UNREACHABLE");
}

/// S-30: what a component connects to is decided by the name that it asked for, and no resolver is asked before.
#[tokio::test]
async fn s30_addresses_stand_for_names() {
    let root = Root::new();
    let config = format!(
        "{}{}{}",
        connect("db.example", 5432, "prot = \"tls\""),
        connect("db.example", 5433, "prot = \"tcp\""),
        connect("192.0.2.7", 80, "prot = \"tcp\"")
    );
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let network = network_of(&config, root.identity(), &[("Tally", address)]).unwrap();
    let net = &network.net;
    let host = |address: IpAddr, port| net.destination_at((address, port).into()).map(|to| to.host);
    for address in net.resolve("DB.example") {
        assert_eq!(host(address, 5432).as_deref(), Some("db.example"));
        assert_eq!(host(address, 5433).as_deref(), Some("db.example"));
        assert_eq!(host(address, 22), None, "another port than the configuration lists");
    }
    for address in net.resolve("tally") {
        assert_eq!(host(address, 80).as_deref(), Some("Tally"));
        assert_eq!(host(address, 443), None);
    }
    assert_eq!(host("192.0.2.7".parse().unwrap(), 80).as_deref(), Some("192.0.2.7"));
    assert!(net.resolve("example.com").is_empty());
    assert!(net.resolve("").is_empty());
    for address in [
        "127.0.0.1",
        "169.254.169.254",
        "240.0.0.0",
        "240.0.0.5",
        "240.255.255.255",
        "::1",
        "fd62:6169:6c65:7900::5",
    ] {
        assert_eq!(host(address.parse().unwrap(), 80), None, "{address}");
        assert_eq!(host(address.parse().unwrap(), 5432), None, "{address}");
    }
}

/// S-19: the clock is the host's. One that jumps ends no connection that is open, lets nobody in whom a right clock keeps
/// out for longer than it is wrong, and the reason has a code.
#[tokio::test]
async fn s19_a_clock_that_jumps_ends_nothing_that_is_open_and_is_told_by_code() {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };
    let root = Root::new();
    let listener = listen(&network("", &root), TLS);
    let port = listener.local_addr().port();
    let config = connect("localhost", port, "prot = \"tls\"\nroots = \"ours\"");
    let config = KeepConfig::parse(&format!("{config}[roots]\nours = \"\"\"{}\"\"\"", root.pem())).unwrap();
    let right = attested_tls::clock::system()();
    let now = Arc::new(AtomicI64::new(right.0));
    let told = Arc::clone(&now);
    let clock: Clock = Arc::new(move || UnixTime(told.load(Ordering::Relaxed)));
    let (_identity, current) = watch::channel(Arc::new(root.identity()));
    let net = Net::new(&config, Default::default(), current, clock).unwrap();
    let before = net.connect(&to(&net, "localhost", port), STREAM).await.unwrap();
    let accepted = within(listener.accept()).await;
    const YEAR: i64 = 366 * 86_400;
    for wrong in [YEAR, right.0 + 3000 * YEAR] {
        now.store(wrong, Ordering::Relaxed);
        let error = net.connect(&to(&net, "localhost", port), STREAM).await.unwrap_err();
        assert_eq!(error.code(), "PEER_CERTIFICATE_INVALID", "{wrong}");
        write(&before, b"still here").await;
        assert_eq!(read(&accepted, 10).await.unwrap(), b"still here");
    }
    now.store(right.0, Ordering::Relaxed);
    net.connect(&to(&net, "localhost", port), STREAM).await.unwrap();
}

#[test]
fn roots_that_are_none_are_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _within = runtime.enter();
    let bad = "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----";
    let config = format!("[roots]\nbad = \"{bad}\"");
    let error = network_of(&config, Root::new().identity(), &[]).err().unwrap();
    assert_eq!(error.code(), "ROOTS_UNUSABLE");
}
