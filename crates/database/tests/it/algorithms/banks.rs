//! The example `examples/database/banks`: its manifest, with its own data, finds what it says.

use std::{path::Path, pin::pin, process::Command};

use futures_util::SinkExt as _;
use testkit::parties::Authority;

use super::*;

struct Banks {
    engine: Arc<Engine>,
    algorithms: Algorithms,
    authorities: [(&'static str, Authority); 4],
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

/// What `bailey database up` and `run.py` do, without the gateway.
async fn banks() -> Option<Banks> {
    let (settings, folder) = prepared()?;
    let authorities = ["north", "south", "regulator", "analyst"].map(|name| (name, Authority::new(name)));
    let mut text = std::fs::read_to_string(example().join("manifest.yaml")).unwrap();
    text = text.replace("Name: banks", &format!("Name: {DATABASE}"));
    let quoted = |pem: &str| pem.replace('\n', "\\n");
    for (name, authority) in &authorities {
        text = text.replace(&format!("${{anchor.{name}}}"), &quoted(&authority.pem));
        let holder = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_3072);
        text = text.replace(&format!("${{holder.{name}}}"), &quoted(&holder.unwrap().public_key_pem()));
    }
    let manifest = Manifest::parse(text.as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    let engine = Arc::new(Engine::start(&settings).await.unwrap());
    let mut client = engine.session(SUPERUSER).await.unwrap();
    installation::install(&mut client, &manifest, UnixTime(NOW)).await.unwrap();
    for (bank, seed) in [("north", "1"), ("south", "2")] {
        load(&client, bank, seed, folder.path()).await;
    }
    client.batch_execute("ANALYZE").await.unwrap();
    let (key, _) = key();
    let rules = watch::Sender::new(Arc::new(Rules::first(manifest)));
    let sealed = watch::Sender::new(Lsn(u64::MAX));
    let algorithms = served(&engine, &rules, sealed.subscribe(), &watch::Sender::new(NOW), key).await;
    Some(Banks { engine, algorithms, authorities, _held: (rules, sealed), _folder: folder })
}

/// The rows that `run.py` makes, a fifth of them, as the superuser: no gateway and no psycopg is needed.
async fn load(client: &tokio_postgres::Client, bank: &str, seed: &str, folder: &Path) {
    let script = "import csv, sys\n\
        sys.modules['psycopg'] = sys\n\
        import run\n\
        bank, seed, path = sys.argv[1:]\n\
        with open(path, 'w', newline='') as file:\n\
        \x20   csv.writer(file).writerows([*row, bank] for row in run.transfers(bank, int(seed)))\n";
    let path = folder.join("transfers.csv");
    let mut python = Command::new("python3");
    python.args(["-B", "-c", script, bank, seed]).arg(&path).current_dir(example());
    python.env("BAILEY_DATABASE_FOLDER", folder).env("BANKS_ROWS", "20000");
    assert!(python.status().unwrap().success());
    let copy = "COPY transfers (payer, payee, amount, day, bank) FROM STDIN (FORMAT csv)";
    let mut sink = pin!(client.copy_in(copy).await.unwrap());
    sink.send(bytes::Bytes::from(std::fs::read(path).unwrap())).await.unwrap();
    sink.finish().await.unwrap();
}

#[tokio::test]
async fn the_banks_find_rings_together_that_neither_would_find_alone() {
    let Some(banks) = banks().await else { return };
    let months = banks.call("analyst", "rings_by_month", &["5000"]).await.unwrap();
    let found: Vec<_> = months.rows.iter().map(|row| [0, 1].map(|i| row[i].as_deref().unwrap())).collect();
    let expected = [["2026-03", "30"], ["2026-05", "60"], ["2026-09", "45"]];
    assert_eq!(found, expected, "June has four, and does not show");
    assert_eq!(banks.call("regulator", "suspects", &["5000"]).await.unwrap().rows.len(), 139);
    let total = banks.call("analyst", "volume", &[]).await.unwrap();
    assert_eq!(
        banks.call("analyst", "volume", &[]).await.unwrap(),
        total,
        "the same request, the same answer"
    );
    for (party, name, arguments) in [
        ("analyst", "suspects", &["5000"] as &[_]),
        ("north", "volume", &[]),
        ("analyst", "rings_by_month", &["999"]),
    ] {
        banks.call(party, name, arguments).await.unwrap_err();
    }

    let client = banks.engine.session(SUPERUSER).await.unwrap();
    client.batch_execute("DELETE FROM transfers WHERE bank = 'south'").await.unwrap();
    let alone = banks.call("regulator", "suspects", &["5000"]).await.unwrap();
    assert!(alone.rows.is_empty(), "one bank's rows close no ring");
}
