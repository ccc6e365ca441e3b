//! The connection to the server, as the tasks of a bridge see it.
//!
//! A [`Link`] is one client. The client reconnects by itself, which the tasks see as a new *epoch*: replies that
//! were outstanding before it do not arrive. If the client itself has failed (it was closed, or its task
//! panicked), the bridge makes another client and publishes the new link. The tasks outlive both.

use std::error::Error as _;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, ClientError, ConnectError, ConnectErrorKind, Event, ServerError};
use async_nats::{jetstream, rustls};
use tokio::sync::{Notify, watch};

use crate::context::Context;
use crate::counters::Counters;
use crate::error::{Error, Result};

/// How long the server has for an answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// The oldest version of the server with all that the bridge needs: lifetimes of single messages.
const OLDEST: (u32, u32) = (2, 11);

/// The counters of the connection.
#[derive(Debug, Default)]
pub(crate) struct LinkCounters {
    /// How often the connection was made, including the first time.
    pub(crate) connects: AtomicU64,
    /// How often it was lost.
    pub(crate) losses: AtomicU64,
    /// Whether it is connected now.
    pub(crate) is_up: AtomicBool,
    /// Whether the bridge ends, and its connection with it.
    pub(crate) is_ending: AtomicBool,
    /// What the server does not permit: its last message about that on this connection. Such a request is not
    /// answered, so what the tasks report is that the time is over.
    denied: Mutex<String>,
    /// The number of the bridge's present client. Earlier clients may still report that they connect or end.
    newest: AtomicU64,
}

impl LinkCounters {
    /// Starts a new present client, and returns its number.
    fn begin(&self) -> u64 {
        self.is_up.store(false, Ordering::Relaxed);
        self.newest.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What the server does not permit on this connection; empty if nothing is known.
    pub(crate) fn denied(&self) -> String {
        self.set_denied().clone()
    }

    fn set_denied(&self) -> MutexGuard<'_, String> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client, and whether it is connected.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    /// Odd while connected; every loss and every connect adds one.
    epoch: watch::Receiver<u64>,
    /// Notified when a reconnect has failed for a reason that the client does not resolve.
    refused: Arc<Notify>,
}

impl Link {
    /// Connects once.
    ///
    /// # Errors
    /// `Refused` if the server does not accept the credentials, `Certificate` if one is not trusted, `Differs` if
    /// its version is too old, `Away` if it does not answer.
    pub(crate) async fn connect(
        context: &Context,
        name: &str,
        counters: &Arc<Counters>,
    ) -> Result<Self> {
        let (sender, epoch) = watch::channel(0);
        let refused = Arc::new(Notify::new());
        let options = context.options().await?;
        let (counted, number) = (counters.clone(), counters.link.begin());
        let told = refused.clone();
        let options = options
            .name(name)
            .request_timeout(Some(ANSWER))
            .connection_timeout(ANSWER)
            .ping_interval(Duration::from_secs(3))
            .reconnect_delay_callback(|attempt| {
                Duration::from_millis(50 << attempt.min(5)).min(Duration::from_secs(2))
            })
            .event_callback(move |event| {
                record_event(&event, &sender, &counted, number);
                if is_refusal(&event) {
                    told.notify_one();
                }
                async {}
            });
        let servers = context.servers();
        let addresses: Vec<&str> = context.addresses().collect();
        let what = || format!("connection to {}", servers.join(", "));
        let client = options
            .connect(addresses)
            .await
            .map_err(|why| match why.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    Error::refused("the credentials", format!("{why} ({})", servers.join(", ")))
                }
                _ if is_untrusted_certificate(&why) => Error::Certificate {
                    server: servers.join(", "),
                    why: why.to_string(),
                },
                ConnectErrorKind::ServerParse => Error::invalid("address of the server", &why),
                _ => match tls_hint(&why) {
                    Some(hint) => Error::away(what(), format!("{why}: {hint}")),
                    None => Error::away(what(), why),
                },
            })?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(ANSWER);
        let mut link = Self {
            client,
            jetstream,
            epoch,
            refused,
        };
        let up = async { link.epoch.wait_for(|epoch| epoch % 2 == 1).await.is_ok() };
        if !tokio::time::timeout(ANSWER, up).await.unwrap_or(false) {
            return Err(Error::away(what(), "the connection was lost immediately"));
        }
        let version = link.client.server_info().version;
        if is_older(&version) {
            return Err(Error::Differs {
                what: format!("the server ({})", servers.join(", ")),
                setting: "version",
                theirs: version,
                ours: format!("{}.{} or later", OLDEST.0, OLDEST.1),
                advice: "install a later server",
            });
        }
        Ok(link)
    }

    /// The present epoch; odd if connected.
    pub(crate) fn epoch(&self) -> u64 {
        *self.epoch.borrow()
    }

    /// Whether it is connected.
    pub(crate) fn is_up(&self) -> bool {
        self.epoch() % 2 == 1
    }

    /// Whether the client's task runs: it owns the callback, which owns the sender of the epoch.
    pub(crate) fn is_alive(&self) -> bool {
        self.epoch.has_changed().is_ok()
    }

    /// Waits until the epoch is not `seen`.
    pub(crate) async fn changed(&mut self, seen: u64) {
        if self.epoch.wait_for(|epoch| *epoch != seen).await.is_err() {
            // The client's own task has ended, and with it the callback.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the server has refused the credentials or the certificate. The client reconnects with those that
    /// it was made with, so only another client may succeed.
    pub(crate) async fn refused(&self) {
        self.refused.notified().await;
    }

    /// Whether the server belongs to a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        self.client.server_info().cluster.is_some()
    }

    /// How many bytes were received from the server.
    pub(crate) fn received(&self) -> u64 {
        self.client.statistics().in_bytes.load(Ordering::Relaxed)
    }

    /// Whether the client works: it has sent everything, or has received something since it had received `before`
    /// bytes. On a slow connection there may always be something to send. A client whose task has panicked still
    /// reports that it is connected; this detects it.
    pub(crate) async fn check(&self, before: u64) -> Result<()> {
        let flushed = tokio::time::timeout(ANSWER, self.client.flush()).await;
        match flushed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Error::away("the client", why)),
            Err(_) if self.received() != before => Ok(()),
            Err(_) => Err(Error::away("the client", "nothing is sent or received")),
        }
    }
}

/// Whether a server of this version is older than [`OLDEST`]. A version of another form counts as a later one.
fn is_older(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST,
        _ => false,
    }
}

/// Whether the server's or the bridge's certificate is the cause. In that case a retry does not help.
fn is_untrusted_certificate(why: &ConnectError) -> bool {
    use rustls::AlertDescription as Alert;
    let mut cause = why.source();
    while let Some(err) = cause {
        let inner = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls.or_else(|| err.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(_)) => return true,
            Some(rustls::Error::AlertReceived(alert)) => {
                return matches!(
                    alert,
                    Alert::BadCertificate
                        | Alert::UnsupportedCertificate
                        | Alert::CertificateRevoked
                        | Alert::CertificateExpired
                        | Alert::CertificateUnknown
                        | Alert::CertificateRequired
                        | Alert::UnknownCA
                );
            }
            _ => cause = err.source(),
        }
    }
    false
}

/// What a failure to connect says about the server's TLS, where its own text does not.
fn tls_hint(why: &ConnectError) -> Option<&'static str> {
    let mut cause = why.source();
    while let Some(err) = cause {
        let inner = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidMessage(_)) = tls.or_else(|| err.downcast_ref()) {
            return Some(
                "the server does not use TLS on this port, or sends its greeting before it (tls_first is for handshake_first)",
            );
        }
        // The client has no kind of error for it.
        if err.to_string() == "expected INFO, got nothing" {
            return Some(
                "perhaps it expects a TLS handshake first (\"tls_first\": true in a context file)",
            );
        }
        cause = err.source();
    }
    None
}

/// Whether the server has refused the client's credentials, or one side does not trust a certificate.
fn is_refusal(event: &Event) -> bool {
    match event {
        Event::ServerError(why) => *why == ServerError::AuthorizationViolation,
        // A failed reconnect is reported by the text of its kind.
        Event::ClientError(ClientError::Other(why)) => [
            ConnectErrorKind::AuthorizationViolation,
            ConnectErrorKind::Authentication,
            ConnectErrorKind::Tls,
        ]
        .iter()
        .any(|kind| *why == kind.to_string()),
        _ => false,
    }
}

/// Records an event of the client with this number.
fn record_event(event: &Event, epoch: &watch::Sender<u64>, counters: &Counters, number: u64) {
    let link = &counters.link;
    let is_ending = link.is_ending.load(Ordering::Relaxed);
    let is_ours = link.newest.load(Ordering::Relaxed) == number && !is_ending;
    match event {
        Event::Connected => {
            epoch.send_modify(|epoch| *epoch += 1 + *epoch % 2);
            if is_ours {
                link.connects.fetch_add(1, Ordering::Relaxed);
                link.is_up.store(true, Ordering::Relaxed);
                link.set_denied().clear();
                tracing::info!("connected");
            }
        }
        Event::Disconnected | Event::Closed => {
            let was_up = *epoch.borrow() % 2 == 1;
            if was_up {
                epoch.send_modify(|epoch| *epoch += 1);
            }
            if is_ours && was_up {
                link.is_up.store(false, Ordering::Relaxed);
                link.losses.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("the connection is lost; what is put waits in shared memory");
            }
        }
        Event::ServerError(ServerError::Other(why))
            if is_ours && why.contains("Permissions Violation") =>
        {
            // The report has it as well as the errors that it causes, so a repetition replaces none of these.
            let before = std::mem::replace(&mut *link.set_denied(), why.clone());
            if before != *why {
                counters.record_error(&format!("the server: {why}"));
            }
        }
        // The client reports some events, such as a failure to connect, every 2 s.
        other if is_ours => counters.record_error(&format!("the connection: {other}")),
        _ => {}
    }
}

/// The present link, for a task.
#[derive(Clone)]
pub(crate) struct Links(watch::Receiver<Option<Link>>);

impl Links {
    pub(crate) fn new() -> (watch::Sender<Option<Link>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// Waits for a link that is connected, and returns it with its epoch.
    pub(crate) async fn up(&mut self) -> (Link, u64) {
        loop {
            let link = self.0.borrow_and_update().clone();
            let Some(mut link) = link else {
                if self.0.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            };
            let epoch = link.epoch();
            if epoch % 2 == 1 {
                return (link, epoch);
            }
            tokio::select! {
                () = link.changed(epoch) => {}
                _ = self.0.changed() => {}
            }
        }
    }

    /// Waits until the link is replaced or its epoch ends.
    pub(crate) async fn lost(&mut self, link: &mut Link, epoch: u64) {
        tokio::select! {
            () = link.changed(epoch) => {}
            _ = self.0.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_compared_by_its_numbers() {
        for older in ["2.10.26", "2.9.25", "1.14.0", "v2.10.0-RC.1"] {
            assert!(is_older(older), "{older}");
        }
        for newer in ["2.11.0", "2.12.1", "3.0.0", "2.11.0-preview.2", "", "x.y"] {
            assert!(!is_older(newer), "{newer}");
        }
    }
}
