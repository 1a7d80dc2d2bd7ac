//! What the containers are run by.

use super::Attempt;
use super::Outside::{NotTried, Works};

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "what the node keeps of its pods",
        Works,
        "find /tmp /var /run -xdev \\( -name keeper.sock -o -name sandbox.json \\) 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "files left open",
        NotTried("a test has files open"),
        "for f in /proc/self/fd/*; do case $(readlink $f) in *sandbox*|*keeper*|*cgroup*) echo reached;; esac; done",
    ),
    (
        "the program that started it",
        NotTried("nothing started it"),
        "readlink /proc/1/exe | grep -q sandlot && echo reached",
    ),
    (
        "the keeper",
        NotTried("not there"),
        "grep -l sandlot /proc/[0-9]*/comm 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "writing over the program that started it",
        NotTried("nothing started it"),
        "python3 -c \"open('/proc/1/exe','r+b');print('reached')\" 2>/dev/null",
    ),
];
