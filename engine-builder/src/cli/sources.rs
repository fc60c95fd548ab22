//! Where files come from, on the command line of `fetch` and of `build`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::error::Error;
use crate::fetch;
use crate::fetch::brought::Brought;
use crate::fetch::hub::{self, Base, Hub, Token};

#[derive(Debug, Args)]
pub(super) struct Sources {
    /// Take files from this directory and from nowhere else; `fetch --list` shows its layout
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Use no network; what is missing is named
    #[arg(long)]
    offline: bool,
    /// The hub's address, and those of mirrors, in the order in which they are asked
    #[arg(
        long, env = "STOKER_HUB", default_value = hub::DEFAULT, value_delimiter = ',',
        value_name = "URL"
    )]
    hub: Vec<String>,
    /// A file with the hub's token that nobody else can read [default: systemd's credential hub-token]
    #[arg(long, env = "STOKER_HUB_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Give a connection to the hub up after so many seconds of silence
    #[arg(
        long, env = "STOKER_HUB_TIMEOUT_S", default_value = "30", value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    hub_timeout: u64,
}

impl Sources {
    /// Opens the directory, reads the token and checks the addresses.
    pub(super) fn open(&self) -> Result<fetch::Sources, Error> {
        let from = self.from.as_deref().map(Brought::open).transpose()?;
        let hub = if self.offline || from.is_some() { None } else { Some(self.hub()?) };
        Ok(fetch::Sources { from, hub })
    }

    fn hub(&self) -> Result<Hub, Error> {
        let base = |text: &String| {
            // The address may hold a password, and is then not repeated.
            Base::parse(text.trim())
                .map_err(|why| Error::Usage(format!("the address for --hub {why}")))
        };
        let bases = self.hub.iter().map(base).collect::<Result<Vec<_>, _>>()?;
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let token = Token::find(self.token_file.as_deref(), credentials.as_deref())
            .map_err(|source| Error::Token { source })?;
        Ok(Hub { bases, token, patience: Duration::from_secs(self.hub_timeout) })
    }
}
