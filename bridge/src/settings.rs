//! Streams, buckets and consumers: created if they are missing, and compared if they exist.
//!
//! Settings on which a bridge relies (retention, explicit acks, …) must match, whichever program created the
//! stream. Settings that a person may choose (replicas, limits) are compared only if this bridge was given a
//! value; otherwise those of the server apply, so only the first bridge needs them.

use std::fmt::Debug;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{
    Config, ConsumerCreateStrictErrorKind, DiscardPolicy, PersistenceMode, RetentionPolicy, Stream,
};
use async_nats::jetstream::{self, ErrorCode};

use crate::error::{Error, Result};
use crate::names::Names;

/// The durable consumer that all machines share. A stream with work-queue retention can have only one.
pub const CONSUMER: &str = "shoal";

/// The settings of a queue or map. `None` is the server's value, or the default of this crate if the stream is
/// created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// Copies of the stream in a cluster.
    pub replicas: Option<usize>,
    /// The largest number of messages in the stream of a queue. Further messages wait in shared memory.
    pub max_messages: Option<i64>,
    /// The largest size of the stream or bucket in bytes.
    pub max_bytes: Option<i64>,
    /// How long the server remembers the id of a message, so that a repeated publish counts once.
    pub dedup: Option<Duration>,
    /// How long the server waits for an ack or a progress report before another machine gets the message.
    pub ack_wait: Option<Duration>,
}

/// The default of `dedup`: longer than an ordinary restart of the server takes.
const DEDUP: Duration = Duration::from_secs(10 * 60);
/// The default of `ack_wait`.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(30);
/// How long the server keeps the marker of a removed key of a map.
pub(crate) const MARKERS: Duration = Duration::from_secs(24 * 60 * 60);
/// How long it keeps the marker of an expired key in a bucket that a bridge creates. The server raises the lifetime
/// of each value to this, so it is the shortest that the server accepts. A bucket of another program may keep markers
/// for longer, or none: the bridges compare lifetimes themselves, and do not need these markers.
const EXPIRED: Duration = Duration::from_secs(1);
/// After how long without a bridge the server removes the consumer of a watch. The client has no option for it.
const WATCH_INACTIVE: Duration = Duration::from_secs(30);
/// How many values of each key the server keeps, so that it knows the ids of the last changes after a restart.
pub(crate) const HISTORY: i64 = 8;

const OF_STREAM: &str = "change it with `nats stream edit`, give this bridge the same value, or give it another --prefix";
const OF_CONSUMER: &str = "change it with `nats consumer edit`, or delete the consumer, and the bridge makes it; or give this bridge the same value, or another --prefix";

/// The stream of a queue.
pub(crate) async fn queue_stream(
    jetstream: &jetstream::Context,
    names: &Names,
    choices: &Choices,
) -> Result<Stream> {
    let wanted = of_names(names, choices);
    let stream = get_or_make(jetstream, &wanted).await?;
    compare_queue(&stream.cached_info().config, &wanted, choices)?;
    Ok(stream)
}

fn of_names(names: &Names, choices: &Choices) -> Config {
    Config {
        name: names.stream.clone(),
        subjects: vec![names.subject.clone()],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: choices.max_messages.unwrap_or(-1),
        max_bytes: choices.max_bytes.unwrap_or(-1),
        num_replicas: choices.replicas.unwrap_or(1),
        duplicate_window: choices.dedup.unwrap_or(DEDUP),
        ..Config::default()
    }
}

/// The stream of the dead letters of a queue that is carried without them, with the settings of the queue. Its limits
/// are not compared: a person may choose others.
pub(crate) async fn dead_letter_stream(
    jetstream: &jetstream::Context,
    names: &Names,
    of_queue: &Choices,
) -> Result<()> {
    let compared = Choices {
        max_messages: None,
        max_bytes: None,
        ..of_queue.clone()
    };
    // An account may require a limit of each stream.
    let wanted = Config {
        max_messages: -1,
        ..of_names(names, of_queue)
    };
    let stream = get_or_make(jetstream, &wanted).await?;
    compare_queue(&stream.cached_info().config, &wanted, &compared)
}

/// The stream of a map's bucket. It is an ordinary bucket, which other clients can use.
pub(crate) async fn map_stream(
    jetstream: &jetstream::Context,
    names: &Names,
    choices: &Choices,
) -> Result<Stream> {
    let wanted = Config {
        name: format!("KV_{}", names.bucket),
        subjects: vec![format!("$KV.{}.>", names.bucket)],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_messages_per_subject: HISTORY,
        max_messages: -1,
        max_bytes: choices.max_bytes.unwrap_or(-1),
        num_replicas: choices.replicas.unwrap_or(1),
        duplicate_window: choices.dedup.unwrap_or(DEDUP),
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        allow_message_ttl: true,
        subject_delete_marker_ttl: Some(EXPIRED),
        ..Config::default()
    };
    let stream = get_or_make(jetstream, &wanted).await?;
    compare_map(&stream.cached_info().config, &wanted, choices)?;
    Ok(stream)
}

/// The consumer from which all machines pull a queue's messages.
pub(crate) async fn queue_consumer(
    stream: &Stream,
    names: &Names,
    choices: &Choices,
) -> Result<consumer::PullConsumer> {
    let what = format!("consumer {CONSUMER} of stream {}", names.stream);
    let wanted = consumer::pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: choices.ack_wait.unwrap_or(ACK_WAIT),
        // The bridges count deliveries. A message beyond the server's own limit would stay in the stream
        // without a reliable notification.
        max_deliver: -1,
        // The credit bounds the messages of each machine.
        max_ack_pending: -1,
        ..Default::default()
    };
    let found = stream
        .get_consumer::<consumer::pull::Config>(CONSUMER)
        .await;
    let consumer = match found {
        Ok(consumer) => consumer,
        Err(_) => {
            let made = stream.create_consumer_strict(wanted.clone()).await;
            match made {
                Ok(consumer) => consumer,
                // Another machine was faster, or there is a consumer of another kind.
                Err(why) => match stream
                    .get_consumer::<consumer::pull::Config>(CONSUMER)
                    .await
                {
                    Ok(consumer) => consumer,
                    Err(_) => return Err(refused_consumer(&what, stream, &why).await),
                },
            }
        }
    };
    let theirs = &consumer.cached_info().config;
    let differ = Differ {
        what: &what,
        advice: OF_CONSUMER,
    };
    differ.same("deliver_subject", &theirs.deliver_subject, &None)?;
    differ.same("ack_policy", &theirs.ack_policy, &AckPolicy::Explicit)?;
    differ.same(
        "deliver_policy",
        &theirs.deliver_policy,
        &DeliverPolicy::All,
    )?;
    differ.same("max_deliver", &theirs.max_deliver, &-1)?;
    differ.same("max_ack_pending", &theirs.max_ack_pending, &-1)?;
    differ.same("headers_only", &theirs.headers_only, &false)?;
    // It would replace ack_wait.
    differ.same("backoff", &theirs.backoff, &Vec::new())?;
    if !theirs.filter_subject.is_empty() {
        differ.same("filter_subject", &theirs.filter_subject, &names.subject)?;
    }
    if choices.ack_wait.is_some() {
        differ.same("ack_wait", &theirs.ack_wait, &wanted.ack_wait)?;
    }
    Ok(consumer)
}

async fn refused_consumer(
    what: &str,
    stream: &Stream,
    why: &jetstream::stream::ConsumerCreateStrictError,
) -> Error {
    use futures_util::TryStreamExt;
    let names: Vec<String> = stream
        .consumer_names()
        .try_collect()
        .await
        .unwrap_or_default();
    if !names.is_empty() && names.iter().all(|name| name != CONSUMER) {
        let why = format!(
            "{why}; a work queue has one consumer, and this one has {}",
            names.join(", ")
        );
        return Error::refused(what, why);
    }
    match why.kind() {
        // Our consumer exists, but the server answered too late.
        _ if !names.is_empty() => Error::away(what, why),
        // Another one was there, or ours, and is gone again.
        ConsumerCreateStrictErrorKind::JetStream(error)
            if error.error_code() == ErrorCode::CONSUMER_WQ_MULTIPLE_UNFILTERED
                || error.error_code() == ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE =>
        {
            Error::away(what, why)
        }
        ConsumerCreateStrictErrorKind::JetStream(error) => of_jetstream(what.to_owned(), &error),
        _ => Error::away(what, why),
    }
}

async fn get_or_make(jetstream: &jetstream::Context, wanted: &Config) -> Result<Stream> {
    let what = format!("stream {}", wanted.name);
    match jetstream.get_stream(&wanted.name).await {
        Ok(stream) => return Ok(stream),
        Err(why) => match why.kind() {
            GetStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            GetStreamErrorKind::JetStream(error) => return Err(of_jetstream(what, &error)),
            _ if is_unanswered(&why) => {
                let why =
                    "JetStream is not enabled for this account, or its servers are not reachable";
                return Err(Error::away(what, why));
            }
            _ => return Err(Error::away(what, why)),
        },
    }
    match jetstream.create_stream(wanted).await {
        Ok(stream) => {
            tracing::info!(stream = wanted.name, "created");
            Ok(stream)
        }
        Err(why) => match why.kind() {
            // Another machine created it meanwhile.
            CreateStreamErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::STREAM_NAME_EXIST =>
            {
                let got = jetstream.get_stream(&wanted.name).await;
                got.map_err(|why| Error::away(what, why))
            }
            CreateStreamErrorKind::JetStream(error) => Err(of_jetstream(what, &error)),
            _ => Err(Error::away(what, why)),
        },
    }
}

/// Whether no service of the server receives requests to JetStream.
fn is_unanswered(why: &GetStreamError) -> bool {
    let why = std::error::Error::source(why).and_then(|why| why.downcast_ref::<RequestError>());
    why.is_some_and(|why| why.kind() == RequestErrorKind::NoResponders)
}

/// The error for a negative answer of JetStream: a refusal, or a temporary error if the server is not ready.
fn of_jetstream(what: String, error: &jetstream::Error) -> Error {
    let code = error.error_code();
    let is_temporary = [
        // While a cluster forms, or one of its servers is down, there are too few servers for all copies.
        ErrorCode::CLUSTER_NO_PEERS,
        ErrorCode::CLUSTER_NOT_ACTIVE,
        ErrorCode::CLUSTER_NOT_ASSIGNED,
        ErrorCode::CLUSTER_NOT_LEADER,
        ErrorCode::RAFT_GENERAL,
        ErrorCode::STREAM_OFFLINE,
        ErrorCode::CONSUMER_OFFLINE,
        // Somebody has deleted it meanwhile. It is created again.
        ErrorCode::STREAM_NOT_FOUND,
    ];
    let has_no_jetstream = code == ErrorCode::JETSTREAM_NOT_ENABLED
        || code == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT;
    if is_temporary.contains(&code) || error.code() == 503 && !has_no_jetstream {
        return Error::away(what, error);
    }
    Error::refused(what, error)
}

fn compare_queue(theirs: &Config, wanted: &Config, choices: &Choices) -> Result<()> {
    let differ = Differ {
        what: &format!("stream {}", wanted.name),
        advice: OF_STREAM,
    };
    differ.common(theirs, wanted, choices)?;
    differ.same("retention", &theirs.retention, &wanted.retention)?;
    differ.same("max_age", &theirs.max_age, &Duration::ZERO)?;
    // Beyond it the server would drop the oldest messages, whatever it does beyond the other limits.
    let per_subject = theirs.max_messages_per_subject.max(0);
    differ.same("max_msgs_per_subject", &per_subject, &0)?;
    if let Some(max) = choices.max_messages {
        differ.same("max_msgs", &theirs.max_messages, &max)?;
    }
    Ok(())
}

fn compare_map(theirs: &Config, wanted: &Config, choices: &Choices) -> Result<()> {
    let differ = Differ {
        what: &format!("bucket stream {}", wanted.name),
        advice: OF_STREAM,
    };
    differ.common(theirs, wanted, choices)?;
    differ.same("retention", &theirs.retention, &wanted.retention)?;
    differ.same("allow_rollup_hdrs", &theirs.allow_rollup, &true)?;
    differ.same("allow_msg_ttl", &theirs.allow_message_ttl, &true)?;
    // Beyond these, the server would drop values, or refuse further ones. How many values of a key it keeps is read
    // where that is needed.
    differ.same("max_age", &theirs.max_age, &Duration::ZERO)?;
    let per_subject = theirs.discard_new_per_subject;
    differ.same("discard_new_per_subject", &per_subject, &false)?;
    differ.same("max_msgs", &theirs.max_messages.max(-1), &-1)?;
    // The server would refuse the consumer of each watch.
    let limit = theirs
        .consumer_limits
        .as_ref()
        .map(|it| it.inactive_threshold);
    match limit.filter(|limit| *limit > Duration::ZERO && *limit < WATCH_INACTIVE) {
        Some(limit) => differ.same(
            "consumer_limits.inactive_threshold",
            &limit,
            &WATCH_INACTIVE,
        ),
        None => Ok(()),
    }
}

struct Differ<'a> {
    what: &'a str,
    advice: &'static str,
}

impl Differ<'_> {
    /// The settings that queues and maps both need.
    fn common(&self, theirs: &Config, wanted: &Config, choices: &Choices) -> Result<()> {
        self.same("subjects", &theirs.subjects, &wanted.subjects)?;
        self.same("discard", &theirs.discard, &wanted.discard)?;
        self.same("no_ack", &theirs.no_ack, &false)?;
        // A restart of the server would lose what the programs of this machine count as stored.
        self.same("storage", &theirs.storage, &wanted.storage)?;
        self.same("sealed", &theirs.sealed, &false)?;
        self.same("max_msg_size", &theirs.max_message_size.max(0), &0)?;
        self.same("mirror", &theirs.mirror.is_some(), &false)?;
        self.same(
            "subject_transform",
            &theirs.subject_transform.is_some(),
            &false,
        )?;
        let is_async = theirs.persist_mode == Some(PersistenceMode::Async);
        self.same("persist_mode async", &is_async, &false)?;
        if let Some(replicas) = choices.replicas {
            self.same("num_replicas", &theirs.num_replicas, &replicas)?;
        }
        if let Some(max) = choices.max_bytes {
            self.same("max_bytes", &theirs.max_bytes, &max)?;
        }
        if let Some(window) = choices.dedup {
            self.same("duplicate_window", &theirs.duplicate_window, &window)?;
        }
        Ok(())
    }

    fn same<T: PartialEq + Debug>(
        &self,
        setting: &'static str,
        theirs: &T,
        ours: &T,
    ) -> Result<()> {
        if theirs == ours {
            return Ok(());
        }
        Err(Error::Differs {
            what: self.what.to_owned(),
            setting,
            theirs: format!("{theirs:?}"),
            ours: format!("{ours:?}"),
            advice: self.advice,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::server::Server;

    #[tokio::test]
    async fn a_consumer_that_the_server_refuses_for_good_is_not_tried_again() {
        let server = Server::start();
        let jetstream = crate::large::tests::link(&server).await.jetstream;
        let names = Names::new("t", "jobs");
        let choices = Choices {
            // Beyond the server's largest number of nanoseconds.
            ack_wait: Some(Duration::from_secs(300 * 365 * 24 * 60 * 60)),
            ..Choices::default()
        };
        let stream = queue_stream(&jetstream, &names, &choices).await.unwrap();
        let refused = queue_consumer(&stream, &names, &choices).await.err();
        assert!(
            matches!(refused, Some(Error::Refused { .. })),
            "{refused:?}"
        );
    }
}
