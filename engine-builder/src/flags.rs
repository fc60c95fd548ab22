//! Whether a foreign tool will understand a command line, known before it runs.
//!
//! What each tool takes is data, one table a tool in `flags/`: the type of each
//! flag, what is required, what a flag needs beside it, and flags that must not
//! be used, with the reason. It is stricter than the tools: no abbreviated
//! flags, no `--flag=value`, nothing twice, and the sizes of an engine are
//! always written out.

use std::path::Path;

mod table;

use table::{Kind, Table};

/// A foreign program with a table of its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tool {
    ConvertHfToGguf,
    ConvertLlama,
    ConvertPhi,
    ConvertQwen,
    EdgellmBuild,
    EdgellmExport,
    EdgellmLlmBuild,
    EngineWorker,
    PipDownload,
    Quantize,
    TrtllmBuild,
}

/// Every tool.
pub const TOOLS: [Tool; 11] = [
    Tool::ConvertHfToGguf,
    Tool::ConvertLlama,
    Tool::ConvertPhi,
    Tool::ConvertQwen,
    Tool::EdgellmBuild,
    Tool::EdgellmExport,
    Tool::EdgellmLlmBuild,
    Tool::EngineWorker,
    Tool::PipDownload,
    Tool::Quantize,
    Tool::TrtllmBuild,
];

/// Why a command line is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("does not begin with {0}")]
    OtherCommand(String),
    #[error("{0} is not one of its flags")]
    Unknown(String),
    #[error("{flag} must not be used: {why}")]
    Refused { flag: String, why: String },
    #[error("{0} is there twice")]
    Twice(String),
    #[error("{0} has no value")]
    NoValue(String),
    #[error("{flag} is {value:?}, not {expected}")]
    Value { flag: String, value: String, expected: String },
    #[error("{0} is missing")]
    Missing(String),
    #[error("{flag} needs {needed}")]
    Needs { flag: String, needed: String },
    #[error("has {given} arguments beside its flags, not {wanted}")]
    Arguments { given: usize, wanted: usize },
}

/// Checks `argv`, the program's name included.
///
/// # Errors
/// [`Fault`], the first that is found.
pub fn check(tool: Tool, argv: &[String]) -> Result<(), Fault> {
    let table = table::of(tool);
    let given = Given::read(&table, strip_command(&table, argv)?)?;
    given.positionals(&table)?;
    given.required(&table)?;
    given.needs(&table)
}

/// What follows the command itself, whose parts are matched by the ends of
/// their paths.
fn strip_command<'a>(table: &Table, argv: &'a [String]) -> Result<&'a [String], Fault> {
    let command = &table.command;
    let same = argv.len() >= command.len()
        && argv.iter().zip(command).all(|(given, part)| Path::new(given).ends_with(part));
    if same { Ok(&argv[command.len()..]) } else { Err(Fault::OtherCommand(command.join(" "))) }
}

/// A command line taken apart.
struct Given<'a> {
    flags: Vec<(&'a str, Vec<&'a str>)>,
    positionals: Vec<&'a str>,
}

impl<'a> Given<'a> {
    fn read(table: &Table, arguments: &'a [String]) -> Result<Self, Fault> {
        let mut given = Self { flags: Vec::new(), positionals: Vec::new() };
        let mut rest = arguments.iter().map(String::as_str).peekable();
        while let Some(argument) = rest.next() {
            if !argument.starts_with('-') {
                given.positionals.push(argument);
                continue;
            }
            let kind = known(table, argument)?;
            if given.flags.iter().any(|(flag, _)| *flag == argument) {
                return Err(Fault::Twice(argument.into()));
            }
            let mut values = Vec::new();
            while values.len() < kind.most_values() {
                let Some(value) = rest.next_if(|value| kind.could_be(value)) else { break };
                expect(argument, value, kind)?;
                values.push(value);
            }
            if values.is_empty() && kind.most_values() > 0 {
                return Err(Fault::NoValue(argument.into()));
            }
            given.flags.push((argument, values));
        }
        Ok(given)
    }

    fn positionals(&self, table: &Table) -> Result<(), Fault> {
        let (given, wanted) = (self.positionals.len(), table.positionals.len());
        if given != wanted {
            return Err(Fault::Arguments { given, wanted });
        }
        self.positionals
            .iter()
            .zip(&table.positionals)
            .try_for_each(|(value, kind)| expect("an argument", value, kind))
    }

    fn required(&self, table: &Table) -> Result<(), Fault> {
        match table.required.iter().find(|flag| !self.has(flag)) {
            Some(flag) => Err(Fault::Missing(flag.clone())),
            None => Ok(()),
        }
    }

    fn needs(&self, table: &Table) -> Result<(), Fault> {
        for (flag, needed) in &table.needs {
            if !self.has(flag) {
                continue;
            }
            if let Some(needed) = needed.iter().find(|needed| !self.has(needed)) {
                return Err(Fault::Needs { flag: flag.clone(), needed: needed.clone() });
            }
        }
        Ok(())
    }

    /// Whether `--flag`, or `--flag value`, is there.
    fn has(&self, what: &str) -> bool {
        let (flag, value) = what.split_once(' ').map_or((what, None), |(f, v)| (f, Some(v)));
        let mut same = self.flags.iter().filter(|(given, _)| *given == flag);
        same.any(|(_, values)| value.is_none_or(|value| values.contains(&value)))
    }
}

fn known<'t>(table: &'t Table, flag: &str) -> Result<&'t Kind, Fault> {
    if let Some(why) = table.refused.get(flag) {
        return Err(Fault::Refused { flag: flag.into(), why: why.clone() });
    }
    table.flags.get(flag).ok_or_else(|| Fault::Unknown(flag.into()))
}

fn expect(flag: &str, value: &str, kind: &Kind) -> Result<(), Fault> {
    if kind.accepts(value) {
        return Ok(());
    }
    Err(Fault::Value { flag: flag.into(), value: value.into(), expected: kind.in_words() })
}

#[cfg(test)]
mod tests;
