//! Metrics in Prometheus text on a loopback port, on request.
//!
//! It answers one request per connection, and only `GET /metrics`, which is all that a scraper sends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::error::{Error, Result};

/// The longest request that is read, in bytes.
const LONGEST: usize = 8192;
/// How long a client has to send its request and to read the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after a client could not be accepted.
const RETRY: Duration = Duration::from_secs(2);

/// Opens the port. Only programs of this machine can connect.
pub(crate) async fn listen(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await;
    listener.map_err(|why| Error::invalid(format!("metrics port {port}"), why))
}

/// Answers each request with the present result of `text`.
pub(crate) async fn serve(listener: TcpListener, text: impl Fn() -> String) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let answered = tokio::time::timeout(ANSWER_TIMEOUT, answer(client, &text)).await;
                if let Ok(Err(why)) = answered {
                    tracing::debug!(%why, "metrics");
                }
            }
            // An example: no descriptor is left.
            Err(why) => {
                tracing::warn!(%why, "metrics");
                tokio::time::sleep(RETRY).await;
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
    let wanted = request
        .split(|&byte| byte == b'\r')
        .next()
        .unwrap_or_default();
    let (status, body) = match wanted {
        b"GET /metrics HTTP/1.1" | b"GET /metrics HTTP/1.0" => ("200 OK", text()),
        _ => ("404 Not Found", "GET /metrics\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}
