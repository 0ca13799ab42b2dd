//! One handshake: whoever it is that knocks, it ends soon, and says who is there or why nobody is let in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::peers::caller::Caller;
use crate::peers::identity::Identity;
use crate::peers::refusal::{Reason, Refusal};
use crate::peers::told;

/// Longer than a slow network needs, and short for one that only wants to be in the way.
const LIMIT: Duration = Duration::from_secs(3);

/// A caller that is known.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) remote: SocketAddr,
    pub(super) caller: Caller,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// Who it is, or who is refused.
pub(super) type Shaken = Result<Arrived, (SocketAddr, Refusal)>;

pub(super) async fn shake(stream: TcpStream, remote: SocketAddr, identity: Arc<Identity>) -> Shaken {
    let refuse = |reason, message| Err((remote, Refusal { reason, claimed: None, message }));
    // A peer that closes at once sees the same soon enough.
    let _ = stream.set_nodelay(true);
    let (config, verifier) = match identity.server() {
        Ok(made) => made,
        Err(error) => return refuse(Reason::Handshake, told(&error)),
    };
    let accepted = timeout(LIMIT, TlsAcceptor::from(Arc::new(config)).accept(stream)).await;
    if let Some(Err(refusal)) = verifier.found() {
        return Err((remote, refusal));
    }
    match (accepted, verifier.found()) {
        (Ok(Ok(stream)), Some(Ok(caller))) => {
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
            Ok(Arrived { stream, remote, caller, chain })
        }
        (Ok(Ok(_)), _) => refuse(Reason::NoCertificate, "it showed no certificate".into()),
        (Ok(Err(error)), _) => refuse(reason(&error), told(&error)),
        (Err(_), _) => refuse(Reason::Handshake, format!("no end of the handshake within {LIMIT:?}")),
    }
}

fn reason(error: &std::io::Error) -> Reason {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match error {
        Some(rustls::Error::NoCertificatesPresented) => Reason::NoCertificate,
        _ => Reason::Handshake,
    }
}
