//! What the ring's unit tests share.

use std::net::{TcpListener, TcpStream};

/// Two ends of a connection: the near one as the ring has it, which never waits, and the far one.
pub(super) fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    (near, far)
}
