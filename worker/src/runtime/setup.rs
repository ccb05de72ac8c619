//! The options, made definite.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deptune_sweep::spec::{MAX_LABELS, is_label};
use tonic::transport::Uri;

use crate::Error;
use crate::options::Options;

/// Longest name of a worker, in characters.
const MAX_NAME: usize = 100;

/// What the rest of the runtime needs to know, checked.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) servers: Vec<Uri>,
    pub(super) name: String,
    /// Words by which a sweep may ask for it.
    pub(super) labels: Vec<String>,
    pub(super) state_dir: PathBuf,
    pub(super) cache_dir: PathBuf,
    pub(super) artifact_dir: Option<PathBuf>,
    pub(super) trainer: PathBuf,
    /// How long until the agent should begin to drain by itself.
    pub(super) drain_in: Option<Duration>,
}

impl Setup {
    pub(super) fn resolve(options: &Options) -> Result<Setup, Error> {
        let servers = options.servers.iter().map(|text| server(text, options.insecure));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(Error::Options("no coordinator is given; use --server".to_owned()));
        }
        let name = match &options.name {
            Some(name) => check_name(name)?.to_owned(),
            None => default_name(&crate::host_name()),
        };
        let labels = check_labels(&options.labels)?;
        let state_dir = match &options.state_dir {
            Some(dir) => absolute(dir)?,
            None => home("XDG_STATE_HOME", ".local/state", "--state-dir")?
                .join(format!("worker-{name}")),
        };
        let cache_dir = match &options.cache_dir {
            Some(dir) => absolute(dir)?,
            None => home("XDG_CACHE_HOME", ".cache", "--cache-dir")?,
        };
        let artifact_dir = options.artifact_dir.as_deref().map(absolute).transpose()?;
        let trainer = trainer(options.trainer.as_deref())?;
        let walltime = options.walltime.or_else(slurm_walltime);
        let drain_in = walltime.map(|time| time.saturating_sub(options.walltime_margin));
        Ok(Setup { servers, name, labels, state_dir, cache_dir, artifact_dir, trainer, drain_in })
    }
}

fn server(text: &str, insecure: bool) -> Result<Uri, Error> {
    let wrong = |why: &str| {
        Error::Options(format!(
            "'{text}' is no address of a coordinator: {why} (expected host:port)"
        ))
    };
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = full.parse().map_err(|_| wrong("it cannot be read"))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong("only http:// is supported"));
    }
    let host = uri.host().ok_or_else(|| wrong("it has no host"))?;
    if uri.port_u16().is_none() {
        return Err(wrong("it has no port"));
    }
    if !is_loopback(host) {
        if !insecure {
            return Err(Error::Options(format!(
                "{host} is another machine, and the connection is not encrypted: anyone on the \
                 way can read the token; use --insecure if the network is trusted"
            )));
        }
        tracing::warn!(
            host,
            "the connection is not encrypted; anyone on the way can read the token"
        );
    }
    Ok(uri)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn check_name(name: &str) -> Result<&str, Error> {
    let fits = !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_name_char);
    // It becomes part of a path.
    if fits && !name.starts_with('.') {
        Ok(name)
    } else {
        Err(Error::Options(format!(
            "'{name}' is no name for a worker (expected letters, digits, '-', '_', '.', at most \
             {MAX_NAME}, not beginning with '.')"
        )))
    }
}

fn check_labels(labels: &[String]) -> Result<Vec<String>, Error> {
    if labels.len() > MAX_LABELS {
        let count = labels.len();
        return Err(Error::Options(format!("{count} labels are too many (at most {MAX_LABELS})")));
    }
    match labels.iter().find(|label| !is_label(label)) {
        None => Ok(labels.to_vec()),
        Some(label) => Err(Error::Options(format!(
            "'{label}' is no label (expected letters, digits, '-', '_', '.' and '=', at most 100)"
        ))),
    }
}

fn default_name(host: &str) -> String {
    let kept = host.chars().map(|c| if is_name_char(c) { c } else { '-' }).take(MAX_NAME);
    let name: String = kept.collect();
    name.trim_start_matches('.').to_owned()
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let fail = |source| Error::Io { what: "find", path: path.to_owned(), source };
    std::path::absolute(path).map_err(fail)
}

/// `<variable or HOME/default>/deptune`, by the XDG base directory rules.
fn home(variable: &str, default: &str, option: &str) -> Result<PathBuf, Error> {
    let set =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set(variable).or_else(|| Some(set("HOME")?.join(default)));
    let base = base.ok_or_else(|| {
        Error::Options(format!("neither {variable} nor HOME is set; use {option}"))
    })?;
    Ok(base.join("deptune"))
}

fn trainer(given: Option<&Path>) -> Result<PathBuf, Error> {
    const NAME: &str = "deptune-trainer";
    if let Some(path) = given {
        let path = absolute(path)?;
        return if is_program(&path) {
            Ok(path)
        } else {
            Err(Error::Options(format!("the trainer {} is no program", path.display())))
        };
    }
    let beside = std::env::current_exe().ok().and_then(|exe| {
        let dir = exe.canonicalize().ok()?.parent()?.to_owned();
        let candidates = [dir.join(NAME), dir.join("../lib/deptune").join(NAME)];
        candidates.into_iter().find(|path| is_program(path))
    });
    let in_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join(NAME)).find(|path| is_program(path))
    };
    beside.or_else(in_path).map_or_else(
        || {
            Err(Error::Options(format!(
                "there is no {NAME} beside this program, in ../lib/deptune, or in PATH; build it, \
                 or name it with --trainer"
            )))
        },
        |path| absolute(&path),
    )
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Time left in the Slurm job that this process is part of.
fn slurm_walltime() -> Option<Duration> {
    let end: u64 = std::env::var("SLURM_JOB_END_TIME").ok()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(end).saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_off_loopback_need_consent() {
        for text in ["127.0.0.1:7077", "localhost:1", "http://[::1]:7077"] {
            assert!(server(text, false).is_ok(), "{text}");
        }
        let error = server("node7:7077", false).unwrap_err().to_string();
        assert!(error.contains("--insecure"), "{error}");
        assert!(server("node7:7077", true).is_ok());
        for text in ["localhost", "", "https://localhost:1", "a b:1"] {
            assert!(server(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_safe_in_paths() {
        assert!(check_name("node-7_a.b").is_ok());
        for name in ["", "..", "a/b", "a b", ".hidden"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert_eq!(default_name("höst.example"), "h-st.example");
    }
}
