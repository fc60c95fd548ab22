//! A build by the tools of TensorRT-LLM or TensorRT Edge-LLM: the steps of a
//! plan, each in its limits, going on where an earlier run was cut short.
//!
//! ```text
//! <state>/work/<model>/
//! ├── finished.json   which steps are finished, see record.rs
//! ├── <step>.log      what the step's tool said
//! ├── checkpoint/     between two steps; removed when the next one is finished
//! └── engine/         the last step's output
//! ```
//!
//! A finished step's output is on the disk before it is recorded, and the output
//! of a step that is not recorded is removed before its tool runs again. The last
//! output is proved in a worker and published, and the directory is then removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cuda_device::Gpu;
use jetpack::disk::Disk;
use jetpack::{Bytes, Machine, Root, Sample};

mod candidate;
pub mod environment;
pub mod idle;
pub(crate) mod record;
mod speech;

use candidate::Candidate;
use environment::Found;
use record::Record;

use crate::catalogue::Entry;
use crate::engines::Engines;
use crate::error::{Error, io};
use crate::flags;
use crate::lock::Lock;
use crate::place::remove;
use crate::planning::{BoardPlan, Places, Step};
use crate::preflight::make_dir;
use crate::publish;
use crate::report::{self, Report};
use crate::tool::{self, Limits, ToolError};

/// Room for logs and records.
const SMALL_FILES: u64 = 64 * 1024 * 1024;

/// What is to be built, and with what.
#[derive(Debug)]
pub struct Order<'a> {
    pub plan: &'a BoardPlan,
    /// What the plan was made for.
    pub entry: &'a Entry,
    pub places: &'a Places,
    /// Below it are the files of the machine to build for.
    pub root: Root,
    /// The worker for the proof; else the one beside this program.
    pub worker: Option<&'a Path>,
    /// Only run the tools: nothing is proved or published.
    pub unproved: bool,
    /// An engine of that name is built again: it comes back if the new one fails where
    /// it serves, and what serves by default stays that.
    pub again: bool,
}

/// What came of it, and where that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The engine was there, for this machine and from these files.
    Already(PathBuf),
    /// The tools have run, and nothing was proved or published.
    Unproved(PathBuf),
    Built(PathBuf),
}

/// Runs the steps of a plan up to a published engine, unless it is already there.
///
/// # Errors
/// See [`Error`]. What was there before is then still there.
pub fn run(order: &Order<'_>, report: &Report) -> Result<Outcome, Error> {
    let Order { plan, places, .. } = *order;
    let sample = Machine::open(order.root.clone()).sample();
    let steps: Vec<&Step> = plan.steps.iter().filter(|step| step.tool.is_some()).collect();
    report.begin(report::Step::Preflight, "checking tools, worker, disk and memory");
    let input = input(plan)?;
    check_tools(plan, &steps, &sample)?;
    if order.root.is_this_machine() {
        check_gpu(plan)?;
    }
    let candidate = match order.unproved {
        true => None,
        false => Some(Candidate::new(order, &input, &sample, report)?),
    };
    let engines = Engines::of(&places.state_dir);
    make_dir(engines.path())?;
    let _lock = Lock::take(engines.path())?;
    publish::recover(&engines)?;
    report.shown(&places.state_dir, &plan.model, || {
        go_on(plan, places, &engines, (&steps, &input, &sample), candidate, report)
    })
}

/// The rest, for the holder of the lock.
fn go_on(
    plan: &BoardPlan,
    places: &Places,
    engines: &Engines,
    (steps, input, sample): (&[&Step], &Path, &Sample),
    candidate: Option<Candidate<'_>>,
    report: &Report,
) -> Result<Outcome, Error> {
    let dir = engines.engine(&plan.engine);
    let work = places.state_dir.join("work").join(&plan.model);
    if candidate.as_ref().is_some_and(|candidate| candidate.is_published(engines)) {
        if !candidate.as_ref().is_some_and(Candidate::is_again) {
            publish::set_default(engines, &plan.engine)?;
        }
        remove(&work).map_err(io("remove", &work))?;
        return Ok(Outcome::Already(dir));
    }
    make_dir(&work)?;
    let work = work.canonicalize().map_err(io("find", &work))?;
    tool::end_orphans(&work).map_err(|source| failed("preflight", source))?;
    let finding = check_room(plan, sample, &work)?;
    report.end(&finding);

    let memory = plan.memory.build_bytes.map(|build| build.max(plan.memory.budget_bytes));
    let output = Steps { work: &work, memory, report }.run(steps, input)?;
    let Some(candidate) = candidate else { return Ok(Outcome::Unproved(output)) };
    candidate.publish(&output, engines, report)?;
    // Its files are the engine's by now.
    remove(&work).map_err(io("remove", &work))?;
    Ok(Outcome::Built(dir))
}

/// The directory of what was fetched.
fn input(plan: &BoardPlan) -> Result<PathBuf, Error> {
    let fetch = plan.steps.iter().find(|step| step.name == "fetch");
    let dir = fetch.and_then(|step| step.output.clone()).expect("every such plan fetches");
    if dir.join("config.json").is_file() {
        return dir.canonicalize().map_err(io("find", &dir));
    }
    let what = fetch.map(|step| step.does.as_str()).unwrap_or_default();
    Err(Error::Unsupported(format!("the model is not there, bring it: {what}")))
}

/// Every command line is one that its tool understands, every program is there,
/// and what it needs is installed.
fn check_tools(plan: &BoardPlan, steps: &[&Step], sample: &Sample) -> Result<(), Error> {
    let mut faults = Vec::new();
    let mut runtime = None;
    for step in steps {
        let tool = step.tool.expect("only steps with a tool are asked for");
        if let Err(fault) = flags::check(tool, &step.argv) {
            faults.push(format!("the command line of {} is wrong: {fault}", step.name));
        }
        let script = step.argv.get(1).filter(|word| word.ends_with(".py"));
        for file in step.argv.first().into_iter().chain(script) {
            if !Path::new(file).is_file() {
                faults.push(format!(
                    "{file} is not there: install {} {}",
                    plan.backend, plan.version
                ));
            }
        }
        let program = step.argv.first().map(Path::new);
        runtime = runtime.or_else(|| program?.parent()?.parent());
    }
    let found = Found::read(sample, runtime.unwrap_or(Path::new("/")));
    faults.extend(environment::faults(plan.backend, plan.version, &found));
    if faults.is_empty() { Ok(()) } else { Err(Error::Unsupported(faults.join("; "))) }
}

/// The driver works, and the GPU is what the plan is for: the tools would find out
/// after hours.
fn check_gpu(plan: &BoardPlan) -> Result<(), Error> {
    let unusable =
        |why: String| Error::Unsupported(format!("{} builds on the GPU, but {why}", plan.backend));
    let gpus = Gpu::all().map_err(|error| unusable(error.to_string()))?;
    match plan.board.sm {
        Some(sm) if !gpus.iter().any(|gpu| gpu.sm() == sm) => {
            let found: Vec<String> = gpus.iter().map(ToString::to_string).collect();
            let found = found.join(", ");
            Err(unusable(format!("the plan is for sm_{sm} and there is {found}")))
        }
        _ => Ok(()),
    }
}

/// What is there counts: a build that goes on needs only the rest.
fn check_room(plan: &BoardPlan, sample: &Sample, work: &Path) -> Result<String, Error> {
    let free = Disk::holding(work).map_err(io("measure", work))?.available_bytes;
    let all = plan.disk.peak_bytes.saturating_sub(plan.disk.download_bytes);
    let needed = all.saturating_sub(Bytes::new(record::bytes(work))) + Bytes::new(SMALL_FILES);
    if free < needed {
        return Err(Error::Disk { path: work.into(), needed, free });
    }
    let memory = sample.memory.as_ref().map(|now| now.available_bytes + now.swap_free_bytes);
    if let (Some(there), Some(build)) = (memory, plan.memory.build_bytes)
        && there < build
    {
        return Err(Error::NoPlanFits(format!(
            "the build takes about {build} of memory, {there} are there with swap; {}",
            "mount a swap file on NVMe, stop other programs, turn zram and the desktop off"
        )));
    }
    let memory = memory.map_or("unknown".into(), |bytes| bytes.to_string());
    Ok(format!("{free} of disk and {memory} of memory free, swap included"))
}

struct Steps<'a> {
    work: &'a Path,
    memory: Option<Bytes>,
    report: &'a Report,
}

impl Steps<'_> {
    /// Runs what is not finished. The last step's output is the engine.
    fn run(&self, steps: &[&Step], input: &Path) -> Result<PathBuf, Error> {
        let mut record = Record::read(self.work);
        let mut before = record::listing(input).map_err(io("read", input))?;
        let mut keys = Vec::new();
        for step in steps {
            before = record::key(&before, &step.argv, &step.env);
            keys.push(before.clone());
        }
        let output = |step: &Step| step.output.clone().expect("every tool's step has an output");
        // The last finished step counts: what came before it may be gone.
        let mut first = 0;
        for (number, (step, key)) in steps.iter().zip(&keys).enumerate().rev() {
            if record.has(key, &output(step), self.report)? {
                first = number + 1;
                break;
            }
        }
        for (number, (step, key)) in steps.iter().zip(&keys).enumerate() {
            let words = format!("{} ({} of {})", step.name, number + 1, steps.len());
            self.report.begin(report::Step::Build, &format!("{words}: {}", step.does));
            if number < first {
                self.report.end(&format!("{words}: already finished"));
                continue;
            }
            self.step(step, &output(step))?;
            record.add(step.name, key, &output(step), self.report)?;
            if let Some(earlier) = number.checked_sub(1).map(|earlier| output(steps[earlier])) {
                remove(&earlier).map_err(io("remove", &earlier))?;
            }
            self.report.end(&format!("{words}: finished"));
        }
        Ok(steps.last().map(|step| output(step)).unwrap_or_default())
    }

    fn step(&self, step: &Step, output: &Path) -> Result<(), Error> {
        // Not recorded, so half written: its tool begins with an empty place.
        remove(output).map_err(io("remove", output))?;
        let (program, arguments) = step.argv.split_first().expect("a tool has a command line");
        let mut command = Command::new(program);
        command.args(arguments).envs(step.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.work);
        let limits = Limits { time: Duration::from_secs(step.limit_s), memory: self.memory };
        let log = self.work.join(step.name).with_extension("log");
        let ended = tool::run(&mut command, self.work, &log, limits, self.report);
        ended.map_err(|source| failed(step.name, source))?;
        match fs::read_dir(output).map(|mut entries| entries.next().is_some()) {
            Ok(true) => Ok(()),
            _ => Err(Error::Unsupported(format!(
                "{} ended well and left nothing in {}; log: {}",
                step.name,
                output.display(),
                log.display()
            ))),
        }
    }
}

fn failed(step: &str, source: ToolError) -> Error {
    Error::Tool { step: step.into(), source }
}
