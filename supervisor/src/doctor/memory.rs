//! Who takes memory that the model needs.

use jetpack::{Bytes, GpuClient, Severity};

use super::{Report, Seen};

/// Our own program on the GPU.
const WORKER: &str = "engine-worker";
/// Less than this is a desktop's pointer, and no matter.
const WORTH_SAYING: Bytes = Bytes::from_kib(64 * 1024);

pub(super) fn look(seen: &Seen, report: &mut Report) {
    swap(seen, report);
    desktop(seen, report);
    strangers(seen, report);
}

fn swap(seen: &Seen, report: &mut Report) {
    let Some(swap) = &seen.sample.facts.storage.swap else {
        report.not_checked("swap", "the kernel does not tell");
        return;
    };
    if swap.is_empty() {
        report.add(Severity::Warning, "swap_missing", [
            "there is no swap".to_owned(),
            "when memory runs short, the kernel ends a program instead of moving what nobody uses"
                .to_owned(),
            "make a swap file of 4 to 8 GiB, on NVMe if there is one".to_owned(),
        ]);
    }
    let compressed: Vec<_> = swap.iter().filter(|swap| swap.zram).collect();
    if compressed.is_empty() || !seen.sample.board.is_tegra() {
        return;
    }
    let size: Bytes = compressed.iter().map(|swap| swap.size_bytes).sum();
    report.add(Severity::Warning, "zram", [
        format!("{size} of swap are compressed memory (zram)"),
        "what is swapped still takes memory, which the GPU's memory is part of, and processor time"
            .to_owned(),
        "systemctl disable nvzramconfig.service, have swap on NVMe instead, reboot".to_owned(),
    ]);
}

fn desktop(seen: &Seen, report: &mut Report) {
    let desktop = &seen.sample.facts.desktop;
    if !desktop.is_wanted() || !seen.sample.board.is_tegra() {
        return;
    }
    let problem = if desktop.display { "a desktop runs" } else { "a desktop starts at boot" };
    report.add(
        Severity::Warning,
        "desktop",
        [
            problem.to_owned(),
            "it takes up to 865 MB (NVIDIA's figure) of the memory that the model shares"
                .to_owned(),
            "systemctl set-default multi-user.target, reboot".to_owned(),
        ],
    );
}

fn strangers(seen: &Seen, report: &mut Report) {
    let facts = &seen.sample.facts;
    if let (true, Some(why)) = (seen.sample.board.is_tegra(), &facts.gpu_clients_absent) {
        report.not_checked("who has the GPU's memory", why);
    }
    let discrete = seen.sample.gpus.iter().filter_map(|gpu| gpu.clients.as_deref()).flatten();
    let integrated = facts.gpu_clients.iter().flatten();
    let mut strangers: Vec<&GpuClient> = integrated
        .chain(discrete)
        .filter(|client| client.name != WORKER)
        .filter(|client| client.bytes.is_some_and(|bytes| bytes >= WORTH_SAYING))
        .collect();
    strangers.sort_by_key(|client| std::cmp::Reverse(client.bytes));
    let Some(largest) = strangers.first() else { return };
    let total: Bytes = strangers.iter().filter_map(|client| client.bytes).sum();
    let first = format!("{} (process {})", largest.name, largest.pid);
    let who = match strangers.len() - 1 {
        0 => format!("{first} has"),
        1 => format!("{first} and another have"),
        more => format!("{first} and {more} others have"),
    };
    report.add(
        Severity::Warning,
        "gpu_memory_taken",
        [
            format!("{who} {total} of the GPU's memory"),
            "a model that would fit may not load, and work takes turns on the GPU".to_owned(),
            "end it, or choose a smaller model".to_owned(),
        ],
    );
}
