//! The line to the supervisor: which connection frames go out on, and one
//! thread that hears what comes in.
//!
//! Supervisors come and go while the engine stays loaded. End of file on a
//! connection means that nobody waits for its answers any more; end of file on
//! the control socket ends the process.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use engine_api::frame::{Decoder, encode};
use engine_api::handover;
use engine_api::protocol::{FromWorker, PROTOCOL_VERSION, RequestId, ToWorker};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::dup2_stdin;

use crate::grammar::{Constraint, GrammarError};

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// The connection that there is now, if any.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Counts connections: what was meant for an earlier one is not sent.
    connection: u64,
    stream: Option<UnixStream>,
    /// How far the load is, while there is one.
    loading: Option<f32>,
    buffer: Vec<u8>,
}

/// Where messages go that belong to one connection, from any thread. Writing
/// blocks while the supervisor does not read; it then loses time, never
/// messages. After the connection's end they go nowhere.
#[derive(Debug, Clone)]
pub struct Outbox {
    line: Line,
    connection: u64,
}

/// What was heard.
#[derive(Debug)]
pub enum Heard {
    /// Another supervisor, or the first. The earlier connection is gone.
    Connected(Outbox),
    Said(Outbox, ToWorker),
    Disconnected,
    /// From another thread: what a request of this connection must fit.
    Compiled(Outbox, RequestId, Result<Box<Constraint>, GrammarError>),
}

impl Line {
    /// Sends messages to whoever is there now.
    pub fn send(&self, messages: &[FromWorker]) {
        self.lock().send(messages);
    }

    /// Says how far the load is, also to supervisors that come during it.
    pub fn loading(&self, fraction: f32) {
        let mut state = self.lock();
        state.loading = Some(fraction);
        state.send(&[FromWorker::Loading { fraction }]);
    }

    /// The load is over.
    pub fn loaded(&self) {
        self.lock().loading = None;
    }

    fn connect(&self, stream: UnixStream) -> Outbox {
        let mut state = self.lock();
        state.connection += 1;
        state.stream = Some(stream);
        let hello = FromWorker::Hello { protocol: PROTOCOL_VERSION, pid: std::process::id() };
        let loading = state.loading.map(|fraction| FromWorker::Loading { fraction });
        let greeting: Vec<_> = [Some(hello), loading].into_iter().flatten().collect();
        state.send(&greeting);
        Outbox { line: self.clone(), connection: state.connection }
    }

    fn disconnect(&self) {
        let mut state = self.lock();
        state.connection += 1;
        state.stream = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send(&mut self, messages: &[FromWorker]) {
        let Self { stream: Some(stream), buffer, .. } = self else { return };
        buffer.clear();
        for message in messages {
            if let Err(error) = encode(message, buffer) {
                tracing::error!(%error, "message is too long to send");
            }
        }
        // If the supervisor is gone, the listener sees it.
        if let Err(error) = stream.write_all(buffer) {
            tracing::debug!(%error, "write to the supervisor");
        }
    }
}

impl Outbox {
    /// Whether both belong to one connection.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.connection == other.connection
    }

    /// Sends messages with one write.
    pub fn send(&self, messages: &[FromWorker]) {
        let mut state = self.line.lock();
        if state.connection == self.connection && !messages.is_empty() {
            state.send(messages);
        }
    }
}

/// Hears everything that is said on one connection after the other, until the
/// control socket ends.
///
/// # Errors
/// Stdin is no control socket, or frames came that are none.
pub fn listen(control: &OwnedFd, line: &Line, mut hear: impl FnMut(Heard)) -> anyhow::Result<()> {
    let mut current: Option<Connection> = None;
    loop {
        let (offered, spoken) = wait(control, current.as_ref()).context("wait for a supervisor")?;
        if offered {
            let offer = handover::accept(control)
                .context("take a connection from stdin; engine-worker is started by stoker")?;
            let Some(stream) = offer else { return Ok(()) };
            // Stdin is the connection from now on, so that `control` is the only
            // descriptor of its socket.
            dup2_stdin(&stream).context("put the connection in the place of stdin")?;
            let outbox = line.connect(stream.try_clone().context("share the connection")?);
            hear(Heard::Connected(outbox.clone()));
            current = Some(Connection::new(stream, outbox));
        } else if spoken
            && let Some(connection) = &mut current
            && !connection.read(&mut hear).context("read frames from the supervisor")?
        {
            current = None;
            line.disconnect();
            hear(Heard::Disconnected);
        }
    }
}

/// Waits until there is an offer, something to read, or the end of either.
fn wait(control: &OwnedFd, connection: Option<&Connection>) -> io::Result<(bool, bool)> {
    let watch = |socket| PollFd::new(socket, PollFlags::POLLIN);
    let mut sockets = vec![watch(control.as_fd())];
    sockets.extend(connection.map(|connection| watch(connection.stream.as_fd())));
    loop {
        match poll(&mut sockets, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {
                let any =
                    |at: usize| sockets.get(at).is_some_and(|socket| socket.any().unwrap_or(true));
                return Ok((any(0), any(1)));
            }
        }
    }
}

/// The reading half of a connection.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    outbox: Outbox,
    decoder: Decoder,
    bytes: Box<[u8]>,
}

impl Connection {
    fn new(stream: UnixStream, outbox: Outbox) -> Self {
        let bytes = vec![0; READ_BYTES].into();
        Self { stream, outbox, decoder: Decoder::default(), bytes }
    }

    /// Reads what is there; false at end of file.
    fn read(&mut self, hear: &mut impl FnMut(Heard)) -> anyhow::Result<bool> {
        match self.stream.read(&mut self.bytes) {
            Ok(0) => return Ok(false),
            Ok(length) => self.decoder.push(&self.bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A reset is how a killed peer looks; it is as gone as after end of file.
            Err(_) => return Ok(false),
        }
        while let Some(message) = self.decoder.next()? {
            hear(Heard::Said(self.outbox.clone(), message));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::JoinHandle;

    use engine_api::handover::{control_pair, offer};
    use engine_api::protocol::RequestId;

    use super::*;

    struct Worker {
        control: OwnedFd,
        line: Line,
        heard: Receiver<Heard>,
        thread: JoinHandle<anyhow::Result<()>>,
    }

    fn start() -> Worker {
        let (ours, theirs) = control_pair().unwrap();
        let line = Line::default();
        let (hear, heard) = channel();
        let lines = line.clone();
        let thread =
            std::thread::spawn(move || listen(&theirs, &lines, |what| hear.send(what).unwrap()));
        Worker { control: ours, line, heard, thread }
    }

    impl Worker {
        fn connected(&self) -> (Supervisor, Outbox) {
            let stream = offer(&self.control).unwrap();
            let outbox = match self.heard.recv().unwrap() {
                Heard::Connected(outbox) => outbox,
                other => panic!("{other:?}"),
            };
            let mut supervisor = Supervisor { stream, decoder: Decoder::default() };
            assert!(matches!(supervisor.hear(), Some(FromWorker::Hello { .. })));
            (supervisor, outbox)
        }
    }

    struct Supervisor {
        stream: UnixStream,
        decoder: Decoder,
    }

    impl Supervisor {
        fn hear(&mut self) -> Option<FromWorker> {
            loop {
                if let Some(message) = self.decoder.next().unwrap() {
                    return Some(message);
                }
                let mut bytes = [0; 100];
                match self.stream.read(&mut bytes).unwrap() {
                    0 => return None,
                    length => self.decoder.push(&bytes[..length]),
                }
            }
        }
    }

    fn failed(id: u64) -> FromWorker {
        FromWorker::Failed { id: RequestId(id), reason: String::new() }
    }

    #[test]
    fn what_belongs_to_an_earlier_connection_is_not_said_on_a_later_one() {
        let worker = start();
        let (mut first, earlier) = worker.connected();
        earlier.send(&[failed(1)]);
        let (mut second, later) = worker.connected();
        earlier.send(&[failed(2)]);
        later.send(&[failed(3)]);
        assert_eq!(first.hear(), Some(failed(1)));
        assert_eq!(first.hear(), None);
        assert_eq!(second.hear(), Some(failed(3)));
    }

    #[test]
    fn half_a_frame_goes_with_its_connection() {
        let worker = start();
        let mut whole = Vec::new();
        encode(&ToWorker::Drain, &mut whole).unwrap();
        let (mut first, _) = worker.connected();
        first.stream.write_all(&whole[..whole.len() - 1]).unwrap();
        drop(first);
        assert!(matches!(worker.heard.recv().unwrap(), Heard::Disconnected));
        let (mut second, _) = worker.connected();
        second.stream.write_all(&whole).unwrap();
        assert!(matches!(worker.heard.recv().unwrap(), Heard::Said(_, ToWorker::Drain)));
    }

    #[test]
    fn who_comes_during_a_load_hears_at_once_how_far_it_is() {
        let worker = start();
        worker.line.loading(0.25);
        let (mut supervisor, _) = worker.connected();
        assert_eq!(supervisor.hear(), Some(FromWorker::Loading { fraction: 0.25 }));
        worker.line.loaded();
        let (mut supervisor, outbox) = worker.connected();
        outbox.send(&[failed(1)]);
        assert_eq!(supervisor.hear(), Some(failed(1)));
    }

    #[test]
    fn the_end_of_the_control_socket_ends_it_and_garbage_is_an_error() {
        let worker = start();
        drop(worker.control);
        assert!(worker.thread.join().unwrap().is_ok());
        let worker = start();
        let (mut supervisor, _) = worker.connected();
        supervisor.stream.write_all(&[0xFF; 8]).unwrap();
        assert!(worker.thread.join().unwrap().is_err());
    }
}
