//! `deptune retry`.

use deptune_proto::v1::RetryTrialsRequest;
use deptune_sweep::id::TrialId;

use super::{connect, request_id, tell_changed};
use crate::args::Globals;
use crate::output::error::{Error, Exit};

/// Runs trials again that ended without success
///
/// Of a sweep all that failed or were cancelled and were not run again yet; or the trials that
/// are named. Each becomes a new trial of the same configuration and seed: an outcome that was
/// recorded never changes. A sweep that had ended runs again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune retry 3               all trials of sweep 3 that did not succeed
  deptune retry 3.17 3.18       these two")]
pub(crate) struct Args {
    /// A sweep, by id or name, or trials of one sweep, as SWEEP.INDEX
    #[arg(value_name = "SWEEP|TRIAL", required = true)]
    what: Vec<String>,
}

/// Runs them again.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    const DOING: &str = "run the trials again";
    let (sweep, trials) = which(&args.what)?;
    let client = connect(globals).await?;
    let request = RetryTrialsRequest { request_id: request_id(), sweep, trials };
    let answer = client
        .call(DOING, || {
            let (mut sweeps, request) = (client.sweeps(), request.clone());
            async move { sweeps.retry_trials(request).await }
        })
        .await?;
    tell_changed(globals, DOING, answer.into_inner().sweep)
}

/// The sweep, and indexes of its trials; none for a whole sweep.
fn which(what: &[String]) -> Result<(String, Vec<u64>), Error> {
    if let [one] = what
        && one.parse::<TrialId>().is_err()
    {
        return Ok((one.clone(), Vec::new()));
    }
    let wrong = |what: String| Error::Usage {
        what,
        hint: "give one sweep, or trials of one sweep, as in 'deptune retry 3.17 3.18'".to_owned(),
    };
    let parse = |text: &String| text.parse::<TrialId>().map_err(|e| wrong(e.to_string()));
    let trials: Vec<TrialId> = what.iter().map(parse).collect::<Result<_, _>>()?;
    let sweep = trials.first().map(|trial| trial.sweep).unwrap_or_default();
    if trials.iter().any(|trial| trial.sweep != sweep) {
        return Err(wrong("the trials are of several sweeps".to_owned()));
    }
    Ok((sweep.to_string(), trials.into_iter().map(|trial| trial.index).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(what: &[&str]) -> Result<(String, Vec<u64>), Error> {
        which(&what.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_sweep_or_trials_of_one_sweep() {
        assert_eq!(read(&["mine"]).unwrap(), ("mine".to_owned(), vec![]));
        assert_eq!(read(&["3.1", "3.9"]).unwrap(), ("3".to_owned(), vec![1, 9]));
        assert!(read(&["3.1", "4.1"]).is_err());
        assert!(read(&["3", "4"]).is_err());
    }
}
