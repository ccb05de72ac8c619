//! Requests to the hub and to where it redirects.

use std::fmt::{self, Display};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};
use url::Url;

use crate::cache::Repo;
use crate::{Error, Settings, Token};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(20);

/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// Largest listing that is read, in bytes.
const MAX_LISTING: u64 = 64 << 20;

/// The connections of a [`Hub`](crate::Hub).
pub(crate) struct Http {
    api: Api,
    agent: Agent,
    endpoint: Url,
    token: Option<Token>,
}

/// An answer that is neither a redirect nor an error.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// Without hf-hub's own representation, which holds the token.
impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("endpoint", &self.endpoint.as_str()).finish_non_exhaustive()
    }
}

impl Http {
    pub(crate) fn new(settings: Settings) -> Result<Http, Error> {
        let wrong = || Error::Endpoint { endpoint: settings.endpoint.clone() };
        let endpoint: Url = settings.endpoint.parse().map_err(|_| wrong())?;
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() {
            return Err(wrong());
        }
        let api = ApiBuilder::from_cache(hf_hub::Cache::new(settings.cache_dir.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.as_ref().map(|token| token.secret().to_owned()))
            .with_progress(false)
            .with_user_agent("deptune", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|_| wrong())?;
        let agent = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            // Redirects are followed here, so that the token goes to the hub alone.
            .max_redirects(0)
            .http_status_as_error(false)
            // A range counts the bytes of the file, not those of a compressed copy.
            .accept_encoding("identity")
            .user_agent(concat!("deptune/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Http { api, agent, endpoint, token: settings.token })
    }

    /// Host and port of the hub, for messages.
    pub(crate) fn host(&self) -> String {
        host_of(&self.endpoint)
    }

    /// What the hub knows about a revision, with size and hash of every file.
    pub(crate) fn info(&self, repo: &Repo, revision: &str) -> Result<Vec<u8>, Error> {
        let answer = self
            .api
            .repo(repo.at(revision))
            .info_request()
            .query("blobs", "true")
            .config()
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .http_status_as_error(false)
            .build()
            .call()
            .map_err(|error| unreachable(&self.endpoint, &error))?;
        let mut answer = self.check(answer, repo, revision, None)?;
        answer
            .body
            .with_config()
            .limit(MAX_LISTING)
            .read_to_vec()
            .map_err(|error| unreachable(&self.endpoint, &error))
    }

    /// A file from its byte `from` on.
    pub(crate) fn file(
        &self,
        repo: &Repo,
        commit: &str,
        path: &str,
        from: u64,
    ) -> Result<Answer, Error> {
        let mut url: Url =
            self.api.repo(repo.at(commit)).url("").parse().map_err(|_| self.bad_address())?;
        url.path_segments_mut()
            .map_err(|()| self.bad_address())?
            .pop_if_empty()
            .extend(path.split('/'));
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(url.as_str());
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            if let Some(token) = &self.token
                && url.origin() == self.endpoint.origin()
            {
                request = request.header("Authorization", token.bearer());
            }
            let answer = request.call().map_err(|error| unreachable(&url, &error))?;
            let next =
                answer.headers().get("location").filter(|_| answer.status().is_redirection());
            let Some(next) = next else {
                return self.check(answer, repo, commit, Some(path));
            };
            let next = next.to_str().ok().and_then(|text| url.join(text).ok());
            let next = next.filter(|next| next.scheme() == "https" || url.scheme() == "http");
            url = next.ok_or_else(|| Error::Answer {
                host: host_of(&url),
                what: "a redirect to nowhere, or from https to http".to_owned(),
            })?;
        }
        Err(Error::Answer { host: host_of(&url), what: "redirects without end".to_owned() })
    }

    fn bad_address(&self) -> Error {
        Error::Endpoint { endpoint: self.endpoint.to_string() }
    }

    /// What a status means. `path` is the file that was asked for, if it was one.
    fn check(
        &self,
        answer: Response<Body>,
        repo: &Repo,
        revision: &str,
        path: Option<&str>,
    ) -> Result<Answer, Error> {
        let (parts, body) = answer.into_parts();
        let status = parts.status;
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(Answer { status, headers: parts.headers, body });
        }
        let code = parts.headers.get("x-error-code").and_then(|code| code.to_str().ok());
        let name = repo.name.clone();
        let unknown_repo = || Error::UnknownRepo { kind: repo.kind(), repo: name.clone() };
        let unknown_file = |path: &str| Error::NoFile {
            repo: name.clone(),
            revision: revision.to_owned(),
            file: path.to_owned(),
        };
        Err(match (status.as_u16(), code) {
            (401 | 403, Some("GatedRepo")) => Error::Gated { repo: name },
            (_, Some("RepoNotFound")) => unknown_repo(),
            (_, Some("RevisionNotFound")) => {
                Error::UnknownRevision { repo: name, revision: revision.to_owned() }
            }
            // The hub does not tell strangers which private repositories exist.
            (401, _) if self.token.is_none() && path.is_none() => unknown_repo(),
            (401 | 403, _) => Error::Refused { repo: name, status: status.as_u16() },
            (404, _) => path.map_or_else(unknown_repo, unknown_file),
            (408 | 429 | 500.., _) => Error::Busy { host: self.host(), status: status.as_u16() },
            (status, _) => Error::Answer { host: self.host(), what: format!("status {status}") },
        })
    }
}

/// Never the whole address: those of contents are signed, and good for whoever reads them.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn unreachable(url: &Url, error: &impl Display) -> Error {
    Error::Unreachable { host: host_of(url), reason: error.to_string() }
}
