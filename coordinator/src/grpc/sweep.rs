//! `SweepService`.

use deptune_proto::convert::{self, Command, NewSweep};
use deptune_proto::v1;
use deptune_proto::v1::sweep_service_server::SweepService;
use deptune_sweep::id::TrialId;
use futures::StreamExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::paced::paced;
use super::row;
use super::status::invalid_field;
use crate::api::{Api, Error, SweepFilter};

/// Longest SQL text, in bytes.
const MAX_SQL: usize = 64 << 10;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Sweeps(pub(crate) Api);

fn sweep_ref(value: String) -> Result<String, Status> {
    convert::sweep_ref(value, "sweep").map_err(|e| invalid_field(&e))
}

fn trial_id(wire: Option<v1::TrialId>) -> Result<Option<TrialId>, Status> {
    let trial = wire.map(TrialId::try_from).transpose();
    trial.map_err(|e| invalid_field(&e.within("trial")))
}

fn required_trial(wire: Option<v1::TrialId>) -> Result<TrialId, Status> {
    let missing = || convert::InvalidField::new("trial", convert::Problem::Missing);
    trial_id(wire)?.ok_or_else(|| invalid_field(&missing()))
}

impl Sweeps {
    /// Carries out what changes a sweep, and shows it as it is then.
    async fn control<T>(&self, request: Request<T>) -> Result<v1::Sweep, Status>
    where
        Command: TryFrom<T, Error = convert::InvalidField>,
    {
        let command = Command::try_from(request.into_inner()).map_err(Error::from)?;
        Ok(row::sweep(self.0.control(command).await?))
    }
}

#[tonic::async_trait]
impl SweepService for Sweeps {
    type WatchSweepStream = BoxStream<v1::WatchSweepResponse>;
    type QueryStream = BoxStream<v1::QueryResponse>;

    async fn submit_sweep(
        &self,
        request: Request<v1::SubmitSweepRequest>,
    ) -> Result<Response<v1::SubmitSweepResponse>, Status> {
        let sweep = NewSweep::try_from(request.into_inner()).map_err(Error::from)?;
        let sweep = self.0.submit(sweep).await?;
        // It is accepted, whether or not there is more to say.
        let warnings = self.0.warnings(sweep.id).await.unwrap_or_default();
        Ok(Response::new(v1::SubmitSweepResponse { sweep: Some(row::sweep(sweep)), warnings }))
    }

    async fn get_sweep(
        &self,
        request: Request<v1::GetSweepRequest>,
    ) -> Result<Response<v1::GetSweepResponse>, Status> {
        let sweep = sweep_ref(request.into_inner().sweep)?;
        let (summary, record, spaces) = self.0.sweep(&sweep).await?;
        let submission = &record.submission;
        let sweep = v1::Sweep {
            spec: submission.spec.clone(),
            format: submission.format.clone(),
            model_config: submission.model_config.clone(),
            added_spaces: spaces.into_iter().map(v1::AddedSpace::from).collect(),
            ..row::sweep(summary)
        };
        Ok(Response::new(v1::GetSweepResponse { sweep: Some(sweep) }))
    }

    async fn list_sweeps(
        &self,
        request: Request<v1::ListSweepsRequest>,
    ) -> Result<Response<v1::ListSweepsResponse>, Status> {
        let request = request.into_inner();
        let hash = Some(&request.spec_hash).filter(|hash| !hash.is_empty());
        let spec_hash = hash.map(|hash| convert::hash(hash, "spec_hash")).transpose();
        let filter = SweepFilter {
            status: request.status().status(),
            spec_hash: spec_hash.map_err(Error::from)?,
        };
        let page = self.0.sweeps(&filter, request.page_size, &request.page_token).await?;
        Ok(Response::new(v1::ListSweepsResponse {
            sweeps: page.items.into_iter().map(row::sweep).collect(),
            next_page_token: page.next,
        }))
    }

    async fn cancel_sweep(
        &self,
        request: Request<v1::CancelSweepRequest>,
    ) -> Result<Response<v1::CancelSweepResponse>, Status> {
        let sweep = Some(self.control(request).await?);
        Ok(Response::new(v1::CancelSweepResponse { sweep }))
    }

    async fn cancel_trial(
        &self,
        request: Request<v1::CancelTrialRequest>,
    ) -> Result<Response<v1::CancelTrialResponse>, Status> {
        let sweep = Some(self.control(request).await?);
        Ok(Response::new(v1::CancelTrialResponse { sweep }))
    }

    async fn pause_sweep(
        &self,
        request: Request<v1::PauseSweepRequest>,
    ) -> Result<Response<v1::PauseSweepResponse>, Status> {
        let sweep = Some(self.control(request).await?);
        Ok(Response::new(v1::PauseSweepResponse { sweep }))
    }

    async fn resume_sweep(
        &self,
        request: Request<v1::ResumeSweepRequest>,
    ) -> Result<Response<v1::ResumeSweepResponse>, Status> {
        let sweep = Some(self.control(request).await?);
        Ok(Response::new(v1::ResumeSweepResponse { sweep }))
    }

    async fn change_sweep(
        &self,
        request: Request<v1::ChangeSweepRequest>,
    ) -> Result<Response<v1::ChangeSweepResponse>, Status> {
        let sweep = Some(self.control(request).await?);
        Ok(Response::new(v1::ChangeSweepResponse { sweep }))
    }

    async fn retry_trials(
        &self,
        request: Request<v1::RetryTrialsRequest>,
    ) -> Result<Response<v1::RetryTrialsResponse>, Status> {
        let sweep = Some(self.control(request).await?);
        Ok(Response::new(v1::RetryTrialsResponse { sweep }))
    }

    async fn delete_sweep(
        &self,
        request: Request<v1::DeleteSweepRequest>,
    ) -> Result<Response<v1::DeleteSweepResponse>, Status> {
        let request = request.into_inner();
        let preview = request.preview;
        let command = Command::try_from(request).map_err(Error::from)?;
        let (summary, contents) = if preview {
            self.0.would_delete(&command.sweep).await?
        } else {
            self.0.delete(command).await?
        };
        Ok(Response::new(v1::DeleteSweepResponse {
            sweep: Some(row::sweep(summary)),
            attempts: contents.attempts,
            evaluations: contents.evaluations,
            log_entries: contents.log_entries,
        }))
    }

    async fn explain_trial(
        &self,
        request: Request<v1::ExplainTrialRequest>,
    ) -> Result<Response<v1::ExplainTrialResponse>, Status> {
        let trial = required_trial(request.into_inner().trial)?;
        let explanation = self.0.explain(trial).await?;
        Ok(Response::new(v1::ExplainTrialResponse {
            reason: explanation.reason().to_owned(),
            explanation: explanation.to_string(),
        }))
    }

    async fn watch_sweep(
        &self,
        request: Request<v1::WatchSweepRequest>,
    ) -> Result<Response<Self::WatchSweepStream>, Status> {
        let request = request.into_inner();
        let news = self.0.watch(&sweep_ref(request.sweep)?, request.cursor).await?;
        Ok(Response::new(news.map(|one| Ok(row::news(one?))).boxed()))
    }

    async fn list_trials(
        &self,
        request: Request<v1::ListTrialsRequest>,
    ) -> Result<Response<v1::ListTrialsResponse>, Status> {
        let request = request.into_inner();
        let sweep = sweep_ref(request.sweep)?;
        let page = self.0.trials(&sweep, request.page_size, &request.page_token).await?;
        Ok(Response::new(v1::ListTrialsResponse {
            trials: page.items.into_iter().map(row::trial).collect(),
            next_page_token: page.next,
        }))
    }

    async fn list_attempts(
        &self,
        request: Request<v1::ListAttemptsRequest>,
    ) -> Result<Response<v1::ListAttemptsResponse>, Status> {
        let trial = required_trial(request.into_inner().trial)?;
        let attempts = self.0.attempts(trial).await?.into_iter().map(row::attempt).collect();
        Ok(Response::new(v1::ListAttemptsResponse { attempts }))
    }

    async fn get_leaderboard(
        &self,
        request: Request<v1::GetLeaderboardRequest>,
    ) -> Result<Response<v1::GetLeaderboardResponse>, Status> {
        let request = request.into_inner();
        let sweep = sweep_ref(request.sweep)?;
        let (rows, metric_name) = self.0.leaderboard(&sweep, request.limit).await?;
        let rows = rows.into_iter().map(row::leaderboard).collect();
        Ok(Response::new(v1::GetLeaderboardResponse { rows, metric_name }))
    }

    async fn list_evaluations(
        &self,
        request: Request<v1::ListEvaluationsRequest>,
    ) -> Result<Response<v1::ListEvaluationsResponse>, Status> {
        let request = request.into_inner();
        let sweep = sweep_ref(request.sweep)?;
        let trial = trial_id(request.trial)?;
        let (size, token) = (request.page_size, &request.page_token);
        let page = self.0.evaluations(&sweep, trial, size, token).await?;
        Ok(Response::new(v1::ListEvaluationsResponse {
            evaluations: page.items.into_iter().map(row::evaluation).collect(),
            next_page_token: page.next,
        }))
    }

    async fn query(
        &self,
        request: Request<v1::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let request = request.into_inner();
        let (found, limit) = (request.sql.len(), MAX_SQL);
        if found > limit {
            let problem = convert::Problem::TooLong { found, limit };
            return Err(invalid_field(&convert::InvalidField::new("sql", problem)));
        }
        let (rows, turn) = self.0.query(&request.sql, request.limit).await?;
        let (patience, feeders) = (self.0.unread, &self.0.feeders);
        let messages = row::query(rows);
        Ok(Response::new(paced(messages, row::query_size, turn, patience, feeders)))
    }

    async fn get_server_info(
        &self,
        _request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let (workers, slots) = self.0.capacity().await?;
        Ok(Response::new(v1::GetServerInfoResponse {
            version: crate::VERSION.to_owned(),
            database: self.0.database.to_string(),
            protocols: vec!["deptune.v1".to_owned()],
            workers,
            slots,
        }))
    }
}
