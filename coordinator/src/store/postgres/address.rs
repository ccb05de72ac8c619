//! Where a database is, without the secret that opens it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::store::OpenError;

/// The address of a Postgres database, `postgres://USER@HOST:PORT/DATABASE`. What it shows of
/// itself holds no password.
#[derive(Clone)]
pub struct Address {
    options: Box<PgConnectOptions>,
}

impl FromStr for Address {
    type Err = OpenError;

    /// Reads `postgres://…` or `postgresql://…`. What is left out comes from the variables of
    /// Postgres (`PGPASSWORD`, `PGHOST`, …) and the password file.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    fn from_str(text: &str) -> Result<Address, OpenError> {
        let wrong = |why: &str| OpenError::Address { why: why.to_owned() };
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(wrong("expected postgres://USER@HOST:PORT/DATABASE"));
        }
        let options: PgConnectOptions = text.parse().map_err(|error: sqlx::Error| {
            // Its own words may repeat a part of the address.
            tracing::debug!(kind = %std::any::type_name_of_val(&error), "unreadable address");
            wrong("it cannot be read (expected postgres://USER@HOST:PORT/DATABASE)")
        })?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(wrong(
                "it names no database (expected postgres://USER@HOST:PORT/DATABASE)",
            ));
        }
        Ok(Address { options: Box::new(options.application_name("deptune")) })
    }
}

impl Address {
    pub(super) fn options(&self) -> PgConnectOptions {
        (*self.options).clone()
    }

    /// A session that only reads, slowly if need be.
    pub(crate) fn reading(&self) -> PgConnectOptions {
        super::open::bounded(self, "10min").options([("default_transaction_read_only", "on")])
    }

    /// Whether the way to the database stays on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let host = self.options.get_host();
        let loopback = || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        self.options.get_socket().is_some()
            || host.starts_with('/')
            || host == "localhost"
            || loopback()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, name) = (self.options.get_username(), self.options.get_database());
        let name = name.unwrap_or_default();
        match self.options.get_socket() {
            Some(socket) => write!(f, "postgres://{user}@/{name}?host={}", socket.display()),
            None => {
                let (host, port) = (self.options.get_host(), self.options.get_port());
                write!(f, "postgres://{user}@{host}:{port}/{name}")
            }
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let text = "postgres://someone:s3cret%21@db.example:5433/sweeps?sslmode=disable";
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), "postgres://someone@db.example:5433/sweeps");
        assert_eq!(format!("{address:?}"), "Address(postgres://someone@db.example:5433/sweeps)");
        assert!(!address.is_local());
        for wrong in [
            "postgres://someone:s3cret@db:notaport/x",
            "mysql://someone:s3cret@db/x",
            "postgres://someone:s3cret@db:1/",
            "postgres://someone:s3cret@[/x",
        ] {
            let error = wrong.parse::<Address>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn sockets_and_loopback_are_local() {
        for text in [
            "postgres://u@localhost/x",
            "postgres://u@127.0.0.1:5/x",
            "postgresql://u@localhost/x?host=/run/postgresql",
        ] {
            assert!(text.parse::<Address>().unwrap().is_local(), "{text}");
        }
    }
}
