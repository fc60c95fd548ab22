//! What `stoker` can be told on its command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use supervisor::config::{self, Flags, Settings};
use supervisor::console::{self, Format};
use supervisor::health;

#[derive(Debug, Parser)]
#[command(
    name = "stoker",
    version,
    about = "Runs an LLM engine under watchdog control and serves it over HTTP"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
    /// Install a newer version from a signed file, on trial until it is well.
    ///
    /// Leaves with 0 when it is installed and well, with 5 when it was not and the
    /// version before is there again, with 1 when nothing was begun.
    Update(Update),
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
    /// Show a token with which the first visitor from the network claims this machine.
    ///
    /// It stands on the consoles and above each login there, and nowhere else. It is
    /// good once, until it is called again. Until then the network is let in no further
    /// than the status page. Nothing is shown where there are keys, or were.
    Claim(Place),
    /// Have swap in a file, if the system is on an NVMe disk with room for it.
    ///
    /// It is made once, with half of the memory's size but 4 to 8 GiB, and used from each
    /// boot on. Cards and soldered memory get none, nor a machine that has other swap.
    Swap(Machine),
    /// Have the root file system, or the one that two systems share, take all of its disk, if
    /// its partition is the last one.
    Grow(Machine),
    /// What RAUC asks and tells the firmware through. For its own use.
    #[command(hide = true)]
    Slots(Slots),
    /// Become another program that ends with its parent. For this program's own use.
    #[command(hide = true)]
    Tied(Tied),
}

#[derive(Debug, Args)]
pub(crate) struct Tied {
    pub(crate) parent: u32,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) program: Vec<OsString>,
}

/// Where a command finds settings, state and the machine.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Read this file in place of those in /usr/lib/stoker and /etc/stoker.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where engines and the database live.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Read the machine's files below this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

impl Place {
    /// The settings of this place.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        let Self { config, state_dir, root } = self;
        let flags = Flags { config, state_dir, root, listen: None };
        Ok(config::load(&flags, std::env::vars())?)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Machine {
    /// The machine's files are below this directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Address and port to serve on.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// For people, or as the server sends it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// The server to ask.
    #[arg(long, default_value = "http://127.0.0.1:11434", env = "STOKER_URL")]
    pub(crate) url: String,
    /// Show it again every two seconds, until Ctrl-C.
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    #[command(flatten)]
    pub(crate) place: Place,
    /// How long the server may take to be well.
    #[arg(long, value_name = "SECONDS", default_value_t = health::PATIENCE.as_secs())]
    pub(crate) patience_s: u64,
    /// Only take note that the machine is being shut down in order.
    #[arg(long)]
    pub(crate) shut_down: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FirstBoot {
    /// Set the machine whose files are below this directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Look for stoker.toml here in place of the boot partition and the stick. May
    /// be given again.
    #[arg(long, value_name = "DIR")]
    pub(crate) medium: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Update {
    #[command(subcommand)]
    pub(crate) action: Option<UpdateAction>,
    /// The update, as scripts/make-update or scripts/make-system-update makes it.
    #[arg(required = true)]
    pub(crate) file: Option<PathBuf>,
    /// Only look whether it is signed, whole and for this machine.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// For people, or for programs: one document at the end.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) place: Place,
    /// How long the new version may take to be well, from each start on.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) patience_s: u64,
    /// How long it has to stay so.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) steady_s: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UpdateAction {
    /// Show how far the last update is, or how it ended.
    Status {
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// Look at the machine whose files are below this directory.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Bring an update to its end. stoker-update.service does it.
    #[command(hide = true)]
    Keep {
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Slots {
    #[command(subcommand)]
    pub(crate) request: SlotsRequest,
    /// Look at the machine whose files are below this directory.
    #[arg(long, value_name = "DIR", default_value = "/", global = true)]
    pub(crate) root: PathBuf,
}

/// In RAUC's words.
#[derive(Debug, Subcommand)]
pub(crate) enum SlotsRequest {
    GetPrimary,
    SetPrimary {
        slot: char,
    },
    GetState {
        slot: char,
    },
    SetState {
        slot: char,
        state: SlotState,
    },
    /// Become RAUC's service.
    Serve,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SlotState {
    Good,
    Bad,
}

#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The server to ask.
    #[arg(long, default_value = "http://127.0.0.1:11434", env = "STOKER_URL")]
    pub(crate) url: String,
    /// The API key whose repositories are meant, beside those that are shared.
    #[arg(long, env = "STOKER_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Index {
    #[command(subcommand)]
    pub(crate) action: IndexAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IndexAction {
    /// Index a directory of the server's machine, or a git URL, and keep up with it.
    Add {
        #[arg(value_name = "PATH|URL")]
        source: String,
        /// What it is called; the directory's or the URL's name, if left out.
        #[arg(long)]
        name: Option<String>,
        /// Everybody may search it; else only who sends the same key.
        #[arg(long)]
        shared: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Send a directory of this machine, and index it on the server's, in the place of
    /// what was sent under that name before.
    ///
    /// What git ignores or .stokerignore names stays here, and so do links and files
    /// over 1 MB.
    Upload {
        name: String,
        directory: PathBuf,
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
    /// Show the definitions that most of a repository rests on.
    Map {
        name: String,
        /// How many tokens of a model it may take, about.
        #[arg(long, default_value_t = 1024)]
        tokens: u32,
        /// Files whose path begins with this are worked at: what they use matters most.
        #[arg(long, value_name = "PATH")]
        focus: Option<String>,
        /// For people, or for programs.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
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
pub(crate) struct Search {
    /// Words, or names as they stand in the code.
    #[arg(required = true)]
    pub(crate) query: Vec<String>,
    /// Only in this repository; may be given several times.
    #[arg(long = "repository", value_name = "NAME")]
    pub(crate) repositories: Vec<String>,
    /// Only in this language, such as rust; may be given several times.
    #[arg(long = "language", value_name = "NAME")]
    pub(crate) languages: Vec<String>,
    /// Only files whose path begins with this, or fits this pattern of `*` and `?`.
    #[arg(long)]
    pub(crate) path: Option<String>,
    /// Hits at most.
    #[arg(long, default_value_t = 5)]
    pub(crate) limit: u32,
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Memory {
    #[command(subcommand)]
    pub(crate) action: MemoryAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemoryAction {
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
pub(crate) struct Key {
    #[command(subcommand)]
    pub(crate) action: KeyAction,
    /// Read this file in place of those in /usr/lib/stoker and /etc/stoker.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Where engines and the database live.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state_dir: Option<PathBuf>,
}

/// What a key's chats have without asking for it.
#[derive(Debug, Args)]
pub(crate) struct Chats {
    /// Its chats get code from these repositories; `*` is all that it may see.
    #[arg(long, value_name = "REPOSITORY", num_args = 1..)]
    code: Vec<String>,
    /// Its conversations may outgrow the window.
    #[arg(long)]
    memory: bool,
}

impl From<Chats> for supervisor::keys::Chats {
    fn from(Chats { code, memory }: Chats) -> Self {
        Self { code, memory }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyAction {
    /// Make a key and show it, once.
    Add {
        /// What stands for it in the history and the log.
        name: String,
        /// Take the key from standard input; it must be long and random.
        #[arg(long)]
        stdin: bool,
        #[command(flatten)]
        chats: Chats,
    },
    /// Set what a key's chats have without asking for it; nothing, if nothing is given.
    Chats {
        name: String,
        #[command(flatten)]
        chats: Chats,
    },
    /// Show what keys are called.
    List,
    /// Forget a key; it opens nothing from then on.
    Remove { name: String },
    /// Forget all keys, and ask nobody any more.
    Open,
}

impl Server {
    /// The server as the console asks it.
    pub(crate) fn asked(&self) -> console::code::Server<'_> {
        console::code::Server { url: &self.url, key: self.key.as_deref() }
    }
}
