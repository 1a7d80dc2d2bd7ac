//! What this machine offers to pods, found out by trying.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cgroup::Layout;
use crate::runtime::{Runtime, RuntimeError};

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Whether this process is the machine's root.
    pub root: bool,
    /// The kernel's release.
    pub kernel: String,
    /// The arrangement of control groups.
    pub cgroups: String,
    /// Each thing pods can use, whether it is there, and what its absence means.
    pub offers: Vec<Offer>,
    /// The OCI runtimes that pods may ask for besides the node's own.
    pub runtimes: Vec<FoundRuntime>,
}

/// An OCI runtime that may be here.
#[derive(Clone, Debug, Serialize)]
pub struct FoundRuntime {
    /// Its name, as a RuntimeClass's handler and `--runtime` have it.
    pub name: &'static str,
    /// Its program, if it is on this machine.
    pub program: Option<PathBuf>,
    /// Why pods cannot have it.
    pub why_not: Option<&'static str>,
}

impl FoundRuntime {
    fn look(name: &'static str, program: Option<PathBuf>) -> FoundRuntime {
        let why_not = match Runtime::named(name) {
            Ok(_) => None,
            Err(RuntimeError::NeedsRoot(_)) => Some("it needs root here"),
            Err(RuntimeError::NoVirtualMachines(_)) => Some("there is no /dev/kvm for it"),
            Err(RuntimeError::NoOciRuntime(_)) => {
                Some("this version starts containers for containerd alone")
            }
            Err(_) => Some("not installed"),
        };
        FoundRuntime {
            name,
            program,
            why_not,
        }
    }
}

/// One thing a machine may offer.
#[derive(Clone, Debug, Serialize)]
pub struct Offer {
    /// What it is.
    pub name: &'static str,
    /// Whether it is there.
    pub there: bool,
    /// What pods lose without it.
    pub without: &'static str,
}

/// The offer that all rules between pods, services and this machine rest on.
pub(crate) const PACKET_RULES: &str = "Nftables";

/// Something missing, as a Node condition.
pub(crate) struct Shortcoming {
    pub(crate) condition: String,
    pub(crate) message: String,
}

/// The machine as it was found at the first look; none of this changes while a node runs.
pub(crate) fn machine() -> &'static Machine {
    static MACHINE: std::sync::OnceLock<Machine> = std::sync::OnceLock::new();
    MACHINE.get_or_init(probe)
}

/// Looks at the machine.
pub fn probe() -> Machine {
    let layout = Layout::detect("sandlot-doctor");
    let exists = |path: &str| Path::new(path).exists();
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let users = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let users = exists("/proc/self/ns/user") && users.trim() != "0";
    let root = nix::unistd::geteuid().is_root();
    let rules = crate::network::rules_offered().is_ok();
    let kernel = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let offer = |name, there, without| Offer {
        name,
        there,
        without,
    };
    let offers = vec![
        offer(
            "UserNamespaces",
            users,
            "a container's root is the machine's",
        ),
        offer(
            "NetworkNamespaces",
            exists("/proc/self/ns/net"),
            "pods share the machine's network",
        ),
        offer(
            PACKET_RULES,
            rules,
            "pods are cut off: they reach neither each other nor services, this machine or the world",
        ),
        offer(
            "SenderChecks",
            rules && crate::network::sender_checks_offered(),
            "pods cannot have NET_RAW or NET_ADMIN",
        ),
        offer(
            "AddressTranslation",
            root && rules,
            "the node carries pods' TCP connections to the world; other protocols do not pass",
        ),
        offer(
            "PodAddresses",
            root && rules,
            "this machine reaches pods at 127.64.0.0/11, on the ports they name, and services by node ports",
        ),
        offer(
            "Overlay",
            filesystems.contains("overlay"),
            "containers cannot be built at all",
        ),
        offer(
            "Seccomp",
            exists("/proc/sys/kernel/seccomp"),
            "every system call is open to containers",
        ),
        offer(
            "Landlock",
            landlock(),
            "one of several walls around files is missing",
        ),
        offer(
            "MemoryLimits",
            layout.has("memory"),
            "memory limits are not enforced",
        ),
        offer(
            "CpuLimits",
            layout.has("cpu"),
            "cpu limits are not enforced",
        ),
        offer(
            "ProcessLimits",
            layout.has("pids"),
            "the number of processes is not limited",
        ),
        offer(
            "ManyUsers",
            root,
            "a container has one user, who owns all that it finds and writes; where processes are shared it is root",
        ),
        offer(
            "Python",
            exists("/usr/bin/python3") || exists("/usr/local/bin/python3"),
            "the image `host` has no python",
        ),
    ];
    let machine = Machine {
        root,
        kernel,
        cgroups: layout.words().to_owned(),
        offers,
        runtimes: crate::runtime::all()
            .into_iter()
            .map(|(name, program)| FoundRuntime::look(name, program))
            .collect(),
    };
    crate::cgroup::Cgroups::open("sandlot-doctor").close();
    machine
}

/// The kernel tells its Landlock version to anybody who asks.
fn landlock() -> bool {
    const ASK_VERSION: u32 = 1;
    // SAFETY: with this flag the call reads no memory and creates nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            ASK_VERSION,
        )
    };
    version > 0
}

impl Machine {
    /// Whether it offers what goes by this name.
    pub(crate) fn offers(&self, name: &str) -> bool {
        self.offers
            .iter()
            .any(|offer| offer.name == name && offer.there)
    }

    /// What is missing, each as a Node condition.
    pub(crate) fn shortcomings(&self) -> Vec<Shortcoming> {
        let missing = self.offers.iter().filter(|offer| !offer.there);
        missing
            .map(|offer| Shortcoming {
                condition: format!("Sandlot{}", offer.name),
                message: offer.without.to_owned(),
            })
            .collect()
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = if self.root {
            "root"
        } else {
            "an ordinary user"
        };
        writeln!(
            f,
            "Linux {}, running as {user}, control groups: {}",
            self.kernel, self.cgroups
        )?;
        for offer in &self.offers {
            let name = in_words(offer.name);
            if offer.there {
                writeln!(f, "  yes  {name}")?;
            } else {
                writeln!(f, "  no   {name:<19} {}", offer.without)?;
            }
        }
        writeln!(f, "Runtimes besides Sandlot's own:")?;
        for runtime in &self.runtimes {
            match (&runtime.program, runtime.why_not) {
                (Some(program), None) => {
                    writeln!(f, "  yes  {:<18} {}", runtime.name, program.display())?;
                }
                (_, why_not) => {
                    let why_not = why_not.unwrap_or("not installed");
                    writeln!(f, "  no   {:<18} {why_not}", runtime.name)?;
                }
            }
        }
        Ok(())
    }
}

/// `UserNamespaces`, as conditions and scripts have it, for people.
fn in_words(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_in_words_with_what_it_costs() {
        let machine = Machine {
            root: false,
            kernel: "6.1".to_owned(),
            cgroups: "none".to_owned(),
            offers: vec![Offer {
                name: "MemoryLimits",
                there: false,
                without: "memory limits are not enforced",
            }],
            runtimes: Vec::new(),
        };
        let said = machine.to_string();
        assert!(
            said.contains("no   memory limits       memory limits are not"),
            "{said}"
        );
    }
}
