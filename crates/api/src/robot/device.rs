//! What a robot says of itself: machine, system, disks, network.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A robot's machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceInfo {
    /// The machine's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// The memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The swap space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<Swap>,
    /// The mounted disks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// The network interfaces, without loopback.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network_interfaces: Vec<NetworkInterface>,
    /// When the machine started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_time: Option<Time>,
    /// For how many seconds it has been running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime: Option<i64>,
    /// When all this was found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Time>,
}

/// An operating system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Platform {
    /// Its kind, such as `linux`.
    pub os: String,
    /// The machine's architecture, such as `amd64`.
    pub arch: String,
    /// The distribution, such as `debian`.
    pub platform: String,
    /// What the distribution descends from.
    pub platform_family: String,
    /// The distribution's version.
    pub platform_version: String,
    /// The kernel's version.
    pub kernel_version: String,
    /// The kernel's architecture.
    pub kernel_arch: String,
}

/// The processors.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Cores.
    pub physical_cores: i64,
    /// Threads that run at once.
    pub logical_cores: i64,
    /// The model.
    pub model_name: String,
    /// Who made it.
    pub vendor: String,
    /// Its clock.
    pub mhz: f64,
    /// How busy all are together, in percent.
    pub usage_percent: f64,
    /// How busy each is, in percent.
    pub per_cpu_usage: Vec<f64>,
}

/// The memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// All of it.
    pub total: i64,
    /// What programs could still have.
    pub available: i64,
    /// What programs have.
    pub used: i64,
    /// What is not used for anything.
    pub free: i64,
    /// What the kernel uses for buffers.
    pub buffers: i64,
    /// What the kernel uses for cached files.
    pub cached: i64,
    /// How much is used, in percent.
    pub usage_percent: f64,
}

/// The swap space, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Swap {
    /// All of it.
    pub total: i64,
    /// What is used.
    pub used: i64,
    /// What is free.
    pub free: i64,
    /// How much is used, in percent.
    pub usage_percent: f64,
}

/// A mounted disk, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Disk {
    /// The device.
    pub device: String,
    /// Where it is mounted.
    pub mount_point: String,
    /// Its file system.
    pub fs_type: String,
    /// All of it.
    pub total: i64,
    /// What is used.
    pub used: i64,
    /// What is free.
    pub free: i64,
    /// How much is used, in percent.
    pub usage_percent: f64,
    /// How many files it can hold.
    pub inodes_total: i64,
    /// How many it holds.
    pub inodes_used: i64,
    /// How many more it can hold.
    pub inodes_free: i64,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkInterface {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub hardware_addr: String,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// The longest packet it carries.
    pub mtu: i64,
    /// What it can do: UP, BROADCAST, MULTICAST, POINTOPOINT.
    pub flags: Vec<String>,
    /// Bytes sent.
    pub bytes_sent: i64,
    /// Bytes received.
    pub bytes_recv: i64,
    /// Packets sent.
    pub packets_sent: i64,
    /// Packets received.
    pub packets_recv: i64,
    /// Packets received in error.
    pub errin: i64,
    /// Packets not sent for errors.
    pub errout: i64,
    /// Received packets dropped.
    pub dropin: i64,
    /// Outgoing packets dropped.
    pub dropout: i64,
}

impl DeviceInfo {
    /// Reads what a robot sent, as far as it can be understood: older agents and scripts send
    /// looser shapes, and a field that makes no sense must not keep a robot from registering.
    pub fn read(sent: &Value) -> Self {
        fn part<T: DeserializeOwned>(sent: &Value, name: &str) -> Option<T> {
            let value = sent.get(name).filter(|value| !value.is_null())?;
            serde_json::from_value(value.clone()).ok()
        }
        let text = |name: &str| part::<String>(sent, name);
        let mut platform: Option<Platform> = part(sent, "platform");
        if platform.is_none() && (sent["os"].is_string() || sent["arch"].is_string()) {
            platform = Some(Platform {
                os: text("os").unwrap_or_default(),
                arch: text("arch").unwrap_or_default(),
                kernel_version: text("kernelVersion").unwrap_or_default(),
                ..Platform::default()
            });
        }
        let mut cpu: Option<Cpu> = part(sent, "cpu");
        if let Some(cores) = sent["cpu"]["cores"].as_i64() {
            let cpu = cpu.get_or_insert_default();
            if cpu.logical_cores == 0 {
                cpu.logical_cores = cores;
            }
        }
        Self {
            hostname: text("hostname"),
            platform,
            cpu,
            memory: part(sent, "memory"),
            swap: part(sent, "swap"),
            disks: part(sent, "disks").unwrap_or_default(),
            network_interfaces: part(sent, "networkInterfaces").unwrap_or_default(),
            boot_time: part(sent, "bootTime"),
            uptime: part(sent, "uptime"),
            last_updated: part(sent, "lastUpdated"),
        }
    }

    /// What stays the same from one moment to the next: two readings that differ in nothing else
    /// are no news.
    pub fn lasting(&self) -> Self {
        let mut lasting = self.clone();
        lasting.uptime = None;
        lasting.last_updated = None;
        // Readings of the boot time differ by the clock's corrections.
        lasting.boot_time = lasting.boot_time.take().and_then(|time| {
            let minute = time.0.as_second() / 60 * 60;
            Timestamp::from_second(minute).ok().map(Time)
        });
        if let Some(cpu) = &mut lasting.cpu {
            (cpu.mhz, cpu.usage_percent) = (0.0, 0.0);
            cpu.per_cpu_usage.clear();
        }
        if let Some(memory) = &mut lasting.memory {
            *memory = Memory {
                total: memory.total,
                ..Memory::default()
            };
        }
        if let Some(swap) = &mut lasting.swap {
            *swap = Swap {
                total: swap.total,
                ..Swap::default()
            };
        }
        for disk in &mut lasting.disks {
            (disk.used, disk.free, disk.usage_percent) = (0, 0, 0.0);
            (disk.inodes_used, disk.inodes_free) = (0, 0);
        }
        for interface in &mut lasting.network_interfaces {
            *interface = NetworkInterface {
                name: std::mem::take(&mut interface.name),
                hardware_addr: std::mem::take(&mut interface.hardware_addr),
                addresses: std::mem::take(&mut interface.addresses),
                mtu: interface.mtu,
                flags: std::mem::take(&mut interface.flags),
                ..NetworkInterface::default()
            };
        }
        lasting
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_loose_shapes_of_older_agents_are_understood() {
        let info = DeviceInfo::read(&json!({
            "hostname": "arm-1", "os": "linux", "arch": "arm64",
            "cpu": { "cores": 4 }, "disk": { "total": 5 }, "memory": "lots", "uptime": 17,
        }));
        assert_eq!(info.hostname.as_deref(), Some("arm-1"));
        assert_eq!(info.platform.unwrap().arch, "arm64");
        assert_eq!(info.cpu.unwrap().logical_cores, 4);
        assert_eq!(info.memory, None);
        assert_eq!(info.uptime, Some(17));
        assert_eq!(DeviceInfo::read(&json!("nonsense")), DeviceInfo::default());
    }

    #[test]
    fn only_what_lasts_is_news() {
        let first = DeviceInfo::read(&json!({
            "hostname": "a", "uptime": 1, "cpu": { "logicalCores": 4, "usagePercent": 3.5 },
            "memory": { "total": 8, "used": 2 },
        }));
        let mut later = first.clone();
        later.uptime = Some(31);
        later.cpu.as_mut().unwrap().usage_percent = 80.0;
        later.memory.as_mut().unwrap().used = 5;
        assert_eq!(first.lasting(), later.lasting());
        later.memory.as_mut().unwrap().total = 16;
        assert_ne!(first.lasting(), later.lasting());
    }
}
