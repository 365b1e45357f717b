//! What is read, and what is refused, with the words that Enarx 0.7.1 used where it refused the same.

use keep_config::{Clients, ConfigError, File, KeepConfig, Log, Protection, Roots, SecretPlace};

fn parse(text: &str) -> KeepConfig {
    KeepConfig::parse(text).unwrap()
}

fn refused(text: &str) -> String {
    KeepConfig::parse(text).unwrap_err().to_string()
}

#[test]
fn no_file_is_three_streams_and_an_empty_file_is_none() {
    assert_eq!(KeepConfig::default().fd_names(), "stdin:stdout:stderr");
    assert_eq!(parse(keep_config::WITHOUT_A_FILE), KeepConfig::default());
    let empty = parse("");
    assert_eq!(empty.files, []);
    assert_eq!(
        empty.environment()[..2],
        [("FD_COUNT".into(), "0".into()), ("FD_NAMES".into(), String::new())]
    );
}

#[test]
fn an_enarx_toml_means_what_it_meant() {
    let config = parse(
        r#"
        steward = "https://attest.example"
        args = ["--flag", "value"]
        [env]
        FD_COUNT = "9"
        RUST_LOG = "debug"
        [[files]]
        kind = "null"
        [[files]]
        kind = "null"
        [[files]]
        kind = "stdout"
        name = "out"
        [[files]]
        name = "LISTEN"
        kind = "listen"
        prot = "tls"
        [[files]]
        kind = "listen"
        name = "plain"
        prot = "tcp"
        addr = "127.0.0.1"
        port = 9000
        [[files]]
        kind = "connect"
        prot = "tls"
        host = "example.com"
        [[files]]
        kind = "connect"
        name = "other"
        prot = "tcp"
        host = "localhost"
        port = 8080
        "#,
    );
    assert_eq!(config.fd_names(), "null:null:out:LISTEN:plain:example.com:other");
    let environment = config.environment();
    assert_eq!(environment[0], ("FD_COUNT".into(), "7".into()));
    assert_eq!(
        environment.iter().filter(|(name, _)| name == "FD_COUNT").count(),
        2,
        "both, the Keep's first"
    );
    let File::Listen { listen, .. } = &config.files[3] else { panic!() };
    assert_eq!((listen.addr.to_string(), listen.port), ("::".into(), 443));
    assert_eq!(listen.protection, Protection::Tls(Clients::Anyone));
    let File::Connect { connect, .. } = &config.files[5] else { panic!() };
    assert_eq!((connect.port, &connect.protection), (443, &Protection::Tls(Roots::Web)));
    let File::Connect { connect, .. } = &config.files[6] else { panic!() };
    assert_eq!((connect.port, &connect.protection), (8080, &Protection::Tcp));
}

#[test]
fn what_enarx_refused_is_refused_in_its_words() {
    assert!(refused("[[files]]\nkind = \"listen\"\nname = \"a\"").contains("missing field `prot`"));
    assert!(refused("[[files]]\nkind = \"listen\"\nprot = \"tls\"").contains("missing field `name`"));
    let host = refused("[[files]]\nkind = \"listen\"\nprot = \"tls\"\nname = \"a\"\nhost = \"b\"");
    assert!(host.contains("unknown field `host`"), "{host}");
    assert!(refused("steward = \"http://a\"").contains("refusing to use an unencrypted steward url"));
    assert!(refused("[[files]]\nkind = \"stdout\"\nname = \"a:b\"").contains("files[0].name"));
}

#[test]
fn s41_unknown_keys_are_errors_everywhere() {
    for text in [
        "stewrad = \"https://a\"",
        "[limits]\nmemroy = \"1MiB\"",
        "[[files]]\nkind = \"null\"\nsize = 1",
        "[[volumes]]\nname = \"a\"\npath = \"/a\"\nsize = \"1\"\nmode = 1",
        "[log]\nlevel = \"debug\"",
        "[[connect]]\nprot = \"tcp\"\nhost = \"a\"\nverify = false",
        "[http]\nprot = \"tls\"\nhost = \"a\"",
    ] {
        assert!(
            matches!(KeepConfig::parse(text), Err(ConfigError::Malformed(why)) if why.contains("unknown field")),
            "{text}"
        );
    }
    assert!(
        matches!(KeepConfig::parse("args = []\nargs = []"), Err(ConfigError::Malformed(_))),
        "a key twice"
    );
}

#[test]
fn our_sections() {
    let config = parse(
        r#"
        peers = ["tally"]
        [http]
        prot = "tls"
        port = 8443
        client = "corp"
        [[listen]]
        prot = "tls"
        port = 7000
        client = "marbles"
        [[connect]]
        prot = "tls"
        host = "db.internal"
        port = 5432
        roots = "corp"
        [[volumes]]
        name = "data"
        path = "/data"
        size = "2GiB"
        [[tmpfs]]
        path = "/tmp"
        size = "16MiB"
        [[secrets]]
        name = "token"
        env = "TOKEN"
        [[secrets]]
        name = "key"
        file = "/run/key"
        [limits]
        memory = "64MiB"
        cpu = "250ms"
        wall = "2m"
        open-files = 10
        connections = 5
        output = "1KiB"
        [roots]
        corp = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"
        [log]
        to = "owner"
        key = "0101010101010101010101010101010101010101010101010101010101010101"
        "#,
    );
    assert_eq!(config.http.listen.protection, Protection::Tls(Clients::Named("corp".into())));
    assert_eq!(config.listen[0].protection, Protection::Tls(Clients::Marbles));
    assert_eq!(config.connect[0].protection, Protection::Tls(Roots::Named("corp".into())));
    assert_eq!(config.volumes[0].size, 2 << 30);
    assert_eq!(config.secrets[1].place, SecretPlace::File("/run/key".into()));
    assert_eq!((config.limits.memory, config.limits.output), (64 << 20, Some(1024)));
    assert_eq!(config.limits.wall, Some(std::time::Duration::from_secs(120)));
    assert_eq!(config.log, Log::Owner([1; 32]));
}

#[test]
fn every_fault_is_told_with_its_path() {
    let text = r#"
        args = ["a\u0000"]
        [[connect]]
        prot = "tls"
        host = "a/b"
        roots = "missing"
        [[listen]]
        prot = "tcp"
        client = "marbles"
        [[volumes]]
        name = "Data"
        path = "/data/../x"
        size = "2 GB"
        [[tmpfs]]
        path = "/a/b"
        size = "1"
        [[tmpfs]]
        path = "/a"
        size = "99999999999GiB"
        [[secrets]]
        name = "x"
        [roots]
        web = "nothing"
        [log]
        to = "everyone"
    "#;
    let Err(ConfigError::Faults(faults)) = KeepConfig::parse(text) else { panic!() };
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    for path in [
        "args[0]",
        "roots.web",
        "connect[0].roots",
        "connect[0].host",
        "listen[0].client",
        "volumes[0].name",
        "volumes[0].path",
        "volumes[0].size",
        "tmpfs[1].size",
        "secrets[0]",
        "/a",
        "log.to",
    ] {
        assert!(paths.contains(&path), "{path} in {paths:?}");
    }
}

#[test]
fn s43_a_large_text_is_not_parsed() {
    let text = " ".repeat(keep_config::MAX_CONFIG + 1);
    assert_eq!(KeepConfig::parse(&text), Err(ConfigError::TooLarge(text.len())));
}
