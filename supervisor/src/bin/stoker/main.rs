//! `stoker`: runs an engine under watchdog control and serves it.
//!
//! Each subcommand is called here, and is a module of the library; [`mod@serve`] is the one
//! that stays.

#![forbid(unsafe_code)]

mod arguments;
mod disk;
mod serve;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use supervisor::console::code::Sought;
use supervisor::firstboot::Outcome;
use supervisor::update as updates;
use supervisor::update::slots::Request;
use supervisor::{console, doctor, firstboot, health, tied};

use crate::arguments::{
    Arguments, Command, Doctor, FirstBoot, Health, IndexAction, Key, KeyAction, MemoryAction,
    Place, Search, SlotState, Slots, SlotsRequest, Status, Tied, Update, UpdateAction,
};
use crate::serve::serve;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve(arguments).map(|()| ExitCode::SUCCESS),
        Command::Status(arguments) => status(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Doctor(arguments) => look(arguments).map(ExitCode::from),
        Command::Health(arguments) => boot_health(arguments).map(ExitCode::from),
        Command::Firstboot(arguments) => first_boot(&arguments).map(ExitCode::from),
        Command::Slots(arguments) => slots(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Update(arguments) => update(arguments).map(ExitCode::from),
        Command::Index(arguments) => index(&arguments.action).map(|()| ExitCode::SUCCESS),
        Command::Search(arguments) => search(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Memory(arguments) => memory(&arguments.action).map(|()| ExitCode::SUCCESS),
        Command::Key(arguments) => key(arguments).map(|()| ExitCode::SUCCESS),
        Command::Claim(place) => claim(place).map(|()| ExitCode::SUCCESS),
        Command::Swap(arguments) => disk::swap(arguments).map(|()| ExitCode::SUCCESS),
        Command::Grow(arguments) => disk::grow(arguments).map(|()| ExitCode::SUCCESS),
        Command::Tied(arguments) => Err(tied_to(&arguments)),
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

/// Becomes what it is asked to; else why not.
fn tied_to(Tied { parent, program }: &Tied) -> anyhow::Error {
    let (program, arguments) = program.split_first().expect("clap asks for it");
    let error = tied::become_it(*parent, program, arguments);
    let program = program.display();
    anyhow::anyhow!("{program} cannot be started: {error}; is it installed?")
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
        IndexAction::Add { source, name, shared, server } => {
            console::code::add(server.asked(), source, name.as_deref(), *shared, &mut out)
                .context("add a repository")
        }
        IndexAction::Upload { name, directory, shared, server } => {
            console::upload::send(server.asked(), name, directory, *shared, &mut out)
                .context("send a directory")
        }
        IndexAction::Remove { name, server } => {
            console::code::remove(server.asked(), name, &mut out).context("forget a repository")
        }
        IndexAction::Map { name, tokens, focus, format, server } => {
            let (server, focus) = (server.asked(), focus.as_deref());
            console::code::map(server, name, *tokens, focus, *format, &mut out)
                .context("ask for the map")
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
    let settings = Place { config, state_dir, root: None }.settings()?;
    let state_dir = settings.state_dir.path();
    let mut out = io::stdout().lock();
    match action {
        KeyAction::Add { name, stdin, chats } => {
            let brought = stdin.then(|| io::stdin().lock());
            console::key::add(state_dir, &name, brought, &chats.into(), &mut out)
                .context("add a key")
        }
        KeyAction::Chats { name, chats } => {
            console::key::set_chats(state_dir, &name, &chats.into(), &mut out)
                .context("set what its chats have")
        }
        KeyAction::List => console::key::list(state_dir, &mut out).context("show the keys"),
        KeyAction::Remove { name } => {
            console::key::remove(state_dir, &name, &mut out).context("forget a key")
        }
        KeyAction::Open => console::key::open(state_dir, &mut out).context("forget all keys"),
    }
}

fn claim(place: Place) -> anyhow::Result<()> {
    let settings = place.settings()?;
    let (state_dir, port) = (settings.state_dir.path(), settings.server.listen.port());
    let root = jetpack::Root::new(&settings.root);
    console::claim::show(&root, state_dir, port, &mut io::stdout().lock()).context("show a token")
}

fn look(arguments: Doctor) -> anyhow::Result<u8> {
    let Doctor { format, place } = arguments;
    let settings = place.settings()?;
    let (root, state_dir) = (&settings.root, settings.state_dir.path());
    doctor::doctor(root, state_dir, format, &mut io::stdout().lock())
        .context("print what was found")
}

fn boot_health(arguments: Health) -> anyhow::Result<u8> {
    let Health { place, patience_s, shut_down } = arguments;
    if shut_down {
        let root = place.root.unwrap_or_else(|| "/".into());
        health::shut_down(&jetpack::Root::new(root)).context("remember the end of this boot")?;
        return Ok(0);
    }
    let settings = place.settings()?;
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

fn slots(Slots { request, root }: &Slots) -> anyhow::Result<()> {
    let request = match *request {
        SlotsRequest::GetPrimary => Request::GetPrimary,
        SlotsRequest::SetPrimary { slot } => Request::SetPrimary(slot),
        SlotsRequest::GetState { slot } => Request::GetState(slot),
        SlotsRequest::SetState { slot, state } => {
            Request::SetState { slot, is_good: state == SlotState::Good }
        }
        SlotsRequest::Serve => Request::Serve,
    };
    Ok(updates::slots::answer(&jetpack::Root::new(root), request, &mut io::stdout().lock())?)
}

fn update(arguments: Update) -> anyhow::Result<u8> {
    let mut out = io::stdout().lock();
    match arguments.action {
        Some(UpdateAction::Status { format, root }) => {
            updates::status(&root, format, &mut out)?;
            return Ok(0);
        }
        Some(UpdateAction::Keep { root }) => {
            updates::keep(&jetpack::Root::new(root), &mut out)?;
            return Ok(0);
        }
        None => {}
    }
    let Update { file, dry_run, format, place, patience_s, steady_s, .. } = arguments;
    let settings = place.settings()?;
    let options = updates::Options {
        host: health::nearest(settings.server.listen).to_string(),
        root: settings.root,
        state_dir: settings.state_dir.path().to_owned(),
        file: file.context("no file is named")?,
        dry_run,
        bounds: updates::trial::Bounds { patience_s, steady_s },
    };
    Ok(updates::update(&options, format, &mut out)?)
}
