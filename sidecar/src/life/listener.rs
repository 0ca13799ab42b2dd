//! The sockets that listen on a port, asked of the kernel by sock_diag over netlink: needs no privilege.

use std::collections::BTreeSet;
use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

use super::Error;

/// As large as the kernel ever makes one answer.
const BUFFER: usize = 32 * 1024;

/// The inodes of the TCP sockets that listen on `port` in this network namespace, on any address of both families.
///
/// # Errors
/// If the kernel does not answer, or not in a form that is understood.
pub fn inodes(port: u16) -> Result<BTreeSet<u32>, Error> {
    let error = |detail: String| Error::Listeners { port, detail };
    let mut inodes = BTreeSet::new();
    let mut buffer = vec![0; BUFFER];
    for family in [AF_INET, AF_INET6] {
        let socket = ask(family, port).map_err(|e| error(e.to_string()))?;
        // The kernel queues an answer before a call returns, so nothing is ever waited for here.
        while collect(&socket, &mut buffer, port, &mut inodes).map_err(error)? {}
    }
    Ok(inodes)
}

fn ask(family: u8, port: u16) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    let socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id: SocketId { source_port: port, ..socket_id },
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    Ok(socket)
}

/// Reads one answer; false when it was the last.
fn collect(
    socket: &Socket,
    buffer: &mut [u8],
    port: u16,
    inodes: &mut BTreeSet<u32>,
) -> Result<bool, String> {
    let size = socket.recv(&mut &mut buffer[..], 0).map_err(|e| e.to_string())?;
    let mut rest = buffer.get(..size).unwrap_or_default();
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(|e| e.to_string())?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(false),
            NetlinkPayload::Error(error) => return Err(error.to_string()),
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response))
                if response.header.socket_id.source_port == port =>
            {
                inodes.insert(response.header.inode);
            }
            _ => {}
        }
        // Messages are padded to four bytes; a length of zero would never end.
        let length = (message.header.length as usize).next_multiple_of(4).max(4);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_seen_and_the_next_one_on_its_port_is_another() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let one = inodes(port).unwrap();
        assert_eq!(one.len(), 1);
        assert_eq!(inodes(port).unwrap(), one);
        drop(first);
        assert_eq!(inodes(port).unwrap(), BTreeSet::new());
        let _second = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let two = inodes(port).unwrap();
        assert_eq!(two.len(), 1);
        assert_ne!(one, two);
    }

    #[test]
    fn connections_are_no_listeners_and_both_families_count() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return }; // a machine without IPv6
        let port = listener.local_addr().unwrap().port();
        let _client = std::net::TcpStream::connect(("::1", port)).unwrap();
        let _server = listener.accept().unwrap();
        assert_eq!(inodes(port).unwrap().len(), 1);
        let _other = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert_eq!(inodes(port).unwrap().len(), 2);
    }
}
