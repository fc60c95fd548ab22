//! `stoker swap` and `stoker grow`: what an appliance does with its disk at a boot. What
//! that is, `jetpack` decides and does; here it is said.

use std::io::{self, Write};

use anyhow::Context;
use jetpack::{Root, grow, swap};

use crate::arguments::Machine;

pub(crate) fn swap(Machine { root }: Machine) -> anyhow::Result<()> {
    let root = Root::new(root);
    let plan = swap::plan(&swap::Seen::look(&root));
    if let swap::Plan::Make(size) = plan {
        swap::make(&root, size).context("make swap")?;
    }
    if let swap::Plan::Make(_) | swap::Plan::Use = plan {
        swap::enable(&root).context("use swap")?;
    }
    say(match plan {
        swap::Plan::Done => "the swap file is in use".to_owned(),
        swap::Plan::Use => "the swap file is in use now".to_owned(),
        swap::Plan::Make(size) => format!("{size} of swap are made and in use now"),
        swap::Plan::Without(why) => format!("there is no swap file: {why}"),
    })
}

pub(crate) fn grow(Machine { root }: Machine) -> anyhow::Result<()> {
    let root = Root::new(root);
    let seen: Vec<_> =
        grow::GROWING.iter().filter_map(|place| grow::Seen::look(&root, place)).collect();
    if seen.is_empty() {
        return say("the root file system is on no partition".to_owned());
    }
    seen.iter().try_for_each(|seen| grow_one(&root, seen))
}

fn grow_one(root: &Root, seen: &grow::Seen) -> anyhow::Result<()> {
    let (device, disk) = (&seen.own.device, &seen.disk);
    let fill =
        || grow::fill(root, seen).with_context(|| format!("grow the file system on {device}"));
    say(match grow::plan(seen) {
        grow::Plan::Grow if !grow::has_tool(root) => {
            format!("{device} could be larger; growpart, of cloud-guest-utils, is not here")
        }
        grow::Plan::Grow => {
            grow::grow(root, seen).with_context(|| format!("grow the partition {device}"))?;
            format!("{device} has all of {disk} now")
        }
        grow::Plan::Whole => {
            fill()?;
            format!("{device} has all of {disk}")
        }
        grow::Plan::NotLast => {
            fill()?;
            format!("{device} stays as large as it is: other partitions lie behind it")
        }
        grow::Plan::OtherKind => format!("{device} is no ext4, and stays as large as it is"),
    })
}

fn say(what: String) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{what}")?)
}
