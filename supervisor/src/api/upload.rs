//! Files that somebody sends: taken off the socket piece by piece and unpacked by a
//! thread, so that neither the archive nor a large file is ever in memory.
//!
//! A body that does not come to its end is an error for the thread and not an end: half
//! of an archive may look like a whole one.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::api::body::{MAX_DISCARDED, discard};
use crate::api::error::Problem;
use crate::index::sources::tree::{Part, Whole};
use crate::index::sources::unpack::{Bounds, Refused, Unpacked, unpack};

/// Uploads at once: each has the disk to itself for a while.
const UPLOADS: usize = 2;
/// When to ask again for a place.
const SOON: Duration = Duration::from_secs(5);
/// How long a sender may send nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the disk may take for what it was given.
const WRITING: Duration = Duration::from_secs(300);
/// Pieces between socket and thread; a socket gives at most some hundred KiB a piece.
const PIECES: usize = 8;
/// Room for a decompressor's state and for directories within directories.
const STACK: usize = 1024 * 1024;

/// Who may send now.
#[derive(Debug, Clone)]
pub(crate) struct Seats(Arc<Semaphore>);

impl Default for Seats {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UPLOADS)))
    }
}

/// What came over the socket.
enum Piece {
    Data(Bytes),
    End,
}

/// Receives an archive and unpacks it into a part.
///
/// # Errors
/// It is not taken, does not come to its end, or too many send at once.
pub(crate) async fn receive(
    Seats(seats): &Seats,
    incoming: Incoming,
    part: Part,
    bounds: Bounds,
) -> Result<(Whole, Unpacked), Problem> {
    let _seat = Arc::clone(seats).try_acquire_owned().map_err(|_| {
        Problem::unavailable("others send files now; try again in some seconds", SOON)
    })?;
    let (pieces, arriving) = mpsc::channel(PIECES);
    let (reply, done) = oneshot::channel();
    let thread = std::thread::Builder::new().name("upload".into()).stack_size(STACK);
    let started = thread.spawn(move || {
        // Whoever answers somebody goes first. On Linux this is the thread's own.
        let _ = rustix::process::nice(19);
        let from = Arriving { arriving, piece: Bytes::new(), ended: false };
        // The part is this thread's, so that what is thrown away is not written to any
        // more. Who sent it may have gone.
        let _ = reply.send(unpack_into(part, from, bounds));
    });
    started.map_err(|error| {
        Problem::unavailable(format!("no thread can be started for it: {error}"), SOON)
    })?;
    feed(incoming, pieces).await?;
    match timeout(WRITING, done).await {
        Ok(Ok(unpacked)) => unpacked.map_err(refused),
        Ok(Err(_)) | Err(_) => Err(Problem::unavailable("the disk takes too long for it", SOON)),
    }
}

fn unpack_into(part: Part, from: Arriving, bounds: Bounds) -> Result<(Whole, Unpacked), Refused> {
    let unpacked = unpack(from, &part.files(), bounds)?;
    Ok((part.whole().map_err(Refused::Disk)?, unpacked))
}

async fn feed(mut incoming: Incoming, pieces: mpsc::Sender<Piece>) -> Result<(), Problem> {
    loop {
        let frame = timeout(SILENCE, incoming.frame()).await.map_err(|_| {
            let why = format!("nothing arrived for {} s", SILENCE.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", why)
        })?;
        let piece = match frame {
            None => Piece::End,
            Some(Err(_)) => return Err(Problem::bad_request("the body was cut off")),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Piece::Data(data),
                Err(_) => continue,
            },
        };
        let is_end = matches!(piece, Piece::End);
        if pieces.send(piece).await.is_err() {
            // It was refused, and its sender is to read why.
            discard(incoming, MAX_DISCARDED).await;
            return Ok(());
        }
        if is_end {
            return Ok(());
        }
    }
}

fn refused(refused: Refused) -> Problem {
    let message = refused.to_string();
    match refused {
        Refused::Disk(_) => Problem::unavailable(message, SOON),
        Refused::TooLarge(_) => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
        }
        Refused::Entry { .. } | Refused::Archive(_) => Problem::bad_request(message),
    }
}

/// What arrives, for a thread that waits for it.
struct Arriving {
    arriving: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.arriving.blocking_recv() {
                Some(Piece::Data(data)) => self.piece = data,
                Some(Piece::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let taken = self.piece.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.piece.split_to(taken));
        Ok(taken)
    }
}
