//! The HTTP side: what editors, scripts and browsers talk to.
//!
//! ```text
//! server ─► access ─► gate ─► route ─► openai | ollama ─► wire (body → Job) ─► job ─► Handle
//!                                ├► embeddings ─► wire (body → Ask) ─────────────────────┘
//!                                │                                              │
//!                                └► pages, status, metrics        stream | collect ─► wire (→ bytes)
//! ```
//!
//! [`route`] is the table of everything that is served. A route reads its body
//! into a [`job::Job`], whatever the dialect; the answer is written by the
//! dialect's [`stream::Frames`], with calls of tools told apart by [`calls`]. A chat that wishes for
//! code or memory goes through [`adding`] before it is a job's prompt. What outlives a request is
//! what [`kept`] keeps of a streamed answer. Nothing here writes prompts or answers to the journal.

mod server;

mod access;
mod adding;
mod body;
mod claim;
mod cors;
mod gate;
mod identity;
mod keys;
mod paths;
mod receipts;
mod removed_keys;

mod code;
mod embeddings;
mod memory;
mod metrics;
mod ollama;
mod openai;
mod pages;
mod status;
mod upload;

mod calls;
mod collect;
mod deliver;
mod error;
mod facts;
mod job;
mod kept;
mod reply;
mod sse;
mod stream;
mod tally;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use tokio::net::TcpListener;
use tracing::{Instrument, Span, debug, info_span};

use crate::index::Index;
use crate::keys::Chats;
use crate::request::Client;
use crate::store::Store;
use crate::store::memory::Memory;
use crate::supervisor::Handle;
use adding::{Sources, between};
use body::Budget;
use claim::Guesses;
use error::Problem;
use gate::Gate;
use kept::Keeper;
use receipts::Receipts;
use removed_keys::Places;
use reply::Reply;
use upload::Seats;

/// The bounds of the HTTP side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Connections at once; further ones get a short 503.
    pub max_connections: usize,
    /// Longest body of one request.
    pub max_body_bytes: usize,
    /// Longest sum of all bodies that are being read or worked on.
    pub max_bodies_bytes: usize,
    /// From a request's first byte to the end of its head.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// From an answer to the next request on the same connection.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of its answer before it counts as gone.
    pub stall_timeout: Duration,
    /// How long running answers may take to end when we do.
    pub drain_timeout: Duration,
    /// Names of this server beside its addresses and local names.
    pub hosts: Vec<String>,
    /// Origins of web pages that may use this server, as `https://name`.
    pub origins: Vec<String>,
    /// The directory of the file of API keys; `None`: nobody is ever asked.
    pub keys: Option<PathBuf>,
    /// Conversations are made ready for their next turn while nobody has a request.
    pub between_turns: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_body_bytes: 8 * 1024 * 1024,
            max_bodies_bytes: 64 * 1024 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            hosts: Vec::new(),
            origins: Vec::new(),
            keys: None,
            between_turns: false,
        }
    }
}

/// Serves until `shutdown` resolves, then until running answers have ended.
/// Streamed answers are kept in `answers`, and what is remembered of chats in `memory`,
/// if there are any.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    index: Index,
    memory: Option<Memory>,
    answers: Option<Store>,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) {
    let settings = Arc::new(settings);
    let budget = Budget::new(settings.max_bodies_bytes);
    let keeper = Arc::new(Keeper::new(answers));
    let sources = Sources { index, memory, between: None, receipts: Receipts::default() };
    let (between, working) = between::begin(handle.clone(), sources.clone());
    let working = settings.between_turns.then(|| tokio::spawn(working));
    let sources = Sources { between: working.is_some().then_some(between), ..sources };
    let gate = Gate::new(settings.keys.clone());
    let forgetting = settings.keys.clone().map(|state_dir| {
        let (handle, sources, keeper) = (handle.clone(), sources.clone(), Arc::clone(&keeper));
        tokio::spawn(removed_keys::follow(state_dir, Places { handle, sources, keeper }))
    });
    let shared = Arc::new(Shared {
        handle,
        sources,
        settings: Arc::clone(&settings),
        budget,
        keeper,
        gate,
        guesses: Guesses::default(),
        uploads: Seats::default(),
    });
    let service = move |peer, request| answer(Arc::clone(&shared), peer, request);
    server::run(listener, settings, service, shutdown).await;
    for task in [working, forgetting].into_iter().flatten() {
        task.abort();
    }
}

/// The last event of a stream that a client has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// What all requests share.
struct Shared {
    handle: Handle,
    sources: Sources,
    settings: Arc<Settings>,
    budget: Budget,
    keeper: Arc<Keeper>,
    gate: Gate,
    /// Tokens that were sent to claim the machine.
    guesses: Guesses,
    /// Uploads that are being received.
    uploads: Seats,
}

/// Who asks, and what the answer needs.
struct Caller {
    handle: Handle,
    /// What can be added to a chat from.
    sources: Sources,
    client: Client,
    /// It asks from this machine, and for nobody else.
    is_local: bool,
    /// It has no key where one is asked for, and gets what everybody may have.
    is_stranger: bool,
    span: Span,
    keeper: Arc<Keeper>,
    /// The request can wait for everybody else's.
    bulk: bool,
    /// What it calls its conversation.
    conversation: Option<String>,
    /// What its key's chats have without asking for it.
    chats: Chats,
}

/// One request, from its head to its response.
async fn answer(
    shared: Arc<Shared>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Reply> {
    let asked = shared.gate.ask(request.headers(), peer.ip());
    let is_local = identity::is_local(request.headers(), peer.ip());
    let path = paths::plain(request.uri().path()).into_owned();
    let (client, method) = (&asked.client, request.method());
    let span = info_span!("request", %client, %method, path = paths::shown(&path));
    let arrived = Instant::now();
    let dialect = paths::dialect(&path);
    let admitted = access::check(request.headers(), request.uri(), &shared.settings);
    let answered = async {
        let origin = admitted?;
        let keeper = Arc::clone(&shared.keeper);
        let (handle, sources) = (shared.handle.clone(), shared.sources.clone());
        let bulk = identity::is_bulk(request.headers())?;
        let conversation = identity::conversation(request.headers())?;
        let span = Span::current();
        let is_stranger = asked.is_stranger();
        let entered = asked.may_have(request.method(), &path);
        let (client, chats) = (asked.client, asked.chats);
        let caller = Caller {
            handle,
            sources,
            client,
            is_local,
            is_stranger,
            span,
            keeper,
            bulk,
            conversation,
            chats,
        };
        let routed = match entered {
            Ok(()) => route(&shared, caller, peer.ip(), &path, request).await,
            Err(problem) => Err(problem),
        };
        let mut response = routed.unwrap_or_else(|problem| reply::problem(&problem, dialect));
        if let Some(origin) = origin.filter(|_| paths::is_public(&path)) {
            cors::allow(&mut response, origin);
        }
        let (status, ms) = (response.status().as_u16(), arrived.elapsed().as_millis());
        debug!(status, ms, "answered");
        Ok(response)
    };
    let answered: Result<_, Problem> = answered.instrument(span).await;
    answered.unwrap_or_else(|problem| reply::problem(&problem, dialect))
}

/// Everything that is served.
async fn route(
    shared: &Shared,
    caller: Caller,
    peer: IpAddr,
    path: &str,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Problem> {
    let snapshot = || shared.handle.snapshot();
    let (head, incoming) = request.into_parts();
    let read = |incoming| body::read(&head.headers, incoming, &shared.settings, &shared.budget);
    // A HEAD is a GET whose body hyper leaves out.
    let last_event = head.headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    let method = if head.method == Method::HEAD { &Method::GET } else { &head.method };
    match (method.as_str(), path) {
        ("GET", "/") => Ok(pages::front(&head.headers)),
        ("GET", "/assets/page.css") => Ok(pages::style()),
        ("GET", "/assets/page.js") => Ok(pages::script()),
        ("GET", "/assets/build.js") => Ok(pages::build_script()),
        ("GET", "/assets/code.js") => Ok(pages::code_script()),
        ("GET", "/assets/chats.js") => Ok(pages::chats_script()),
        ("GET", "/assets/claim.js") => Ok(pages::claim_script()),

        ("POST", "/v1/chat/completions" | "/chat/completions") => {
            openai::generate(openai::Kind::Chat, caller, read(incoming).await?, last_event).await
        }
        ("POST", "/v1/completions" | "/completions") => {
            let body = read(incoming).await?;
            openai::generate(openai::Kind::Completion, caller, body, last_event).await
        }
        ("POST", "/v1/embeddings" | "/embeddings") => {
            embeddings::openai(caller, read(incoming).await?).await
        }
        // Not a HEAD: it would begin a stream that nobody reads.
        ("GET", path) if head.method == Method::GET && paths::streamed_again(path).is_some() => {
            let id = paths::streamed_again(path).unwrap_or_default();
            openai::stream_again(caller, id, last_event).await
        }
        ("GET", "/v1/models" | "/models") => Ok(openai::models(&snapshot())),
        ("GET", path) if path.starts_with(paths::MODEL) => {
            openai::one_model(&snapshot(), &path[paths::MODEL.len()..])
        }

        ("GET", "/api/version") => Ok(ollama::version()),
        ("GET", "/api/tags") => Ok(ollama::tags(&snapshot())),
        ("GET", "/api/ps") => Ok(ollama::processes(&snapshot())),
        ("POST", "/api/show") => ollama::show(&snapshot(), &read(incoming).await?.bytes),
        ("POST", "/api/chat") => {
            ollama::generate(ollama::Kind::Chat, caller, read(incoming).await?).await
        }
        ("POST", "/api/generate") => {
            ollama::generate(ollama::Kind::Generate, caller, read(incoming).await?).await
        }

        ("POST", "/api/embed") => embeddings::ollama(caller, read(incoming).await?).await,
        ("POST", "/api/embeddings") => embeddings::old_ollama(caller, read(incoming).await?).await,

        ("POST", "/v1/search") => {
            code::search(&shared.sources.index, &caller, read(incoming).await?).await
        }
        ("GET", paths::REPOSITORIES) => {
            Ok(code::repositories(&shared.sources.index, &caller).await)
        }
        ("POST", paths::REPOSITORIES) => {
            code::add(&shared.sources.index, &caller, read(incoming).await?).await
        }
        ("GET", path) if paths::map(path).is_some() => {
            let name = paths::map(path).unwrap_or_default();
            code::map(&shared.sources.index, &caller, name, head.uri.query()).await
        }
        ("DELETE", path) if paths::repository(path).is_some() => {
            let name = paths::repository(path).unwrap_or_default();
            let Sources { index, memory, .. } = &shared.sources;
            code::remove(index, memory.as_ref(), &caller, name).await
        }

        ("PUT", path) if paths::contents(path).is_some() => {
            let name = paths::contents(path).unwrap_or_default();
            let (index, seats) = (&shared.sources.index, &shared.uploads);
            code::upload(index, seats, &caller, name, &head, incoming).await
        }

        ("GET", paths::MEMORY) => memory::show(&caller).await,
        ("GET", paths::MEMORY_EXPORT) => memory::export(&caller, None).await,
        ("GET", path) if paths::conversation(path).is_some() => {
            memory::export(&caller, paths::conversation(path)).await
        }
        ("DELETE", paths::MEMORY) => memory::forget(&caller, None).await,
        ("DELETE", path) if paths::conversation(path).is_some() => {
            memory::forget(&caller, paths::conversation(path)).await
        }

        ("GET", "/health" | "/v1/health") => Ok(status::health(&snapshot())),
        ("GET", "/ready") => Ok(status::ready(&snapshot())),
        ("GET", "/props") => status::props(&snapshot()),
        ("GET", "/metrics") => Ok(metrics::metrics(&snapshot())),
        ("GET", "/api/status") => Ok(status::status(shared, caller.is_stranger).await),
        ("GET", "/api/history") => Ok(status::history(&shared.handle.history())),

        ("POST", paths::CLAIM) => {
            let body = read(incoming).await?;
            claim::claim(&shared.gate, &shared.guesses, peer, body).await
        }

        ("GET", paths::KEYS) => keys::list(&shared.gate, &caller).await,
        ("POST", paths::KEYS) => keys::add(&shared.gate, &caller, read(incoming).await?).await,
        ("DELETE", path) if paths::key(path).is_some() => {
            keys::remove(&shared.gate, &caller, paths::key(path).unwrap_or_default()).await
        }

        ("OPTIONS", _) => Ok(cors::preflight(&head.headers)),
        (_, path) => Ok(paths::not_served(path)),
    }
}

#[cfg(test)]
mod tests;
