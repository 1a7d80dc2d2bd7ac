//! What the containers are run by.

use super::{Attempt, MACHINE, Place};

/// Below a process 1 that is called as ours are.
const CALLED: Place = r#"cp "$(readlink -f /bin/sh)" $SITE/sandlot &&
unshare $ROOTLESS -mpf --mount-proc $SITE/sandlot -c 'sh -c "$ATTEMPT"; true'"#;

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "what the node keeps of its pods",
        MACHINE,
        "find /tmp /var /run -xdev \\( -name keeper.sock -o -name sandbox.json \\) 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "files left open",
        r#"mkdir $SITE/sandbox && exec 9<$SITE/sandbox && sh -c "$ATTEMPT""#,
        "for f in /proc/self/fd/*; do case $(readlink $f) in *sandbox*|*keeper*|*cgroup*) echo reached;; esac; done",
    ),
    (
        "the program that started it",
        CALLED,
        "readlink /proc/1/exe | grep -q sandlot && echo reached",
    ),
    (
        "the keeper",
        CALLED,
        "grep -l sandlot /proc/[0-9]*/comm 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "writing over the program that started it",
        CALLED,
        // That it runs just now passes.
        "python3 -c \"import os,errno;assert 'sandlot' in os.readlink('/proc/1/exe')
try: open('/proc/1/exe','r+b')
except OSError as e: assert e.errno==errno.ETXTBSY
print('reached')\" 2>/dev/null",
    ),
];
