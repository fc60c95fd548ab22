//! Cuts files in another process, because grammars are foreign code that reads
//! foreign files: one that crashes, eats memory or never ends costs that file its
//! syntax and nothing else. Such a file is cut by lines.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine_api::frame::{self, Decoder, FrameError};
use engine_api::index::Chunk;
use jetpack::Root;
use jetpack::process::Waits;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};

use crate::cut;
use crate::language::Language;
use crate::syntax::NotParsed;

/// Longest time for one file, its own limit for that included. Time in which the
/// process wanted a processor and had none does not count: everything else goes
/// first, so that is most of the time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look how long it waited.
const LOOK: Duration = Duration::from_millis(500);
/// Address space of the process that parses. A file of the largest size takes
/// some tens of megabytes.
const MEMORY: u64 = 1 << 30;

/// A file to cut.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    path: String,
    /// Its language's place in [`Language::ALL`].
    language: u8,
    text: String,
}

/// What came of it.
type Answer = Result<Vec<Chunk>, String>;

/// The process that parses, if it runs.
#[derive(Debug)]
pub struct Parsing {
    command: fn() -> Command,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    decoder: Decoder,
}

/// Why a process did not answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("its parser could not be started")]
    Start(#[source] std::io::Error),
    #[error("its parser did not end within {} s", PATIENCE.as_secs())]
    Late,
    #[error("its parser crashed")]
    Gone,
    #[error("its parser answered nonsense")]
    Frame(#[from] FrameError),
}

impl Parsing {
    /// `command`: this program, as [`serve`].
    #[must_use]
    pub fn new(command: fn() -> Command) -> Self {
        Self { command, process: None }
    }

    /// Cuts a file, and says why it was cut by lines, if it was.
    pub fn cut(
        &mut self,
        path: &str,
        text: &str,
    ) -> (Option<Language>, Vec<Chunk>, Option<String>) {
        let Some(language) = Language::of(path, text) else {
            return (None, cut::by_lines(path, text), None);
        };
        let why = match self.ask(path, language, text) {
            Ok(Ok(chunks)) => return (Some(language), chunks, None),
            Ok(Err(why)) => why,
            Err(failed) => {
                self.end();
                failed.to_string()
            }
        };
        (Some(language), cut::by_lines(path, text), Some(why))
    }

    fn ask(&mut self, path: &str, language: Language, text: &str) -> Result<Answer, Failed> {
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::start((self.command)())?),
        };
        let place = Language::ALL.iter().position(|other| *other == language);
        let job = Job {
            path: path.to_owned(),
            language: place.and_then(|place| u8::try_from(place).ok()).expect("there are few"),
            text: text.to_owned(),
        };
        process.answer(&job)
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

impl Drop for Parsing {
    fn drop(&mut self) {
        self.end();
    }
}

impl Process {
    fn start(mut command: Command) -> Result<Self, Failed> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().map_err(Failed::Start)?;
        Ok(Self { child, decoder: Decoder::default() })
    }

    fn answer(&mut self, job: &Job) -> Result<Answer, Failed> {
        let watch = Watch::new(self.child.id());
        let mut bytes = Vec::new();
        frame::encode(job, &mut bytes)?;
        let stdin = self.child.stdin.as_mut().expect("it was started with a pipe");
        // It reads all of a job before it answers, so this does not wait for long.
        stdin.write_all(&bytes).map_err(|_| Failed::Gone)?;
        let stdout = self.child.stdout.as_mut().expect("it was started with a pipe");
        let mut buffer = [0; 64 * 1024];
        loop {
            if let Some(answer) = self.decoder.next()? {
                return Ok(answer);
            }
            let look = PollTimeout::try_from(LOOK).expect("it is short");
            let mut ready = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, look) {
                Ok(0) if watch.counted() > PATIENCE => return Err(Failed::Late),
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => {}
                Err(_) => return Err(Failed::Gone),
            }
            match stdout.read(&mut buffer) {
                Ok(0) | Err(_) => return Err(Failed::Gone),
                Ok(read) => self.decoder.push(&buffer[..read]),
            }
        }
    }
}

/// How long a process has had for its work.
struct Watch {
    process: u32,
    since: Instant,
    waited: Duration,
}

impl Watch {
    fn new(process: u32) -> Self {
        Self { process, since: Instant::now(), waited: waited(process) }
    }

    fn counted(&self) -> Duration {
        self.since.elapsed().saturating_sub(waited(self.process).saturating_sub(self.waited))
    }
}

/// How long a process has waited for a processor; nothing where that is not known.
fn waited(process: u32) -> Duration {
    let waits = Waits::read(&Root::new("/"), process);
    waits.map_or(Duration::ZERO, |waits| waits.for_processor)
}

/// Cuts what comes on stdin until its end. Runs in the process that parses.
///
/// # Errors
/// Whoever asked is gone, or sent nonsense.
pub fn serve() -> anyhow::Result<()> {
    setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY)?;
    let (mut stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
    let (mut decoder, mut buffer) = (Decoder::default(), vec![0; 64 * 1024]);
    loop {
        while let Some(job) = decoder.next::<Job>()? {
            let mut bytes = Vec::new();
            frame::encode(&answer(&job), &mut bytes)?;
            stdout.write_all(&bytes)?;
            stdout.flush()?;
        }
        match stdin.read(&mut buffer)? {
            0 => return Ok(()),
            read => decoder.push(&buffer[..read]),
        }
    }
}

fn answer(job: &Job) -> Answer {
    let language = Language::ALL.get(usize::from(job.language)).ok_or("an unknown language")?;
    let cut = cut::by_syntax(&job.path, *language, &job.text);
    cut.map_err(|error: NotParsed| error.to_string())
}
