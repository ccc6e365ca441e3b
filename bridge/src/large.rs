//! Messages beyond the server's limit: their bytes go to an object store, and the message names the
//! object.
//!
//! The object is there before the message is published, and is deleted after the message was acked. So a
//! bridge that is killed in between leaves an object that no message names, and never a message without
//! its object. Such an object stays in the store until it is deleted there (`docs/bridge.md`).

use async_nats::jetstream::object_store::{Config, ObjectStore};
use async_nats::jetstream::{self};
use tokio::io::AsyncReadExt;

use crate::error::{Error, Result};

/// What of the server's limit the headers may take.
const HEADERS: usize = 4096;

/// The object store of a bridge.
pub(crate) struct Large {
    bucket: String,
    replicas: usize,
}

impl Large {
    pub(crate) fn new(bucket: String, replicas: usize) -> Self {
        Self { bucket, replicas }
    }

    /// The largest payload that is sent as it is.
    pub(crate) fn limit(client: &async_nats::Client) -> usize {
        client.max_payload().saturating_sub(HEADERS)
    }

    async fn store(&self, jetstream: &jetstream::Context) -> Result<ObjectStore> {
        if let Ok(store) = jetstream.get_object_store(&self.bucket).await {
            return Ok(store);
        }
        let config = Config {
            bucket: self.bucket.clone(),
            num_replicas: self.replicas,
            ..Config::default()
        };
        let made = jetstream.create_object_store(config).await;
        made.map_err(|why| Error::away(format!("object store {}", self.bucket), why))
    }

    /// Stores `bytes` as `object`; twice is as once.
    pub(crate) async fn put(
        &self,
        jetstream: &jetstream::Context,
        object: &str,
        mut bytes: &[u8],
    ) -> Result<()> {
        let store = self.store(jetstream).await?;
        let stored = store.put(object, &mut bytes).await;
        stored.map_err(|why| Error::away(format!("object {object}"), why))?;
        Ok(())
    }

    /// The bytes of `object`; `None` if there is no such object, or another one of its name.
    pub(crate) async fn get(
        &self,
        jetstream: &jetstream::Context,
        object: &str,
        size: u64,
    ) -> Result<Option<Vec<u8>>> {
        use async_nats::jetstream::object_store::GetErrorKind;
        let store = self.store(jetstream).await?;
        let mut found = match store.get(object).await {
            Ok(found) => found,
            Err(why) if why.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(Error::away(format!("object {object}"), why)),
        };
        if found.info().size as u64 != size {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(found.info().size);
        let read = found.read_to_end(&mut bytes).await;
        read.map_err(|why| Error::away(format!("object {object}"), why))?;
        Ok(Some(bytes))
    }

    /// Deletes `object` if it is there.
    pub(crate) async fn delete(&self, jetstream: &jetstream::Context, object: &str) {
        if let Ok(store) = jetstream.get_object_store(&self.bucket).await
            && let Err(why) = store.delete(object).await
        {
            tracing::debug!(object, %why, "not deleted");
        }
    }
}
