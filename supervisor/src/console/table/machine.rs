//! The machine's rows of the status: what it is, what it measures, and what is
//! silent. A row that has nothing to say is left out.

use serde_json::Value;

use super::{items, number, text};

/// Name and text of each row.
pub(super) fn rows(machine: &Value) -> Vec<(&'static str, String)> {
    let facts = &machine["facts"];
    let rows = [
        ("board", board(machine)),
        ("software", software(machine)),
        ("heat", heat(machine)),
        ("power", power(machine)),
        ("mode", mode(machine)),
        ("clocks", clocks(&machine["clocks"])),
        ("GPU", gpus(machine)),
        ("throttling", throttling(&machine["throttle"])),
        ("fans", fans(machine)),
        ("swap", swap(facts, &machine["memory"])),
        ("GPU memory", gpu_memory(machine)),
        ("boot", boot(facts)),
        ("silent", silent(machine)),
    ];
    rows.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

fn board(machine: &Value) -> Option<String> {
    let module = &machine["facts"]["module"];
    let Some(name) = module["name"].as_str() else {
        return Some(machine["board"]["model"].as_str()?.to_owned());
    };
    let variant = if module["super"] == true { " Super" } else { "" };
    let gpu = machine["clocks"]["gpu"]["top_hertz"].as_u64();
    let gpu = gpu.map(|top| format!(", GPU to {}", hertz(top))).unwrap_or_default();
    Some(format!(
        "{name}{variant} ({}), {} cores{gpu}",
        text(&module["sku"]),
        number(&module["cores"], "")
    ))
}

fn software(machine: &Value) -> Option<String> {
    let versions = &machine["facts"]["versions"];
    let parts = [
        ("Jetson Linux", &machine["board"]["l4t"]),
        ("JetPack", &versions["jetpack"]),
        ("kernel", &machine["board"]["kernel"]),
        ("CUDA", &versions["cuda"]),
        ("cuDNN", &versions["cudnn"]),
        ("TensorRT", &versions["tensorrt"]),
    ];
    let known = parts
        .into_iter()
        .filter_map(|(name, version)| Some(format!("{name} {}", version.as_str()?)));
    joined(known)
}

/// Readings first, then those that have none, together for each reason.
fn heat(machine: &Value) -> Option<String> {
    let zones = items(&machine["zones"]);
    let known = zones.iter().filter_map(|zone| {
        let limit = zone["limit_celsius"].as_f64().map(|at| format!(" of {at:.0}"));
        let reading = zone["celsius"].as_f64()?;
        Some(format!("{} {reading:.1}{}", text(&zone["name"]), limit.unwrap_or_default()))
    });
    let mut absent: Vec<(String, Vec<&str>)> = Vec::new();
    for zone in zones.iter().filter(|zone| zone["celsius"].is_null()) {
        let why = unknown(&zone["absent"]);
        match absent.iter_mut().find(|(other, _)| *other == why) {
            Some((_, names)) => names.push(text(&zone["name"])),
            None => absent.push((why, vec![text(&zone["name"])])),
        }
    }
    let absent = absent.into_iter().map(|(why, names)| format!("{} {why}", names.join(" and ")));
    joined(known.chain(absent))
}

fn power(machine: &Value) -> Option<String> {
    let rail = |rail: &Value| {
        let watts = rail["watts"].as_f64().map(|watts| format!("{watts:.2} W"));
        let limit = rail["warn_watts"].as_f64().map(|watts| format!(" of {watts:.0}"));
        let watts = watts.unwrap_or_else(|| unknown(&rail["absent"]));
        format!("{} {watts}{}", text(&rail["label"]), limit.unwrap_or_default())
    };
    joined(items(&machine["rails"]).iter().map(rail))
}

fn mode(machine: &Value) -> Option<String> {
    let mode = &machine["power_mode"];
    let now = match (mode["id"].as_u64(), mode["name"].as_str()) {
        (Some(_), Some(name)) => name.to_owned(),
        (Some(id), None) => format!("number {id}"),
        // A machine without modes has no row for them.
        _ if items(&machine["facts"]["power_modes"]["list"]).is_empty() => return None,
        _ => unknown(&machine["power_mode_absent"]),
    };
    let list = items(&machine["facts"]["power_modes"]["list"]).iter();
    let all = joined(list.filter_map(|mode| mode["name"].as_str().map(str::to_owned)));
    Some(all.map_or_else(|| now.clone(), |all| format!("{now} (of {all})")))
}

fn clocks(clocks: &Value) -> Option<String> {
    let clock = |name: &str, clock: &Value| {
        let now = clock["current_hertz"].as_u64().map(hertz);
        let now = now.unwrap_or_else(|| unknown(&clock["absent"]));
        let real = clock["real_hertz"].as_u64().map(|real| format!(" (really {})", hertz(real)));
        let cap = clock["cap_hertz"].as_u64().map(|cap| format!(" of {}", hertz(cap)));
        format!("{name} {now}{}{}", real.unwrap_or_default(), cap.unwrap_or_default())
    };
    let gpu = clocks["gpu"].is_object().then(|| {
        let busy = clocks["gpu_busy_share"].as_f64();
        let busy = busy.map(|share| format!(", {:.0} % busy", share * 100.0));
        clock("GPU", &clocks["gpu"]) + &busy.unwrap_or_default()
    });
    let cpus = items(&clocks["cpus"]).iter().map(|cpu| clock(text(&cpu["name"]), cpu));
    let emc = clocks["emc"].is_object().then(|| clock("memory", &clocks["emc"]));
    joined(gpu.into_iter().chain(cpus).chain(emc))
}

fn throttling(throttle: &Value) -> Option<String> {
    let counters = items(&throttle["over_current"]).iter().map(|input| {
        let events = input["events"].as_u64().map(|events| format!("{events} events"));
        let events = events.unwrap_or_else(|| unknown(&input["absent"]));
        format!("{} {events}", text(&input["name"]))
    });
    let at_work = items(&throttle["cooling"])
        .iter()
        .filter(|device| device["state"].as_u64().is_some_and(|state| state > 0));
    let devices = at_work.map(|device| {
        format!(
            "{} at {} of {}",
            text(&device["name"]),
            number(&device["state"], ""),
            number(&device["max_state"], "")
        )
    });
    joined(counters.chain(devices))
}

fn fans(machine: &Value) -> Option<String> {
    let profile = machine["facts"]["fan_profile"].as_str().map(|name| format!("profile {name}"));
    let fan = |fan: &Value| {
        let rpm = fan["rpm"].as_u64().map(|rpm| format!(" {rpm} rpm"));
        let drive = fan["drive_share"].as_f64().map(|share| format!(" {:.0} %", share * 100.0));
        let absent = fan["absent"].as_str().map(|why| format!(" ({why})"));
        let parts = [rpm, drive, absent].into_iter().flatten().collect::<String>();
        format!("{}{parts}", text(&fan["name"]))
    };
    joined(items(&machine["fans"]).iter().map(fan).chain(profile))
}

fn swap(facts: &Value, memory: &Value) -> Option<String> {
    let list = facts["storage"]["swap"].as_array()?;
    if list.is_empty() {
        return Some("none".to_owned());
    }
    let place = |swap: &Value| format!("{} {}", text(&swap["device"]), bytes(&swap["size_bytes"]));
    let free = memory["swap_free_bytes"].is_u64();
    let free = free.then(|| format!("{} free", bytes(&memory["swap_free_bytes"])));
    let zram = memory["zram_bytes"].is_u64();
    let zram = zram.then(|| format!("zram takes {}", bytes(&memory["zram_bytes"])));
    joined(list.iter().map(place).chain(free).chain(zram))
}

/// Those that are not part of a board. Their heat is among the others'.
fn gpus(machine: &Value) -> Option<String> {
    let gpu = |gpu: &Value| {
        let busy = gpu["busy_share"].as_f64().map(|share| format!("{:.0} % busy", share * 100.0));
        let watts = gpu["watts"].as_f64().map(|watts| format!("{watts:.2} W"));
        let total = gpu["memory_total_bytes"].is_u64();
        let memory = total.then(|| {
            let [used, total] =
                ["memory_used_bytes", "memory_total_bytes"].map(|of| bytes(&gpu[of]));
            format!("memory {used} of {total}")
        });
        let parts = joined([busy, watts, memory].into_iter().flatten());
        format!("{} {}", text(&gpu["name"]), parts.unwrap_or_else(|| "tells nothing".to_owned()))
    };
    joined(items(&machine["gpus"]).iter().map(gpu))
}

fn gpu_memory(machine: &Value) -> Option<String> {
    let client = |client: &Value| bytes(&client["bytes"]);
    let discrete = items(&machine["gpus"]).iter().flat_map(|gpu| items(&gpu["clients"]));
    let facts = &machine["facts"];
    match facts["gpu_clients"].as_array() {
        Some(list) => joined(list.iter().chain(discrete).map(client)),
        // Only a board with such a list is asked for one.
        None if facts["module"].is_object() => Some(unknown(&facts["gpu_clients_absent"])),
        None => joined(discrete.map(client)),
    }
}

fn boot(facts: &Value) -> Option<String> {
    let slot = |slot: &Value| {
        let status = match slot["status"].as_u64() {
            Some(0) => "well".to_owned(),
            Some(255) => "given up".to_owned(),
            Some(status) => format!("status {status}"),
            None => unknown(&slot["absent"]),
        };
        format!("slot {} {status}", text(&slot["name"]))
    };
    let marked = facts["boot"]["marked_good"].as_bool().map(|marked| {
        if marked { "boots are marked good" } else { "nothing marks boots as good" }.to_owned()
    });
    let watchdog =
        facts["watchdog"]["device"].as_str().map(|_| match facts["watchdog"]["active"].as_bool() {
            Some(true) => format!("watchdog {}", number(&facts["watchdog"]["timeout_s"], " s")),
            Some(false) => "watchdog unset".to_owned(),
            None => "watchdog unknown".to_owned(),
        });
    let root = facts["storage"]["root"].as_str().map(|device| format!("root on {device}"));
    let slots = items(&facts["boot"]["slots"]).iter().map(slot);
    joined(slots.chain(marked).chain(watchdog).chain(root))
}

fn silent(machine: &Value) -> Option<String> {
    let silent = |silent: &Value| {
        format!("{} for {}", text(&silent["what"]), number(&silent["for_s"], " s"))
    };
    joined(items(&machine["silent"]).iter().map(silent))
}

fn joined(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn unknown(why: &Value) -> String {
    why.as_str().map_or_else(|| "unknown".to_owned(), |why| format!("unknown ({why})"))
}

fn hertz(hertz: u64) -> String {
    jetpack::Hertz::new(hertz).to_string()
}

fn bytes(value: &Value) -> String {
    value
        .as_u64()
        .map_or_else(|| "unknown".to_owned(), |size| jetpack::Bytes::new(size).to_string())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use jetpack::{Absent, Machine};
    use recreated_boards::{self as tree, Tree};
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "as the macro makes it")]
    fn check(tree: &Tree, expected: Expect) {
        let mut sample = Machine::open(tree.root()).sample();
        // As on a real board, which a plain tree cannot be.
        for zone in sample.zones.iter_mut().filter(|zone| zone.celsius.is_none()) {
            zone.absent = Some(Absent::PoweredDown);
        }
        let lines = rows(&serde_json::to_value(&sample).unwrap());
        let text: String = lines.iter().map(|(name, text)| format!("{name:12}{text}\n")).collect();
        expected.assert_eq(&text);
    }

    #[test]
    fn an_orin_nano_super() {
        check(
            &tree::orin_nano(),
            expect![[r#"
                board       Jetson Orin Nano 8GB Super (p3767-0005), 6 cores, GPU to 1020 MHz
                software    Jetson Linux 36.5.0, JetPack 6.2.2, kernel 5.15.185-tegra, CUDA 12.6.11, cuDNN 9.3.0.75-1, TensorRT 10.3.0.30-1+cuda12.5
                heat        cpu-thermal 47.9 of 99, gpu-thermal 49.2 of 99, soc0-thermal 47.3 of 99, soc1-thermal 48.3 of 99, soc2-thermal 46.8 of 99, tj-thermal 50.2 of 99, cv0-thermal and cv1-thermal and cv2-thermal unknown (the measured part is powered down)
                power       VDD_IN 4.64 W of 25, VDD_CPU_GPU_CV 0.56 W, VDD_SOC 1.48 W
                mode        25W (of 15W, 25W, MAXN_SUPER)
                clocks      GPU 306 MHz of 918 MHz, 62 % busy, policy0 1190.4 MHz (really 1190 MHz) of 1344 MHz, policy4 1190.4 MHz (really 1190 MHz) of 1344 MHz, memory 2133 MHz of 3199 MHz
                throttling  oc1 0 events, oc2 0 events, oc3 1843 events, pwm-fan at 1 of 3
                fans        pwmfan 1756 rpm 35 %, profile quiet
                swap        zram0 1.9 GiB, zram1 1.9 GiB, 3.7 GiB free, zram takes 1.0 MiB
                GPU memory  512.0 MiB
                boot        slot A well, slot B well, boots are marked good, watchdog 120 s, root on nvme0n1p1
            "#]],
        );
    }

    #[test]
    fn an_agx_orin() {
        check(
            &tree::agx_orin_64gb(),
            expect![[r#"
                board       Jetson AGX Orin 64GB (p3701-0005), 12 cores, GPU to 1300.5 MHz
                software    Jetson Linux 36.5.0, JetPack 6.2.2, kernel 5.15.185-tegra, CUDA 12.6.11, cuDNN 9.3.0.75-1, TensorRT 10.3.0.30-1+cuda12.5
                heat        cpu-thermal 47.9 of 99, gpu-thermal 49.2 of 99, soc0-thermal 47.3 of 99, soc1-thermal 48.3 of 99, soc2-thermal 46.8 of 99, tboard-thermal 39.5 of 106, tdiode-thermal 41.2 of 106, tj-thermal 50.2 of 99, cv0-thermal and cv1-thermal and cv2-thermal unknown (the measured part is powered down)
                power       VDD_GPU_SOC 3.17 W, VDD_CPU_CV 0.79 W, VIN_SYS_5V0 4.55 W, VDDQ_VDD2_1V8AO 0.69 W
                mode        30W (of MAXN, 15W, 30W, 50W)
                clocks      GPU 306 MHz of 612 MHz, 62 % busy, policy0 1190.4 MHz (really 1190 MHz) of 1728 MHz, policy4 1190.4 MHz (really 1190 MHz) of 1728 MHz, policy8 1190.4 MHz (really 1190 MHz) of 1728 MHz, memory 2133 MHz of 3199 MHz
                throttling  oc1 0 events, oc2 0 events, oc3 1843 events, pwm-fan at 1 of 3
                fans        pwmfan 1756 rpm 35 %, profile quiet
                swap        zram0 1.9 GiB, zram1 1.9 GiB, 3.7 GiB free, zram takes 1.0 MiB
                GPU memory  512.0 MiB
                boot        slot A well, slot B well, boots are marked good, watchdog 120 s, root on nvme0n1p1
            "#]],
        );
    }

    #[test]
    fn gpus_of_a_pc_say_what_they_do_and_hold() {
        let known = json!({"name": "RTX 4090", "busy_share": 0.42, "watts": 211.5,
            "memory_used_bytes": 6_u64 << 30, "memory_total_bytes": 24_u64 << 30});
        let silent = json!({"name": "RTX 3060", "busy_share": null, "watts": null});
        assert_eq!(
            gpus(&json!({"gpus": [known, silent]})).as_deref(),
            Some(
                "RTX 4090 42 % busy, 211.50 W, memory 6.0 GiB of 24.0 GiB, RTX 3060 tells nothing"
            )
        );
        assert_eq!(gpus(&json!({"gpus": []})), None);
    }

    #[test]
    fn a_pc_has_no_rows_for_what_it_is_not() {
        check(
            &tree::pc(),
            expect![[r#"
            heat        acpi-z 41.0, coretemp Package id 0 55.0 of 100, k10temp Tctl 60.5, nvme Composite 38.9 of 82, nvme Sensor 1 unknown (the measured part is powered down)
            power       amdgpu PPT 23.50 W, power_meter power1 88.00 W
            fans        nct6775 CPU 900 rpm 20 %, nct6775 fan2 0 rpm
        "#]],
        );
    }
}
