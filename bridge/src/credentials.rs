//! The options of a connection: credentials and certificates, read from the files that a context names.

use std::path::PathBuf;

use async_nats::ConnectOptions;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use nkeys::KeyPair;

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
        }
        for file in [&self.ca, &self.cert] {
            pem::<CertificateDer<'_>>(file, "certificate")?;
        }
        pem::<PrivateKeyDer<'_>>(&self.key, "key")?;
        if !self.ca.is_empty() {
            options = options.add_root_certificates(PathBuf::from(&self.ca));
            options = options.require_tls(true);
        }
        if !self.cert.is_empty() {
            options = options.add_client_certificate((&self.cert).into(), (&self.key).into());
        }
        if self.tls_first {
            options = options.tls_first();
        }
        Ok(options)
    }
}

/// An error if `file` is given and does not contain at least one of these in PEM form, each of them complete.
fn pem<T: PemObject>(file: &str, kind: &str) -> Result<()> {
    if file.is_empty() {
        return Ok(());
    }
    let what = || format!("TLS file {file}");
    let text = std::fs::read(file).map_err(|why| Error::invalid(what(), why))?;
    let mut found = T::pem_slice_iter(&text).peekable();
    if found.peek().is_none() {
        return Err(Error::invalid(
            what(),
            format!("it contains no {kind} in PEM form"),
        ));
    }
    found
        .try_for_each(|it| it.map(drop))
        .map_err(|why| Error::invalid(what(), format!("a {kind} in it is malformed: {why}")))
}
