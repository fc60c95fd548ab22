//! `engine-builder plan`: from its arguments to a plan on the screen.

use std::path::{Path, PathBuf};

use clap::Args;
use jetpack::Root;
use serde_json::json;

use super::{Common, MOST_USERS, Models, cache_dir};
use crate::catalogue::{Catalogue, Form};
use crate::embedder;
use crate::error::Error;
use crate::planning::{self, Backend, Board, EmbedderPlan, Places, Release, Setting, Wishes};
use crate::report::Report;

#[derive(Debug, Args)]
pub(super) struct Plan {
    /// A model of the catalogue or an embedder, by name or alias
    model: String,
    /// A board by name, or the directory of a captured one; by default this machine
    #[arg(long, value_name = "NAME|DIR")]
    board: Option<String>,
    /// A JetPack (6.2) or Jetson Linux (36.4.3) release; by default the board's own, or 6.2.2
    #[arg(long, value_name = "VERSION")]
    jetpack: Option<String>,
    /// Only this backend
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Only this form of the weights
    #[arg(long, value_enum)]
    form: Option<Form>,
    /// Tokens in one request's window, prompt and answer together
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    /// Requests answered at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MOST_USERS))]
    users: Option<u16>,
    /// Where fetched models are kept [default: ${XDG_CACHE_HOME:-~/.cache}/stoker]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Where the tools of the backends are installed
    #[arg(long, env = "STOKER_RUNTIMES_DIR", default_value = planning::RUNTIMES, value_name = "DIR")]
    runtimes_dir: PathBuf,
    #[command(flatten)]
    models: Models,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(order: &Plan, report: &Report) -> Result<(), Error> {
    let catalogue = Catalogue::with_dir(&order.models.models_dir)?;
    let embedder = embedder::find(&order.model);
    let entry = if embedder.is_none() { Some(catalogue.find(&order.model)?) } else { None };
    let (board, release) = machine(order.board.as_deref(), order.jetpack.as_deref())?;
    let setting = Setting {
        board,
        release,
        wishes: Wishes {
            backend: order.backend,
            context: order.context,
            users: order.users,
            form: order.form,
        },
        places: Places {
            state_dir: order.common.state_dir.clone(),
            cache_dir: cache_dir(order.cache_dir.clone())?,
            runtimes_dir: order.runtimes_dir.clone(),
        },
    };
    let (text, mut facts) = match (embedder, entry) {
        (Some(embedder), _) => {
            let plan = of_embedder(embedder, &setting)?;
            (planning::embedder_text(&plan), json!(plan))
        }
        (None, entry) => {
            let entry = entry.expect("it is the one or the other");
            let plan = planning::choose_or_say(entry, &setting, &catalogue)?;
            (planning::text(&plan), json!(plan))
        }
    };
    facts["kind"] = "plan".into();
    report.item(&text, facts);
    Ok(())
}

fn of_embedder(entry: &embedder::Entry, setting: &Setting) -> Result<EmbedderPlan, Error> {
    let Setting { board, release, places, wishes } = setting;
    let context = planning::embedder_context(entry, wishes)?;
    planning::embedder(entry, context, board, release.as_ref(), places).map_err(Error::NoPlanFits)
}

/// The board and the release that are meant.
pub(super) fn machine(
    board: Option<&str>,
    jetpack: Option<&str>,
) -> Result<(Board, Option<Release>), Error> {
    let mut is_named = false;
    let (board, l4t) = match board {
        None => Board::read(Root::default())?,
        Some(name) if name.contains('/') || Path::new(name).is_dir() => {
            if !Path::new(name).is_dir() {
                return Err(Error::Usage(format!("there is no directory {name}")));
            }
            Board::read(Root::new(name))?
        }
        Some(name) => {
            is_named = true;
            (Board::named(name)?, None)
        }
    };
    let release = match (jetpack, l4t) {
        (Some(_), _) if board.class == planning::Class::Pc => {
            return Err(Error::Usage("--jetpack means nothing on a PC; name a --board".into()));
        }
        (Some(name), _) => Some(Release::named(name)?),
        (None, Some(l4t)) => Some(Release::of(l4t)?),
        (None, None) if board.class == planning::Class::Pc => None,
        (None, None) if is_named => Some(Release::named(planning::USUAL)?),
        (None, None) => {
            let what = "this board does not tell its Jetson Linux; name its release with --jetpack";
            return Err(Error::Usage(what.into()));
        }
    };
    Ok((board, release))
}
