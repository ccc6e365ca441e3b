//! The options of a connection: credentials and certificates, read from the files that a context names.

use std::path::PathBuf;

use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::sign::CertifiedKey;
use async_nats::{ConnectOptions, ServerAddr, rustls};
use nkeys::KeyPair;
use percent_encoding::percent_decode_str;

use crate::context::Context;
use crate::error::{Error, Result};

impl Context {
    /// The options of a connection.
    pub(crate) async fn options(&self) -> Result<ConnectOptions> {
        let mut options = ConnectOptions::new();
        if !self.creds.is_empty() {
            let what = format!("credentials file {}", self.creds);
            let read = options.credentials_file(&self.creds).await;
            options = read.map_err(|why| Error::invalid(what, why))?;
        } else if !self.nkey.is_empty() {
            let what = || format!("nkey file {}", self.nkey);
            let seed =
                std::fs::read_to_string(&self.nkey).map_err(|why| Error::invalid(what(), why))?;
            // The public key may follow, and lines of dashes may enclose the seed.
            let seed = seed.lines().map(str::trim);
            let seed = seed
                .filter(|line| line.starts_with("SU"))
                .find(|line| KeyPair::from_seed(line).is_ok());
            let seed = seed.ok_or_else(|| {
                let why = "no line of it is the seed of a user, which begins with SU";
                Error::invalid(what(), why)
            })?;
            options = options.nkey(seed.to_owned());
        } else if !self.user.is_empty() {
            options = options.user_and_password(self.user.clone(), self.password.clone());
        } else if !self.token.is_empty() {
            options = options.token(self.token.clone());
        } else {
            options = match self.of_addresses()? {
                Some((user, Some(password))) => options.user_and_password(user, password),
                Some((token, None)) => options.token(token),
                None => options,
            };
        }
        pem::<CertificateDer<'_>>(&self.ca, "certificate")?;
        if !self.cert.is_empty() {
            let certificates = pem(&self.cert, "certificate")?;
            let mut keys = pem(&self.key, "key")?;
            // As the client, which would find the same, and try again.
            pair(certificates, keys.swap_remove(0)).map_err(|why| {
                let what = format!("TLS certificate {} with key {}", self.cert, self.key);
                Error::invalid(what, why)
            })?;
        }
        if !self.ca.is_empty() {
            options = options.add_root_certificates(PathBuf::from(&self.ca));
            options = options.require_tls(true);
        }
        if !self.cert.is_empty() {
            options = options.add_client_certificate((&self.cert).into(), (&self.key).into());
        }
        if !self.inbox_prefix.is_empty() {
            let mut words = self.inbox_prefix.split('.');
            let is_word =
                |word: &str| !word.is_empty() && !word.contains(['*', '>', ' ', '\t', '\r', '\n']);
            if !words.all(is_word) {
                let why = format!("{:?} is not words with dots between", self.inbox_prefix);
                return Err(Error::invalid("inbox_prefix", why));
            }
            options = options.custom_inbox_prefix(&self.inbox_prefix);
        }
        if self.tls_first {
            options = options.tls_first();
        }
        Ok(options)
    }
}

impl Context {
    /// The user and password, or the token, that the addresses contain. The client does not read them.
    fn of_addresses(&self) -> Result<Option<(String, Option<String>)>> {
        let wrong = |why| Error::invalid("address of the server", why);
        let mut found = None;
        for address in self.addresses() {
            // Its errors may contain a secret.
            let parsed = address.parse::<ServerAddr>();
            let parsed =
                parsed.map_err(|_| wrong("it is not nats://host:port or tls://host:port"))?;
            let decoded = |text: &str| match percent_decode_str(text).decode_utf8() {
                Ok(text) => Ok(text.into_owned()),
                Err(_) => Err(wrong("the user, password or token in it is not UTF-8")),
            };
            let Some(user) = parsed.username() else {
                continue;
            };
            let password = parsed.password().map(decoded).transpose()?;
            let proof = (decoded(user)?, password);
            if *found.get_or_insert_with(|| proof.clone()) != proof {
                return Err(wrong(
                    "two of them contain different credentials; set NATS_USER and NATS_PASSWORD, or NATS_TOKEN",
                ));
            }
        }
        Ok(found)
    }
}

/// The certificates or keys in PEM form in `file`, which contains at least one, if it is given. Each has to be
/// complete.
fn pem<T: PemObject>(file: &str, kind: &str) -> Result<Vec<T>> {
    if file.is_empty() {
        return Ok(Vec::new());
    }
    let what = || format!("TLS file {file}");
    let text = std::fs::read(file).map_err(|why| Error::invalid(what(), why))?;
    // In the first line of a PKCS #8 key, or in a header of an older one.
    if kind == "key" && text.windows(9).any(|word| word == b"ENCRYPTED") {
        let why = "the key in it is encrypted; the bridge needs one without a password (`openssl pkey -in FILE`)";
        return Err(Error::invalid(what(), why));
    }
    let found: Vec<_> = T::pem_slice_iter(&text).collect();
    if found.is_empty() {
        let why = format!("it contains no {kind} in PEM form");
        return Err(Error::invalid(what(), why));
    }
    let found: std::result::Result<_, _> = found.into_iter().collect();
    found.map_err(|why| Error::invalid(what(), format!("a {kind} in it is malformed: {why}")))
}

/// An error if no TLS connection can be made with this certificate and this key.
fn pair(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> std::result::Result<(), String> {
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(certificates, key, &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err("the key is that of another certificate".to_owned())
        }
        Err(why) => Err(why.to_string()),
    }
}
