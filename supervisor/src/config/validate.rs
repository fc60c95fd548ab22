//! From the configuration as written to [`Settings`]: ranges, names and
//! addresses. The only place that checks a value.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine_api::frame::MAX_BODY;

use crate::api;
use crate::governor::NoProfile;
use crate::index::sources::{GitUrl, Origin};
use crate::index::{MOST_REPOSITORIES, NewRepository, SourceBounds, naming};

use super::raw::{self, Raw};
use super::{
    Admission, Embedding, Engine, EngineId, Governor, GpuClock, Index, Memory, Server, Settings,
    StateDir, Store, Telemetry,
};

/// A value that no type on paper could refuse.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) key: &'static str,
    pub(super) problem: String,
}

/// Longest body that is sure to fit a frame as a prompt.
const MAX_BODY_BYTES: u64 = MAX_BODY as u64 - 64 * 1024;
/// Longest time that any of the timeouts may be, in seconds: a day.
const DAY_S: u64 = 86_400;
const GIB: u64 = 1024 * 1024 * 1024;

pub(super) fn validate(raw: Raw) -> Result<Settings, Invalid> {
    Ok(Settings {
        state_dir: StateDir::new(absolute("state_dir", raw.state_dir)?),
        root: absolute("root", raw.root)?,
        server: server(raw.server)?,
        engine: engine(raw.engine)?,
        embedding: Embedding {
            model: raw
                .embedding
                .model
                .map(|name| engine_id("embedding.model", &name))
                .transpose()?,
        },
        admission: Admission {
            queue: count("admission.queue", raw.admission.queue, 0, 4096)?,
            wait: seconds("admission.wait_s", raw.admission.wait_s)?,
            prepare_wait: seconds("admission.prepare_wait_s", raw.admission.prepare_wait_s)?,
        },
        telemetry: Telemetry {
            period: Duration::from_millis(whole(
                "telemetry.period_ms",
                raw.telemetry.period_ms,
                100,
                60_000,
            )?),
        },
        governor: governor(&raw.governor)?,
        store: Store {
            requests: whole("store.requests", raw.store.requests, 0, 10_000_000)?,
            incidents: whole("store.incidents", raw.store.incidents, 20, 1_000_000)?,
            // Zero is a choice here: nothing is kept.
            answers_kept: Duration::from_secs(whole(
                "store.answers_kept_s",
                raw.store.answers_kept_s,
                0,
                DAY_S,
            )?),
            answers_bytes: whole("store.answers_bytes", raw.store.answers_bytes, 1 << 20, GIB)?,
        },
        index: Index {
            sources: sources(&raw.index)?,
            indexer: beside("index.indexer", raw.index.indexer, "indexer")?,
            period: seconds("index.period_s", raw.index.period_s)?,
        },
        memory: Memory {
            // Zero is a choice here: nothing is remembered.
            kept: Duration::from_secs(
                whole("memory.kept_days", raw.memory.kept_days, 0, 3650)? * DAY_S,
            ),
            bytes: whole("memory.bytes", raw.memory.bytes, 1 << 20, 64 * GIB)?,
            between_turns: raw.memory.between_turns,
        },
        repositories: repositories(raw.repository)?,
    })
}

fn sources(raw: &raw::Index) -> Result<SourceBounds, Invalid> {
    let (least, most) = (1 << 20, 1024 * GIB);
    Ok(SourceBounds {
        fetch_period: seconds("index.fetch_period_s", raw.fetch_period_s)?,
        bytes: whole("index.source_bytes", raw.source_bytes, least, most)?,
        uploads_bytes: whole("index.uploads_bytes", raw.uploads_bytes, least, most)?,
        // Zero is a choice here: they stay.
        uploads_kept: Duration::from_secs(
            whole("index.uploads_kept_days", raw.uploads_kept_days, 0, 3650)? * DAY_S,
        ),
    })
}

fn server(raw: raw::Server) -> Result<Server, Invalid> {
    let max_body_bytes = count("server.max_body_bytes", raw.max_body_bytes, 1024, MAX_BODY_BYTES)?;
    let least = max_body_bytes as u64;
    Ok(Server {
        listen: address("server.listen", &raw.listen)?,
        http: api::Settings {
            max_connections: count("server.max_connections", raw.max_connections, 1, 1_000_000)?,
            max_body_bytes,
            max_bodies_bytes: count("server.max_bodies_bytes", raw.max_bodies_bytes, least, GIB)?,
            header_timeout: seconds("server.header_timeout_s", raw.header_timeout_s)?,
            body_timeout: seconds("server.body_timeout_s", raw.body_timeout_s)?,
            idle_timeout: seconds("server.idle_timeout_s", raw.idle_timeout_s)?,
            stall_timeout: seconds("server.stall_timeout_s", raw.stall_timeout_s)?,
            drain_timeout: seconds("server.drain_timeout_s", raw.drain_timeout_s)?,
            hosts: raw.hosts,
            origins: origins("server.origins", raw.origins)?,
            // Who serves knows the state directory, and what is remembered.
            keys: None,
            between_turns: false,
        },
    })
}

fn governor(raw: &raw::Governor) -> Result<Governor, Invalid> {
    let profile = raw.profile.parse().map_err(|error: NoProfile| Invalid {
        key: "governor.profile",
        problem: error.to_string(),
    })?;
    let gpu_clock = match &raw.gpu_clock {
        raw::Switch::Is(true) => GpuClock::Cap,
        raw::Switch::Is(false) => GpuClock::Leave,
        raw::Switch::Word(word) if word == "auto" => GpuClock::Auto,
        raw::Switch::Word(other) => {
            let problem = format!("expected true, false or \"auto\", found \"{other}\"");
            return Err(Invalid { key: "governor.gpu_clock", problem });
        }
    };
    Ok(Governor { profile, gpu_clock })
}

fn engine(raw: raw::Engine) -> Result<Engine, Invalid> {
    let threads = raw.threads.map(|threads| small("engine.threads", threads, 1, 1024));
    let part = |tokens| small("engine.max_batch_tokens", tokens, 1, u16::MAX);
    Ok(Engine {
        model: raw.model.map(|name| engine_id("engine.model", &name)).transpose()?,
        worker: beside("engine.worker", raw.worker, "engine-worker")?,
        threads: threads.transpose()?,
        max_batch_tokens: raw.max_batch_tokens.map(part).transpose()?,
        reproducible: raw.reproducible,
        load_timeout: seconds("engine.load_timeout_s", raw.load_timeout_s)?,
    })
}

fn whole(key: &'static str, value: u64, least: u64, most: u64) -> Result<u64, Invalid> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let problem = format!("expected a whole number from {least} to {most}, found {value}");
    Err(Invalid { key, problem })
}

fn count(key: &'static str, value: u64, least: u64, most: u64) -> Result<usize, Invalid> {
    let value = whole(key, value, least, most)?;
    Ok(usize::try_from(value).expect("every bound fits a usize"))
}

fn small(key: &'static str, value: u64, least: u16, most: u16) -> Result<u16, Invalid> {
    let value = whole(key, value, least.into(), most.into())?;
    Ok(u16::try_from(value).expect("the bound is a u16"))
}

fn seconds(key: &'static str, value: u64) -> Result<Duration, Invalid> {
    whole(key, value, 1, DAY_S).map(Duration::from_secs)
}

fn address(key: &'static str, text: &str) -> Result<SocketAddr, Invalid> {
    text.parse().map_err(|_| Invalid {
        key,
        problem: format!(
            "expected an address and a port such as 127.0.0.1:11434, found \"{text}\""
        ),
    })
}

/// `https://name` or `http://name:port`.
fn origins(key: &'static str, origins: Vec<String>) -> Result<Vec<String>, Invalid> {
    let good = |origin: &str| {
        let name = origin.split_once("://").map(|(_, name)| name);
        name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
    };
    match origins.iter().find(|origin| !good(origin)) {
        None => Ok(origins),
        Some(bad) => {
            let problem = format!("expected origins such as https://chat.example, found \"{bad}\"");
            Err(Invalid { key, problem })
        }
    }
}

fn engine_id(key: &'static str, name: &str) -> Result<EngineId, Invalid> {
    EngineId::new(name).ok_or_else(|| Invalid {
        key,
        problem: format!(
            "expected an engine's name (letters, digits, \".\", \"_\" and \"-\"), found \"{name}\""
        ),
    })
}

/// Relative paths mean the directory that the program was started in.
fn absolute(key: &'static str, path: PathBuf) -> Result<PathBuf, Invalid> {
    std::path::absolute(&path)
        .map_err(|_| Invalid { key, problem: "expected a path, found nothing".to_owned() })
}

/// A program of ours: beside our own executable, unless told otherwise.
fn beside(key: &'static str, given: Option<PathBuf>, name: &str) -> Result<PathBuf, Invalid> {
    if let Some(path) = given {
        return absolute(key, path);
    }
    let beside = std::env::current_exe().ok().and_then(|own| {
        let own = own.canonicalize().unwrap_or(own);
        Some(own.parent()?.join(name))
    });
    beside.ok_or_else(|| Invalid {
        key,
        problem: "cannot tell where this program lies; give the other's path".to_owned(),
    })
}

fn repositories(raw: Vec<raw::Repository>) -> Result<Vec<NewRepository>, Invalid> {
    let invalid = |problem: String| Err(Invalid { key: "repository", problem });
    if raw.len() > MOST_REPOSITORIES {
        return invalid(format!("there are {}, and {MOST_REPOSITORIES} is the limit", raw.len()));
    }
    let mut repositories: Vec<NewRepository> = Vec::new();
    for raw::Repository { path, url, name, owner } in raw {
        let origin = match (path, url) {
            (Some(path), None) => Origin::Path(absolute("repository", path)?),
            (None, Some(url)) => match GitUrl::parse(&url) {
                Ok(url) => Origin::Url(url),
                // What it says may have a password in it.
                Err(wrong) => return invalid(format!("a `url` {wrong}")),
            },
            (None, None) | (Some(_), Some(_)) => {
                return invalid("each has either a `path` or a `url`".to_owned());
            }
        };
        let own = match &origin {
            Origin::Url(url) => Path::new(url.own_name()),
            Origin::Path(path) => path,
            Origin::Upload => Path::new(""),
        };
        let name = match naming::of(name.as_deref(), own) {
            Ok(name) => name,
            Err(problem) => return invalid(format!("{origin}: {problem}")),
        };
        let owner = match owner.as_deref().map(naming::owner) {
            None => None,
            Some(Some(owner)) => Some(owner),
            Some(None) => {
                return invalid(format!(
                    "{name}: expected for owner the first 16 digits of the key's SHA-256"
                ));
            }
        };
        if repositories.iter().any(|other| other.name == name) {
            return invalid(format!("two are named {name}; give one of them a `name`"));
        }
        repositories.push(NewRepository { name, origin, owner });
    }
    Ok(repositories)
}
