//! Where on the disk pods' files lie.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use libc::c_int;

/// Folders in this folder have nothing to do with one another (`chattr +T`).
const TOP: c_int = 0x0002_0000;

/// Has each folder that is made in this one put into a part of the disk of its own, where the file
/// system can do that.
///
/// Before ext4 makes a file it looks at every file that was deleted from that part of the disk in
/// the last minutes. With all pods' files in one part each new file waits for those of all the pods
/// that have just gone.
pub(super) fn lay_apart(folder: &Path) -> io::Result<()> {
    let folder = File::open(folder)?;
    let flags = flags(&folder)? | TOP;
    // SAFETY: an open descriptor, and an integer that the call reads.
    match unsafe { libc::ioctl(folder.as_raw_fd(), libc::FS_IOC_SETFLAGS, &flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn flags(folder: &File) -> io::Result<c_int> {
    let mut flags = 0;
    // SAFETY: an open descriptor, and an integer of this stack that the call fills.
    match unsafe { libc::ioctl(folder.as_raw_fd(), libc::FS_IOC_GETFLAGS, &mut flags) } {
        0 => Ok(flags),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, statfs};

    use super::*;

    #[test]
    fn ext4_is_told_and_other_file_systems_are_asked() {
        let folder = tempfile::tempdir().unwrap();
        let told = lay_apart(folder.path());
        if statfs(folder.path()).unwrap().filesystem_type() == EXT4_SUPER_MAGIC {
            told.unwrap();
            let flags = flags(&File::open(folder.path()).unwrap()).unwrap();
            assert_eq!(flags & TOP, TOP);
        }
    }
}
