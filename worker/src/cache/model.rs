//! Where a trial's model is on this node.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use deptune_proto::convert::Assignment;
use deptune_sweep::child::FileHash;
use deptune_sweep::id::ArtifactHash;

use super::{Cache, Error, Source, io_error};

/// What a trainer opens, with the shards that an index may name.
const EXTENSIONS: [&str; 2] = ["json", "safetensors"];

impl Cache {
    /// The directory of a lease's model, with files that are what was submitted.
    ///
    /// # Errors
    /// When it is not found, lies outside of the roots, or was changed.
    pub async fn model(&self, source: &impl Source, lease: &Assignment) -> Result<PathBuf, Error> {
        for file in &lease.model_files {
            check_name(&file.name)?;
        }
        if lease.model_uploaded {
            return self.uploaded(source, &lease.model_files).await;
        }
        if let Some(model) = &lease.model_hub {
            return self.from_hub(lease, model).await;
        }
        let dir = self.find(&lease.model_path, lease.model_dir.as_deref())?;
        self.check(&dir, &lease.model_files).await?;
        Ok(dir)
    }

    /// Whether a directory under a root holds what was submitted.
    pub(super) async fn check(&self, dir: &Path, files: &[FileHash]) -> Result<(), Error> {
        self.check_inside(dir)?;
        for file in files {
            let path = dir.join(&file.name);
            let hash = match self.verified.hash(&path).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::NoModelFile {
                        dir: dir.to_owned(),
                        name: file.name.clone(),
                    });
                }
                hash => hash.map_err(io_error("read", &path))?,
            };
            if hash.as_str() != file.hash {
                return Err(Error::ModelChanged { name: file.name.clone(), path });
            }
        }
        Ok(())
    }

    /// A directory of links to the files, named by what they are.
    async fn uploaded(&self, source: &impl Source, files: &[FileHash]) -> Result<PathBuf, Error> {
        let mut blobs = Vec::new();
        let mut listing = String::new();
        for FileHash { name, hash } in files {
            let key: ArtifactHash =
                hash.parse().map_err(|_| Error::ModelFileName(format!("{name} ({hash})")))?;
            blobs.push((name, self.blob(source, name, &key).await?));
            listing.push_str(&format!("{hash} {name}\n"));
        }
        let models = self.dir.join("models");
        let dir = models.join(ArtifactHash::of(listing.as_bytes()).as_str());
        if dir.is_dir() {
            return Ok(dir);
        }
        let temporary = tempfile::Builder::new().prefix(".make-").tempdir_in(&models);
        let temporary = temporary.map_err(io_error("write into", &models))?;
        for (name, blob) in blobs {
            let link = temporary.path().join(name);
            let blob = blob.canonicalize().map_err(io_error("open", &blob))?;
            symlink(&blob, &link).map_err(io_error("create", &link))?;
        }
        match fs::rename(temporary.path(), &dir) {
            // Another slot or agent was faster.
            Err(_) if dir.is_dir() => {}
            renamed => renamed.map_err(io_error("create", &dir))?,
        }
        Ok(dir)
    }

    /// The submitter's directory, if it is under a root here; else the spec's path under a root.
    pub(super) fn find(&self, path: &str, dir: Option<&str>) -> Result<PathBuf, Error> {
        let given = dir.map(PathBuf::from).filter(|dir| dir.is_absolute());
        let relative = Path::new(path);
        let below = self.roots.iter().filter(|_| relative.is_relative());
        let candidates = given.into_iter().chain(below.map(|root| root.join(relative)));
        for candidate in candidates {
            // Names are compared after all links and `..` are resolved.
            if let Ok(real) = candidate.canonicalize()
                && real.is_dir()
                && self.is_under_root(&real)
            {
                return Ok(real);
            }
        }
        let roots: Vec<String> = self.roots.iter().map(|r| r.display().to_string()).collect();
        let roots = match roots.as_slice() {
            [] => "any model root (it has none)".to_owned(),
            roots => roots.join(", "),
        };
        Err(Error::NoModel { path: path.to_owned(), roots })
    }

    fn is_under_root(&self, real: &Path) -> bool {
        self.roots.iter().any(|root| real.starts_with(root))
    }

    /// Refuses a directory with a file that a trainer might open and that leads elsewhere.
    fn check_inside(&self, dir: &Path) -> Result<(), Error> {
        for entry in fs::read_dir(dir).map_err(io_error("read", dir))? {
            let path = entry.map_err(io_error("read", dir))?.path();
            let opened = path.extension().and_then(|e| e.to_str());
            if !opened.is_some_and(|e| EXTENSIONS.contains(&e)) {
                continue;
            }
            if !path.canonicalize().is_ok_and(|real| self.is_under_root(&real)) {
                return Err(Error::Escapes(path));
            }
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Ok(()),
        _ => Err(Error::ModelFileName(name.to_owned())),
    }
}
