//! Puts a message into a queue that all languages share, and gets one.
//!
//! ```text
//! cargo run --example exchange [NAME]
//! ```

use shoal::{Queue, Timeout};

fn main() -> Result<(), shoal::Error> {
    let name = std::env::args().nth(1);
    let queue = Queue::create(name.as_deref().unwrap_or("jobs"))?;
    queue.put(b"hello from Rust", Timeout::Infinite)?;
    let message = queue.get_vec(Timeout::Infinite)?;
    println!("Rust got: {}", String::from_utf8_lossy(&message));
    Ok(())
}
