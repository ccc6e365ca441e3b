//! The names of objects and keys on the server.
//!
//! Stream and bucket names may contain letters, digits, `-` and `_`. The names of Shoal may contain dots as
//! well, and keys may be any bytes. So other bytes are escaped, each name in exactly one way: two objects never
//! get the same name, and a name that this module cannot have made is refused.

/// The default prefix of all names on the server.
pub const DEFAULT_PREFIX: &str = "shoal";

/// The longest escaped key, in bytes. A key is a subject, and the server's lines end at 4096 bytes.
pub const MAX_KEY: usize = 3072;

/// The longest name of a stream.
const MAX_STREAM: usize = 255;

/// The names that one queue or map has on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The stream of a queue.
    pub stream: String,
    /// The subject that the stream listens to.
    pub subject: String,
    /// The bucket of a map; its stream is `KV_` and this.
    pub bucket: String,
}

impl Names {
    /// The names of the object `name`, with this prefix.
    pub fn new(prefix: &str, name: &str) -> Self {
        let word = escape_name(name);
        Self {
            stream: format!("{prefix}_q_{word}"),
            subject: format!("{prefix}.q.{word}"),
            bucket: format!("{prefix}_m_{word}"),
        }
    }
}

/// Whether the names of this queue and of its dead letters are short enough for the server.
pub fn is_queue(prefix: &str, name: &str) -> bool {
    let dead = Names::new(prefix, &format!("{name}.dead"));
    dead.stream.len() <= MAX_STREAM
}

/// Whether the name of this map is short enough for the server.
pub fn is_map(prefix: &str, name: &str) -> bool {
    "KV_".len() + Names::new(prefix, name).bucket.len() <= MAX_STREAM
}

/// The bucket of the object store that holds values beyond the server's message limit.
pub fn object_bucket(prefix: &str) -> String {
    format!("{prefix}_large")
}

/// Whether `prefix` can begin names on the server.
pub fn is_prefix(prefix: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !prefix.is_empty() && prefix.len() <= 32 && prefix.bytes().all(fits)
}

fn escape_name(name: &str) -> String {
    let mut word = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => word.push(byte.into()),
            other => word.push_str(&format!("_{other:02X}")),
        }
    }
    word
}

/// The key in its escaped form; `None` if that would be longer than [`MAX_KEY`].
///
/// Letters, digits, `-`, `_` and `/` stay, and so does a dot between two bytes that are not dots, because a dot
/// separates the words of a subject. Every other byte becomes `=` and two hexadecimal digits. The empty key is
/// `=`.
pub fn escape_key(key: &[u8]) -> Option<String> {
    if key.is_empty() {
        return Some("=".to_owned());
    }
    let mut word = String::with_capacity(key.len());
    for (at, &byte) in key.iter().enumerate() {
        if stays(key, at) {
            word.push(byte.into());
        } else {
            word.push_str(&format!("={byte:02X}"));
        }
    }
    (word.len() <= MAX_KEY).then_some(word)
}

/// The key whose escaped form is `word`; `None` if it is not the result of [`escape_key`].
pub fn unescape_key(word: &str) -> Option<Vec<u8>> {
    if word == "=" {
        return Some(Vec::new());
    }
    let mut key = Vec::with_capacity(word.len());
    let mut bytes = word.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'=' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            key.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            key.push(byte);
        }
    }
    // Only one escaped form of a key is valid.
    (escape_key(&key).as_deref() == Some(word)).then_some(key)
}

fn stays(key: &[u8], at: usize) -> bool {
    match key[at] {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => true,
        b'.' => {
            let is_word = |byte: Option<&u8>| byte.is_some_and(|&byte| byte != b'.');
            is_word(at.checked_sub(1).and_then(|before| key.get(before)))
                && is_word(key.get(at + 1))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_objects_never_have_the_same_name() {
        let names = [
            "jobs",
            "jobs.dead",
            "jobs_dead",
            "jobs_2Edead",
            "jobs-dead",
            "Jobs",
        ];
        let mut streams: Vec<String> = names.map(|name| Names::new("shoal", name).stream).into();
        streams.sort();
        streams.dedup();
        assert_eq!(streams.len(), names.len());
    }

    #[test]
    fn every_key_is_unescaped_to_itself() {
        let mut keys: Vec<Vec<u8>> = vec![
            b"".to_vec(),
            b"plain".to_vec(),
            b"a.b".to_vec(),
            b".a".to_vec(),
            b"a.".to_vec(),
            b"a..b".to_vec(),
            b"=41".to_vec(),
            b"*".to_vec(),
            b">".to_vec(),
            b"a b".to_vec(),
            (0..=255).collect(),
        ];
        keys.extend((0..=255u8).map(|byte| vec![byte]));
        let mut words: Vec<String> = Vec::new();
        for key in &keys {
            let word = escape_key(key).expect("short");
            assert!(!word.is_empty() && !word.starts_with('.') && !word.ends_with('.'));
            assert!(!word.contains(".."), "{word}");
            assert_eq!(unescape_key(&word).as_ref(), Some(key), "{word}");
            words.push(word);
        }
        words.sort();
        words.dedup();
        let mut distinct = keys.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(words.len(), distinct.len());
    }

    #[test]
    fn a_word_that_is_not_an_escaped_key_is_refused() {
        for word in ["=4", "=4x", "=41", "=2e", "a=2Eb", "a b", "", "=="] {
            assert_eq!(unescape_key(word), None, "{word}");
        }
    }

    #[test]
    fn a_key_beyond_the_limit_has_no_escaped_form() {
        assert!(escape_key(&[b'a'; MAX_KEY]).is_some());
        assert!(escape_key(&[b'a'; MAX_KEY + 1]).is_none());
        assert!(escape_key(&[0; MAX_KEY / 3 + 1]).is_none());
    }
}
