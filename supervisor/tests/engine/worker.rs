//! A worker that speaks the protocol on the first connection that it is handed
//! and does what its scenario and its prompts say. A token is a byte of the prompt.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use engine_api::frame::{self, Decoder};
use engine_api::handover;
use engine_api::protocol::{
    FinishReason, FromWorker, Generate, HEARTBEAT_PERIOD, Heartbeat, ModelFacts, PROTOCOL_VERSION,
    Prompt, Ready, RequestId, Timings, ToWorker, Token, TokenId, Usage,
};

/// Time of a step.
const STEP: Duration = Duration::from_millis(1);
/// Tokens before a fault happens.
const BEFORE_FAULT: u32 = 2;

/// Runs the worker and exits, if this process was started as one.
pub(crate) fn run_if_asked() {
    let Ok(scenario) = std::env::var("FAKE_WORKER") else { return };
    // The test harness has taken over stdout; the supervisor reads stderr too.
    eprintln!("fake worker: {scenario}");
    let socket = handover::accept(io::stdin()).unwrap().unwrap();
    let mut worker = Worker {
        scenario,
        socket,
        decoder: Decoder::default(),
        running: Vec::new(),
        dir: PathBuf::new(),
        draining: false,
        steps: 0,
    };
    let result = worker.run();
    eprintln!("goodbye: {result:?}");
    std::process::exit(i32::from(result.is_err()));
}

/// The tokens of a text.
pub(crate) fn tokens(text: &str) -> Vec<TokenId> {
    text.bytes().map(|byte| TokenId(byte.into())).collect()
}

struct Worker {
    scenario: String,
    socket: UnixStream,
    decoder: Decoder,
    running: Vec<Running>,
    dir: PathBuf,
    draining: bool,
    /// As its heartbeats count them.
    steps: u64,
}

struct Running {
    generate: Box<Generate>,
    prompt: String,
    sent: u32,
    cancelled: bool,
}

impl Running {
    /// It is forgotten, by the first worker that has it.
    fn is_mute(&self) -> bool {
        let first = self.generate.generated.is_empty();
        self.prompt == "!mute-once" && first && self.sent == BEFORE_FAULT
    }
}

impl Worker {
    fn run(&mut self) -> io::Result<()> {
        let protocol = if self.scenario == "version" { 9999 } else { PROTOCOL_VERSION };
        self.say(&FromWorker::Hello { protocol, pid: std::process::id() })?;
        self.socket.set_read_timeout(Some(STEP))?;
        while !(self.draining && self.running.is_empty()) {
            if !self.listen()? {
                return Ok(());
            }
            self.step()?;
        }
        Ok(())
    }

    fn say(&mut self, message: &FromWorker) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::encode(message, &mut bytes).map_err(io::Error::other)?;
        self.socket.write_all(&bytes)
    }

    /// Hears what there is to hear; false at end of file.
    fn listen(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        match self.socket.read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(count) => self.decoder.push(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while let Some(message) = self.decoder.next().map_err(io::Error::other)? {
            self.heed(message)?;
        }
        Ok(true)
    }

    fn heed(&mut self, message: ToWorker) -> io::Result<()> {
        match message {
            ToWorker::Load(load) => {
                self.dir = load.engine_dir;
                self.load()
            }
            ToWorker::Prepare { id, prompt, .. } => self.prepare(id, &prompt),
            ToWorker::Generate(generate) => self.generate(generate),
            ToWorker::Cancel { .. } if self.scenario == "never-cancels" => {
                std::fs::write(self.dir.join("a-cancellation-was-seen"), "")
            }
            ToWorker::Cancel { id } => {
                let running = self.running.iter_mut().find(|running| running.generate.id == id);
                running.map_or(Ok(()), |running| {
                    running.cancelled = true;
                    Ok(())
                })
            }
            ToWorker::Limits(_)
            | ToWorker::Backends
            | ToWorker::Embed(_)
            | ToWorker::Forget { .. } => Ok(()),
            ToWorker::Drain => {
                self.draining = true;
                Ok(())
            }
        }
    }

    fn load(&mut self) -> io::Result<()> {
        match self.scenario.as_str() {
            "hang" => Ok(()),
            "refuse" | "refuse-the-first-build" if self.is_first_build()? => {
                let reason = "the file is not a GGUF".to_owned();
                self.say(&FromWorker::LoadFailed { reason })?;
                std::process::exit(1)
            }
            _ => {
                self.say(&FromWorker::Loading { fraction: 0.5 })?;
                self.say(&FromWorker::Ready(Box::new(ready())))?;
                self.say(&FromWorker::Heartbeat(Box::<Heartbeat>::default()))
            }
        }
    }

    fn is_first_build(&self) -> io::Result<bool> {
        let manifest = std::fs::read_to_string(self.dir.join("engine.toml"))?;
        Ok(manifest.contains("built_at = 0"))
    }

    fn prepare(&mut self, id: RequestId, prompt: &Prompt) -> io::Result<()> {
        let seen = self.dir.join("a-prompt-was-seen");
        let first = !seen.exists();
        std::fs::write(&seen, "")?;
        match self.scenario.as_str() {
            "dies-at-every-prompt" => std::process::exit(4),
            "dies-at-the-first-prompt" if first => std::process::exit(4),
            _ => {}
        }
        let Prompt::Text { text, .. } = prompt else { return Ok(()) };
        self.say(&FromWorker::Prepared { id, tokens: tokens(text), form: Box::default() })
    }

    fn generate(&mut self, generate: Box<Generate>) -> io::Result<()> {
        let bytes = generate.prompt.iter().filter_map(|token| u8::try_from(token.0).ok());
        let prompt = String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned();
        self.say(&FromWorker::Started {
            id: generate.id,
            prompt_tokens: u32::try_from(generate.prompt.len()).unwrap(),
            cached_tokens: Some(0),
        })?;
        let sent = u32::try_from(generate.generated.len()).unwrap();
        self.running.push(Running { generate, prompt, sent, cancelled: false });
        Ok(())
    }

    /// One token for each running request, or its end, or a fault.
    fn step(&mut self) -> io::Result<()> {
        let mut running = std::mem::take(&mut self.running);
        let mut goes_on = Vec::new();
        for mut request in running.drain(..) {
            if request.sent == BEFORE_FAULT {
                self.fault(&request)?;
            }
            if request.is_mute() {
                self.seem_to_work()?;
                goes_on.push(request);
                continue;
            }
            let id = request.generate.id;
            let finished = request.sent == request.generate.max_tokens;
            if finished || request.cancelled {
                let reason = match request.cancelled {
                    true => FinishReason::Cancelled,
                    false => FinishReason::Length,
                };
                let usage = Usage { completion_tokens: request.sent, ..Usage::default() };
                self.say(&FromWorker::Done {
                    id,
                    reason,
                    rest: String::new(),
                    usage,
                    timings: Timings::default(),
                })?;
                continue;
            }
            let token = Token { id: TokenId(120), logprobs: None };
            self.say(&FromWorker::Tokens { id, tokens: vec![token], text: "x".to_owned() })?;
            request.sent += 1;
            goes_on.push(request);
        }
        self.running = goes_on;
        Ok(())
    }

    /// Steps go on, and nobody gets anything.
    fn seem_to_work(&mut self) -> io::Result<()> {
        std::thread::sleep(HEARTBEAT_PERIOD);
        self.steps += 10;
        let heartbeat = Heartbeat { steps: self.steps, decoding: 1, ..Heartbeat::default() };
        self.say(&FromWorker::Heartbeat(Box::new(heartbeat)))
    }

    fn fault(&mut self, request: &Running) -> io::Result<()> {
        match request.prompt.as_str() {
            "!exit-once" if !request.generate.generated.is_empty() => Ok(()),
            "!exit" | "!exit-once" => {
                eprintln!("goodbye");
                std::process::exit(3)
            }
            "!garbage" => self.socket.write_all(&[0xFF; 64]),
            "!stranger" => {
                let reason = "of nobody".to_owned();
                self.say(&FromWorker::Failed { id: RequestId(u64::MAX), reason })
            }
            _ => Ok(()),
        }
    }
}

fn ready() -> Ready {
    Ready {
        context: 4096,
        vocabulary: 256,
        max_sequences: 8,
        backend: "fake".to_owned(),
        device: "nothing".to_owned(),
        model: ModelFacts::default(),
        load_ms: 1,
        largest_step: 512,
        reproducible: true,
        chat: true,
        infill: false,
        chat_template: String::new(),
    }
}
