//! What the robot says of its machine, as the kernel tells it.

mod disks;
mod network;

use std::{collections::HashMap, fs};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sandlot_api::robot::{Cpu, DeviceInfo, Memory, Platform, Swap};

/// Looks at the machine. How busy it is counts from one look to the next.
#[derive(Default)]
pub(crate) struct Observer {
    /// Busy and all time of all processors together, then of each.
    before: Vec<(u64, u64)>,
}

impl Observer {
    /// Everything about the machine now. It reads some small files of the kernel's and waits for
    /// nothing.
    pub(crate) fn look(&mut self) -> DeviceInfo {
        let now = Timestamp::now();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let uptime = uptime();
        DeviceInfo {
            hostname: nix::unistd::gethostname()
                .ok()
                .map(|name| name.to_string_lossy().into_owned()),
            platform: Some(platform()),
            cpu: Some(self.cpu()),
            memory: Some(memory(&meminfo)),
            swap: Some(swap(&meminfo)),
            disks: disks::all(),
            network_interfaces: network::all(),
            boot_time: uptime.and_then(|seconds| {
                let boot = now.checked_sub(SignedDuration::from_secs(seconds)).ok()?;
                Some(Time(boot))
            }),
            uptime,
            last_updated: Some(Time(now)),
        }
    }

    fn cpu(&mut self) -> Cpu {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let times = times(&stat);
        let busy: Vec<f64> = times
            .iter()
            .enumerate()
            .map(|(index, now)| percent_busy(self.before.get(index), *now))
            .collect();
        self.before = times;
        let mut cpu = processors(&info);
        cpu.usage_percent = busy.first().copied().unwrap_or_default();
        cpu.per_cpu_usage = busy.into_iter().skip(1).collect();
        cpu
    }
}

/// The processors, as `/proc/cpuinfo` has them.
fn processors(info: &str) -> Cpu {
    let mut cpu = Cpu::default();
    let mut cores = std::collections::HashSet::new();
    for processor in info.split("\n\n").filter(|text| !text.trim().is_empty()) {
        let facts: HashMap<&str, &str> = processor
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        if !facts.contains_key("processor") {
            continue;
        }
        let fact = |name: &str| facts.get(name).copied().unwrap_or_default();
        if cpu.logical_cores == 0 {
            cpu.model_name = fact("model name").to_owned();
            cpu.vendor = fact("vendor_id").to_owned();
            cpu.mhz = fact("cpu MHz").parse().unwrap_or_default();
        }
        cpu.logical_cores += 1;
        // Machines that do not number their cores have one thread in each.
        let core = match facts.get("core id") {
            Some(core) => format!("{} {core}", fact("physical id")),
            None => format!("alone {}", fact("processor")),
        };
        cores.insert(core);
    }
    cpu.physical_cores = i64::try_from(cores.len()).unwrap_or(i64::MAX);
    cpu
}

/// Busy and all time of the processors together and of each, as `/proc/stat` has them.
fn times(stat: &str) -> Vec<(u64, u64)> {
    let lines = stat.lines().take_while(|line| line.starts_with("cpu"));
    lines
        .map(|line| {
            let numbers = line.split_whitespace().skip(1).take(8);
            let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
            let all = numbers.iter().sum();
            let idle: u64 = numbers.iter().skip(3).take(2).sum();
            (all - idle, all)
        })
        .collect()
}

fn percent_busy(before: Option<&(u64, u64)>, now: (u64, u64)) -> f64 {
    let before = before.copied().unwrap_or_default();
    let all = now.1.saturating_sub(before.1);
    percent(now.0.saturating_sub(before.0), all)
}

fn percent(part: u64, all: u64) -> f64 {
    match all {
        0 => 0.0,
        all => (part as f64 / all as f64 * 1000.0).round() / 10.0,
    }
}

fn kilobytes(meminfo: &str, name: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or_default() * 1024
}

fn memory(meminfo: &str) -> Memory {
    let bytes = |name: &str| kilobytes(meminfo, name);
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    let used = total.saturating_sub(available);
    Memory {
        total: signed(total),
        available: signed(available),
        used: signed(used),
        free: signed(bytes("MemFree")),
        buffers: signed(bytes("Buffers")),
        cached: signed(bytes("Cached")),
        usage_percent: percent(used, total),
    }
}

fn swap(meminfo: &str) -> Swap {
    let (total, free) = (
        kilobytes(meminfo, "SwapTotal"),
        kilobytes(meminfo, "SwapFree"),
    );
    let used = total.saturating_sub(free);
    Swap {
        total: signed(total),
        used: signed(used),
        free: signed(free),
        usage_percent: percent(used, total),
    }
}

/// Numbers on the wire are signed; no machine has so much of anything that it matters.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn platform() -> Platform {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let fact = |name: &str| {
        let mut lines = release.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    };
    let kernel = nix::sys::utsname::uname().ok();
    let text = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        kernel
            .as_ref()
            .map(|kernel| part(kernel).to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let family = fact("ID_LIKE");
    Platform {
        os: std::env::consts::OS.to_owned(),
        arch: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
        .to_owned(),
        platform_family: match family.split_whitespace().next() {
            Some(family) => family.to_owned(),
            None => fact("ID"),
        },
        platform: fact("ID"),
        platform_version: fact("VERSION_ID"),
        kernel_version: text(nix::sys::utsname::UtsName::release),
        kernel_arch: text(nix::sys::utsname::UtsName::machine),
    }
}

fn uptime() -> Option<i64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(seconds as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_cores_are_counted_apart() {
        let info = "processor\t: 0\nvendor_id\t: Any\nmodel name\t: Fast 3\ncpu MHz\t\t: 2100.5\nphysical id\t: 0\ncore id\t\t: 0\n\nprocessor\t: 1\nphysical id\t: 0\ncore id\t\t: 0\n\n";
        let cpu = processors(info);
        assert_eq!((cpu.logical_cores, cpu.physical_cores), (2, 1));
        assert_eq!((cpu.model_name.as_str(), cpu.mhz), ("Fast 3", 2100.5));
        let arm = "processor\t: 0\nBogoMIPS\t: 50\n\nprocessor\t: 1\n\nHardware\t: Board\n";
        let cpu = processors(arm);
        assert_eq!((cpu.logical_cores, cpu.physical_cores), (2, 2));
    }

    #[test]
    fn how_busy_it_is_counts_from_look_to_look() {
        let first = times("cpu  10 0 10 80 0 0 0 0 5 5\ncpu0 10 0 10 80 0 0 0 0 0 0\nintr 1");
        assert_eq!(first, [(20, 100), (20, 100)]);
        assert_eq!(percent_busy(first.first(), (70, 200)), 50.0);
        assert_eq!(percent_busy(first.first(), (20, 100)), 0.0);
    }

    #[test]
    fn this_machine_has_what_every_machine_has() {
        let info = Observer::default().look();
        assert!(info.cpu.is_some_and(|cpu| cpu.logical_cores > 0));
        assert!(
            info.memory
                .is_some_and(|memory| memory.total > memory.available)
        );
        assert!(info.hostname.is_some_and(|name| !name.is_empty()));
        assert!(info.disks.iter().all(|disk| disk.total >= disk.used));
        assert!(
            info.network_interfaces
                .iter()
                .all(|interface| interface.name != "lo")
        );
    }
}
