//! What the pods' network can do here, in words for the node's conditions.

use std::io;

/// The condition about reaching the world.
pub(super) const EGRESS: &str = "SandlotEgress";

/// One thing that holds of the network or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) condition: String,
    pub(crate) holds: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Standing {
    fn new(condition: &str, holds: bool, reason: &'static str, message: String) -> Standing {
        Standing {
            condition: condition.to_owned(),
            holds,
            reason,
            message,
        }
    }

    pub(super) fn translated() -> Standing {
        let message = "pods reach the world under this machine's address";
        Standing::new(EGRESS, true, "AddressTranslation", message.to_owned())
    }

    pub(super) fn carried(why: &io::Error) -> Standing {
        let message = format!(
            "the node carries pods' TCP connections to the world and asks for names; \
             other protocols do not pass ({why})"
        );
        Standing::new(EGRESS, true, "CarriedByNode", message)
    }

    pub(super) fn closed_egress() -> Standing {
        let message = "closed by --no-egress";
        Standing::new(EGRESS, false, "ClosedOnRequest", message.to_owned())
    }

    pub(super) fn no_egress(error: &io::Error) -> Standing {
        let message = format!("pods cannot reach the world: {error}");
        Standing::new(EGRESS, false, "NotOffered", message)
    }

    pub(super) fn firewall() -> Standing {
        let message = "services and network policies are in force";
        Standing::new("SandlotFirewall", true, "Nftables", message.to_owned())
    }

    pub(super) fn no_firewall(error: &io::Error) -> Standing {
        let message = format!(
            "the kernel takes no rules ({error}): services have no addresses, network \
             policies are not enforced, and pods reach what listens on this machine"
        );
        Standing::new("SandlotFirewall", false, "NotOffered", message)
    }
}

/// Tries something; a failure is said in a condition of this name.
pub(super) fn tried(
    standing: &mut Vec<Standing>,
    name: &str,
    what: impl FnOnce() -> io::Result<()>,
) -> bool {
    let result = what();
    if let Err(error) = &result {
        let message = format!("pods reach each other past the network policies: {error}");
        let condition = format!("Sandlot{name}");
        standing.push(Standing::new(&condition, false, "NotOffered", message));
    }
    result.is_ok()
}
