//! A local server that plays Intel PCS, a PCCS and AMD KDS from recorded collateral, and fails as it is told. HTTP is
//! written by hand, so that it can be written wrongly.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appraisal::{CertificateHead, DocumentHead};
use evidence::snp::ProductFamily;
use evidence::{CertificateDer, IntelCollateral, pem};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::vectors;

/// How one answer goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A status, with headers.
    Status(u16, &'static str),
    /// The right answer, after a while.
    Slow(Duration),
    /// Half of the right answer.
    Truncated,
    /// More bytes than any real answer has, with their length told.
    OversizedTold,
    /// As before, without.
    OversizedUntold,
    /// A page for people.
    WebPage,
    /// The right answer to this other path.
    AnswerTo(&'static str),
    /// The right headers, with the body of this other path's answer.
    BodyOf(&'static str),
    /// The right answer, without this header.
    WithoutHeader(&'static str),
    /// The right answer, with the issuers of this other path's.
    IssuersOf(&'static str),
    /// As if compressed.
    Compressed,
    /// The connection ends without an answer.
    Reset,
}

#[derive(Clone, Default)]
struct Answer {
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Answer>,
    /// For paths that contain the text: how many of the next answers go wrong, and how.
    faults: Vec<(String, Fault, usize)>,
    requests: Vec<(String, std::time::Instant)>,
}

/// The server; it ends with the runtime of its test.
#[derive(Clone)]
pub struct Vendor {
    /// Its address, as `http://127.0.0.1:PORT`.
    pub base: String,
    state: Arc<Mutex<State>>,
}

impl Vendor {
    /// A server with all of AMD's recorded answers, and none of Intel's.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let vendor = Self { base, state: Arc::default() };
        vendor.load_amd();
        let serving = vendor.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let vendor = serving.clone();
                tokio::spawn(async move { vendor.serve(stream).await });
            }
        });
        vendor
    }

    /// The same server over TLS as `localhost`, and the root that its certificate is under.
    pub async fn start_tls(&self) -> (String, CertificateDer) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let certificate = made.cert.der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let serving = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (vendor, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        vendor.serve(stream).await;
                    }
                });
            }
        });
        (base, CertificateDer(certificate.to_vec()))
    }

    /// From now on, answers what Intel did when this set of collateral was recorded.
    pub fn load_intel(&self, file: &str) {
        let intel = vectors::dcap(file).intel.unwrap();
        let IntelCollateral {
            tcb_info,
            qe_identity,
            root_ca_crl,
            pck_crl,
            pck_crl_issuer_chain,
            pck_chain: _,
        } = &intel;
        let head = DocumentHead::of_tcb_info(&tcb_info.body).unwrap();
        let tee = head.tee.as_str();
        let fmspc = hex::encode(head.fmspc.unwrap());
        let ca = CertificateHead::of(pck_crl_issuer_chain.first().unwrap()).unwrap().subject;
        let ca = if ca.contains("Platform") { "platform" } else { "processor" };
        let v4 = |tee: &str, path: &str| format!("/{tee}/certification/v4/{path}");
        let signed = |name: &str, document: &evidence::SignedDocument| {
            let body = String::from_utf8(document.body.clone()).unwrap();
            format!("{{\"{name}\":{body},\"signature\":\"{}\"}}", hex::encode(document.signature))
        };
        let header = |name: &'static str, chain: &[CertificateDer]| vec![(name, escape(chain))];
        for update in ["update=standard".to_owned(), format!("tcbEvaluationDataNumber={}", head.evaluation)] {
            self.put(
                &v4(tee, &format!("tcb?fmspc={fmspc}&{update}")),
                Answer {
                    headers: header("TCB-Info-Issuer-Chain", &tcb_info.issuer_chain),
                    body: signed("tcbInfo", tcb_info).into(),
                },
            );
            self.put(
                &v4(tee, &format!("qe/identity?{update}")),
                Answer {
                    headers: header("SGX-Enclave-Identity-Issuer-Chain", &qe_identity.issuer_chain),
                    body: signed("enclaveIdentity", qe_identity).into(),
                },
            );
        }
        self.put(
            &v4("sgx", "tcbevaluationdatanumbers"),
            Answer {
                headers: header("TCB-Evaluation-Data-Numbers-Issuer-Chain", &tcb_info.issuer_chain),
                body: EVALUATIONS.into(),
            },
        );
        self.put(
            &v4("sgx", &format!("pckcrl?ca={ca}&encoding=der")),
            Answer {
                headers: header("SGX-PCK-CRL-Issuer-Chain", pck_crl_issuer_chain),
                body: pck_crl.0.clone(),
            },
        );
        self.put("/IntelSGXRootCA.der", Answer { headers: vec![], body: root_ca_crl.0.clone() });
        // A PCCS has it as text.
        let text = hex::encode(&root_ca_crl.0).into_bytes();
        self.put(&v4("sgx", "rootcacrl"), Answer { headers: vec![], body: text });
    }

    fn load_amd(&self) {
        let certificates: Vec<_> =
            vectors::amd_files("der").filter(|(name, _)| !name.contains("crl")).collect();
        for (_, der) in &certificates {
            let Some(vek) = CertificateHead::of(&CertificateDer(der.clone())).unwrap().vek else { continue };
            let Some(id) = vek.hardware_id else { continue };
            let fmc = vek.tcb.fmc.map(|fmc| format!("fmcSPL={fmc}&")).unwrap_or_default();
            let path = format!(
                "/vcek/v1/{}/{}?{fmc}blSPL={}&teeSPL={}&snpSPL={}&ucodeSPL={}",
                vek.family,
                hex::encode(id),
                vek.tcb.bootloader,
                vek.tcb.tee,
                vek.tcb.snp,
                vek.tcb.microcode
            );
            self.put(&path, Answer { headers: vec![], body: der.clone() });
        }
        for family in [ProductFamily::Milan, ProductFamily::Genoa, ProductFamily::Turin] {
            let name = family.as_str().to_lowercase();
            for (kind, issuer) in [("vcek", "ask"), ("vlek", "asvk")] {
                let chain = [issuer, "ark"].map(|part| vectors::root(&format!("{part}-{name}.der")));
                let body = chain.iter().map(pem::encode).collect::<String>().into_bytes();
                self.put(&format!("/{kind}/v1/{family}/cert_chain"), Answer { headers: vec![], body });
            }
        }
        for (name, der) in vectors::amd_files("der").filter(|(name, _)| name.contains("crl-ARK")) {
            let family = if name.contains("Milan") { "Milan" } else { "Genoa" };
            self.put(&format!("/vcek/v1/{family}/crl"), Answer { headers: vec![], body: der });
        }
    }

    /// The next `count` answers to paths that contain `path` go wrong.
    pub fn fail(&self, path: &str, fault: Fault, count: usize) {
        self.state.lock().unwrap().faults.push((path.to_owned(), fault, count));
    }

    /// What was asked for so far.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.iter().map(|(path, _)| path.clone()).collect()
    }

    /// When paths that contain `path` were asked for.
    pub fn times(&self, path: &str) -> Vec<std::time::Instant> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|(asked, _)| asked.contains(path)).map(|(_, at)| *at).collect()
    }

    fn put(&self, path: &str, answer: Answer) {
        self.state.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    fn answer(&self, path: &str) -> Option<Answer> {
        self.state.lock().unwrap().answers.get(path).cloned()
    }

    fn next_fault(&self, path: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let fault =
            state.faults.iter_mut().find(|(part, _, left)| path.contains(part.as_str()) && *left > 0)?;
        fault.2 -= 1;
        Some(fault.1)
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        while let Some(path) = read_request(&mut stream).await {
            self.state.lock().unwrap().requests.push((path.clone(), std::time::Instant::now()));
            let fault = self.next_fault(&path);
            let mut answer = self.answer(&path);
            match fault {
                None => {}
                Some(Fault::Status(status, headers)) => {
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{headers}\r\n");
                    return drop(stream.write_all(head.as_bytes()).await);
                }
                Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
                Some(Fault::Truncated) => {
                    let bytes = encode(&answer.unwrap());
                    return drop(stream.write_all(&bytes[..bytes.len() - 100]).await);
                }
                Some(Fault::OversizedTold) => {
                    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n";
                    drop(stream.write_all(head).await);
                    return flood(&mut stream).await;
                }
                Some(Fault::OversizedUntold) => {
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
                    return flood(&mut stream).await;
                }
                Some(Fault::WebPage) => {
                    answer = Some(Answer { headers: vec![], body: b"<html>log in first</html>".to_vec() });
                }
                Some(Fault::AnswerTo(other)) => answer = self.answer(other),
                Some(Fault::BodyOf(other)) => {
                    let body = self.answer(other).unwrap().body;
                    answer.as_mut().unwrap().body = body;
                }
                Some(Fault::WithoutHeader(name)) => {
                    answer.as_mut().unwrap().headers.retain(|(own, _)| *own != name);
                }
                Some(Fault::IssuersOf(other)) => {
                    let other = self.answer(other).unwrap().headers.remove(0).1;
                    answer.as_mut().unwrap().headers[0].1 = other;
                }
                Some(Fault::Compressed) => {
                    answer.as_mut().unwrap().headers.push(("content-encoding", "gzip".into()));
                }
                Some(Fault::Reset) => return,
            }
            let bytes = answer.map_or_else(
                || b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
                |answer| encode(&answer),
            );
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

/// A forward proxy that knows CONNECT, and what it was asked to connect to.
pub async fn proxy() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let target = read_request(&mut stream).await.unwrap();
                log.lock().unwrap().push(target.clone());
                let mut onward = TcpStream::connect(target.replace("localhost", "127.0.0.1")).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    (address, asked)
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(!head.to_ascii_lowercase().contains("accept-encoding"), "compression is not asked for: {head}");
    Some(head.split(' ').nth(1)?.to_owned())
}

async fn flood(stream: &mut (impl AsyncWrite + Unpin)) {
    while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
}

fn encode(answer: &Answer) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", answer.body.len());
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", &answer.body].concat()
}

/// PEM as Intel writes it into a header.
fn escape(chain: &[CertificateDer]) -> String {
    let text: String = chain.iter().map(pem::encode).collect();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// As Intel signed it on 2025-06-03 (crate pcs 0.8.4, `tcb_evaluation_data_numbers.numbers.json`).
const EVALUATIONS: &str = r#"{"tcbEvaluationDataNumbers":{"id":"SGX","version":1,"issueDate":"2025-06-03T23:58:51Z","nextUpdate":"2025-07-03T23:58:51Z","tcbEvalNumbers":[{"tcbEvaluationDataNumber":19,"tcbRecoveryEventDate":"2025-05-13T00:00:00Z","tcbDate":"2025-05-14T00:00:00Z"},{"tcbEvaluationDataNumber":18,"tcbRecoveryEventDate":"2024-11-12T00:00:00Z","tcbDate":"2024-11-13T00:00:00Z"},{"tcbEvaluationDataNumber":17,"tcbRecoveryEventDate":"2024-03-12T00:00:00Z","tcbDate":"2024-03-13T00:00:00Z"}]},"signature":"6623e8e1a966849b558d38b6380a4ba5330c547263ba3238854ebe4b64d3daeffeee6fb4d677340295a0fa52d44d9fb8ee018449afe8129d2be0f3c57afc3b65"}"#;
