//! Messages beyond the server's limit: their bytes go to an object store, and the message names the object.
//!
//! An object is its bytes, in chunks on the subject `$O.<bucket>.C.<number>`, and a note with that number on
//! `$O.<bucket>.M.<name>`. The note is stored last. The object is there before the message is published, and
//! is deleted after the message was acked.
//!
//! # What a kill leaves
//! *Between the object and the message:* the message is published by the next bridge, which finds the object.
//! *While the object is stored:* chunks without a note. A bridge looks for them every hour, and removes those that
//! it saw the last time with as many chunks: while an object is being stored, their number grows, because the
//! server has only a few seconds to confirm each chunk. (After an error the bridge removes them itself.)
//! *Between the ack and the deletion:* the settlement of the ack is done only after the deletion, so the next
//! bridge gets it again. *Between the chunks' deletion and the note's:* the same. A reboot of the machine at such
//! a time loses what the next bridge would have found. It leaves at most an object that no message names, and
//! never a message without its object.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::object_store::{Config, GetErrorKind, ObjectInfo, ObjectStore};
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use async_nats::jetstream::{self, ErrorCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::counters::Counters;
use crate::error::{Error, Result};
use crate::link::{ANSWER, Links};
use crate::wire;

/// The part of the server's limit that the headers may take, in bytes.
const MESSAGE_HEADERS: usize = 4096;
/// How many objects are read at a time: each is in memory as a whole.
const READS: usize = 4;
/// How often a bridge looks for what kills have left.
const SWEEP: Duration = Duration::from_secs(60 * 60);

/// The object store of a bridge.
pub(crate) struct Large {
    pub(crate) bucket: String,
    replicas: usize,
    max_bytes: Option<i64>,
    reads: Semaphore,
}

impl Large {
    pub(crate) fn new(bucket: String, replicas: usize, max_bytes: Option<i64>) -> Self {
        Self {
            bucket,
            replicas,
            max_bytes,
            reads: Semaphore::new(READS),
        }
    }

    /// The largest payload that is sent in the message itself.
    pub(crate) fn limit(client: &async_nats::Client) -> usize {
        client.max_payload().saturating_sub(MESSAGE_HEADERS)
    }

    pub(crate) async fn store(&self, jetstream: &jetstream::Context) -> Result<ObjectStore> {
        if let Ok(store) = jetstream.get_object_store(&self.bucket).await {
            return Ok(store);
        }
        let config = Config {
            bucket: self.bucket.clone(),
            num_replicas: self.replicas,
            max_bytes: self.max_bytes.unwrap_or(-1),
            ..Config::default()
        };
        let made = jetstream.create_object_store(config).await;
        made.map_err(|why| self.away(&why))
    }

    /// The stream of the object store, which may not exist.
    pub(crate) async fn stream(&self, jetstream: &jetstream::Context) -> Result<Stream<()>> {
        let stream = jetstream.get_stream_no_info(format!("OBJ_{}", self.bucket));
        stream.await.map_err(|why| self.away(&why))
    }

    pub(crate) fn away(&self, why: &dyn std::fmt::Display) -> Error {
        Error::away(format!("object store {}", self.bucket), why)
    }

    pub(crate) fn note_subject(&self, object: &str) -> String {
        format!("$O.{}.M.{}", self.bucket, URL_SAFE.encode(object))
    }

    pub(crate) fn chunk_subject(&self, number: &str) -> String {
        format!("$O.{}.C.{number}", self.bucket)
    }

    /// The note of `object`, read from the leader; `None` if there is no such object.
    pub(crate) async fn note(
        &self,
        stream: &Stream<()>,
        object: &str,
    ) -> Result<Option<ObjectInfo>> {
        let subject = self.note_subject(object);
        let message = match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => message,
            Err(why) if why.kind() == RawMessageErrorKind::NoMessageFound => return Ok(None),
            Err(why) => return Err(self.away(&why)),
        };
        let note: ObjectInfo =
            serde_json::from_slice(&message.payload).map_err(|why| self.away(&why))?;
        Ok((!note.deleted).then_some(note))
    }

    /// The bytes of `object`; `None` if there is no such object, if it has another size, or if it is incomplete.
    pub(crate) async fn get(
        &self,
        jetstream: &jetstream::Context,
        object: &str,
        size: u64,
    ) -> Result<Option<Vec<u8>>> {
        let _permit = self.reads.acquire().await;
        let away =
            |why: &dyn std::fmt::Display| Error::away(format!("object {object}"), why.to_string());
        let store = self.store(jetstream).await?;
        let mut found = match store.get(object).await {
            Ok(found) => found,
            Err(why) if why.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(away(&why)),
        };
        if found.info().size as u64 != size {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        // The size is what the server says.
        let reserved = bytes.try_reserve_exact(found.info().size);
        reserved.map_err(|_| away(&format!("there is no memory for its {size} bytes")))?;
        loop {
            match timeout(ANSWER, found.read_buf(&mut bytes)).await {
                Ok(Ok(0)) => return Ok((bytes.len() as u64 == size).then_some(bytes)),
                Ok(Ok(_)) if bytes.len() as u64 <= size => {}
                // It has more chunks than its note says.
                Ok(Ok(_)) => return Ok(None),
                // Some of its chunks are missing or changed.
                Ok(Err(why)) if why.kind() == ErrorKind::InvalidData => return Ok(None),
                Ok(Err(why)) => return Err(away(&why)),
                // The client waits forever for chunks that are gone.
                Err(_) => {
                    let chunks = self.chunk_subject(&found.info().nuid);
                    let stream = self.stream(jetstream).await?;
                    return match stream.get_last_raw_message_by_subject(&chunks).await {
                        Err(why) if why.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
                        _ => Err(away(&"the server sends no chunk")),
                    };
                }
            }
        }
    }

    /// Whether the whole object store is gone, and its objects with it. In a cluster, a server gives this answer for a
    /// moment for a store that it does not know yet.
    pub(crate) async fn is_gone(&self, jetstream: &jetstream::Context) -> bool {
        let stream = jetstream.get_stream(format!("OBJ_{}", self.bucket)).await;
        let not_found =
            |error: &jetstream::Error| error.error_code() == ErrorCode::STREAM_NOT_FOUND;
        stream.is_err_and(
            |why| matches!(why.kind(), GetStreamErrorKind::JetStream(error) if not_found(&error)),
        )
    }

    /// Deletes `object` if it is there.
    pub(crate) async fn delete(&self, jetstream: &jetstream::Context, object: &str) -> Result<()> {
        let stream = self.stream(jetstream).await?;
        let Some(note) = self.note(&stream, object).await? else {
            return Ok(());
        };
        // The note is deleted last: as long as it exists, a repetition finds the chunks.
        for subject in [self.chunk_subject(&note.nuid), self.note_subject(object)] {
            let purged = stream.purge().filter(subject).await;
            purged.map_err(|why| self.away(&why))?;
        }
        Ok(())
    }

    /// Deletes an object that was stored for a message that was in the stream before, if the message there does not
    /// need it. The message is gone: it was processed, and its object was stored again since. Or its bytes are in its
    /// payload, because the server's limit was higher.
    pub(crate) async fn delete_if_unused(
        &self,
        jetstream: &jetstream::Context,
        object: &str,
        stream: &str,
        sequence: u64,
    ) -> Result<()> {
        let of_queue = jetstream.get_stream_no_info(stream).await;
        let of_queue = of_queue.map_err(|why| self.away(&why))?;
        match of_queue.get_raw_message(sequence).await {
            Err(why) if why.kind() == RawMessageErrorKind::NoMessageFound => {
                self.delete(jetstream, object).await
            }
            Ok(message) if wire::object(Some(&message.headers)).as_deref() != Some(object) => {
                self.delete(jetstream, object).await
            }
            _ => Ok(()),
        }
    }

    /// Removes chunks without a note that existed at the last call too, which listed them in `seen`. Returns the
    /// number of their objects.
    async fn sweep(
        &self,
        jetstream: &jetstream::Context,
        seen: &mut HashMap<String, usize>,
    ) -> Result<usize> {
        let Ok(store) = jetstream.get_object_store(&self.bucket).await else {
            seen.clear();
            return Ok(0);
        };
        let stream = self.stream(jetstream).await?;
        let before = self.chunk_subject("");
        let chunks = stream.info_with_subjects(format!("{before}>")).await;
        let chunks = chunks.map_err(|why| self.away(&why))?;
        let chunks: Vec<(String, usize)> =
            chunks.try_collect().await.map_err(|why| self.away(&why))?;
        // The notes are read after the chunks: an object that was completed in between has its note by then.
        let mut noted = HashSet::new();
        let mut notes = store.list().await.map_err(|why| self.away(&why))?;
        while let Some(note) = timeout(ANSWER, notes.next())
            .await
            .map_err(|why| self.away(&why))?
        {
            noted.insert(note.map_err(|why| self.away(&why))?.nuid);
        }
        let has_note = |subject: &str| {
            let number = subject.strip_prefix(&before);
            number.is_none_or(|number| noted.contains(number))
        };
        let last = std::mem::take(seen);
        let mut removed = 0;
        for (subject, chunks) in chunks.into_iter().filter(|(of, _)| !has_note(of)) {
            if last.get(&subject) == Some(&chunks) {
                let purged = stream.purge().filter(subject).await;
                purged.map_err(|why| self.away(&why))?;
                removed += 1;
            } else {
                seen.insert(subject, chunks);
            }
        }
        Ok(removed)
    }

    /// Removes what kills have left, once each [`SWEEP`].
    pub(crate) async fn keep_clean(&self, mut links: Links, counters: &Counters) {
        let mut seen = HashMap::new();
        loop {
            let (link, _) = links.up().await;
            match self.sweep(&link.jetstream, &mut seen).await {
                Ok(0) => {}
                Ok(objects) => tracing::info!(objects, "removed objects that were stored in part"),
                Err(why) => counters.record_error(&why.to_string()),
            }
            tokio::time::sleep(SWEEP).await;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bridge::server::Server;
    use crate::context::Context;
    use crate::link::Link;
    use std::sync::Arc;

    pub(crate) async fn link(server: &Server) -> Link {
        let counters = Arc::new(Counters::default());
        Link::connect(&Context::at(server.url()), "test", &counters)
            .await
            .unwrap()
    }

    pub(crate) async fn messages(large: &Large, link: &Link) -> u64 {
        let stream = large.stream(&link.jetstream).await.unwrap();
        stream.get_info().await.unwrap().state.messages
    }

    #[tokio::test]
    async fn an_object_is_stored_once_and_deleted_without_a_trace() {
        let server = Server::start();
        let (link, large) = (link(&server).await, Large::new("large".to_owned(), 1, None));
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        large.put(&link, "a-1", &bytes).await.unwrap();
        let stored = messages(&large, &link).await;
        large.put(&link, "a-1", &bytes).await.unwrap();
        assert_eq!(messages(&large, &link).await, stored);
        let size = bytes.len() as u64;
        let got = large.get(&link.jetstream, "a-1", size).await.unwrap();
        assert_eq!(got, Some(bytes));
        large.delete(&link.jetstream, "a-1").await.unwrap();
        large.delete(&link.jetstream, "a-1").await.unwrap();
        assert_eq!(messages(&large, &link).await, 0);
        let got = large.get(&link.jetstream, "a-1", size).await.unwrap();
        assert_eq!(got, None);
    }

    #[tokio::test]
    async fn an_object_of_another_size_than_its_note_says_is_not_there() {
        let server = Server::start();
        let (link, large) = (link(&server).await, Large::new("large".to_owned(), 1, None));
        large.put(&link, "a-1", &[7; 300_000]).await.unwrap();
        let stream = large.stream(&link.jetstream).await.unwrap();
        let note = large.note(&stream, "a-1").await.unwrap().unwrap();
        for size in [1, 300_001, usize::MAX / 4, usize::MAX] {
            let false_note = ObjectInfo {
                size,
                digest: None,
                ..note.clone()
            };
            let put = large.put_note(&link, "a-1", &false_note).await;
            assert!(put.is_ok());
            // An error if there is no memory for so many bytes.
            let got = large.get(&link.jetstream, "a-1", size as u64).await;
            assert!(matches!(got, Ok(None) | Err(Error::Away { .. })), "{size}");
        }
    }

    #[tokio::test]
    async fn an_object_whose_chunks_are_gone_is_not_found() {
        let server = Server::start();
        let (link, large) = (link(&server).await, Large::new("large".to_owned(), 1, None));
        large.put(&link, "a-1", &[7; 300_000]).await.unwrap();
        let stream = large.stream(&link.jetstream).await.unwrap();
        let chunks = large.chunk_subject(">");
        stream.purge().filter(chunks).await.unwrap();
        let got = large.get(&link.jetstream, "a-1", 300_000).await.unwrap();
        assert_eq!(got, None);
    }

    #[tokio::test]
    async fn chunks_without_a_note_are_removed_once_they_stop_growing() {
        let server = Server::start();
        let (link, large) = (link(&server).await, Large::new("large".to_owned(), 1, None));
        large.put(&link, "a-1", &[7; 300_000]).await.unwrap();
        let whole = messages(&large, &link).await;
        let chunk = || async {
            let subject = large.chunk_subject("halfstored");
            let published = link.jetstream.publish(subject, "chunk".into()).await;
            published.unwrap().await.unwrap();
        };
        chunk().await;
        let mut seen = HashMap::new();
        let sweep = async |seen: &mut HashMap<String, usize>| {
            large.sweep(&link.jetstream, seen).await.unwrap()
        };
        assert_eq!(sweep(&mut seen).await, 0);
        chunk().await;
        assert_eq!(sweep(&mut seen).await, 0, "it is being stored");
        assert_eq!(sweep(&mut seen).await, 1);
        assert_eq!(messages(&large, &link).await, whole);
        assert_eq!(sweep(&mut seen).await, 0);
    }

    #[tokio::test]
    async fn the_object_of_a_message_that_is_gone_or_does_not_name_it_is_deleted_and_no_other() {
        let server = Server::start();
        let (link, large) = (link(&server).await, Large::new("large".to_owned(), 1, None));
        let config = jetstream::stream::Config {
            name: "q".to_owned(),
            ..Default::default()
        };
        let stream = link.jetstream.create_stream(config).await.unwrap();
        let publish = |headers| link.jetstream.publish_with_headers("q", headers, "".into());
        let mut names_it = wire::headers("1");
        wire::add_object(&mut names_it, "a-1", 3);
        for (headers, is_gone, left) in [
            (names_it.clone(), false, 2),
            (names_it, true, 0),
            (wire::headers("2"), false, 0),
        ] {
            let published = publish(headers).await.unwrap().await.unwrap();
            large.put(&link, "a-1", &[7; 3]).await.unwrap();
            if is_gone {
                stream.delete_message(published.sequence).await.unwrap();
            }
            let delete = large.delete_if_unused(&link.jetstream, "a-1", "q", published.sequence);
            delete.await.unwrap();
            assert_eq!(messages(&large, &link).await, left);
        }
    }
}
