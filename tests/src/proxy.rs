//! A relay between a client and the coordinator, for tests that must act at the moment when the
//! client connects.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// A relay on a loopback port of its own. Lives as long as the test's process.
#[derive(Debug)]
pub struct Proxy {
    /// `host:port` for clients.
    pub address: String,
}

impl Proxy {
    /// Relays to `target`. `on_connect` runs at every connection, before its first byte goes on.
    pub fn start(target: &str, mut on_connect: impl FnMut() + Send + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target = target.to_owned();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                on_connect();
                // A coordinator that is gone shows to the client as a closed connection.
                let Ok(server) = TcpStream::connect(&target) else { continue };
                relay(&client, &server);
                relay(&server, &client);
            }
        });
        Proxy { address }
    }
}

fn relay(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        let copied: io::Result<()> = (|| loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..count])?;
        })();
        // Either way this direction is over; the other side finds out by itself.
        drop(copied);
        let _ = to.shutdown(Shutdown::Write);
    });
}
