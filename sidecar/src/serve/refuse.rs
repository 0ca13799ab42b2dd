//! What a client hears when a door is full and every connection works: 503, and to come again.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// So many hear it at once; more are closed without a word.
const AT_ONCE: usize = 32;
/// How long each may take to hear it.
const LIMIT: Duration = Duration::from_secs(1);

const BODY: &str = r#"{"type":"urn:decree:problem:unavailable","title":"this agent can't do that now","status":503,"detail":"every connection that this port may have is being answered; try again in a moment"}"#;

/// Says it, in the background.
pub(super) fn refuse<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    refusals: &mut JoinSet<()>,
    mut io: I,
) {
    if refusals.len() >= AT_ONCE {
        return;
    }
    refusals.spawn(async move {
        let text = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        let told = async {
            io.write_all(text.as_bytes()).await?;
            io.shutdown().await?;
            // What it sent is read: a socket that is closed with bytes in it takes back what was written.
            let mut unread = [0; 4096];
            while io.read(&mut unread).await? > 0 {}
            std::io::Result::Ok(())
        };
        // Whoever does not listen is closed all the same.
        let _ = timeout(LIMIT, told).await;
    });
}
