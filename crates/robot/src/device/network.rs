//! The network interfaces.

use std::{collections::BTreeMap, fs};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::socket::SockaddrStorage};
use sandlot_api::robot::NetworkInterface;

use super::signed;

/// No robot has so many interfaces; machines that run containers do.
const MOST: usize = 64;
/// What is said of an interface's abilities.
const FLAGS: [(InterfaceFlags, &str); 4] = [
    (InterfaceFlags::IFF_UP, "UP"),
    (InterfaceFlags::IFF_BROADCAST, "BROADCAST"),
    (InterfaceFlags::IFF_MULTICAST, "MULTICAST"),
    (InterfaceFlags::IFF_POINTOPOINT, "POINTOPOINT"),
];

/// Every interface but loopback.
pub(super) fn all() -> Vec<NetworkInterface> {
    let mut found: BTreeMap<String, NetworkInterface> = BTreeMap::new();
    for part in getifaddrs().into_iter().flatten() {
        if part.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let name = part.interface_name.clone();
        let interface = found.entry(name).or_insert_with_key(|name| {
            let flags = FLAGS.iter().filter(|(flag, _)| part.flags.contains(*flag));
            NetworkInterface {
                flags: flags.map(|(_, word)| (*word).to_owned()).collect(),
                ..counted(name)
            }
        });
        if let Some(address) = address(part.address.as_ref(), part.netmask.as_ref()) {
            interface.addresses.push(address);
        }
    }
    found.into_values().take(MOST).collect()
}

/// An address with the length of its prefix.
fn address(address: Option<&SockaddrStorage>, mask: Option<&SockaddrStorage>) -> Option<String> {
    let (address, mask) = (address?, mask?);
    if let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
        let bits = u32::from(mask.ip()).count_ones();
        return Some(format!("{}/{bits}", address.ip()));
    }
    let (address, mask) = (address.as_sockaddr_in6()?, mask.as_sockaddr_in6()?);
    let bits = u128::from(mask.ip()).count_ones();
    Some(format!("{}/{bits}", address.ip()))
}

/// What the kernel has counted of an interface.
fn counted(name: &str) -> NetworkInterface {
    let text = |path: &str| {
        let path = format!("/sys/class/net/{name}/{path}");
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let number = |path: &str| signed(text(path).parse().unwrap_or_default());
    NetworkInterface {
        name: name.to_owned(),
        hardware_addr: text("address"),
        mtu: number("mtu"),
        bytes_sent: number("statistics/tx_bytes"),
        bytes_recv: number("statistics/rx_bytes"),
        packets_sent: number("statistics/tx_packets"),
        packets_recv: number("statistics/rx_packets"),
        errin: number("statistics/rx_errors"),
        errout: number("statistics/tx_errors"),
        dropin: number("statistics/rx_dropped"),
        dropout: number("statistics/tx_dropped"),
        ..NetworkInterface::default()
    }
}
