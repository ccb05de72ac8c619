//! A hub on this machine: the routes that a client of the Hugging Face hub needs, with a second
//! address for contents, and the troubles that a network has.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// Files from this size on lie at the second address, as large files of the hub do.
const LARGE: usize = 4096;

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whether it came to the second address.
    pub contents: bool,
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// The header `Range`.
    pub range: Option<String>,
}

/// Who may read a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone.
    Public,
    /// Whoever has the token; to others it does not exist.
    Private,
    /// Whoever has the token; others are told to accept its terms.
    Gated,
}

#[derive(Debug, Default)]
struct State {
    /// `models/ORG/NAME` or `datasets/ORG/NAME`.
    repos: BTreeMap<String, Repo>,
    seen: Vec<Seen>,
    /// By file name: after how many bytes the next answers break off.
    cuts: BTreeMap<String, VecDeque<usize>>,
    /// File names whose content arrives changed.
    corrupt: Vec<String>,
    no_ranges: bool,
    /// Wait before each 64 KiB of a content.
    pause: Duration,
}

#[derive(Debug)]
struct Repo {
    access: Access,
    /// Commit by branch.
    branches: BTreeMap<String, String>,
    /// Files by commit.
    commits: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

/// A running hub. Lives as long as the test's process.
#[derive(Debug, Clone)]
pub struct HubServer {
    /// For `HF_ENDPOINT`.
    pub endpoint: String,
    contents: String,
    token: String,
    state: Arc<Mutex<State>>,
}

impl HubServer {
    /// An empty hub. `token` opens what is not public.
    #[must_use]
    pub fn start(token: &str) -> HubServer {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [endpoint, contents] =
            [0, 1].map(|i| format!("http://{}", listeners[i].local_addr().unwrap()));
        let state = Arc::default();
        let server = HubServer { endpoint, contents, token: token.to_owned(), state };
        for (second, listener) in listeners.into_iter().enumerate() {
            let server = server.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let server = server.clone();
                    // A client that went away is no concern of the hub's.
                    thread::spawn(move || drop(server.answer(&stream, second == 1)));
                }
            });
        }
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes the next commit of a branch of `models/ORG/NAME` or `datasets/ORG/NAME`, with
    /// exactly these files; returns its hash.
    pub fn push(&self, repo: &str, branch: &str, files: &[(&str, &[u8])]) -> String {
        let mut hasher = Sha1::new();
        for (name, content) in files {
            hasher.update(name.as_bytes());
            hasher.update(content);
        }
        let commit = hex(&hasher.finalize());
        let files = files.iter().map(|(n, c)| ((*n).to_owned(), c.to_vec())).collect();
        let mut state = self.state();
        let repo = state.repos.entry(repo.to_owned()).or_insert_with(|| Repo {
            access: Access::Public,
            branches: BTreeMap::new(),
            commits: BTreeMap::new(),
        });
        repo.commits.insert(commit.clone(), files);
        repo.branches.insert(branch.to_owned(), commit.clone());
        commit
    }

    /// Says who may read a repository.
    pub fn protect(&self, repo: &str, access: Access) {
        self.state().repos.get_mut(repo).unwrap().access = access;
    }

    /// The next answers with that file break off after so many bytes each.
    pub fn cut(&self, file: &str, after: &[usize]) {
        self.state().cuts.insert(file.to_owned(), after.iter().copied().collect());
    }

    /// From now on that file arrives with a wrong byte, or no longer.
    pub fn corrupt(&self, file: &str, wrong: bool) {
        let mut state = self.state();
        state.corrupt.retain(|known| known != file);
        if wrong {
            state.corrupt.push(file.to_owned());
        }
    }

    /// From now on ranges are not understood.
    pub fn forget_ranges(&self) {
        self.state().no_ranges = true;
    }

    /// From now on contents come slowly.
    pub fn slow_down(&self, pause: Duration) {
        self.state().pause = pause;
    }

    /// What was asked so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// How often the content of that file was asked for.
    #[must_use]
    pub fn fetched(&self, file: &str) -> usize {
        let state = self.state();
        state.seen.iter().filter(|s| s.method == "GET" && s.path.ends_with(file)).count()
    }

    fn answer(&self, stream: &TcpStream, contents: bool) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
        let (mut authorization, mut range) = (None, None);
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            let Some((name, value)) = header.split_once(':') else { continue };
            let value = value.trim().to_owned();
            match name.to_ascii_lowercase().as_str() {
                "authorization" => authorization = Some(value),
                "range" => range = Some(value),
                _ => {}
            }
        }
        let seen = Seen { contents, method, path, authorization, range };
        self.state().seen.push(seen.clone());
        let reply = if contents { self.content(&seen) } else { self.hub(&seen) };
        reply.send(stream, &seen, self)
    }

    /// `/contents/SHA/FILE`
    fn content(&self, seen: &Seen) -> Reply {
        let parts: Vec<&str> = seen.path.splitn(4, '/').collect();
        let state = self.state();
        let files = state.repos.values().flat_map(|repo| repo.commits.values()).flatten();
        let found = files.map(|(_, content)| content).find(|content| sha256(content) == parts[2]);
        match found {
            Some(content) => Reply::file(content.clone()).with("ETag", "\"contents\""),
            None => Reply::status(404),
        }
    }

    fn hub(&self, seen: &Seen) -> Reply {
        let path = seen.path.split('?').next().unwrap_or_default().replace("%2F", "\u{1}");
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (repo, revision, file) = match parts.as_slice() {
            ["api", kind, org, name, "revision", revision] => {
                (format!("{kind}/{org}/{name}"), *revision, None)
            }
            ["datasets", org, name, "resolve", revision, file @ ..] => {
                (format!("datasets/{org}/{name}"), *revision, Some(file.join("/")))
            }
            [org, name, "resolve", revision, file @ ..] => {
                (format!("models/{org}/{name}"), *revision, Some(file.join("/")))
            }
            _ => return Reply::status(404),
        };
        let revision = revision.replace('\u{1}', "/");
        let state = self.state();
        let known = seen.authorization.as_deref() == Some(&format!("Bearer {}", self.token));
        let unknown = || Reply::status(401).with("X-Error-Code", "RepoNotFound");
        let Some(repo) = state.repos.get(&repo) else { return unknown() };
        match repo.access {
            Access::Private if !known => return unknown(),
            Access::Gated if !known => {
                return Reply::status(403).with("X-Error-Code", "GatedRepo");
            }
            _ => {}
        }
        let commit = repo.branches.get(&revision).unwrap_or(&revision);
        let Some(files) = repo.commits.get(commit) else {
            return Reply::status(404).with("X-Error-Code", "RevisionNotFound");
        };
        match file {
            None => Reply::json(&listing(commit, files)),
            Some(file) => match files.get(&file) {
                None => Reply::status(404).with("X-Error-Code", "EntryNotFound"),
                Some(content) if content.len() >= LARGE => {
                    let hash = sha256(content);
                    Reply::status(302)
                        .with("Location", &format!("{}/contents/{hash}/{file}", self.contents))
                        .with("X-Linked-Etag", &format!("\"{hash}\""))
                        .with("X-Linked-Size", &content.len().to_string())
                        .with("X-Repo-Commit", commit)
                }
                Some(content) => Reply::file(content.clone())
                    .with("ETag", &format!("\"{}\"", git(content)))
                    .with("X-Repo-Commit", commit),
            },
        }
    }
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    is_file: bool,
}

impl Reply {
    fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Vec::new(), is_file: false }
    }

    fn json(value: &serde_json::Value) -> Reply {
        Reply { body: value.to_string().into_bytes(), ..Reply::status(200) }
            .with("Content-Type", "application/json")
    }

    fn file(body: Vec<u8>) -> Reply {
        Reply { body, is_file: true, ..Reply::status(200) }
    }

    fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn send(mut self, mut to: &TcpStream, seen: &Seen, server: &HubServer) -> std::io::Result<()> {
        let name = seen.path.rsplit('/').next().unwrap_or_default().to_owned();
        let (mut cut, mut pause) = (None, Duration::ZERO);
        if self.is_file && seen.method == "GET" {
            let mut state = server.state();
            cut = state.cuts.get_mut(&name).and_then(VecDeque::pop_front);
            pause = state.pause;
            if state.corrupt.contains(&name)
                && let Some(last) = self.body.last_mut()
            {
                *last ^= 1;
            }
            let first = seen.range.as_deref().and_then(|r| r.strip_prefix("bytes="));
            let first = first.and_then(|r| r.split('-').next()?.parse::<usize>().ok());
            if let Some(first) = first.filter(|_| !state.no_ranges) {
                let total = self.body.len();
                drop(state);
                if first >= total {
                    self = Reply::status(416);
                } else {
                    self.status = 206;
                    self.body.drain(..first);
                    self =
                        self.with("Content-Range", &format!("bytes {first}-{}/{total}", total - 1));
                }
            }
        }
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        to.write_all(head.as_bytes())?;
        if seen.method == "HEAD" {
            return Ok(());
        }
        let end = cut.map_or(self.body.len(), |cut| cut.min(self.body.len()));
        for piece in self.body[..end].chunks(64 << 10) {
            thread::sleep(pause);
            to.write_all(piece)?;
        }
        to.flush()?;
        to.shutdown(std::net::Shutdown::Write)?;
        // The client closes; an early end here could take back what it has not read yet.
        let _ = to.read(&mut [0; 1]);
        Ok(())
    }
}

fn listing(commit: &str, files: &BTreeMap<String, Vec<u8>>) -> serde_json::Value {
    let siblings: Vec<serde_json::Value> = files
        .iter()
        .map(|(name, content)| {
            let mut file = serde_json::json!({
                "rfilename": name, "size": content.len(), "blobId": git(content),
            });
            if content.len() >= LARGE {
                file["lfs"] = serde_json::json!({
                    "sha256": sha256(content), "size": content.len(), "pointerSize": 134,
                });
            }
            file
        })
        .collect();
    serde_json::json!({ "sha": commit, "siblings": siblings })
}

fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// Git's object id.
fn git(content: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", content.len()));
    hasher.update(content);
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
