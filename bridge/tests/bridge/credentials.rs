//! Credentials and certificates: tokens, keys, credentials files and TLS.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};

use crate::machine::Machine;
use crate::server::{Server, Setup};

/// A folder for keys, which is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let name = format!("shoal-bridge-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Writes a file and returns its path.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn server(extra: String) -> Server {
    Server::with(&Setup {
        extra,
        ..Setup::default()
    })
}

/// Checks that a bridge with these variables connects, and that a message gets to the server and back.
fn works(server: &Server, env: &[(&str, &str)]) {
    let mut machine = with(server, env);
    machine.start();
    machine.wait_for("the bridge", |report| report.connected);
    let mut agent = machine.agent();
    assert_eq!(agent.ask("put jobs a 5000"), "ok");
    assert_eq!(agent.ask("lease jobs 20000"), "1 1 a");
    assert_eq!(agent.ask("ack 1"), "ok");
}

/// Checks that a bridge with these variables ends with this error.
#[track_caller]
fn is_refused(server: &Server, env: &[(&str, &str)], why: &str) {
    let (code, said) = with(server, env).run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(why), "{said}");
}

fn with(server: &Server, env: &[(&str, &str)]) -> Machine {
    let mut machine = Machine::new(server, &["--queue", "jobs"]);
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    machine.env = env.iter().map(owned).collect();
    machine
}

const CREDENTIALS: &str = "the server refuses the credentials";
const NO_TLS: &str = "no TLS connection to nats://127.0.0.1:";

#[test]
fn a_user_that_may_receive_answers_on_other_subjects_only_sets_the_inbox_prefix() {
    let server = server(
        "authorization { users: [ { user: u, password: p, permissions: { subscribe: \"_MY.>\" } } ] }"
            .to_owned(),
    );
    let folder = Folder::new("inbox");
    let context = serde_json::json!({
        "url": server.url(), "user": "u", "password": "p", "inbox_prefix": "_MY",
    });
    let context = folder.write("context.json", context.to_string());
    works(&server, &[("NATS_CONTEXT", &context)]);
}

#[test]
fn a_token_is_sent_to_the_server() {
    let server = server("authorization { token: right }".to_owned());
    works(&server, &[("NATS_TOKEN", "right")]);
    is_refused(&server, &[("NATS_TOKEN", "other")], CREDENTIALS);
    is_refused(&server, &[], CREDENTIALS);
}

#[test]
fn the_user_or_token_in_an_address_is_sent_to_the_server() {
    let user = server("authorization { user: \"u@x\", password: \"p:a/b\" }".to_owned());
    let at = |server: &Server, who: &str| format!("nats://{who}@127.0.0.1:{}", server.port());
    works(&user, &[("NATS_URL", &at(&user, "u%40x:p%3Aa%2Fb"))]);
    is_refused(&user, &[("NATS_URL", &at(&user, "u%40x:p"))], CREDENTIALS);
    let token = server("authorization { token: \"t/k\" }".to_owned());
    works(&token, &[("NATS_URL", &at(&token, "t%2Fk"))]);
    let two = format!("{},{}", at(&token, "a:b"), at(&token, "a:c"));
    let (code, said) = with(&token, &[("NATS_URL", &two)]).run_to_end();
    assert!(code == Some(2) && said.contains("NATS_PASSWORD"), "{said}");
}

#[test]
fn the_right_key_is_accepted_and_another_is_refused() {
    let (known, other) = (KeyPair::new_user(), KeyPair::new_user());
    let server = server(format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        known.public_key()
    ));
    let folder = Folder::new("nkey");
    let seed = |name, key: &KeyPair| folder.write(name, key.seed().unwrap() + "\n");
    works(&server, &[("NATS_NKEY", &seed("known", &known))]);
    is_refused(
        &server,
        &[("NATS_NKEY", &seed("other", &other))],
        CREDENTIALS,
    );
    // Other usual forms of the file.
    let (line, public) = (known.seed().unwrap(), known.public_key());
    let block = format!("-----BEGIN USER NKEY SEED-----\n{line}\n------END USER NKEY SEED------\n");
    for text in [format!("{line}\n{public}\n"), block] {
        works(&server, &[("NATS_NKEY", &folder.write("form", text))]);
    }
    // The same from a context file.
    let context = serde_json::json!({ "url": server.url(), "nkey": seed("known", &known) });
    let context = folder.write("context.json", context.to_string());
    works(&server, &[("NATS_CONTEXT", &context)]);
}

#[test]
fn credentials_that_are_refused_after_a_restart_of_the_server_end_the_bridge() {
    let mut server = server("authorization { user: shoal, password: first }".to_owned());
    let env = [("NATS_USER", "shoal"), ("NATS_PASSWORD", "first")];
    let mut machine = with(&server, &env);
    machine.start();
    machine.wait_for("the bridge", |report| report.connected);
    server.kill();
    server.configure("first", "second");
    server.resume();
    assert_eq!(machine.ends(), Some(3));
    assert!(machine.log().contains(CREDENTIALS), "{}", machine.log());
}

#[test]
fn a_key_that_was_renewed_in_its_file_is_used_from_the_next_connect() {
    let (old, new) = (KeyPair::new_user(), KeyPair::new_user());
    let mut server = server(format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        old.public_key()
    ));
    let folder = Folder::new("renewed");
    let file = folder.write("key", old.seed().unwrap());
    let mut machine = with(&server, &[("NATS_NKEY", &file)]);
    machine.start();
    machine.wait_for("the bridge", |report| report.connected);
    server.kill();
    folder.write("key", new.seed().unwrap());
    server.configure(&old.public_key(), &new.public_key());
    server.resume();
    machine.wait_for("the new key", |report| {
        report.connected && report.connects == 2
    });
}

#[test]
fn the_right_credentials_file_is_accepted_and_one_of_another_account_is_refused() {
    let operator = KeyPair::new_operator();
    let [account, system, stranger] = [(); 3].map(|()| KeyPair::new_account());
    // No limits. The system account has no JetStream.
    let limits = |more: i64| {
        let mut limits = serde_json::json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1,
        });
        for name in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limits[name] = more.into();
        }
        serde_json::json!({ "type": "account", "version": 2, "limits": limits })
    };
    let of_operator = serde_json::json!({ "type": "operator", "version": 2 });
    let (user, sys) = (account.public_key(), system.public_key());
    let server = server(format!(
        "operator: {}\nresolver: MEMORY\nsystem_account: {sys}\nresolver_preload: {{ {user}: {}, {sys}: {} }}",
        signed(&operator, &operator, of_operator),
        signed(&operator, &account, limits(-1)),
        signed(&operator, &system, limits(0)),
    ));
    let folder = Folder::new("creds");
    let credentials = |name, of: &KeyPair| {
        let user = KeyPair::new_user();
        let claims = serde_json::json!({
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
        });
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            signed(of, &user, claims),
            user.seed().unwrap()
        );
        folder.write(name, text)
    };
    works(&server, &[("NATS_CREDS", &credentials("known", &account))]);
    let other = credentials("other", &stranger);
    is_refused(&server, &[("NATS_CREDS", &other)], CREDENTIALS);
}

/// The claims of `issuer` about `subject`: a JSON web token with the algorithm of NATS (`ed25519-nkey`; NATS
/// documentation, "JWTs").
fn signed(issuer: &KeyPair, subject: &KeyPair, nats: serde_json::Value) -> String {
    let encoded = |value: serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let head = encoded(serde_json::json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let claims = encoded(serde_json::json!({
        "jti": "test", "iat": 1, "iss": issuer.public_key(), "sub": subject.public_key(), "name": "test",
        "nats": nats,
    }));
    let text = format!("{head}.{claims}");
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// An authority that issues certificates.
struct Authority {
    issuer: Issuer<'static, rcgen::KeyPair>,
    file: String,
}

impl Authority {
    fn new(folder: &Folder, name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let file = folder.write(name, params.self_signed(&key).unwrap().pem());
        Self {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// The files of a certificate for this machine and of its key.
    fn certify(&self, folder: &Folder, name: &str) -> [String; 2] {
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        [
            folder.write(&format!("{name}.pem"), certificate),
            folder.write(&format!("{name}.key"), key.serialize_pem()),
        ]
    }
}

#[test]
fn a_server_is_trusted_only_by_its_certificate() {
    let folder = Folder::new("tls");
    let [ours, theirs] = ["ours", "theirs"].map(|name| Authority::new(&folder, name));
    let [cert, key] = ours.certify(&folder, "server");
    for first in [false, true] {
        let server = server(format!(
            "tls {{ cert_file: {cert:?}, key_file: {key:?}, handshake_first: {first} }}"
        ));
        let context = |ca: &str| {
            let context = serde_json::json!({ "url": server.url(), "ca": ca, "tls_first": first });
            folder.write("context.json", context.to_string())
        };
        works(&server, &[("NATS_CONTEXT", &context(&ours.file))]);
        let other = context(&theirs.file);
        is_refused(&server, &[("NATS_CONTEXT", &other)], NO_TLS);
    }
}

/// Checks that a bridge with these variables cannot connect, and that the status says why.
#[track_caller]
fn fails(server: &Server, env: &[(&str, &str)], why: &str) {
    let mut machine = with(server, env);
    machine.start();
    machine.wait_for(why, |report| report.last_error.contains(why));
}

#[test]
fn the_error_for_a_wrong_use_of_tls_says_what_the_server_does() {
    let folder = Folder::new("hints");
    let ours = Authority::new(&folder, "ours");
    let [cert, key] = ours.certify(&folder, "server");
    let ca = [("NATS_CA", ours.file.as_str())];
    fails(
        &Server::start(),
        &ca,
        "the server does not use TLS on this port",
    );
    let first = server(format!(
        "tls {{ cert_file: {cert:?}, key_file: {key:?}, handshake_first: true }}"
    ));
    fails(&first, &ca, "perhaps it expects a TLS handshake first");
}

#[test]
fn a_server_that_requests_a_certificate_gets_that_of_the_bridge() {
    let folder = Folder::new("mtls");
    let [ours, theirs] = ["ours", "theirs"].map(|name| Authority::new(&folder, name));
    let [cert, key] = ours.certify(&folder, "server");
    let ca = &ours.file;
    let server = server(format!(
        "tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}"
    ));
    let shown = |[cert, key]: &[String; 2]| {
        [
            ("NATS_CA", ca.clone()),
            ("NATS_CERT", cert.clone()),
            ("NATS_KEY", key.clone()),
        ]
    };
    let env = shown(&ours.certify(&folder, "client"));
    works(
        &server,
        &env.each_ref().map(|(name, value)| (*name, value.as_str())),
    );
    let env = shown(&theirs.certify(&folder, "stranger"));
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    is_refused(&server, &env, NO_TLS);
    is_refused(&server, &env[..1], NO_TLS);
    let other = folder.write("other", "no key");
    for (name, file) in [
        ("NATS_KEY", "/no/such/file"),
        ("NATS_KEY", &other),
        ("NATS_CA", "/"),
    ] {
        let mut env = env.to_vec();
        env.retain(|(of, _)| *of != name);
        env.push((name, file));
        let (code, said) = with(&server, &env).run_to_end();
        assert!(code == Some(2) && said.contains(file), "{said}");
    }
    let (code, said) = with(&server, &[("NATS_NKEY", &other)]).run_to_end();
    assert!(code == Some(2) && said.contains(&other), "{said}");
}

#[test]
fn a_certificate_and_a_key_that_cannot_be_used_are_wrong_usage_and_are_named() {
    let folder = Folder::new("pair");
    let ours = Authority::new(&folder, "ours");
    let [cert, _] = ours.certify(&folder, "client");
    let [_, other] = ours.certify(&folder, "other");
    let block =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = folder.write("encrypted", block);
    for (key, why) in [
        (&other, "the key is that of another certificate"),
        (&encrypted, "is encrypted"),
    ] {
        let mut machine = Machine::at("nats://127.0.0.1:9", &["--queue", "jobs"]);
        let env = [("NATS_CERT", &cert), ("NATS_KEY", key)];
        machine.env = env
            .map(|(name, file)| (name.to_owned(), file.clone()))
            .into();
        let (code, said) = machine.run_to_end();
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(why) && said.contains(key.as_str()), "{said}");
        assert!(key != &other || said.contains(&cert), "{said}");
    }
}

#[test]
fn a_variable_that_is_not_text_is_refused_by_name() {
    for name in ["NATS_URL", "NATS_CREDS", "NATS_CONTEXT"] {
        let done = Command::new("timeout")
            .args(["30", env!("CARGO_BIN_EXE_shoal-bridge")])
            .args(["run", "--queue", "jobs"])
            .env("SHOAL_DIR", "/nowhere")
            .env(name, OsStr::from_bytes(b"nats://\xff:4222"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains(name) && said.contains("not UTF-8"), "{said}");
    }
}
