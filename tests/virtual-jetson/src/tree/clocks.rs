//! Clocks of GPU, CPU and memory, and their caps.

use std::fmt::Write;
use std::io;

use super::Tree;
use crate::module::Mode;
use crate::readings::Readings;
use crate::rounding::whole;

const GPU: &str = "sys/devices/platform/bus@0/17000000.gpu";
pub(super) const DEVFREQ: &str = "sys/devices/platform/bus@0/17000000.gpu/devfreq/17000000.gpu";
const EMC_CAP: &str = "sys/kernel/nvpmodel_clk_cap/emc";
const DEBUG: &str = "sys/kernel/debug";

/// Published: the CPU's clocks.
const LOWEST_KHZ: u32 = 115_200;
const STEP_KHZ: usize = 76_800;
/// Published: nvpmodel's lower bound in all modes.
const MIN_KHZ: u32 = 729_600;

impl Tree {
    pub(super) fn clocks_once(&mut self, mode: &Mode) -> io::Result<()> {
        self.gpu_once(mode)?;
        self.cpu_once(mode)?;
        let emc = mode.emc_hz.unwrap_or(self.module.memory.emc_hz);
        self.files.line(EMC_CAP, emc.min(self.module.memory.emc_hz))?;
        let clock = format!("{DEBUG}/bpmp/debug/clk/emc");
        self.files.line(&format!("{clock}/max_rate"), self.module.memory.emc_hz)?;
        self.files.line(&format!("{clock}/min_rate"), 204_000_000)?;
        self.files.line(&format!("{clock}/mrq_rate_locked"), 0)
    }

    fn gpu_once(&mut self, mode: &Mode) -> io::Result<()> {
        let hz = self.module.gpu.hz;
        let mut list = String::new();
        for clock in hz {
            let _infallible = write!(list, "{clock} ");
        }
        let most = mode.gpu_hz.unwrap_or(u64::MAX).min(self.module.gpu_max_hz());
        let names = "nvhost_podgov userspace performance simple_ondemand";
        self.files.line(&format!("{DEVFREQ}/min_freq"), hz[0])?;
        self.files.line(&format!("{DEVFREQ}/max_freq"), most)?;
        self.files.line(&format!("{DEVFREQ}/governor"), "nvhost_podgov")?;
        self.files.line(&format!("{DEVFREQ}/available_frequencies"), list)?;
        self.files.line(&format!("{DEVFREQ}/available_governors"), names)?;
        self.files.line(&format!("{GPU}/railgate_enable"), 1)?;
        self.files.line(&format!("{GPU}/power/control"), "auto")?;
        self.files.line(&format!("{GPU}/tpc_pg_mask"), mode.tpc_mask)?;
        self.files.line(&format!("{GPU}/fbp_pg_mask"), 2)?;
        self.files.link(&format!("{GPU}/devfreq_dev"), "devfreq/17000000.gpu")?;
        for alias in ["17000000.gpu", "gpu.0"] {
            let alias = format!("sys/devices/platform/{alias}");
            self.files.link(&alias, "bus@0/17000000.gpu")?;
        }
        let class = "sys/class/devfreq/17000000.gpu";
        self.files.link(class, &format!("../../../{DEVFREQ}"))
    }

    fn cpu_once(&mut self, mode: &Mode) -> io::Result<()> {
        let cpu = "sys/devices/system/cpu";
        let (cores, policies) = (self.module.cpu.cores, self.module.cpu.policies);
        self.files.line(&format!("{cpu}/online"), format_args!("0-{}", mode.cores - 1))?;
        self.files.line(&format!("{cpu}/present"), format_args!("0-{}", cores - 1))?;
        for core in 0..cores {
            self.files.line(&format!("{cpu}/cpu{core}/online"), u8::from(core < mode.cores))?;
        }
        let most = self.module.cpu.max_khz;
        let list = (LOWEST_KHZ..=most).step_by(STEP_KHZ);
        let list: String = list.map(|khz| format!("{khz} ")).collect();
        for (at, first) in policies.iter().enumerate() {
            let dir = format!("{cpu}/cpufreq/policy{first}");
            let end = policies.get(at + 1).copied().unwrap_or(cores);
            let affected: Vec<String> =
                (*first..end).filter(|core| *core < mode.cores).map(|c| c.to_string()).collect();
            self.files.line(&format!("{dir}/affected_cpus"), affected.join(" "))?;
            self.files.line(&format!("{dir}/scaling_governor"), "schedutil")?;
            self.files.line(&format!("{dir}/scaling_min_freq"), MIN_KHZ)?;
            let cap = mode.cpu_khz.unwrap_or(most);
            self.files.line(&format!("{dir}/scaling_max_freq"), cap)?;
            self.files.line(&format!("{dir}/scaling_available_frequencies"), &list)?;
            self.files.line(&format!("{dir}/cpuinfo_max_freq"), most)?;
            self.files.line(&format!("{dir}/cpuinfo_min_freq"), LOWEST_KHZ)?;
        }
        Ok(())
    }

    pub(super) fn show_clocks(&mut self, readings: &Readings) -> io::Result<()> {
        self.files.line(&format!("{DEVFREQ}/cur_freq"), readings.gpu_hz)?;
        self.files.line(&format!("{GPU}/load"), whole(readings.gpu_busy * 1000.0))?;
        for first in self.module.cpu.policies {
            let dir = format!("sys/devices/system/cpu/cpufreq/policy{first}");
            let busy = readings.cores_busy > 0.0;
            let lowest = MIN_KHZ.min(readings.cpu_khz);
            let set = if busy { readings.cpu_khz } else { lowest };
            let real = if busy { readings.cpu_effective_khz } else { lowest };
            self.files.line(&format!("{dir}/scaling_cur_freq"), set)?;
            self.files.line(&format!("{dir}/cpuinfo_cur_freq"), real)?;
        }
        let rate = readings.emc_hz;
        self.files.line(&format!("{DEBUG}/bpmp/debug/clk/emc/rate"), rate)?;
        let percent = whole(readings.emc_busy * 100.0);
        self.files.line(&format!("{DEBUG}/cactmon/mc_all"), percent * (rate / 1000))
    }
}
