//! A proxy between a bridge and its server, with which a test disturbs the connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Passes data in both directions, delays it, or drops the answers.
pub struct Proxy {
    port: u16,
    flags: Arc<Flags>,
}

#[derive(Default)]
struct Flags {
    /// Sent data waits.
    is_stalled: AtomicBool,
    /// Data from the server is lost. The connections are unusable afterwards.
    drops_answers: AtomicBool,
    /// How many bytes pass in each direction in a second; 0 for no limit.
    rate: AtomicU64,
    /// How many bytes were sent to the server.
    sent: AtomicU64,
}

impl Proxy {
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let flags = Arc::new(Flags::default());
        let all = flags.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                for (from, to, is_server) in [(&client, &server, false), (&server, &client, true)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let flags = all.clone();
                    thread::spawn(move || pass(from, to, &flags, is_server));
                }
            }
        });
        Self { port, flags }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn stall(&self, stalled: bool) {
        self.flags.is_stalled.store(stalled, Ordering::Relaxed);
    }

    pub fn drop_answers(&self, dropped: bool) {
        self.flags.drops_answers.store(dropped, Ordering::Relaxed);
    }

    /// How many bytes were sent to the server.
    pub fn sent(&self) -> u64 {
        self.flags.sent.load(Ordering::Relaxed)
    }

    /// Limits the connections to this many bytes a second.
    pub fn limit(&self, rate: u64) {
        self.flags.rate.store(rate, Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, flags: &Flags, is_server: bool) {
    let mut some = [0; 16384];
    let mut free_at = Instant::now();
    while let Ok(len @ 1..) = from.read(&mut some) {
        let rate = flags.rate.load(Ordering::Relaxed);
        if rate > 0 {
            free_at = free_at.max(Instant::now()) + Duration::from_secs(len as u64) / rate as u32;
            thread::sleep(free_at.saturating_duration_since(Instant::now()));
        }
        while flags.is_stalled.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        if !is_server {
            flags.sent.fetch_add(len as u64, Ordering::Relaxed);
        }
        if is_server && flags.drops_answers.load(Ordering::Relaxed) {
            continue;
        }
        if to.write_all(&some[..len]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
