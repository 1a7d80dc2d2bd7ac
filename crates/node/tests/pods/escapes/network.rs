//! The machine's network and sockets.

use super::{Attempt, MACHINE};

pub(super) const ATTEMPTS: &[Attempt] = &[
    (
        "the kernel's ciphers",
        MACHINE,
        "python3 -c \"import socket;socket.socket(38,5,0);print('reached')\" 2>/dev/null",
    ),
    (
        "the machine's host (vsock)",
        MACHINE,
        "python3 -c \"import socket;socket.socket(40,1,0);print('reached')\" 2>/dev/null",
    ),
    (
        "the machine's abstract sockets",
        MACHINE,
        "python3 -c \"import socket,os;s=socket.socket(1);s.connect('\\0'+os.environ['MARK']);print('reached')\" 2>/dev/null",
    ),
    (
        "services on the machine's loopback",
        MACHINE,
        "python3 -c \"import socket,os;socket.create_connection(('127.0.0.1',int(os.environ['PORT'])),2);print('reached')\" 2>/dev/null",
    ),
    (
        "raw packets",
        MACHINE,
        "python3 -c \"import socket;socket.socket(17,3,0);print('reached')\" 2>/dev/null",
    ),
    (
        "network settings",
        MACHINE,
        "ip link add d0x type veth peer name d0y 2>/dev/null && echo reached; ip link del d0x 2>/dev/null",
    ),
    (
        "the machine's interfaces",
        MACHINE,
        "ip -o link | grep -qE 'ens|enp|ifb|sl[0-9a-f]{4}-br' && echo reached",
    ),
    (
        "the machine's rules for packets",
        MACHINE,
        "python3 -c \"import socket,struct;s=socket.socket(16,3,12);m=lambda t,f,b,fam=0:struct.pack('IHHII',20+len(b),t,f,1,0)+struct.pack('BBH',fam,0,socket.htons(10 if t<32 else 0))+b;n=b'sandlot-none\\0';a=struct.pack('HH',4+len(n),1)+n+b'\\0'*(-len(n)%4);s.send(m(16,1,b'')+m(0xa00,0x405,a,1)+m(0xa02,5,a,1)+m(17,1,b''));r=s.recv(4096);print('reached' if struct.unpack('i',r[16:20])[0]==0 else '')\" 2>/dev/null",
    ),
    (
        "another address",
        MACHINE,
        "ip addr add 192.0.2.77/32 dev lo 2>/dev/null && echo reached; ip addr del 192.0.2.77/32 dev lo 2>/dev/null",
    ),
    (
        "another way",
        MACHINE,
        "ip route add 192.0.2.78/32 dev lo 2>/dev/null && echo reached; ip route del 192.0.2.78/32 dev lo 2>/dev/null",
    ),
    (
        "packets written by hand",
        MACHINE,
        "python3 -c \"import socket;socket.socket(2,3,255);print('reached')\" 2>/dev/null",
    ),
    (
        "the machine's services by every address",
        MACHINE,
        "python3 -c \"import socket,os,subprocess as p;g=open('/etc/resolv.conf').read().split('nameserver ')[-1].split()[0];print(*('reached' for a in ['127.0.0.1',g] if socket.socket().connect_ex((a,int(os.environ['PORT'])))==0))\" 2>/dev/null",
    ),
];
