//! `stoker`: runs an engine under watchdog control and serves it.
//!
//! Arguments → configuration → journal → what an earlier one left → listener →
//! supervisor and HTTP → signals → drain → exit.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{ArgGroup, Args, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use supervisor::config::{self, Flags, Settings};
use supervisor::console::code::Sought;
use supervisor::console::{self, Format};
use supervisor::ending::Ending;
use supervisor::firstboot::Outcome;
use supervisor::listener::ListenError;
use supervisor::systemd::keeper::{self, Inherited, Keeper};
use supervisor::{api, doctor, firstboot, health, journal, listener, systemd};
use tokio::time::timeout;

/// How long the last bytes of answers may take to leave after the engine ended.
const LAST_BYTES: Duration = Duration::from_secs(5);

#[derive(Debug, Parser)]
#[command(
    name = "stoker",
    version,
    about = "Runs an LLM engine under watchdog control and serves it over HTTP"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the engine and serve it until SIGTERM.
    Serve(Serve),
    /// Show what a running server is doing.
    Status(Status),
    /// Look for what is wrong with this machine.
    ///
    /// Leaves with 0 when nothing is, with 3 for warnings and 4 for something
    /// serious; with 1 when it could not look. No server need run.
    Doctor(Doctor),
    /// Look whether this boot went well, and have the firmware know.
    ///
    /// Leaves with 0 when all is well; 3 when something is not, and the boot is good
    /// nevertheless; 4 when it could not be marked as good; 5 when a new system is
    /// ill and the machine goes back to the one before. On a PC nobody counts boots,
    /// and it only looks.
    Health(Health),
    /// Take this machine's settings from stoker.toml on the boot partition or a
    /// stick, once.
    ///
    /// Leaves with 0 when it was taken or there is none; 3 when something in it is
    /// wrong, and nothing was changed.
    Firstboot(FirstBoot),
    /// Add, show and forget repositories of code.
    Index(Index),
    /// Search the code in them.
    Search(Search),
    /// Show, take away and forget what is remembered of chats.
    Memory(Memory),
    /// Add, show and forget API keys.
    ///
    /// From the first key on everybody is asked for one. A running server notices;
    /// it need not be restarted. Takes the right to write the state directory.
    Key(Key),
}

#[derive(Debug, Args)]
struct Serve {
    /// Read this file in place of those in /usr/lib/stoker and /etc/stoker.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where engines and the database live.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Address and port to serve on.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Read the machine's files below this directory.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Status {
    /// For people, or as the server sends it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The server to ask.
    #[arg(long, default_value = "http://127.0.0.1:11434", env = "STOKER_URL")]
    url: String,
    /// Show it again every two seconds, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Args)]
struct Doctor {
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Read this file in place of those in /usr/lib/stoker and /etc/stoker.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where engines and the database live.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Look at the machine whose files are below this directory.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Health {
    /// Read this file in place of those in /usr/lib/stoker and /etc/stoker.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where engines and the database live.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Look at the machine whose files are below this directory.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// How long the server may take to be well.
    #[arg(long, value_name = "SECONDS", default_value_t = health::PATIENCE.as_secs())]
    patience_s: u64,
}

#[derive(Debug, Args)]
struct FirstBoot {
    /// Set the machine whose files are below this directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Look for stoker.toml here in place of the boot partition and the stick. May
    /// be given again.
    #[arg(long, value_name = "DIR")]
    medium: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Server {
    /// The server to ask.
    #[arg(long, default_value = "http://127.0.0.1:11434", env = "STOKER_URL")]
    url: String,
    /// The API key whose repositories are meant, beside those that are shared.
    #[arg(long, env = "STOKER_KEY", hide_env_values = true)]
    key: Option<String>,
}

#[derive(Debug, Args)]
struct Index {
    #[command(subcommand)]
    action: IndexAction,
}

#[derive(Debug, Subcommand)]
enum IndexAction {
    /// Index a directory of the server's machine, and keep up with it.
    Add {
        path: PathBuf,
        /// What it is called; the directory's name, if left out.
        #[arg(long)]
        name: Option<String>,
        /// Everybody may search it; else only who sends the same key.
        #[arg(long)]
        shared: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Forget a repository, and all that was made of it.
    Remove {
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Show repositories and how far they are.
    Status {
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Args)]
struct Search {
    /// Words, or names as they stand in the code.
    #[arg(required = true)]
    query: Vec<String>,
    /// Only in this repository; may be given several times.
    #[arg(long = "repository", value_name = "NAME")]
    repositories: Vec<String>,
    /// Only in this language, such as rust; may be given several times.
    #[arg(long = "language", value_name = "NAME")]
    languages: Vec<String>,
    /// Only files whose path begins with this, or fits this pattern of `*` and `?`.
    #[arg(long)]
    path: Option<String>,
    /// Hits at most.
    #[arg(long, default_value_t = 5)]
    limit: u32,
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
struct Memory {
    #[command(subcommand)]
    action: MemoryAction,
}

#[derive(Debug, Subcommand)]
enum MemoryAction {
    /// Show the conversations of this key, or of this address.
    Show {
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        #[command(flatten)]
        server: Server,
    },
    /// Forget conversations: rows, words and passages.
    #[command(group(ArgGroup::new("what").required(true)))]
    Forget {
        /// The one that has this number.
        #[arg(group = "what")]
        conversation: Option<i64>,
        /// Everything of this key's chats, or of this address's.
        #[arg(long, group = "what")]
        all: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Write what is kept, one JSON document for each message.
    Export {
        /// Only the conversation that has this number.
        conversation: Option<i64>,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Debug, Args)]
struct Key {
    #[command(subcommand)]
    action: KeyAction,
    /// Read this file in place of those in /usr/lib/stoker and /etc/stoker.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where engines and the database live.
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// Make a key and show it, once.
    Add {
        /// What stands for it in the history and the log.
        name: String,
        /// Take the key from standard input; it must be long and random.
        #[arg(long)]
        stdin: bool,
    },
    /// Show what keys are called.
    List,
    /// Forget a key; it opens nothing from then on.
    Remove { name: String },
    /// Forget all keys, and ask nobody any more.
    Open,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve(arguments).map(|()| ExitCode::SUCCESS),
        Command::Status(arguments) => status(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Doctor(arguments) => look(arguments).map(ExitCode::from),
        Command::Health(arguments) => boot_health(arguments).map(ExitCode::from),
        Command::Firstboot(arguments) => first_boot(&arguments).map(ExitCode::from),
        Command::Index(arguments) => index(&arguments.action).map(|()| ExitCode::SUCCESS),
        Command::Search(arguments) => search(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Memory(arguments) => memory(&arguments.action).map(|()| ExitCode::SUCCESS),
        Command::Key(arguments) => key(arguments).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            // Nothing can be done about a stderr that is closed.
            let _ = writeln!(io::stderr(), "stoker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn status(Status { format, url, watch }: &Status) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if *watch {
        let clear = out.is_terminal();
        let never = console::watch(url, *format, clear, &mut out).context("watch the status")?;
        match never {}
    }
    console::status(url, *format, &mut out).context("ask for the status")
}

fn index(action: &IndexAction) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match action {
        IndexAction::Add { path, name, shared, server } => {
            console::code::add(server.asked(), path, name.as_deref(), *shared, &mut out)
                .context("add a repository")
        }
        IndexAction::Remove { name, server } => {
            console::code::remove(server.asked(), name, &mut out).context("forget a repository")
        }
        IndexAction::Status { format, server } => {
            console::code::index_status(server.asked(), *format, &mut out)
                .context("ask for the repositories")
        }
    }
}

fn search(arguments: &Search) -> anyhow::Result<()> {
    let Search { query, repositories, languages, path, limit, format, server } = arguments;
    let sought = Sought {
        query: &query.join(" "),
        repositories,
        languages,
        path: path.as_deref(),
        limit: *limit,
    };
    console::code::search(server.asked(), &sought, *format, &mut io::stdout().lock())
        .context("search")
}

fn memory(action: &MemoryAction) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match action {
        MemoryAction::Show { format, server } => {
            console::memory::show(server.asked(), *format, &mut out).context("ask for the memory")
        }
        // Either a number or all of it, says the group.
        MemoryAction::Forget { conversation, server, .. } => {
            console::memory::forget(server.asked(), *conversation, &mut out).context("forget")
        }
        MemoryAction::Export { conversation, server } => {
            console::memory::export(server.asked(), *conversation, &mut out)
                .context("ask for what is kept")
        }
    }
}

fn key(Key { action, config, state_dir }: Key) -> anyhow::Result<()> {
    let flags = Flags { config, state_dir, root: None, listen: None };
    let settings = config::load(&flags, std::env::vars())?;
    let state_dir = settings.state_dir.path();
    let mut out = io::stdout().lock();
    match action {
        KeyAction::Add { name, stdin } => {
            let brought = stdin.then(|| io::stdin().lock());
            console::key::add(state_dir, &name, brought, &mut out).context("add a key")
        }
        KeyAction::List => console::key::list(state_dir, &mut out).context("show the keys"),
        KeyAction::Remove { name } => {
            console::key::remove(state_dir, &name, &mut out).context("forget a key")
        }
        KeyAction::Open => console::key::open(state_dir, &mut out).context("forget all keys"),
    }
}

impl Server {
    fn asked(&self) -> console::code::Server<'_> {
        console::code::Server { url: &self.url, key: self.key.as_deref() }
    }
}

fn look(arguments: Doctor) -> anyhow::Result<u8> {
    let Doctor { format, config, state_dir, root } = arguments;
    let flags = Flags { config, state_dir, root, listen: None };
    let settings = config::load(&flags, std::env::vars())?;
    let (root, state_dir) = (&settings.root, settings.state_dir.path());
    doctor::doctor(root, state_dir, format, &mut io::stdout().lock())
        .context("print what was found")
}

fn boot_health(arguments: Health) -> anyhow::Result<u8> {
    let Health { config, state_dir, root, patience_s } = arguments;
    let flags = Flags { config, state_dir, root, listen: None };
    let settings = config::load(&flags, std::env::vars())?;
    let options = health::Options {
        host: health::nearest(settings.server.listen).to_string(),
        root: settings.root,
        state_dir: settings.state_dir.path().to_owned(),
        patience: Duration::from_secs(patience_s),
    };
    let ending = health::health(&options, &mut io::stdout().lock())?;
    Ok(ending.exit_code())
}

fn first_boot(FirstBoot { root, medium }: &FirstBoot) -> anyhow::Result<u8> {
    let root = jetpack::Root::new(root);
    let outcome = firstboot::first_boot(&root, medium, &mut io::stdout().lock())?;
    Ok(match outcome {
        Outcome::Nothing | Outcome::Taken => 0,
        Outcome::Refused => 3,
    })
}

fn serve(arguments: Serve) -> anyhow::Result<()> {
    let Serve { config, state_dir, listen, root } = arguments;
    let flags = Flags { config, state_dir, root, listen };
    let settings = config::load(&flags, std::env::vars())?;
    journal::start()?;
    raise_file_limit();
    make_state_dir(settings.state_dir.path())?;
    let keeper = Keeper::of_this_process();
    let mut inherited = keeper::inherit(keeper).map_err(ListenError::Inherited)?;
    let listener = listener::open(settings.server.listen, &mut inherited, keeper)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(run(settings, listener, inherited, keeper))
}

async fn run(
    settings: Settings,
    listener: TcpListener,
    inherited: Inherited,
    keeper: Keeper,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("ask for our own address")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("watch the listener")?;
    let (supervisor, handle, threads) =
        supervisor::supervisor::start(settings.clone(), inherited.workers, keeper)
            .context("start the threads")?;
    tokio::spawn(systemd::follow(handle.clone(), threads.telemetry.clone(), threads.store.clone()));
    let ending = Ending::new(handle.clone(), keeper, settings.server.http.drain_timeout);
    let answers = (!settings.store.answers_kept.is_zero()).then(|| threads.store.clone());
    let (memory, memory_thread) = threads.memory.unzip();
    let http = api::serve(
        listener,
        handle,
        threads.index,
        memory,
        answers,
        bounds(&settings),
        ending.closed(),
    );
    let mut http = tokio::spawn(ending.until_served(http));
    let interrupted = tokio::spawn(ending.heed_signals().context("listen for signals")?);
    systemd::ready();
    tracing::info!(%address, state_dir = %settings.state_dir.path().display(), "serving");

    let mut supervisor = pin!(supervisor.run());
    tokio::select! {
        () = &mut supervisor => {
            ending.close();
            match timeout(LAST_BYTES, &mut http).await {
                Ok(ended) => ended.context("end the HTTP side")?,
                Err(_) => tracing::warn!("clients that read too slowly were cut off"),
            }
        }
        ended = &mut http => {
            if !ending.is_closed() {
                bail!("the HTTP side ended by itself: {ended:?}");
            }
            supervisor.await;
        }
    }
    threads.index_thread.close();
    if let Some(thread) = memory_thread {
        thread.close();
    }
    threads.store_thread.close();
    if interrupted.is_finished() {
        bail!("ended at once by a second signal");
    }
    tracing::info!("ended");
    Ok(())
}

/// The bounds of the HTTP side, and where its keys are. It ends after the engine, and then within
/// [`LAST_BYTES`].
fn bounds(settings: &Settings) -> api::Settings {
    let configured = &settings.server.http;
    let drain_timeout = configured.drain_timeout + LAST_BYTES;
    let keys = Some(settings.state_dir.path().to_owned());
    api::Settings { drain_timeout, keys, ..configured.clone() }
}

/// Each connection and each worker takes descriptors, and the usual soft limit
/// of 1024 is for programs that use `select`.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
}

fn make_state_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| {
        format!(
            "the state directory {} cannot be made; choose another with --state-dir or state_dir, \
             or create it for this user",
            path.display()
        )
    })
}
