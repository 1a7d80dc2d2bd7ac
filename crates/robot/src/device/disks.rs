//! The mounted disks.

use std::{collections::HashSet, fs, path::Path};

use nix::sys::statvfs::statvfs;
use sandlot_api::robot::Disk;

use super::{percent, signed};

/// No machine has so many disks; what mounts more is no robot.
const MOST: usize = 64;

/// Every device that is mounted, at the first place where it is.
pub(super) fn all() -> Vec<Disk> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut seen = HashSet::new();
    let disks = mounts.lines().filter_map(|line| {
        let mut parts = line.split(' ');
        let (device, place, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let is_device = device.starts_with("/dev/") && !device.starts_with("/dev/loop");
        (is_device && seen.insert(device.to_owned())).then(|| disk(device, place, kind))?
    });
    disks.take(MOST).collect()
}

fn disk(device: &str, place: &str, kind: &str) -> Option<Disk> {
    // The kernel writes blanks in names as numbers.
    let place = place.replace("\\040", " ");
    let stat = statvfs(Path::new(&place)).ok()?;
    let block = stat.fragment_size();
    let total = stat.blocks() * block;
    let free = stat.blocks_available() * block;
    let used = (stat.blocks() - stat.blocks_free()) * block;
    let files = (stat.files(), stat.files_free());
    Some(Disk {
        device: device.to_owned(),
        mount_point: place,
        fs_type: kind.to_owned(),
        total: signed(total),
        used: signed(used),
        free: signed(free),
        usage_percent: percent(used, used + free),
        inodes_total: signed(files.0),
        inodes_used: signed(files.0.saturating_sub(files.1)),
        inodes_free: signed(files.1),
    })
}
