//! Stores objects. The client could do that too, but leaves the chunks of an object for which there is no room.

use std::collections::HashMap;

use async_nats::header::NATS_ROLLUP;
use async_nats::jetstream::object_store::{ObjectInfo, ObjectOptions};
use async_nats::rustls::crypto::hash::Context;
use async_nats::{HeaderMap, Request, datetime, rustls};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::exchange::{Answer, Published};
use crate::large::Large;
use crate::link::Link;

/// The longest chunk of an object.
const CHUNK: usize = 128 << 10;

/// Why a message of the bucket may not be stored.
pub(crate) enum Unstored {
    /// The server has refused it.
    Refused(Error),
    /// It may be stored, or be stored later.
    NoAnswer(Error),
}

impl From<Unstored> for Error {
    fn from(unstored: Unstored) -> Self {
        match unstored {
            Unstored::Refused(why) | Unstored::NoAnswer(why) => why,
        }
    }
}

impl Large {
    /// Stores `bytes` as `object`. Storing the same object twice has the effect of storing it once. After an error,
    /// the chunks that were stored are removed if the server can be reached: they may have filled its store.
    ///
    /// # Errors
    /// `Full` if there is no room; `Away`.
    pub(crate) async fn put(&self, link: &Link, object: &str, bytes: &[u8]) -> Result<()> {
        self.store(&link.jetstream).await?;
        let stream = self.stream(&link.jetstream).await?;
        // An earlier attempt to publish its message has stored it. Another machine may be reading it.
        let earlier = self.note(&stream, object).await?;
        if earlier.as_ref().is_some_and(|it| it.size == bytes.len()) {
            return Ok(());
        }
        let inbox = link.client.new_inbox();
        let number = inbox.rsplit('.').next().unwrap_or(&inbox);
        let chunks = self.chunk_subject(number);
        let note = match self.put_chunks(link, &chunks, bytes).await {
            Ok(digest) => ObjectInfo {
                name: object.to_owned(),
                description: None,
                metadata: HashMap::new(),
                headers: None,
                options: Some(ObjectOptions {
                    link: None,
                    max_chunk_size: Some(chunk_size(link)),
                }),
                bucket: self.bucket.clone(),
                nuid: number.to_owned(),
                size: bytes.len(),
                chunks: bytes.len().div_ceil(chunk_size(link)),
                modified: Some(datetime::now()),
                digest,
                deleted: false,
            },
            Err(unstored) => {
                let _ = stream.purge().filter(chunks).await;
                return Err(unstored.into());
            }
        };
        match self.put_note(link, object, &note).await {
            Ok(()) => {}
            // Without an answer, the note may be stored, and the chunks are needed.
            Err(Unstored::NoAnswer(why)) => return Err(why),
            Err(unstored) => {
                let _ = stream.purge().filter(chunks).await;
                return Err(unstored.into());
            }
        }
        if let Some(earlier) = earlier {
            let purged = stream.purge().filter(self.chunk_subject(&earlier.nuid));
            purged.await.map_err(|why| self.away(&why))?;
        }
        Ok(())
    }

    /// Stores the chunks on the subject `to`. Returns the digest of the bytes.
    async fn put_chunks(
        &self,
        link: &Link,
        to: &str,
        bytes: &[u8],
    ) -> Result<Option<String>, Unstored> {
        let mut digest = digest();
        for chunk in bytes.chunks(chunk_size(link)) {
            if let Some(digest) = &mut digest {
                digest.update(chunk);
            }
            let chunk = Request::new().payload(Bytes::copy_from_slice(chunk));
            self.store_message(link, to, chunk).await?;
        }
        let digest = digest.map(Context::finish);
        Ok(digest.map(|it| format!("SHA-256={}", URL_SAFE.encode(it))))
    }

    pub(crate) async fn put_note(
        &self,
        link: &Link,
        object: &str,
        note: &ObjectInfo,
    ) -> Result<(), Unstored> {
        // It replaces an earlier note.
        let mut headers = HeaderMap::new();
        headers.insert(NATS_ROLLUP, "sub");
        let text = serde_json::to_vec(note).map_err(|why| Unstored::Refused(self.away(&why)))?;
        let note = Request::new().headers(headers).payload(text.into());
        let to = self.note_subject(object);
        self.store_message(link, &to, note).await
    }

    /// Stores one message of the bucket.
    async fn store_message(&self, link: &Link, to: &str, message: Request) -> Result<(), Unstored> {
        let answer = link.client.send_request(to.to_owned(), message).await;
        let answer = answer.map_err(|why| Unstored::NoAnswer(self.away(&why)))?;
        match Published::from(&Answer::Message(answer)) {
            Published::Stored { .. } => Ok(()),
            Published::Full(why) => Err(Unstored::Refused(Error::Full {
                what: format!("object store {}", self.bucket),
                why,
            })),
            Published::Refused(why) => Err(Unstored::Refused(self.away(&why))),
            Published::NotReady(why) => Err(Unstored::NoAnswer(self.away(&why))),
            Published::Conflict => Err(Unstored::NoAnswer(self.away(&"it has changed"))),
        }
    }
}

/// The length of the chunks of a new object.
fn chunk_size(link: &Link) -> usize {
    CHUNK.min(link.client.max_payload()).max(1)
}

/// A digest of an object's bytes, SHA-256, by the cryptography of the connection.
fn digest() -> Option<Box<dyn Context>> {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    Some(suite.tls13()?.common.hash_provider.start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::server::Server;
    use crate::large::tests::{link, messages};
    use async_nats::jetstream::object_store::Config;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn an_object_without_room_leaves_the_room_to_others() {
        let server = Server::start();
        let (link, large) = (link(&server).await, Large::new("large".to_owned(), 1, None));
        let config = Config {
            bucket: "large".to_owned(),
            max_bytes: 1 << 20,
            ..Config::default()
        };
        link.jetstream.create_object_store(config).await.unwrap();
        let full = large.put(&link, "a-1", &vec![7; 3 << 20]).await;
        assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
        assert_eq!(messages(&large, &link).await, 0);
        let small = vec![8; 600 << 10];
        large.put(&link, "a-2", &small).await.unwrap();
        let got = large.get(&link.jetstream, "a-2", 600 << 10).await.unwrap();
        assert_eq!(got, Some(small));
    }

    #[tokio::test]
    async fn an_object_is_one_for_other_programs_too() {
        let server = Server::start();
        let (link, large) = (link(&server).await, Large::new("large".to_owned(), 1, None));
        large.put(&link, "a-1", b"abc").await.unwrap();
        let store = large.store(&link.jetstream).await.unwrap();
        let note = store.info("a-1").await.unwrap();
        let digest = "SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=";
        assert_eq!(note.digest.as_deref(), Some(digest));
        assert_eq!((note.size, note.chunks), (3, 1));
        let mut bytes = Vec::new();
        let mut object = store.get("a-1").await.unwrap();
        object.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, b"abc");
    }
}
