//! How a worker is given the connection that frames run on: as a descriptor,
//! over the control socket that is its stdin.
//!
//! ```text
//!  supervisor                                    worker
//!     ├── control ── (one byte + one descriptor) ──► stdin
//!     └── connection ◄────────── frames ───────────► the descriptor
//! ```
//!
//! The control socket keeps message boundaries, so nothing on it is ever half
//! read. A supervisor that takes a worker over offers a fresh connection; what
//! was under way on the old one, half a frame perhaps, is thrown away with it.
//! End of file on a connection means that its supervisor is gone; end of file
//! on the control socket, that none will come again.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair, sockopt,
};

/// What stands beside the descriptor. Another byte is another way of handing
/// over, and is not understood.
const OFFER: [u8; 1] = *b"1";

/// A control socket's two ends, the supervisor's first.
///
/// # Errors
/// There are no more descriptors.
pub fn control_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    Ok(socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

/// Hands a fresh connection over, and returns our end of it. Does not wait.
///
/// # Errors
/// The worker is gone, or has left so many offers unread that it must hang.
pub fn offer(control: impl AsFd) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let descriptors = [theirs.as_fd()];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    assert!(rights.push(SendAncillaryMessage::ScmRights(&descriptors)), "room for one");
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    retry_on_intr(|| sendmsg(&control, &[IoSlice::new(&OFFER)], &mut rights, flags))?;
    Ok(ours)
}

/// Waits for the next connection; `None` when there will be no more.
///
/// # Errors
/// What came is not an offer, or stdin is no control socket.
pub fn accept(control: impl AsFd) -> io::Result<Option<UnixStream>> {
    let mut byte = OFFER;
    byte[0] = 0;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received =
        retry_on_intr(|| recvmsg(&control, &mut [IoSliceMut::new(&mut byte)], &mut rights, flags));
    let received = match received {
        Ok(received) => received,
        // A reset is how a killed peer looks; it is as gone as after end of file.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Taken out in any case, so that they are closed.
    let descriptors: Vec<OwnedFd> = rights
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    let cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    match <[OwnedFd; 1]>::try_from(descriptors) {
        Ok([connection]) if byte == OFFER && !cut && is_stream(&connection)? => {
            Ok(Some(connection.into()))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "what came is no connection")),
    }
}

fn is_stream(descriptor: &OwnedFd) -> io::Result<bool> {
    Ok(sockopt::socket_domain(descriptor)? == AddressFamily::UNIX
        && sockopt::socket_type(descriptor)? == SocketType::STREAM)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use rustix::fd::BorrowedFd;

    use super::*;

    fn send(control: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(rights.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        sendmsg(control, &[IoSlice::new(bytes)], &mut rights, SendFlags::empty()).unwrap();
    }

    #[test]
    fn each_offer_is_a_connection_of_its_own() {
        let (ours, theirs) = control_pair().unwrap();
        let mut near = [offer(&ours).unwrap(), offer(&ours).unwrap()];
        for (index, near) in near.iter_mut().enumerate() {
            let mut far = accept(&theirs).unwrap().unwrap();
            write!(far, "{index}").unwrap();
            drop(far);
            let mut said = String::new();
            near.read_to_string(&mut said).unwrap();
            assert_eq!(said, index.to_string());
        }
    }

    #[test]
    fn an_offer_whose_supervisor_died_is_a_connection_at_its_end() {
        let (ours, theirs) = control_pair().unwrap();
        drop(offer(&ours).unwrap());
        let mut far = accept(&theirs).unwrap().unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn the_end_of_the_control_socket_is_the_end() {
        let (ours, theirs) = control_pair().unwrap();
        drop(ours);
        assert!(accept(&theirs).unwrap().is_none());
        let (ours, theirs) = control_pair().unwrap();
        drop(theirs);
        assert!(offer(&ours).is_err());
    }

    #[test]
    fn offers_that_nobody_takes_end_in_an_error_and_not_in_a_wait() {
        let (ours, _theirs) = control_pair().unwrap();
        let kept: Vec<_> = (0..10_000).map_while(|_| offer(&ours).ok()).collect();
        assert!(!kept.is_empty() && kept.len() < 10_000, "{}", kept.len());
    }

    #[test]
    fn what_is_no_offer_is_refused() {
        let (ours, theirs) = control_pair().unwrap();
        let (one, two) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let offers: [(&[u8], &[BorrowedFd<'_>]); 5] = [
            (b"1", &[]),
            (b"2", &[one.as_fd()]),
            (b"1", &[one.as_fd(), two.as_fd()]),
            (b"11", &[one.as_fd()]),
            (b"1", &[listener.as_fd()]),
        ];
        for (bytes, descriptors) in offers {
            send(&ours, bytes, descriptors);
            let error = accept(&theirs).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?} {descriptors:?}");
        }
        let _ours = offer(&ours).unwrap();
        assert!(accept(&theirs).unwrap().is_some(), "the next good one is taken");
    }
}
