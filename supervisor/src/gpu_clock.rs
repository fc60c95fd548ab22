//! The cap on the GPU's clock, set on a thread of its own, because a driver may
//! take its time or never come back.
//!
//! ```text
//!  first reading ── usual cap ──► writes it as it is: may we?
//!  governor ─────── cap, or none ► writes that, or the usual cap
//!  the end ──────────────────────► writes the usual cap
//! ```
//!
//! The usual cap is the power mode's. While another one is set it stands in a
//! file of ours, so that a supervisor that follows one which was killed can put
//! it back. After a boot the board has done that itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use jetpack::clocks::GpuClock;
use jetpack::{Hertz, Root};

/// How long the end may take.
const END: Duration = Duration::from_secs(2);

/// Whether the clock can be capped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// It was not tried yet.
    Unknown,
    Granted,
    Refused,
}

#[derive(Debug)]
enum Order {
    /// The cap that holds without us.
    Usual(Hertz),
    Cap(Option<Hertz>),
    End(Sender<()>),
}

/// The thread's other end.
#[derive(Debug)]
pub struct GpuCap {
    orders: Sender<Order>,
    shared: Arc<Shared>,
    available: Vec<Hertz>,
    /// Whether it was told what it found.
    told: bool,
    asked: Option<Hertz>,
}

/// What the thread has found out.
#[derive(Debug, Default)]
struct Shared {
    permission: AtomicU8,
    /// The cap that holds without us, in hertz; 0 until it is known.
    usual: AtomicU64,
}

/// Starts the thread, if the machine has such a clock. `note` is where the usual
/// cap stands while another is set.
#[must_use]
pub fn start(root: &Root, note: PathBuf) -> Option<GpuCap> {
    let clock = GpuClock::find(root).ok()?;
    let available = clock.available().to_vec();
    let (orders, inbox) = channel();
    let shared = Arc::new(Shared::default());
    let keeper = Keeper { clock, note, usual: None, shared: Arc::clone(&shared) };
    let run = move || keeper.obey(&inbox);
    std::thread::Builder::new().name("gpu-clock".into()).spawn(run).ok()?;
    Some(GpuCap { orders, shared, available, told: false, asked: None })
}

impl GpuCap {
    /// Says which cap was found; told once, later ones are ignored.
    pub fn usual(&mut self, cap: Hertz) {
        if !self.told {
            self.told = true;
            self.order(Order::Usual(cap));
        }
    }

    #[must_use]
    pub fn permission(&self) -> Permission {
        match self.shared.permission.load(Ordering::Acquire) {
            0 => Permission::Unknown,
            1 => Permission::Granted,
            _ => Permission::Refused,
        }
    }

    /// The clocks up to the usual cap; `None` while they may not be set.
    #[must_use]
    pub fn available(&self) -> Option<Vec<u64>> {
        if self.permission() != Permission::Granted {
            return None;
        }
        // Stored before the permission.
        let usual = self.shared.usual.load(Ordering::Relaxed);
        Some(self.available.iter().map(|hz| hz.get()).filter(|hz| *hz <= usual).collect())
    }

    /// The highest clock that the chip can do.
    #[must_use]
    pub fn top(&self) -> u64 {
        self.available.last().map_or(0, |hz| hz.get())
    }

    /// Caps the clock, or gives it back.
    pub fn cap(&mut self, hz: Option<u64>) {
        let hz = hz.map(Hertz::new);
        if hz != self.asked {
            self.asked = hz;
            self.order(Order::Cap(hz));
        }
    }

    /// Gives the clock back and waits until that is done, within bounds.
    pub fn end(self) {
        let (done, ended) = channel();
        self.order(Order::End(done));
        // A driver that does not come back is left behind.
        let _ = ended.recv_timeout(END);
    }

    fn order(&self, order: Order) {
        // The thread ends only with us.
        let _ = self.orders.send(order);
    }
}

/// The thread.
struct Keeper {
    clock: GpuClock,
    note: PathBuf,
    usual: Option<Hertz>,
    shared: Arc<Shared>,
}

impl Keeper {
    fn obey(mut self, inbox: &Receiver<Order>) {
        for order in inbox {
            match order {
                Order::Usual(cap) => self.begin(cap),
                Order::Cap(cap) => self.cap(cap),
                Order::End(done) => {
                    self.cap(None);
                    let _ = done.send(());
                    return;
                }
            }
        }
        self.cap(None);
    }

    /// Puts back what an earlier supervisor left, and finds out whether we may.
    fn begin(&mut self, cap: Hertz) {
        let boot = self.clock.boot();
        let usual = boot.and_then(|boot| noted(&self.note, boot)).unwrap_or(cap);
        let permission = match self.clock.set_cap(usual) {
            Ok(capped) => {
                tracing::info!(usual = capped.achieved.get(), "the GPU's clock can be capped");
                Permission::Granted
            }
            Err(error) => {
                tracing::debug!(%error, "the GPU's clock cannot be capped");
                Permission::Refused
            }
        };
        self.usual = Some(usual);
        self.shared.usual.store(usual.get(), Ordering::Relaxed);
        self.shared.permission.store(permission as u8, Ordering::Release);
        let _ = std::fs::remove_file(&self.note);
    }

    fn cap(&mut self, cap: Option<Hertz>) {
        let granted = self.shared.permission.load(Ordering::Relaxed) == Permission::Granted as u8;
        let Some(usual) = self.usual.filter(|_| granted) else { return };
        if cap.is_some() {
            let text = format!("{} {}\n", usual.get(), self.clock.boot().unwrap_or_default());
            if let Err(error) = std::fs::write(&self.note, text) {
                tracing::warn!(%error, "the GPU's usual clock cannot be noted, so it stays");
                return;
            }
        }
        let set = self.clock.set_cap(cap.unwrap_or(usual));
        match set {
            Ok(_) if cap.is_none() => {
                let _ = std::fs::remove_file(&self.note);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the GPU's clock cannot be capped any more");
                self.shared.permission.store(Permission::Refused as u8, Ordering::Release);
            }
        }
    }
}

/// The usual cap that an earlier supervisor noted in this boot.
fn noted(note: &Path, boot: &str) -> Option<Hertz> {
    let text = std::fs::read_to_string(note).ok()?;
    let (hz, noted) = text.trim_end().split_once(' ')?;
    (noted == boot).then(|| hz.parse().ok().map(Hertz::new))?
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    const DIR: &str = "sys/class/devfreq/17000000.gpu";

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let gpu = dir.path().join(DIR);
        fs::create_dir_all(&gpu).unwrap();
        fs::write(gpu.join("available_frequencies"), "306000000 612000000 918000000\n").unwrap();
        fs::write(gpu.join("max_freq"), "918000000\n").unwrap();
        let random = dir.path().join("proc/sys/kernel/random");
        fs::create_dir_all(&random).unwrap();
        fs::write(random.join("boot_id"), "this\n").unwrap();
        (dir, gpu.join("max_freq"))
    }

    fn granted(cap: &GpuCap) {
        let end = Instant::now() + Duration::from_secs(20);
        while cap.permission() != Permission::Granted && Instant::now() < end {
            std::thread::yield_now();
        }
        assert_eq!(cap.permission(), Permission::Granted);
    }

    #[test]
    fn a_cap_is_set_and_given_back_at_the_end() {
        let (dir, file) = tree();
        let note = dir.path().join("gpu-clock");
        let mut cap = start(&Root::new(dir.path()), note.clone()).unwrap();
        assert_eq!(cap.available(), None, "nobody has tried");
        cap.usual(Hertz::new(612_000_000));
        granted(&cap);
        assert_eq!(cap.available(), Some(vec![306_000_000, 612_000_000]));
        cap.cap(Some(306_000_000));
        let end = Instant::now() + Duration::from_secs(20);
        while fs::read_to_string(&file).unwrap() != "306000000" && Instant::now() < end {
            std::thread::yield_now();
        }
        assert_eq!(fs::read_to_string(&note).unwrap(), "612000000 this\n");
        cap.end();
        assert_eq!(fs::read_to_string(&file).unwrap(), "612000000");
        assert!(!note.exists());
    }

    #[test]
    fn what_a_killed_supervisor_left_is_put_back_unless_the_board_booted() {
        for (boot, expected) in [("this", "918000000"), ("other", "306000000")] {
            let (dir, file) = tree();
            fs::write(&file, "306000000").unwrap();
            let note = dir.path().join("gpu-clock");
            fs::write(&note, format!("918000000 {boot}\n")).unwrap();
            let mut cap = start(&Root::new(dir.path()), note).unwrap();
            cap.usual(Hertz::new(306_000_000));
            granted(&cap);
            let highest = cap.available().and_then(|available| available.last().copied());
            assert_eq!(highest.map(|hz| hz.to_string()).as_deref(), Some(expected), "{boot}");
            cap.end();
            assert_eq!(fs::read_to_string(&file).unwrap(), expected, "{boot}");
        }
    }

    #[test]
    fn a_machine_without_such_a_clock_has_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(start(&Root::new(dir.path()), dir.path().join("note")).is_none());
    }
}
