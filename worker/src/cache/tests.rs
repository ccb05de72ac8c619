use std::sync::atomic::{AtomicUsize, Ordering};

use deptune_proto::convert::Assignment;
use deptune_sweep::child::FileHash;
use deptune_sweep::id::{Epoch, SweepId, TrialId};
use deptune_sweep::scheduler::LeaseKey;

use super::*;
use crate::fixture::settings;

/// Holds contents by hash; may lie.
#[derive(Default)]
struct Shelf {
    contents: BTreeMap<ArtifactHash, Vec<u8>>,
    fetches: AtomicUsize,
}

impl Shelf {
    fn put(&mut self, content: &[u8]) -> ArtifactHash {
        let hash = ArtifactHash::of(content);
        self.contents.insert(hash.clone(), content.to_owned());
        hash
    }
}

impl Source for Shelf {
    async fn fetch(&self, hash: &ArtifactHash, to: &Path) -> Result<(), FetchError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let content = self.contents.get(hash).ok_or_else(|| FetchError::Missing(hash.clone()))?;
        fs::write(to, content).map_err(|source| FetchError::Write { path: to.to_owned(), source })
    }
}

fn lease(path: &str, dir: Option<&Path>, files: &[(&str, &[u8])]) -> Assignment {
    let hash = |(name, content): &(&str, &[u8])| FileHash {
        name: (*name).to_owned(),
        hash: ArtifactHash::of(content).as_str().to_owned(),
    };
    Assignment {
        lease: LeaseKey { trial: TrialId { sweep: SweepId(1), index: 0 }, epoch: Epoch(1) },
        slot: 0,
        pack: 0,
        settings: settings(),
        model_path: path.to_owned(),
        model_dir: dir.map(|d| d.to_str().unwrap().to_owned()),
        model_files: files.iter().map(hash).collect(),
        model_uploaded: false,
        model_hub: None,
        data: Vec::new(),
        checkpoint: None,
    }
}

#[tokio::test]
async fn a_file_is_fetched_once_for_all_slots() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &[], None, None).unwrap();
    let mut shelf = Shelf::default();
    let hash = shelf.put(b"rows");
    let get = || cache.blob(&shelf, "train.jsonl", &hash);
    let (a, b, c) = tokio::join!(get(), get(), get());
    let path = a.unwrap();
    assert_eq!((b.unwrap(), c.unwrap()), (path.clone(), path.clone()));
    assert_eq!(fs::read(&path).unwrap(), b"rows");
    assert_eq!(shelf.fetches.load(Ordering::SeqCst), 1);
    // Damaged on disk: fetched again.
    fs::write(&path, "rots").unwrap();
    get().await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"rows");
}

#[tokio::test]
async fn what_arrives_damaged_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &[], None, None).unwrap();
    let mut shelf = Shelf::default();
    let hash = ArtifactHash::of(b"rows");
    shelf.contents.insert(hash.clone(), b"else".to_vec());
    let error = cache.blob(&shelf, "train.jsonl", &hash).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }) && error.is_passing());
    assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
    let lacking = cache.blob(&shelf, "train.jsonl", &ArtifactHash::of(b"no")).await.unwrap_err();
    assert_eq!(lacking.class(), FailureClass::Data);
}

#[tokio::test]
async fn models_are_found_under_roots_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let model = root.join("team/t5");
    fs::create_dir_all(&model).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("config.json"), "{}").unwrap();
    let cache =
        Cache::open(&dir.path().join("cache"), std::slice::from_ref(&root), None, None).unwrap();
    let shelf = Shelf::default();
    let files: &[(&str, &[u8])] = &[("config.json", b"{}")];
    let real = model.canonicalize().unwrap();
    for found in [lease("team/t5", None, files), lease("../t5", Some(&model), files)] {
        assert_eq!(cache.model(&shelf, &found).await.unwrap(), real);
    }
    for (path, dir) in [
        ("../outside", None),
        ("team/../../outside", None),
        ("outside", Some(outside.as_path())),
        (outside.to_str().unwrap(), None),
        ("/", Some(Path::new("/"))),
    ] {
        let error = cache.model(&shelf, &lease(path, dir, files)).await.unwrap_err();
        assert_eq!(error.class(), FailureClass::UserError, "{path}");
        let said = error.to_string();
        assert!(said.contains("--upload-model") && said.contains("--model-root"), "{said}");
        assert!(said.contains(root.canonicalize().unwrap().to_str().unwrap()), "{said}");
    }
    std::os::unix::fs::symlink(outside.join("config.json"), model.join("x.safetensors")).unwrap();
    let error = cache.model(&shelf, &lease("team/t5", None, files)).await.unwrap_err();
    assert!(matches!(error, Error::Escapes(_)), "{error}");
}

#[tokio::test]
async fn a_changed_model_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("t5");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("model.safetensors"), "weights").unwrap();
    let roots = [dir.path().to_owned()];
    let cache = Cache::open(&dir.path().join("cache"), &roots, None, None).unwrap();
    let shelf = Shelf::default();
    let wanted = lease("t5", None, &[("model.safetensors", b"weights")]);
    cache.model(&shelf, &wanted).await.unwrap();
    fs::write(model.join("model.safetensors"), "heights").unwrap();
    let error = cache.model(&shelf, &wanted).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::Data);
    assert!(error.to_string().contains("model file model.safetensors changed after submit"));
    let more = lease("t5", None, &[("tokenizer.json", b"{}")]);
    let error = cache.model(&shelf, &more).await.unwrap_err();
    assert!(error.to_string().contains("has no tokenizer.json"), "{error}");
    let sly = lease("t5", None, &[("../../etc/passwd", b"")]);
    let error = cache.model(&shelf, &sly).await.unwrap_err();
    assert!(matches!(error, Error::ModelFileName(_)));
}

#[tokio::test]
async fn an_uploaded_model_is_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &[], None, None).unwrap();
    let mut shelf = Shelf::default();
    shelf.put(b"{}");
    shelf.put(b"weights");
    let files: &[(&str, &[u8])] = &[("config.json", b"{}"), ("model.safetensors", b"weights")];
    let wanted = Assignment { model_uploaded: true, ..lease("t5", None, files) };
    let model = cache.model(&shelf, &wanted).await.unwrap();
    assert_eq!(fs::read(model.join("model.safetensors")).unwrap(), b"weights");
    assert_eq!(cache.model(&shelf, &wanted).await.unwrap(), model);
    assert_eq!(fs::read_dir(&model).unwrap().count(), 2);
}

#[tokio::test]
async fn beyond_its_bound_what_was_used_least_recently_goes() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &[], None, Some(8)).unwrap();
    let mut shelf = Shelf::default();
    let hashes: Vec<ArtifactHash> =
        [&b"aaaa"[..], b"bbbb", b"cccc"].iter().map(|content| shelf.put(content)).collect();
    let minutes_ago = |hash: &ArtifactHash, minutes: u64| {
        let mark = dir.path().join("used").join(hash.as_str());
        let when = SystemTime::now() - std::time::Duration::from_secs(60 * minutes);
        fs::File::options().write(true).open(mark).unwrap().set_modified(when).unwrap();
    };
    cache.blob(&shelf, "file", &hashes[0]).await.unwrap();
    minutes_ago(&hashes[0], 40);
    cache.blob(&shelf, "file", &hashes[1]).await.unwrap();
    // The bound itself may be taken.
    assert!(dir.path().join("blobs").join(hashes[0].as_str()).exists());
    minutes_ago(&hashes[1], 50);
    // One that is used again is not the oldest any more.
    cache.blob(&shelf, "file", &hashes[1]).await.unwrap();
    cache.blob(&shelf, "file", &hashes[2]).await.unwrap();
    let here = || {
        let is_here = |hash: &ArtifactHash| dir.path().join("blobs").join(hash.as_str()).exists();
        hashes.iter().map(is_here).collect::<Vec<bool>>()
    };
    assert_eq!(here(), [false, true, true]);
    // It is fetched again; what was used just now stays, also beyond the bound.
    assert_eq!(shelf.fetches.load(Ordering::SeqCst), 3);
    cache.blob(&shelf, "file", &hashes[0]).await.unwrap();
    assert_eq!(here(), [true, true, true]);
    assert_eq!(shelf.fetches.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_use_that_cannot_be_noted_is_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("used"), "no directory").unwrap();
    let cache = Cache::open(dir.path(), &[], None, None).unwrap();
    let mut shelf = Shelf::default();
    let hash = shelf.put(b"rows");
    for _ in 0..2 {
        cache.blob(&shelf, "file", &hash).await.unwrap();
    }
    assert_eq!(shelf.fetches.load(Ordering::SeqCst), 1);
}
