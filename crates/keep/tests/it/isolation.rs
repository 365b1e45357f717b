//! Nothing of the host is visible to a workload, and its own files are there to read only.

use keep::admission::Admission;
use zeroize::Zeroizing;

use crate::{client::Client, pki::Root, running::Running, workloads};

async fn ask(admission: Admission, paths: &[&str]) -> Vec<String> {
    let root = Root::new();
    let keep = Running::start(workloads::probe(), admission, root.public("probe")).await;
    let mut client = Client::to(&keep, &root).await;
    let mut answers = Vec::new();
    for path in paths {
        let answer = client.get(path).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        answers.push(answer.text);
    }
    keep.stop().await;
    answers
}

fn file(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_host_is_visible() {
    let paths = ["/env", "/args", "/list?p=/", "/list?p=.", "/stdin"];
    let answers = ask(Admission::default(), &paths).await;
    assert_eq!(answers, ["", "", "\"\"", "\"\"", "0"]);

    // This process has a PATH, a root directory, and this very file.
    let here = format!("/read?p={}", file!());
    let paths = ["/read?p=/etc/passwd", "/read?p=../../etc/passwd", "/read?p=/proc/self/environ", &here];
    for answer in ask(Admission::default(), &paths).await {
        assert!(answer.starts_with("error "), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_socket_can_be_had() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = format!("/tcp?p={}", listener.local_addr().unwrap());
    let paths =
        [&tcp, "/listen?p=127.0.0.1:0", "/listen?p=[::1]:0", "/udp?p=127.0.0.1:0", "/dns?p=localhost:80"];
    for answer in ask(Admission::default(), &paths).await {
        assert!(answer.starts_with("error "), "{answer}");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the workload reached a socket of the host");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_world_is_visible() {
    let mut admission = Admission { args: vec!["probe".into(), "--x".into()], ..Admission::default() };
    admission.env.insert("SECRET".into(), "s3cret".into());
    admission.files.insert("/etc/app/config".into(), file("configured"));
    admission.files.insert("/etc/app/key".into(), file("key"));
    admission.files.insert("/data".into(), file(""));
    let paths = [
        "/env",
        "/args",
        "/read?p=/etc/app/config",
        "/read?p=etc/app/../app/key",
        "/size?p=/etc/app/config",
        "/list?p=/",
        "/list?p=/etc/app",
        "/read?p=/data",
    ];
    let answers = ask(admission, &paths).await;
    let expected = [
        "SECRET=s3cret\n",
        "probe\n--x\n",
        "\"configured\"",
        "\"key\"",
        "10",
        "\"data,etc\"",
        "\"config,key\"",
        "\"\"",
    ];
    assert_eq!(answers, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_only() {
    let mut admission = Admission::default();
    admission.files.insert("/dir/file".into(), file("content"));
    let writes = [
        "/write?p=/dir/file",
        "/write?p=/new",
        "/append?p=/dir/file",
        "/mkdir?p=/d",
        "/remove?p=/dir/file",
        "/rename?p=/dir/file",
    ];
    for answer in ask(admission.clone(), &writes).await {
        assert!(answer.contains("ReadOnlyFilesystem"), "{answer}");
    }
    assert_eq!(ask(admission, &["/read?p=/dir/file"]).await, ["\"content\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_path_is_refused_before_anything_is_served() {
    let mut admission = Admission::default();
    admission.files.insert("/a/../../etc/passwd".into(), file(""));
    let network = crate::net::network("", &Root::new());
    let listener = crate::net::listen(&network, crate::net::TLS);
    let served = keep::serve(workloads::probe(), admission, network.net, listener, std::future::pending());
    assert!(matches!(served.await, Err(keep::ServeError::World(keep::world::WorldError::Files(_)))));
}
