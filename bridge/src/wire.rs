//! The format of a message of a queue on the server: its bytes, unchanged, and headers.
//!
//! | header | meaning |
//! |---|---|
//! | `Nats-Msg-Id` | the id of the put; a repeated publish counts once |
//! | `Shoal-Format` | absent or `1`; a machine that does not know the number leaves the message to others |
//! | `Shoal-Large` | the payload is in the object store, under this name |
//! | `Shoal-Size` | its size there, in bytes |
//! | `Shoal-Before` | how often it was delivered to a worker before this message was published |
//! | `Shoal-Queue`, `Shoal-Attempts`, `Shoal-Reason` | for a dead letter: its queue, its deliveries, and the reason |
//!
//! A message without these headers, such as one that another program published, is delivered unchanged.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;

/// The format that this version writes, and the only one that it reads.
const FORMAT: &str = "1";

const FORMAT_HEADER: &str = "Shoal-Format";
const LARGE_HEADER: &str = "Shoal-Large";
const SIZE_HEADER: &str = "Shoal-Size";
const BEFORE_HEADER: &str = "Shoal-Before";
const QUEUE_HEADER: &str = "Shoal-Queue";
const ATTEMPTS_HEADER: &str = "Shoal-Attempts";
const REASON_HEADER: &str = "Shoal-Reason";

/// The longest reason in a header, in characters.
const LONGEST_REASON: usize = 500;

/// Where the bytes of a message are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// In its payload.
    Here,
    /// In the object store.
    Stored {
        /// The object.
        object: String,
        /// Its size in bytes.
        size: u64,
    },
    /// This version cannot decode the message.
    Unknown {
        /// The reason.
        why: String,
    },
}

/// The headers of a message with this id, whose bytes are in its payload.
pub(crate) fn headers(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id);
    headers
}

/// The id of a message with these headers.
pub(crate) fn id(headers: &HeaderMap) -> &str {
    headers.get(NATS_MESSAGE_ID).map_or("", |id| id.as_str())
}

/// Adds that the bytes of the message are in the object store: in this object, of this size.
pub(crate) fn add_object(headers: &mut HeaderMap, object: &str, size: usize) {
    headers.insert(FORMAT_HEADER, FORMAT);
    headers.insert(LARGE_HEADER, object);
    headers.insert(SIZE_HEADER, size.to_string());
}

/// Adds how often a message was delivered to a worker before it is published again.
pub(crate) fn add_before(headers: &mut HeaderMap, attempts: u64) {
    headers.insert(BEFORE_HEADER, attempts.to_string());
}

/// How often a message with these headers was delivered before it was published.
pub(crate) fn before(headers: Option<&HeaderMap>) -> u64 {
    let value = headers.and_then(|headers| headers.get(BEFORE_HEADER));
    value
        .and_then(|value| value.as_str().parse().ok())
        .unwrap_or(0)
}

/// Adds the headers of a dead letter.
pub(crate) fn add_reason(headers: &mut HeaderMap, queue: &str, attempts: u64, reason: &str) {
    headers.insert(QUEUE_HEADER, queue);
    headers.insert(ATTEMPTS_HEADER, attempts.to_string());
    // A header ends at the end of its line. The reason may quote text that is longer than the server's limit.
    let reason: String = reason
        .chars()
        .take(LONGEST_REASON)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    headers.insert(REASON_HEADER, reason);
}

/// Where the bytes of a message with these headers are.
pub(crate) fn body(headers: Option<&HeaderMap>) -> Body {
    let get = |name: &'static str| {
        headers
            .and_then(|headers| headers.get(name))
            .map(|value| value.as_str())
    };
    match get(FORMAT_HEADER) {
        None | Some(FORMAT) => {}
        Some(other) => {
            let why = format!("format {other:?} of the message is not {FORMAT}");
            return Body::Unknown { why };
        }
    }
    let Some(object) = get(LARGE_HEADER) else {
        return Body::Here;
    };
    match get(SIZE_HEADER).and_then(|size| size.parse().ok()) {
        Some(size) if !object.is_empty() => Body::Stored {
            object: object.to_owned(),
            size,
        },
        _ => Body::Unknown {
            why: format!("{LARGE_HEADER} {object:?} has no size"),
        },
    }
}

/// The object that holds the bytes of a message with these headers.
pub(crate) fn object(headers: Option<&HeaderMap>) -> Option<String> {
    match body(headers) {
        Body::Stored { object, .. } => Some(object),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_read_from_the_headers_that_were_written() {
        assert_eq!(body(None), Body::Here);
        let mut headers = headers("a");
        assert_eq!((id(&headers), body(Some(&headers))), ("a", Body::Here));
        add_object(&mut headers, "b", 7);
        let stored = Body::Stored {
            object: "b".to_owned(),
            size: 7,
        };
        assert_eq!((id(&headers), body(Some(&headers))), ("a", stored));
    }

    #[test]
    fn headers_of_another_version_are_refused() {
        for (name, value) in [
            (FORMAT_HEADER, "2"),
            (FORMAT_HEADER, ""),
            (LARGE_HEADER, "x"),
            (LARGE_HEADER, ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value);
            assert!(
                matches!(body(Some(&headers)), Body::Unknown { .. }),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn a_reason_with_several_lines_becomes_one_header() {
        let mut headers = HeaderMap::new();
        add_reason(&mut headers, "jobs", 3, "a\r\nNats-Msg-Id: b");
        assert_eq!(
            headers.get(REASON_HEADER).unwrap().as_str(),
            "a  Nats-Msg-Id: b"
        );
        add_reason(&mut headers, "jobs", 3, &"x".repeat(2_000_000));
        assert_eq!(headers.get(REASON_HEADER).unwrap().as_str().len(), 500);
    }
}
