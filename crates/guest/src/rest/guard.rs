//! Who may ask the local API: processes of this machine, and no web page that a browser on it shows.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{HOST, HeaderMap, ORIGIN};

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// From another machine.
    #[error("only this machine is answered")]
    Peer,
    /// For another host: a web page whose name points to this machine (DNS rebinding).
    #[error("the Host header is not this machine's loopback address")]
    Host,
    /// Sent by a web page.
    #[error("web pages are not answered")]
    Origin,
}

/// Lets in whoever comes from the loopback interface, and says that it comes for it.
///
/// # Errors
/// When somebody else asks.
pub fn admit(peer: SocketAddr, headers: &HeaderMap) -> Result<(), Stranger> {
    if !peer.ip().to_canonical().is_loopback() {
        return Err(Stranger::Peer);
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).ok_or(Stranger::Host)?;
    if hosts.next().is_some() || !is_loopback(host) {
        return Err(Stranger::Host);
    }
    if headers.contains_key(ORIGIN) { Err(Stranger::Origin) } else { Ok(()) }
}

/// `localhost`, `127.0.0.0/8` or `[::1]`, with a port or without.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.split_once(':').map_or(host, |(name, port)| match port.parse::<u16>() {
        Ok(_) => name,
        Err(_) => host,
    });
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn admitted(peer: &str, hosts: &[&'static str]) -> Result<(), Stranger> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        admit(peer.parse().expect("an address"), &headers)
    }

    #[test]
    fn processes_of_this_machine_are_let_in() {
        for peer in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            for host in ["127.0.0.1:8006", "127.0.0.1", "localhost:8006", "LOCALHOST", "[::1]:8006", "[::1]"]
            {
                assert_eq!(admitted(peer, &[host]), Ok(()), "{peer} {host}");
            }
        }
    }

    #[test]
    fn other_machines_are_refused() {
        for peer in ["10.0.0.1:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1", "0.0.0.0:1"] {
            assert_eq!(admitted(peer, &["127.0.0.1:8006"]), Err(Stranger::Peer), "{peer}");
        }
    }

    #[test]
    fn names_that_were_rebound_and_web_pages_are_refused() {
        for host in [
            "evil.example:8006",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:8006@evil.example",
            "localhost:x",
            "",
        ] {
            assert_eq!(admitted("127.0.0.1:1", &[host]), Err(Stranger::Host), "{host:?}");
        }
        assert_eq!(admitted("127.0.0.1:1", &[]), Err(Stranger::Host));
        assert_eq!(admitted("127.0.0.1:1", &["localhost", "evil.example"]), Err(Stranger::Host));
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost:8006"))]);
        headers.insert(ORIGIN, HeaderValue::from_static("http://localhost:8006"));
        assert_eq!(admit("127.0.0.1:1".parse().expect("an address"), &headers), Err(Stranger::Origin));
    }
}
