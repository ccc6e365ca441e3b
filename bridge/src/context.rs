//! The address of the server and the credentials for it.
//!
//! Both come from a context file of the `nats` command line, or from the environment, and never from
//! arguments, which every user of the machine can read. A context file is JSON with the fields `url`,
//! `creds`, `nkey`, `user`, `password`, `token`, `ca`, `cert`, `key`, `tls_first` and `inbox_prefix`. A file with
//! other settings of a connection is refused; what only describes it is ignored. Variables: `NATS_URL`, `NATS_CREDS`,
//! `NATS_NKEY`, `NATS_USER`, `NATS_PASSWORD`, `NATS_TOKEN`, `NATS_CA`, `NATS_CERT`, `NATS_KEY`, and `NATS_CONTEXT` for
//! the file. A field that is set in the file takes precedence over a variable. If the file has credentials of any kind,
//! those of the variables are not used, except the password of the file's user.

use std::env;
use std::path::{Path, PathBuf};

use async_nats::ServerAddr;
use serde_json::Value;

use crate::error::{Error, Result};

/// The default address of the server.
pub const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// The variables that are read.
const VARIABLES: [&str; 10] = [
    "NATS_CONTEXT",
    "NATS_URL",
    "NATS_CREDS",
    "NATS_NKEY",
    "NATS_USER",
    "NATS_PASSWORD",
    "NATS_TOKEN",
    "NATS_CA",
    "NATS_CERT",
    "NATS_KEY",
];

/// The settings of a context file that change where a connection goes, or as whom, and that the bridge does not have.
const UNKNOWN: [&str; 9] = [
    "jetstream_domain",
    "jetstream_api_prefix",
    "nsc",
    "user_jwt",
    "user_seed",
    "socks_proxy",
    "windows_cert_store",
    "windows_cert_match_by",
    "windows_cert_match",
];

/// A server and the credentials for it.
#[derive(Clone, Default)]
pub struct Context {
    /// Servers, separated by commas: `nats://a:4222,nats://b:4222`, `tls://…`.
    pub url: String,
    /// A credentials file.
    pub creds: String,
    /// A file with the seed of a key.
    pub nkey: String,
    /// A user name, with [`password`](Self::password).
    pub user: String,
    /// The password of [`user`](Self::user).
    pub password: String,
    /// A token.
    pub token: String,
    /// A file with certificates of authorities.
    pub ca: String,
    /// A file with the certificate of this client.
    pub cert: String,
    /// A file with the key of [`cert`](Self::cert).
    pub key: String,
    /// Whether the server expects a TLS handshake first.
    pub tls_first: bool,
    /// The first part of the subjects on which answers arrive, instead of `_INBOX`.
    pub inbox_prefix: String,
}

/// The output has no secrets, so that it can be logged.
impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("servers", &self.servers())
            .field("credentials", &self.proof())
            .field("tls", &(!self.ca.is_empty() || !self.cert.is_empty()))
            .finish()
    }
}

impl Context {
    /// A server without credentials.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }

    /// Reads a context file: `file`, or the context of that name in the folder of the `nats` command line, or
    /// the one that `NATS_CONTEXT` names. Fields that are missing come from the environment, but no credentials if the
    /// file has some.
    ///
    /// # Errors
    /// `Invalid`: there is no such file, or it is not JSON of this form; or a variable is not UTF-8.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        // Such a variable must not count as unset: the bridge would go to another server.
        let is_text = |name: &&str| !matches!(env::var(name), Err(env::VarError::NotUnicode(_)));
        if let Some(name) = VARIABLES.iter().find(|name| !is_text(name)) {
            return Err(Error::invalid(*name, "it is not UTF-8"));
        }
        Self::load_from(file, |name| {
            env::var(name).ok().filter(|value| !value.is_empty())
        })
    }

    /// The same with `variable` in place of the environment.
    fn load_from(file: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let named = variable("NATS_CONTEXT").map(PathBuf::from);
        let mut context = match file.or(named.as_deref()) {
            Some(file) => Self::read(&found(file, &variable), variable("HOME").as_deref())?,
            None => Self::default(),
        };
        // Variables of another server must not replace the credentials of the file, nor be sent to its server.
        let of_file = [&context.creds, &context.nkey, &context.user, &context.token];
        let has_proof = of_file.iter().any(|it| !it.is_empty()) || context.url.contains('@');
        let needs_password = !has_proof || !context.user.is_empty();
        for (field, name, is_other) in [
            (&mut context.url, "NATS_URL", false),
            (&mut context.creds, "NATS_CREDS", has_proof),
            (&mut context.nkey, "NATS_NKEY", has_proof),
            (&mut context.user, "NATS_USER", has_proof),
            (&mut context.password, "NATS_PASSWORD", !needs_password),
            (&mut context.token, "NATS_TOKEN", has_proof),
            (&mut context.ca, "NATS_CA", false),
            (&mut context.cert, "NATS_CERT", false),
            (&mut context.key, "NATS_KEY", false),
        ] {
            if field.is_empty() && !is_other {
                *field = variable(name).unwrap_or_default();
            }
        }
        if context.url.is_empty() {
            context.url = DEFAULT_URL.to_owned();
        }
        if context.url.split(',').any(|url| url.trim().is_empty()) {
            let why = "an entry between its commas is empty";
            return Err(Error::invalid("address of the server", why));
        }
        if context.cert.is_empty() != context.key.is_empty() {
            let why = "a certificate and its key are needed together (cert and key, NATS_CERT and NATS_KEY)";
            return Err(Error::invalid("TLS certificate", why));
        }
        Ok(context)
    }

    /// Reads a context file. `home` takes the place of `~` in it.
    fn read(file: &Path, home: Option<&str>) -> Result<Self> {
        let what = || format!("context file {}", file.display());
        let text = std::fs::read_to_string(file).map_err(|why| Error::invalid(what(), why))?;
        // The errors contain no value, which may be a secret.
        let fields: serde_json::Map<String, Value> =
            serde_json::from_str(&text).map_err(|why| {
                let (line, column) = (why.line(), why.column());
                let why = format!("it is not a JSON object: line {line}, column {column}");
                Error::invalid(what(), why)
            })?;
        let wrong =
            |name: &str, wanted| Error::invalid(what(), format!("{name:?} is not {wanted}"));
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(wrong(name, "text")),
        };
        let path = |name: &str| -> Result<String> {
            let file = text(name)?;
            let of_home = home.and_then(|home| Some((home, file.strip_prefix("~/")?)));
            Ok(of_home.map_or(file.clone(), |(home, rest)| {
                format!("{}/{rest}", home.trim_end_matches('/'))
            }))
        };
        // Without them the bridge would go to another server or account, or as another user.
        if let Some(name) = UNKNOWN.iter().find(|name| is_set(fields.get(**name))) {
            let why = format!("the bridge has no {name:?}; remove it from the file");
            return Err(Error::invalid(what(), why));
        }
        let tls_first = match fields.get("tls_first") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(first)) => *first,
            Some(_) => return Err(wrong("tls_first", "true or false")),
        };
        Ok(Self {
            url: text("url")?,
            creds: path("creds")?,
            nkey: path("nkey")?,
            user: text("user")?,
            password: text("password")?,
            token: text("token")?,
            ca: path("ca")?,
            cert: path("cert")?,
            key: path("key")?,
            tls_first,
            inbox_prefix: text("inbox_prefix")?,
        })
    }

    /// The servers, without user names or passwords that their addresses may contain.
    pub fn servers(&self) -> Vec<String> {
        let bare = |url: &str| {
            let at = url.find("://").map_or(0, |at| at + 3);
            let (scheme, rest) = url.split_at(at);
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}{host}")
        };
        self.addresses().map(bare).collect()
    }

    /// The kind of credentials.
    fn proof(&self) -> &'static str {
        match () {
            () if !self.creds.is_empty() => "credentials file",
            () if !self.nkey.is_empty() => "nkey",
            () if !self.user.is_empty() => "user and password",
            () if !self.token.is_empty() => "token",
            () if !self.cert.is_empty() => "certificate",
            () => "none",
        }
    }

    /// An error if no connection can be made with these addresses and files, whatever the server says.
    pub(crate) async fn check(&self) -> Result<()> {
        const FORM: &str = "it is not nats://host:port or tls://host:port";
        for (at, address) in self.addresses().enumerate() {
            // Where the password of an invalid address ends is not known, so no part of it is shown.
            let wrong = |why: &dyn std::fmt::Display| match self.url.contains('@') {
                true => {
                    let number = at + 1;
                    let what = format!("address of the server (number {number}, with a password)");
                    Error::invalid(what, FORM)
                }
                false => Error::invalid(format!("address of the server {address:?}"), why),
            };
            let parsed = address.parse::<ServerAddr>().map_err(|why| wrong(&why))?;
            // The client is built without websockets.
            if !matches!(parsed.scheme(), "nats" | "tls") || parsed.host().is_empty() {
                return Err(wrong(&FORM));
            }
        }
        self.options().await.map(drop)
    }

    /// The addresses of the servers, which may contain secrets.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.url.split(',').map(str::trim)
    }
}

/// Whether a field has a value: the `nats` command line writes those that are not set as empty texts.
fn is_set(field: Option<&Value>) -> bool {
    !matches!(field, None | Some(Value::Null)) && field.and_then(Value::as_str) != Some("")
}

/// The file itself if it exists, or the context of that name in the folder of the `nats` command line.
fn found(file: &Path, variable: &impl Fn(&str) -> Option<String>) -> PathBuf {
    if file.components().count() != 1 || file.exists() {
        return file.to_owned();
    }
    let settings = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let settings =
        settings.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
    let name = format!("{}.json", file.display());
    let kept = settings.map(|folder| folder.join("nats/context").join(name));
    kept.filter(|kept| kept.exists()).unwrap_or(file.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn a_context_is_read_from_the_environment() {
        let context = Context::load_from(
            None,
            with(&[("NATS_URL", "nats://a:1, nats://b:2"), ("NATS_TOKEN", "t")]),
        );
        let context = context.unwrap();
        assert_eq!(context.servers(), ["nats://a:1", "nats://b:2"]);
        assert_eq!(context.token, "t");
        assert_eq!(
            Context::load_from(None, with(&[])).unwrap().url,
            DEFAULT_URL
        );
    }

    #[test]
    fn what_is_logged_contains_no_secret() {
        let variables = with(&[
            ("NATS_URL", "nats://me:secret@a:1,secret@b:2,me:secret@c"),
            ("NATS_USER", "me"),
            ("NATS_PASSWORD", "secret"),
        ]);
        let context = Context::load_from(None, variables).unwrap();
        assert_eq!(context.servers(), ["nats://a:1", "b:2", "c"]);
        let shown = format!("{context:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[tokio::test]
    async fn the_error_for_an_invalid_address_contains_no_secret() {
        for url in [
            "nats://me:secret@127.0.0.1:99999",
            "nats://secret@",
            "secret:secret://me@a",
            "http://me:secret@a",
            "nats://me:sec,ret@a",
            "nats://a:4222,nats://me:secret@b:port",
        ] {
            let why = Context::at(url).check().await.unwrap_err().to_string();
            assert!(!why.contains("sec"), "{url}: {why}");
            assert!(why.contains("address of the server"), "{url}: {why}");
        }
        let why = Context::at("nats://a:port").check().await.unwrap_err();
        assert!(why.to_string().contains("nats://a:port"), "{why}");
    }

    #[test]
    fn a_file_takes_precedence_over_the_environment() {
        let folder =
            std::env::temp_dir().join(format!("shoal-bridge-context-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("prod.json");
        std::fs::write(
            &file,
            r#"{"url":"tls://a:1","token":"","user":"me","description":"x"}"#,
        )
        .unwrap();
        let context = Context::load_from(
            Some(&file),
            with(&[("NATS_URL", "nats://b:2"), ("NATS_PASSWORD", "p")]),
        );
        let context = context.unwrap();
        assert_eq!(
            (&*context.url, &*context.user, &*context.password),
            ("tls://a:1", "me", "p")
        );
        std::fs::write(&file, "url = nats").unwrap();
        let why = Context::load_from(Some(&file), with(&[]))
            .unwrap_err()
            .to_string();
        assert!(why.contains("prod.json"), "{why}");
        for (text, word) in [
            (r#"{"token": 7731}"#, "\"token\" is not text"),
            (
                r#"{"tls_first": "yes"}"#,
                "\"tls_first\" is not true or false",
            ),
            ("[]", "not a JSON object"),
            (r#""7731""#, "not a JSON object"),
        ] {
            std::fs::write(&file, text).unwrap();
            let why = Context::load_from(Some(&file), with(&[])).unwrap_err();
            let why = why.to_string();
            assert!(why.contains("prod.json") && why.contains(word), "{why}");
            assert!(!why.contains("7731"), "{why}");
        }
        std::fs::write(&file, r#"{"url": "a", "token": null}"#).unwrap();
        let context = Context::load_from(Some(&file), with(&[("NATS_TOKEN", "t")]));
        assert_eq!(context.unwrap().token, "t");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn credentials_of_the_environment_do_not_replace_those_of_a_file() {
        let folder = std::env::temp_dir().join(format!("shoal-bridge-own-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("own.json");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let variables = with(&[
                ("NATS_CREDS", "/creds"),
                ("NATS_NKEY", "/nkey"),
                ("NATS_USER", "other"),
                ("NATS_PASSWORD", "p"),
                ("NATS_TOKEN", "t"),
                ("NATS_CA", "/ca"),
            ]);
            let context = Context::load_from(Some(&file), variables).unwrap();
            assert_eq!(context.ca, "/ca");
            [
                context.creds,
                context.nkey,
                context.user,
                context.password,
                context.token,
            ]
        };
        let token = r#"{"url": "a", "token": "mine"}"#;
        assert_eq!(load(token), ["", "", "", "", "mine"]);
        let user = r#"{"url": "a", "user": "me"}"#;
        assert_eq!(load(user), ["", "", "me", "p", ""]);
        assert_eq!(load(r#"{"creds": "/mine"}"#), ["/mine", "", "", "", ""]);
        assert_eq!(load(r#"{"url": "nats://me:p@a"}"#), ["", "", "", "", ""]);
        assert_eq!(
            load(r#"{"url": "a"}"#),
            ["/creds", "/nkey", "other", "p", "t"]
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn a_file_is_used_as_a_whole_or_refused_by_the_name_of_a_field() {
        let folder = std::env::temp_dir().join(format!("shoal-bridge-all-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("all.json");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Context::load_from(Some(&file), with(&[("HOME", "/home/me/")]))
        };
        for name in UNKNOWN {
            let why = load(&format!(r#"{{"{name}": "some"}}"#))
                .unwrap_err()
                .to_string();
            assert!(why.contains("all.json") && why.contains(name), "{why}");
            load(&format!(r#"{{"{name}": ""}}"#)).unwrap();
            load(&format!(r#"{{"{name}": null}}"#)).unwrap();
        }
        let files = r#"{"creds": "~/a", "nkey": "~/b", "ca": "~/c", "cert": "~/d", "key": "~/e/~/f", "inbox_prefix": "_MY"}"#;
        let context = load(files).unwrap();
        let files = [
            context.creds,
            context.nkey,
            context.ca,
            context.cert,
            context.key,
        ];
        assert_eq!(
            files,
            ["a", "b", "c", "d", "e/~/f"].map(|file| format!("/home/me/{file}"))
        );
        assert_eq!(context.inbox_prefix, "_MY");
        for prefix in ["a.*", "a b", "a..b", ">"] {
            let why = Context {
                inbox_prefix: prefix.to_owned(),
                ..Context::at(DEFAULT_URL)
            };
            let why = why.options().await.unwrap_err().to_string();
            assert!(why.contains("inbox_prefix"), "{why}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn an_address_with_an_empty_entry_is_refused() {
        for variables in [
            &[("NATS_URL", "a,")],
            &[("NATS_URL", " , ")],
            &[("NATS_URL", ",a")],
        ] {
            assert!(Context::load_from(None, with(variables)).is_err());
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        assert!(Context::load_from(None, with(&[("NATS_CERT", "c.pem")])).is_err());
    }
}
