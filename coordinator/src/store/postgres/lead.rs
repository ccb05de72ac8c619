//! Who leads: a row with a lease on the database's clock, and a generation that rises with every
//! change of the leader.
//!
//! The lease says when another coordinator *may* take over; safety does not hang on it. Whoever
//! takes over raises the generation under the lock of the coordinator's row, which every commit
//! holds while it checks the generation, so that of two that believe to lead only the later one can
//! write. The lease has a row of its own: a commit, however long, does not keep the leader from
//! renewing it. Who needs both rows locks the coordinator's first.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::open::{connected, writing};
use super::{PostgresDatabase, PostgresStore};
use crate::store::{Identity, LeadError};

/// What became of a try to lead.
#[derive(Debug)]
pub enum Campaign {
    /// This coordinator leads now.
    Won(Box<PostgresStore>),
    /// Another one leads.
    Lost(Leader),
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// `host:port` where clients reach it.
    pub address: String,
    /// Its host.
    pub host: String,
    /// Its process id there.
    pub pid: i64,
}

impl PostgresDatabase {
    /// Takes the lead if nobody has it, or the one who had it has not renewed it in time.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn campaign(&self, identity: &Identity) -> Result<Campaign, LeadError> {
        let failed = |what| {
            let database = self.address.to_string();
            move |source| LeadError { what, database, source }
        };
        let mut campaigner = self.campaigner.lock().await;
        let options = writing(&self.address);
        let mut connection = connected(&mut campaigner, &options)
            .await
            .map_err(failed("connect to ask who leads"))?;
        let free: bool = sqlx::query_scalar(
            "select leads_until is null or leads_until < clock_timestamp() from lease",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(failed("read the lease"))?;
        let won = match free {
            true => self.take(&mut connection, identity).await.map_err(failed("take the lead"))?,
            false => None,
        };
        let outcome = match won {
            Some(generation) => Campaign::Won(Box::new(self.store(generation))),
            None => {
                let (address, host, pid): (Option<String>, Option<String>, Option<i64>) =
                    sqlx::query_as("select address, host, pid from coordinator")
                        .fetch_one(&mut connection)
                        .await
                        .map_err(failed("read who leads"))?;
                Campaign::Lost(Leader {
                    address: address.unwrap_or_default(),
                    host: host.unwrap_or_default(),
                    pid: pid.unwrap_or_default(),
                })
            }
        };
        *campaigner = Some(connection);
        Ok(outcome)
    }

    /// Takes a lease that is over, unless it is renewed after all while a last commit of its
    /// holder is waited for.
    async fn take(
        &self,
        connection: &mut PgConnection,
        identity: &Identity,
    ) -> Result<Option<i64>, sqlx::Error> {
        let mut taking =
            connection.begin_with("begin isolation level read committed, read write").await?;
        sqlx::query("select 1 from coordinator where id = 1 for update")
            .execute(&mut *taking)
            .await?;
        let won: Option<i64> = sqlx::query_scalar(
            "update lease
             set generation = generation + 1,
                 leads_until = clock_timestamp() + make_interval(secs => $1)
             where id = 1 and (leads_until is null or leads_until < clock_timestamp())
             returning generation",
        )
        .bind(self.lease.as_secs_f64())
        .fetch_optional(&mut *taking)
        .await?;
        let Some(generation) = won else {
            taking.rollback().await?;
            return Ok(None);
        };
        sqlx::query(
            "update coordinator
             set generation = $1, pid = $2, host = $3, address = $4, opened = $5
             where id = 1",
        )
        .bind(generation)
        .bind(i64::from(identity.pid))
        .bind(&identity.host)
        .bind(&identity.address)
        .bind(jiff::Timestamp::now().as_millisecond())
        .execute(&mut *taking)
        .await?;
        taking.commit().await?;
        Ok(Some(generation))
    }
}

impl PostgresStore {
    /// For how long a leader that is not heard leads on.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Leads on for another [`PostgresStore::lease`] from now. `false`: another one leads.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn renew(&self) -> Result<bool, LeadError> {
        self.set_lease(Some(self.lease.as_secs_f64()), "renew the lead").await
    }

    /// Lets another coordinator take over at once. Does nothing when one has.
    ///
    /// # Errors
    /// When the database cannot be asked; then the lease runs out.
    pub async fn resign(&self) -> Result<(), LeadError> {
        self.set_lease(None, "give up the lead").await.map(drop)
    }

    /// Seconds from now; `None`: nobody leads.
    async fn set_lease(&self, seconds: Option<f64>, what: &'static str) -> Result<bool, LeadError> {
        let failed = |source| LeadError { what, database: self.address.to_string(), source };
        let mut keeper = self.keeper.lock().await;
        let mut connection = connected(&mut keeper, &self.writing).await.map_err(failed)?;
        let renewed = sqlx::query(
            "update lease set leads_until = clock_timestamp() + make_interval(secs => $2)
             where id = 1 and generation = $1",
        )
        .bind(self.generation)
        .bind(seconds)
        .execute(&mut connection)
        .await
        .map_err(failed)?;
        *keeper = Some(connection);
        Ok(renewed.rows_affected() == 1)
    }
}
