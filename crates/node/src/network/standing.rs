//! What the pods' network can do here, in words for the node's conditions.

use std::io;

/// The condition about reaching the world.
const EGRESS: &str = "SandlotEgress";

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
            "the kernel takes no rules for packets ({error}): pods are cut off; they reach \
             neither each other nor services, this machine or the world, and only this node \
             reaches them"
        );
        Standing::new("SandlotFirewall", false, "NotOffered", message)
    }

    pub(super) fn no_routing(error: &io::Error) -> Standing {
        let message = format!("pods do not reach each other: {error}");
        Standing::new("SandlotRouting", false, "NotOffered", message)
    }

    pub(super) fn cables(plugged: io::Result<()>) -> Standing {
        let name = "SandlotSenders";
        match plugged {
            Ok(()) => {
                let message = "no pod sends under an address but its own";
                Standing::new(name, true, "Checked", message.to_owned())
            }
            Err(error) => {
                let message = format!(
                    "what pods send cannot be checked at their cables ({error}): no pod may \
                     have NET_RAW or NET_ADMIN"
                );
                Standing::new(name, false, "NotOffered", message)
            }
        }
    }

    pub(super) fn services_here(closed: Option<&str>) -> Standing {
        let name = "SandlotServicesHere";
        match closed {
            None => {
                let message = "this machine reaches services by their addresses";
                Standing::new(name, true, "Routed", message.to_owned())
            }
            Some(why) => {
                let message = format!(
                    "this machine does not reach services by their addresses ({why}); node \
                     ports and `kubectl port-forward` lead to them"
                );
                Standing::new(name, false, "NotOffered", message)
            }
        }
    }
}
