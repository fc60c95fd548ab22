//! The socket that we serve on: systemd's, if it holds one for us, else our own.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use nix::sys::socket::{Backlog, listen};

/// Why nothing can be served. Each says what a person can do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "port {port} on {ip} is in use by another program, perhaps Ollama or another stoker; \
         stop it, or choose another port with --listen {ip}:PORT"
    )]
    InUse { ip: IpAddr, port: u16 },
    #[error("{ip} is no address of this machine; choose another with --listen")]
    NotOurs { ip: IpAddr },
    #[error("port {port} is for root alone; choose one above 1023 with --listen")]
    Reserved { port: u16 },
    #[error("listen on {address}")]
    Other { address: SocketAddr, source: io::Error },
    #[error("take over the socket that systemd holds")]
    Inherited(#[source] io::Error),
}

/// A listener that does not block: the first socket that systemd passed, else
/// one bound to `address`.
///
/// # Errors
/// See [`ListenError`].
pub fn open(address: SocketAddr) -> Result<TcpListener, ListenError> {
    if let Some(inherited) = inherited().map_err(ListenError::Inherited)? {
        return Ok(inherited);
    }
    bind(address).map_err(|source| explain(address, source))
}

fn inherited() -> io::Result<Option<TcpListener>> {
    let listener = listenfd::ListenFd::from_env().take_tcp_listener(0)?;
    listener.map(|listener| listener.set_nonblocking(true).map(|()| listener)).transpose()
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // std asks for 128 waiting connections; a team's editors that all come back
    // at once are more.
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener)
}

fn explain(address: SocketAddr, source: io::Error) -> ListenError {
    let (ip, port) = (address.ip(), address.port());
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { ip, port },
        io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { ip },
        io::ErrorKind::PermissionDenied => ListenError::Reserved { port },
        _ => ListenError::Other { address, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_another_machine_is_named() {
        let error = open("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "192.0.2.1 is no address of this machine; choose another with --listen"
        );
    }
}
