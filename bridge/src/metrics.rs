//! Metrics in Prometheus text on a loopback port, on request.
//!
//! It answers one request per connection: `GET /metrics`, or `HEAD /metrics`.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::error::{Error, Result};

/// The longest request that is read, in bytes.
const LONGEST: usize = 8192;
/// How many clients are served at the same time. The connection of an older one is closed.
const CLIENTS: u64 = 64;
/// How long a client has to send its request and to read the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a client could not be accepted.
const RETRY: Duration = Duration::from_secs(2);

/// Opens the port. Only programs of this machine can connect.
pub(crate) async fn listen(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await;
    listener.map_err(|why| Error::invalid(format!("metrics port {port}"), why))
}

/// Answers each request with the present result of `text`.
pub(crate) async fn serve(listener: TcpListener, text: impl Fn() -> String) {
    let mut clients = FuturesUnordered::new();
    let newest = watch::Sender::new(0);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    newest.send_modify(|newest| *newest += 1);
                    let number = *newest.borrow();
                    let (mut others, text) = (newest.subscribe(), &text);
                    clients.push(async move {
                        tokio::select! {
                            answered = answer(client, text) => answered,
                            () = tokio::time::sleep(ANSWER_TIMEOUT) => Ok(()),
                            // The sender lives as long as this.
                            _ = others.wait_for(|newest| *newest >= number + CLIENTS) => Ok(()),
                        }
                    });
                }
                // An example: no descriptor is left.
                Err(why) => {
                    tracing::warn!(%why, "metrics");
                    tokio::time::sleep(RETRY).await;
                }
            },
            Some(answered) = clients.next() => {
                if let Err(why) = answered {
                    tracing::debug!(%why, "metrics");
                }
            }
        }
    }
}

async fn answer(mut client: TcpStream, text: &impl Fn() -> String) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < LONGEST {
        let mut some = [0; 1024];
        match client.read(&mut some).await? {
            0 => break,
            len => request.extend_from_slice(&some[..len]),
        }
    }
    let line = request.split(|&byte| byte == b'\r').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let words: Vec<&str> = line.split(' ').collect();
    let (status, body) = match words[..] {
        ["GET" | "HEAD", target, "HTTP/1.1" | "HTTP/1.0"] if is_metrics(target) => {
            ("200 OK", text())
        }
        _ => ("404 Not Found", "GET /metrics\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await?;
    if words[0] != "HEAD" {
        client.write_all(body.as_bytes()).await?;
    }
    client.shutdown().await
}

/// Whether a request is for the metrics. Parameters are accepted and ignored.
fn is_metrics(target: &str) -> bool {
    target.split('?').next() == Some("/metrics")
}
