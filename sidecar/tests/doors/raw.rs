//! Bytes on a socket: what no HTTP client would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any limit that a test sets.
const LIMIT: Duration = Duration::from_secs(60);

/// Connects to a door by its `http://…`.
pub(crate) async fn connect(door: &str) -> TcpStream {
    TcpStream::connect(door.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Sends bytes, and reads until the other side closes. What is not taken any more is not an error.
pub(crate) async fn exchange(door: &str, bytes: &[u8]) -> String {
    let (mut read, mut write) = connect(door).await.into_split();
    let bytes = bytes.to_vec();
    // The half that writes stays open: to close it is to go away.
    let writer = tokio::spawn(async move { write.write_all(&bytes).await.map(|()| write) });
    let mut answer = Vec::new();
    // A reset behind an answer takes nothing away that was read before it.
    let _ = timeout(LIMIT, read.read_to_end(&mut answer)).await.expect("it closes in time");
    writer.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the text is there, or the other side closes.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut all = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&all).contains(text) {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => all.extend_from_slice(&buffer[..n]),
            }
        }
    };
    timeout(LIMIT, read).await.expect("it answers in time");
    String::from_utf8_lossy(&all).into_owned()
}

/// Whether the other side closes within the limit, saying nothing.
pub(crate) async fn closes(stream: &mut TcpStream) -> bool {
    let mut said = Vec::new();
    let ended = timeout(LIMIT, stream.read_to_end(&mut said)).await;
    ended.is_ok() && said.is_empty()
}

/// This process's resident memory in MiB.
pub(crate) fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
