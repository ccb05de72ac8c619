//! A relay between a client and the coordinator: for tests that must act at the moment when the
//! client connects, and for those that take the network away.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

/// What a relay does with what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// It carries everything.
    Fair = 0,
    /// It keeps everything, and carries it once it is fair again.
    Stalled = 1,
    /// It breaks every connection, old and new.
    Cut = 2,
}

/// How often a relay looks at the weather.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A relay on a loopback port of its own. Lives as long as the test's process.
#[derive(Debug)]
pub struct Proxy {
    /// `host:port` for clients.
    pub address: String,
    weather: Arc<AtomicU8>,
}

impl Proxy {
    /// Relays to `target`. `on_connect` runs at every connection, before its first byte goes on.
    pub fn start(target: &str, mut on_connect: impl FnMut() + Send + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target = target.to_owned();
        let weather = Arc::new(AtomicU8::new(Weather::Fair as u8));
        let seen = weather.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if is(&seen, Weather::Cut) {
                    continue;
                }
                on_connect();
                // A coordinator that is gone shows to the client as a closed connection.
                let Ok(server) = TcpStream::connect(&target) else { continue };
                relay(&client, &server, &seen);
                relay(&server, &client, &seen);
            }
        });
        Proxy { address, weather }
    }

    /// The weather changes.
    pub fn set(&self, weather: Weather) {
        self.weather.store(weather as u8, Ordering::SeqCst);
    }
}

fn is(weather: &AtomicU8, wanted: Weather) -> bool {
    weather.load(Ordering::SeqCst) == wanted as u8
}

fn relay(from: &TcpStream, to: &TcpStream, weather: &Arc<AtomicU8>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    from.set_read_timeout(Some(LOOK_EVERY)).unwrap();
    let weather = weather.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        let copied: io::Result<()> = (|| loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    0
                }
                Err(error) => return Err(error),
            };
            while is(&weather, Weather::Stalled) {
                thread::sleep(LOOK_EVERY);
            }
            if is(&weather, Weather::Cut) {
                from.shutdown(Shutdown::Both)?;
                to.shutdown(Shutdown::Both)?;
                return Ok(());
            }
            to.write_all(&buffer[..count])?;
        })();
        // Either way this direction is over; the other side finds out by itself.
        drop(copied);
        let _ = to.shutdown(Shutdown::Write);
    });
}
