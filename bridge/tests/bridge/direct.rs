//! What tests do on the server directly, without a bridge.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};

use crate::machine::WATCHDOG;
use crate::server::Server;

/// Runs something on a connection.
pub fn on<F, T>(server: &Server, work: impl FnOnce(jetstream::Context) -> F) -> T
where
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        work(jetstream::new(client)).await
    })
}

/// Whether a bridge waits for a message of the stream.
pub fn is_pulled_from(server: &Server, stream: &str) -> bool {
    on(server, |jetstream| async move {
        let stream = jetstream.get_stream(stream).await.unwrap();
        let info = stream.consumer_info("shoal").await;
        info.is_ok_and(|info| info.num_waiting > 0)
    })
}

/// Whether the server's cluster can create a stream with this many copies. The stream is removed again.
pub fn replicates(server: &Server, copies: usize) -> bool {
    on(server, |jetstream| async move {
        let config = stream::Config {
            name: "probe".to_owned(),
            num_replicas: copies,
            ..Default::default()
        };
        let made = jetstream.create_stream(config).await;
        made.is_ok() && jetstream.delete_stream("probe").await.is_ok()
    })
}

/// The name of the server that leads a stream. The server of the connection may learn it late.
pub fn leader(server: &Server, stream: &str) -> String {
    on(server, |jetstream| async move {
        let begun = Instant::now();
        loop {
            if let Ok(stream) = jetstream.get_stream(stream).await
                && let Some(cluster) = &stream.cached_info().cluster
                && let Some(leader) = &cluster.leader
            {
                return leader.clone();
            }
            assert!(begun.elapsed() < WATCHDOG, "{stream} has no leader");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

/// Waits until a stream that had messages has none. The server confirms an ack before it removes the message.
pub fn becomes_empty(server: &Server, stream: &str) {
    let begun = Instant::now();
    // A server that is still starting reports the stream as new, without a last number.
    while !matches!(found(server, stream), Some((0, 1..))) {
        assert!(begun.elapsed() < WATCHDOG, "{stream} is not empty");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many messages a stream has.
pub fn messages(server: &Server, stream: &str) -> u64 {
    found(server, stream).unwrap().0
}

/// The same, and the number of the last one; `None` if the server does not say.
fn found(server: &Server, stream: &str) -> Option<(u64, u64)> {
    on(server, |jetstream| async move {
        let stream = jetstream.get_stream(stream).await.ok()?;
        let state = &stream.cached_info().state;
        Some((state.messages, state.last_sequence))
    })
}

/// Publishes a message with these headers, as another program would.
pub fn publish(
    server: &Server,
    subject: &'static str,
    headers: &[(&'static str, &'static str)],
    text: impl Into<bytes::Bytes>,
) {
    on(server, |jetstream| async move {
        let mut all = async_nats::HeaderMap::new();
        headers
            .iter()
            .for_each(|(name, value)| all.insert(*name, *value));
        let published = jetstream
            .publish_with_headers(subject, all, text.into())
            .await;
        published.unwrap().await.unwrap();
    });
}

/// Creates a stream, as another program would.
pub fn make(server: &Server, config: stream::Config) {
    on(server, |jetstream| async move {
        jetstream.create_stream(config).await.unwrap();
    });
}

/// The headers of the last message of a subject.
pub fn last(server: &Server, stream: &'static str, subject: &'static str) -> async_nats::HeaderMap {
    on(server, |jetstream| async move {
        let stream = jetstream.get_stream(stream).await.unwrap();
        stream
            .get_last_raw_message_by_subject(subject)
            .await
            .unwrap()
            .headers
    })
}
