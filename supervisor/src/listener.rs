//! The socket that we serve on: a socket unit's, else the one that an earlier
//! supervisor left with systemd, else a new one, which is left there in turn.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{Backlog, listen};

use crate::systemd::keeper::{Inherited, Keeper};

/// How often, and how far apart, it is tried to bind an address that may still be
/// held by the socket which systemd was told to forget a moment ago: two seconds.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

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

/// A listener that does not block.
///
/// # Errors
/// See [`ListenError`].
pub fn open(
    address: SocketAddr,
    inherited: &mut Inherited,
    keeper: Keeper,
) -> Result<TcpListener, ListenError> {
    if let Some(activated) = inherited.activated.take() {
        activated.set_nonblocking(true).map_err(ListenError::Inherited)?;
        return Ok(activated);
    }
    let mut looks = 0;
    if let Some(left) = inherited.listener.take() {
        if serves(&left, address) {
            left.set_nonblocking(true).map_err(ListenError::Inherited)?;
            return Ok(left);
        }
        tracing::info!(%address, "serving on another address than before");
        // 0.0.0.0 is not free as long as 127.0.0.1 is held, and the other way round.
        keeper.forget_listener();
        looks = LOOKS;
    }
    let listener = when_free(looks, BETWEEN_LOOKS, || bind(address))
        .map_err(|source| explain(address, source))?;
    keeper.keep_listener(&listener);
    Ok(listener)
}

/// Whether a socket is what `address` asks for. Port 0 asks for any.
fn serves(listener: &TcpListener, address: SocketAddr) -> bool {
    listener.local_addr().is_ok_and(|own| {
        own.ip() == address.ip() && (own.port() == address.port() || address.port() == 0)
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // std asks for 128 waiting connections; a team's editors that all come back
    // at once are more.
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener)
}

/// Tries again, at most so often, as long as the address is in use.
fn when_free<T>(
    looks: u32,
    between: Duration,
    mut bind: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    for _ in 0..looks {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(between),
            other => return other,
        }
    }
    bind()
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
    fn a_socket_that_was_left_is_used_again_unless_another_address_is_wanted() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let left = TcpListener::bind(any).unwrap();
        let address = left.local_addr().unwrap();
        let mut inherited = Inherited { listener: Some(left), ..Inherited::default() };
        let again = open(address, &mut inherited, Keeper::none()).unwrap();
        assert_eq!(again.local_addr().unwrap(), address);
        let mut inherited = Inherited { listener: Some(again), ..Inherited::default() };
        let other = open("127.0.0.2:0".parse().unwrap(), &mut inherited, Keeper::none()).unwrap();
        assert_eq!(other.local_addr().unwrap().ip().to_string(), "127.0.0.2");
    }

    #[test]
    fn an_address_that_is_about_to_be_free_is_tried_again_but_not_for_ever() {
        let in_use = || io::Error::from(io::ErrorKind::AddrInUse);
        let mut tries = 0;
        let mut third_time = || {
            tries += 1;
            if tries < 3 { Err(in_use()) } else { Ok(tries) }
        };
        assert_eq!(when_free(5, Duration::ZERO, &mut third_time).unwrap(), 3);
        assert!(when_free(5, Duration::ZERO, || Err::<(), _>(in_use())).is_err());
        let refused = || Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied));
        let error = when_free(5, Duration::from_secs(3600), refused).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        let address = "192.0.2.1:0".parse().unwrap();
        let error = open(address, &mut Inherited::default(), Keeper::none()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "192.0.2.1 is no address of this machine; choose another with --listen"
        );
    }
}
