//! The example `examples/database/banks`: its manifest, with its own data, finds what it says.

use std::{path::Path, process::Command};

use super::*;
use testkit::parties::Authority;

struct Banks {
    engine: Arc<Engine>,
    algorithms: Algorithms,
    authorities: Vec<(&'static str, Authority)>,
    _held: (watch::Sender<Arc<Rules>>, watch::Sender<Lsn>),
    _folder: tempfile::TempDir,
}

impl Banks {
    async fn call(&self, party: &str, name: &str, arguments: &[&str]) -> Result<Answer, Denied> {
        let anchors = Anchors::new(&self.algorithms.rules().manifest).unwrap();
        let (_, authority) = self.authorities.iter().find(|(name, _)| *name == party).unwrap();
        let holder = authority.issue("someone");
        let caller = anchors.caller(&[CertificateDer::from(holder.der)], UnixTime(NOW)).unwrap();
        let arguments = arguments.iter().map(|&it| it.into()).collect();
        self.algorithms.call(&caller, &algorithm(name), arguments, false).await
    }
}

fn example() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/database/banks")
}

fn holder_key() -> String {
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    pair.public_key_pem()
}

/// What `bailey database up` and `run.py` do, without the gateway.
async fn banks() -> Option<Banks> {
    let (mut settings, folder) = prepared()?;
    settings.shared_buffers = 64 << 20;
    let authorities = ["north", "south", "regulator", "analyst"].map(|name| (name, Authority::new(name))).into();
    let mut text = std::fs::read_to_string(example().join("manifest.yaml")).unwrap();
    text = text.replace("Name: banks", &format!("Name: {DATABASE}"));
    let quoted = |pem: &str| pem.replace('\n', "\\n");
    for (name, authority) in &authorities {
        text = text.replace(&format!("${{anchor.{name}}}"), &quoted(&authority.pem));
        text = text.replace(&format!("${{holder.{name}}}"), &quoted(&holder_key()));
    }
    let manifest = Manifest::parse(text.as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    let engine = Arc::new(Engine::start(&settings).await.unwrap());
    let mut client = engine.session(SUPERUSER).await.unwrap();
    installation::install(&mut client, &manifest, UnixTime(NOW)).await.unwrap();
    for bank in ["north", "south"] {
        load(&client, bank, folder.path()).await;
    }
    client.batch_execute("ANALYZE").await.unwrap();
    let (key, _) = key();
    let rules = watch::Sender::new(Arc::new(Rules::first(manifest)));
    let sealed = watch::Sender::new(Lsn(u64::MAX));
    let algorithms = served(&engine, &rules, &sealed, &watch::Sender::new(NOW), key).await;
    Some(Banks { engine, algorithms, authorities, _held: (rules, sealed), _folder: folder })
}

/// The rows that `generate.py` makes, as the superuser, who needs no gateway.
async fn load(client: &tokio_postgres::Client, bank: &str, folder: &Path) {
    let script = "import csv, sys, generate\n\
        accounts, transfers = generate.generate()\n\
        bank, folder = sys.argv[1:]\n\
        for name, rows in (('accounts', accounts[bank]), ('transfers', transfers[bank])):\n\
        \x20   with open(f'{folder}/{name}.csv', 'w', newline='') as file:\n\
        \x20       csv.writer(file).writerows([*row, bank] for row in rows)\n";
    let made = Command::new("python3").current_dir(example()).args(["-B", "-c", script, bank]).arg(folder).status();
    assert!(made.unwrap().success());
    use futures_util::SinkExt as _;
    for (table, columns) in
        [("accounts", "account, person, bank"), ("transfers", "sender, receiver, amount, day, bank")]
    {
        let text = std::fs::read(folder.join(format!("{table}.csv"))).unwrap();
        let copy = format!("COPY {table} ({columns}) FROM STDIN (FORMAT csv)");
        let sink = client.copy_in(&copy).await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(bytes::Bytes::from(text)).await.unwrap();
        sink.finish().await.unwrap();
    }
}

#[tokio::test]
async fn the_banks_find_rings_together_that_neither_would_find_alone() {
    let Some(banks) = banks().await else { return };
    let rings = banks.call("regulator", "ring_members", &["9000"]).await.unwrap();
    assert_eq!(rings.rows.len(), 24);
    let months = banks.call("analyst", "rings_by_month", &["9000"]).await.unwrap();
    assert_eq!(months.rows.len(), 5, "the sixth has three people");
    for row in &months.rows {
        assert!(row[1].as_deref().unwrap().ends_with("0000"), "{row:?}");
    }
    let people = "people_with_large_transfers";
    let noisy = banks.call("analyst", people, &["9000"]).await.unwrap();
    assert_eq!(banks.call("analyst", people, &["9000"]).await.unwrap(), noisy);
    banks.call("analyst", people, &["5000"]).await.unwrap();
    for (party, name, least) in
        [("analyst", "ring_members", "9000"), ("north", people, "9000"), ("analyst", people, "5001")]
    {
        banks.call(party, name, &[least]).await.unwrap_err();
    }

    let client = banks.engine.session(SUPERUSER).await.unwrap();
    client.batch_execute("DELETE FROM transfers WHERE bank = 'south'").await.unwrap();
    let alone = banks.call("regulator", "ring_members", &["9000"]).await.unwrap();
    assert!(alone.rows.is_empty(), "one bank's rows close no ring");
}
