//! Programs that have memory of a Jetson's GPU, from NvMap's list, which only
//! root may read.
//!
//! Such memory is in no process's own size and no control group bounds it.

use serde::Serialize;

use crate::{Absent, Bytes, Root};

const CLIENTS: &str = "sys/kernel/debug/nvmap/iovmm/clients";

/// A program and what it has of a GPU's memory.
///
/// Written out, it is only how much: whoever reads a sample over the network has
/// no business with what else runs here. `stoker doctor`, on the machine and with
/// its operator's rights, says who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuClient {
    #[serde(skip_serializing)]
    pub pid: u32,
    #[serde(skip_serializing)]
    pub name: String,
    /// `None` where the driver does not tell.
    pub bytes: Option<Bytes>,
}

pub(crate) fn read(root: &Root) -> Result<Vec<GpuClient>, Absent> {
    parse(&root.read(CLIENTS)?).ok_or(Absent::Garbled)
}

/// A heading, a line for each client, and the total. The columns are counted
/// from the right, because a name may have spaces and some releases have one
/// more column behind the size.
fn parse(text: &str) -> Option<Vec<GpuClient>> {
    let mut lines = text.lines();
    let heading: Vec<&str> = lines.next()?.split_whitespace().collect();
    let behind_pid = heading.iter().rev().position(|column| *column == "PID")?;
    let client = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let pid_at = fields.len().checked_sub(behind_pid + 1).filter(|at| *at >= 2)?;
        Some(GpuClient {
            pid: fields[pid_at].parse().ok()?,
            name: fields[1..pid_at].join(" "),
            bytes: Some(size(fields.get(pid_at + 1)?)?),
        })
    };
    Some(lines.filter_map(client).collect())
}

/// `524288K`
fn size(text: &str) -> Option<Bytes> {
    let (digits, shift) = match text.chars().last()? {
        'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).map(Bytes::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use proptest::prelude::*;

    #[test]
    fn clients_are_listed_with_their_memory() {
        let client = |pid, name: &str, kib| GpuClient {
            pid,
            name: name.into(),
            bytes: Some(Bytes::from_kib(kib)),
        };
        let list = read(&tree::orin_nano().root());
        assert_eq!(list, Ok(vec![client(4321, "engine-worker", 524_288)]));
        let text = "CLIENT PROCESS PID SIZE PSS\nuser Isolated Web Co 77 2M 1M\ntotal 2M\n";
        assert_eq!(parse(text), Some(vec![client(77, "Isolated Web Co", 2048)]));
        assert_eq!(read(&tree::pc().root()), Err(Absent::NotReported));
    }

    #[test]
    fn who_they_are_is_not_written_out() {
        let list = read(&tree::orin_nano().root()).unwrap();
        let written = serde_json::to_string(&list).unwrap();
        assert_eq!(written, r#"[{"bytes":536870912}]"#);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(PID|SIZE|user|[0-9]{1,22}|K|M|G| |\n|é){0,24}") {
            let _ = parse(&text);
            let _ = parse(&format!("CLIENT PROCESS PID SIZE\n{text}"));
            let _ = size(&text);
        }
    }
}
