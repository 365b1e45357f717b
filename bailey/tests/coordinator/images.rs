//! Encrypted container images, by the person who encrypts them, with real skopeo.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use testkit::oci::{Images, skopeo};

use crate::bench::{Bench, Serving};

const KEY: &str = "kbs:///default/image/kept";
const READABLE: &str = "kbs:///default/image/readable";

/// `ann` wraps and reads, `ben` does neither.
async fn running(bench: &Bench) -> Serving {
    let serving = bench.serve(b"coordinator", None).await;
    let mut manifest = bench.manifest();
    manifest["Secrets"]["kek"] = json!({ "Type": "symmetric-key", "Size": 256, "Shared": true });
    manifest["Secrets"]["open"] = json!({ "Type": "symmetric-key", "Size": 256, "Shared": true });
    manifest["Packages"]["kata"] = json!({ "Measurements": { "Tdx": "3c".repeat(48) } });
    manifest["Broker"] = json!({
        "Policies": { "pods": { "Packages": ["kata"] } },
        "Repositories": { "default": { "Resources": {
            "image/kept": { "Secret": "kek", "Policy": "pods", "Use": "unwrap" },
            "image/readable": { "Secret": "open", "Policy": "pods" },
        } } },
    });
    manifest["Roles"]["images"] = json!({
        "ResourceType": "Repositories", "ResourceNames": ["default"], "Actions": ["WrapKey", "ReadResource"],
    });
    manifest["Users"]["ann"]["Roles"] = json!(["admin", "all", "images"]);
    let file = bench.write("manifest.json", manifest.to_string());
    bench.act(&serving, "owner", &["manifest", "set", &file]).ok();
    serving
}

/// ocicrypt's configuration of the command form, as a person.
fn command(bench: &Bench, serving: &Serving, who: &str, more: &[&str]) -> Value {
    let (cert, key) = (bench.path(&format!("{who}.pem")), bench.path(&format!("{who}.key")));
    let root = bench.path("root.pem");
    let fixed = ["image", "keyprovider", "--command", "--coordinator", &serving.url, "--root", &root];
    let arguments = [&fixed[..], &["--cert", &cert, "--key", &key], more].concat();
    json!({ "key-providers": { "bailey": { "cmd": { "path": env!("CARGO_BIN_EXE_bailey"), "args": arguments } } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_asks_the_command_form() {
    if skopeo().is_none() {
        return;
    }
    let (bench, images) = (Bench::new(), Images::plain());
    let serving = running(&bench).await;
    let ann = command(&bench, &serving, "ann", &[]);
    let encrypt = |key: &str| ["--encryption-key".to_owned(), format!("provider:bailey:{key}")];
    let copy = |config: &Value, key: &str, to: &str| {
        let how = encrypt(key);
        images.copy(config, &[&how[0], &how[1]], "plain", to)
    };
    copy(&ann, KEY, "kept").unwrap();
    assert_eq!(images.packet("kept", 0, "bailey")["provider"], "bailey");
    // A key that may be read is used here as well, for wrapping and, if that is asked for, unwrapping.
    let local = command(&bench, &serving, "ann", &["--local", "--unwrap"]);
    copy(&local, READABLE, "readable").unwrap();
    let decrypt = ["--decryption-key", "provider:bailey:any"];
    images.copy(&local, &decrypt, "readable", "decrypted").unwrap();
    assert_eq!(images.layers("decrypted"), images.layers("plain"));
    // One wrapped by the coordinator is the same.
    copy(&ann, READABLE, "there").unwrap();
    images.copy(&local, &decrypt, "there", "decrypted-there").unwrap();
    assert_eq!(images.layers("decrypted-there"), images.layers("plain"));

    // A key that never leaves is not read, whoever asks; and without --unwrap nothing is unwrapped.
    copy(&local, KEY, "no").unwrap_err();
    images.copy(&local, &decrypt, "kept", "no").unwrap_err();
    images.copy(&ann, &decrypt, "readable", "no").unwrap_err();
    // Who has no right.
    copy(&command(&bench, &serving, "ben", &[]), KEY, "no").unwrap_err();
}

/// What fails says why, prints no answer, and is told by the exit code.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_form_fails_in_words() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let ask = |who: &str, more: &[&str], request: &str| {
        let config = command(&bench, &serving, who, more);
        let arguments = config["key-providers"]["bailey"]["cmd"]["args"].as_array().unwrap().clone();
        let arguments: Vec<_> = arguments.iter().map(|it| it.as_str().unwrap().to_owned()).collect();
        let mut child = Command::new(env!("CARGO_BIN_EXE_bailey"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let wrap = |parameter: &str| {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let parameter = STANDARD.encode(parameter);
        json!({ "op": "keywrap", "keywrapparams": {
            "ec": { "Parameters": { "bailey": [parameter] } }, "optsdata": STANDARD.encode("{}"),
        } })
        .to_string()
    };
    let (code, out, _) = ask("ann", &[], &wrap(KEY));
    assert_eq!(code, Some(0));
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert!(answer["keywrapresults"]["annotation"].is_array(), "{answer}");
    for (who, request, words) in [
        ("ben", wrap(KEY), "NOT_GRANTED"),
        ("ann", wrap("kbs:///default/image/absent"), "RESOURCE_UNKNOWN"),
        ("ann", wrap("a-key"), "kbs:///REPOSITORY/TYPE/TAG"),
        ("ann", wrap("sample=true"), "everybody knows"),
        ("ann", wrap("keypath=/no-such-folder/key::keyid=kbs:///a/b/c"), "cannot be read"),
        ("ann", "{}".to_owned(), "`op`"),
        ("ann", String::new(), "JSON"),
        (
            "ann",
            json!({ "op": "keyunwrap", "keyunwrapparams": { "annotation": "e30=" } }).to_string(),
            "does not unwrap",
        ),
    ] {
        let (code, out, err) = ask(who, &[], &request);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{request}");
        assert!(err.contains(words), "{request}: {err}");
    }
    // A key of the person's own, which only they may read.
    let key = bench.write("kek", [7; 32]);
    let own = format!("keypath={key}::keyid=kbs:///default/image/own::algorithm=A256GCM");
    let (code, _, err) = ask("ann", &[], &wrap(&own));
    assert!(code == Some(1) && err.contains("chmod 600"), "{err}");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(ask("ann", &[], &wrap(&own)).0, Some(0));
    let said = bench.act(&serving, "ann", &["image", "keyprovider", "--listen", "0.0.0.0:0"]).failed(1);
    assert!(said.contains("loopback"), "{said}");
    bench.act(&serving, "ann", &["image", "keyprovider", "--listen", "everywhere"]).failed(2);
    bench.act(&serving, "ann", &["image", "keyprovider", "--unwrap"]).failed(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypt_and_show_in_one_command_each() {
    let Some(skopeo) = skopeo() else { return };
    let skopeo = skopeo.to_str().unwrap();
    let (bench, images) = (Bench::new(), Images::plain());
    let serving = running(&bench).await;
    let (plain, encrypted) = (images.reference("plain"), images.reference("encrypted"));
    let encrypt = |key: &str, to: &str, skopeo: &str| {
        let arguments = ["image", "encrypt", &plain, to, "--encryption-key", key, "--skopeo", skopeo];
        bench.act(&serving, "ann", &arguments)
    };
    let said = encrypt(KEY, &encrypted, skopeo).ok();
    assert!(said.contains("is encrypted") && said.contains(KEY), "{said}");
    assert_eq!(images.packet("encrypted", 0, "attestation-agent")["kid"], KEY);
    let shown = crate::bench::bailey(&["image", "show", &encrypted, "--skopeo", skopeo]).ok();
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.lines().all(|line| line.contains("wrapped by kbs:///default/image/kept")), "{shown}");
    let json = crate::bench::bailey(&["image", "show", &encrypted, "--skopeo", skopeo, "--json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["encrypted"], &json[0]["keys"][0]["form"]), (&json!(true), &json!("bailey")));
    let shown = crate::bench::bailey(&["image", "show", &plain, "--skopeo", skopeo]).ok();
    assert!(shown.contains("not encrypted"), "{shown}");

    let elsewhere = images.reference("elsewhere");
    let said = encrypt("kbs:///default/image/absent", &elsewhere, skopeo).failed(1);
    assert!(said.contains("RESOURCE_UNKNOWN"), "{said}");
    encrypt("absent", &elsewhere, skopeo).failed(2);
    let said = encrypt(KEY, &elsewhere, "/nonexistent/skopeo").failed(1);
    assert!(said.contains("apt-get install skopeo"), "{said}");
    assert!(!images.folder("elsewhere").join("index.json").exists());
}
