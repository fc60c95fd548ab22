//! The socket to the supervisor: frames in on a thread of their own, frames out
//! from whoever has something to say.
//!
//! End of file ends the process: the peer is gone and so is everybody who
//! waited for an answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use engine_api::frame::{Decoder, FrameError, encode};
use engine_api::protocol::{FromWorker, ToWorker};

/// Exit status after frames that are none.
pub const EXIT_PROTOCOL: i32 = 2;

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// Where messages to the supervisor go, from any thread. Writing blocks while
/// the supervisor does not read; it then loses time, never messages.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Mutex<Out>>);

#[derive(Debug)]
struct Out {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Outbox {
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self(Arc::new(Mutex::new(Out { stream, buffer: Vec::new() })))
    }

    /// Sends messages with one write. If the supervisor is gone, the reader
    /// will see it and end the process.
    pub fn send(&self, messages: &[FromWorker]) {
        if messages.is_empty() {
            return;
        }
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Out { stream, buffer } = &mut *out;
        buffer.clear();
        for message in messages {
            if let Err(error) = encode(message, buffer) {
                tracing::error!(%error, "message is too long to send");
            }
        }
        if let Err(error) = stream.write_all(buffer) {
            tracing::debug!(%error, "write to the supervisor");
        }
    }
}

/// Reads frames until end of file, gives each to `receive`, and then ends the
/// process.
pub fn read_until_gone(mut stream: UnixStream, mut receive: impl FnMut(ToWorker)) -> ! {
    let status = match read_frames(&mut stream, &mut receive) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "read frames from the supervisor");
            EXIT_PROTOCOL
        }
    };
    std::process::exit(status)
}

fn read_frames(
    stream: &mut UnixStream,
    receive: &mut impl FnMut(ToWorker),
) -> Result<(), FrameError> {
    let mut decoder = Decoder::default();
    let mut bytes = vec![0; READ_BYTES];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(length) => decoder.push(&bytes[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // A reset is how a killed peer looks; it is as gone as after end of file.
            Err(_) => return Ok(()),
        }
        while let Some(message) = decoder.next()? {
            receive(message);
        }
    }
}
