//! Other processes, and powers over one's own that nobody gave.

use super::{Attempt, MACHINE};

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "processes of the machine",
        MACHINE,
        "test $(ls -d /proc/[0-9]* | wc -l) -gt 20 && echo reached",
    ),
    (
        "signals to the machine's processes",
        MACHINE,
        "kill -0 $OUTER 2>/dev/null && echo reached",
    ),
    (
        "the environment of others",
        MACHINE,
        "tr '\\0' '\\n' < /proc/$OUTER/environ 2>/dev/null | grep -q . && echo reached",
    ),
    (
        "tracing others",
        MACHINE,
        "python3 -c \"import ctypes,os;l=ctypes.CDLL(None);p=int(os.environ['OUTER']);r=l.ptrace(16,p,0,0);print('reached' if r==0 else '');os.waitpid(p,0x40000000) if r==0 else 0;l.ptrace(17,p,0,0)\"",
    ),
    (
        "the memory of others",
        MACHINE,
        "python3 -c \"import os;open('/proc/%s/mem'%os.environ['OUTER'],'rb');print('reached')\" 2>/dev/null",
    ),
    (
        "files of others through their descriptors",
        MACHINE,
        "python3 -c \"import ctypes,os;l=ctypes.CDLL(None);f=l.syscall(434,int(os.environ['OUTER']),0);print('reached' if f>=0 and l.syscall(438,f,1,0)>=0 else '')\"",
    ),
    (
        "reading the memory of others by a call",
        MACHINE,
        "python3 -c \"import ctypes,os,struct;p=int(os.environ['OUTER']);a=int(open('/proc/%d/maps'%p).read().split('-')[0],16);b=ctypes.create_string_buffer(8);m=lambda x:ctypes.create_string_buffer(struct.pack('QQ',x,8));print('reached' if ctypes.CDLL(None).syscall(310,p,m(ctypes.addressof(b)),1,m(a),1,ctypes.c_long(0))==8 else '')\" 2>/dev/null",
    ),
    (
        "signals to others by a descriptor",
        MACHINE,
        "python3 -c \"import os,signal;signal.pidfd_send_signal(os.pidfd_open(int(os.environ['OUTER'])),0);print('reached')\" 2>/dev/null",
    ),
    (
        "comparing processes (kcmp)",
        MACHINE,
        "python3 -c \"import ctypes,os;l=ctypes.CDLL(None);p=os.getpid();print('reached' if l.syscall(312,p,p,2,0,0)==0 else '')\"",
    ),
    (
        "going before everybody else",
        MACHINE,
        "python3 -c \"import os;os.nice(-5);print('reached')\" 2>/dev/null",
    ),
    (
        "time that nobody else gets",
        MACHINE,
        "python3 -c \"import os;os.sched_setscheduler(0,os.SCHED_FIFO,os.sched_param(1));print('reached')\" 2>/dev/null",
    ),
    (
        "never being killed for memory",
        MACHINE,
        "(echo -1000 > /proc/self/oom_score_adj) 2>/dev/null && echo reached",
    ),
    (
        "more than one may open",
        MACHINE,
        "python3 -c \"import resource as r;h=r.getrlimit(r.RLIMIT_NOFILE)[1];r.setrlimit(r.RLIMIT_NOFILE,(h,h+1));print('reached')\" 2>/dev/null",
    ),
    (
        "typing into a terminal",
        MACHINE,
        "python3 -c \"import os,pty,fcntl,termios;m,s=pty.openpty();os.setsid();fcntl.ioctl(s,termios.TIOCSCTTY,0);fcntl.ioctl(s,termios.TIOCSTI,b'x');print('reached')\" 2>/dev/null",
    ),
    (
        "becoming root by a file",
        MACHINE,
        "p=$(mktemp -d /var/tmp/XXXXXX); chmod 755 $p; cp \"$(readlink -f /usr/bin/python3)\" $p/py; chmod 4755 $p/py; python3 -c \"import os,sys;os.setgid(1000);os.setuid(1000);os.execv(sys.argv[1],['x','-c','import os;print(\\\"reached\\\" if os.geteuid()==0 else \\\"\\\")'])\" $p/py; rm -rf $p",
    ),
];
