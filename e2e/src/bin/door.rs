//! A proxy in a pod for clients outside of the cluster: it connects to whatever a `CONNECT` names, on port 3128.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const PORT: u16 = 3128;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const HEAD_LIMIT: usize = 8 << 10;

fn main() -> Result<()> {
    // The first process of a container has no default for SIGTERM: without this it would not end.
    let always = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGTERM, 0, always)
        .context("listen for SIGTERM")?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("listen")?;
    for client in listener.incoming() {
        let client = client.context("accept a client")?;
        std::thread::spawn(move || {
            if let Err(error) = serve(client) {
                eprintln!("{error:#}");
            }
        });
    }
    Ok(())
}

fn serve(mut client: TcpStream) -> Result<()> {
    let Some(target) = target(&mut client)? else { return Ok(()) };
    let server = match connect(&target) {
        Ok(server) => server,
        Err(error) => {
            client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")?;
            return Err(error);
        }
    };
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (client_reads, server_writes) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || copy(client_reads, server_writes));
    copy(server, client);
    let _ = up.join();
    Ok(())
}

/// What the client wants to be connected to; none if it says nothing at all, as a probe does.
fn target(client: &mut TcpStream) -> Result<Option<String>> {
    client.set_read_timeout(Some(CONNECT_LIMIT))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < HEAD_LIMIT, "a client's head is too long");
        if client.read(&mut byte).context("read a client's head")? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    client.set_read_timeout(None)?;
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_whitespace();
    ensure!(words.next() == Some("CONNECT"), "not a CONNECT: {:?}", head.lines().next());
    Ok(words.next().map(str::to_owned))
}

fn connect(target: &str) -> Result<TcpStream> {
    let mut addresses = target.to_socket_addrs().with_context(|| format!("look up {target}"))?;
    let address = addresses.next().with_context(|| format!("find an address of {target}"))?;
    TcpStream::connect_timeout(&address, CONNECT_LIMIT).with_context(|| format!("connect to {target}"))
}

/// One direction, until its end; the other may go on. A connection that breaks ends both.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    if std::io::copy(&mut from, &mut to).is_ok() {
        let _ = to.shutdown(Shutdown::Write);
    } else {
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
