//! What a test does on the server by itself, without a bridge.

use async_nats::jetstream::{self, stream};

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

/// How many messages a stream has.
pub fn messages(server: &Server, stream: &str) -> u64 {
    on(server, |jetstream| async move {
        let stream = jetstream.get_stream(stream).await.unwrap();
        stream.get_info().await.unwrap().state.messages
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

/// Makes a stream as someone else would.
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
