//! Files that are no longer what they were when they were hashed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use deptune_proto::v1::artifact_service_client::ArtifactServiceClient;
use deptune_proto::v1::put_artifact_request::{Header, Part};
use deptune_proto::v1::{FindMissingRequest, PutArtifactRequest, PutArtifactResponse};
use deptune_tests::{Coordinator, Proxy, World};
use tonic::{Code, Request, Status};

use super::assert_untouched;

/// What happens to a file.
type Change = (&'static str, fn(&Path));

const CHANGES: &[Change] = &[
    ("rewritten", |path| {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text.replace("positive", "negative")).unwrap();
    }),
    ("longer", |path| {
        let mut file = File::options().append(true).open(path).unwrap();
        file.write_all(b"{\"text\": \"late\", \"sentiment\": \"negative\"}\n").unwrap();
    }),
    ("shorter", |path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }),
    ("emptied", |path| fs::write(path, "").unwrap()),
];

#[test]
fn a_data_file_that_changes_between_hashing_and_upload_is_named() {
    let world = World::new();
    let coordinator = world.serve();
    for &(name, change) in CHANGES {
        let project = world.project(name);
        let file = project.dir.join("train.jsonl");
        let changed = file.clone();
        // The command hashes first, connects, asks what is missing, then sends: so the moment at
        // which it connects lies between.
        let proxy = Proxy::start(&coordinator.address, move || change(&changed));
        let finished = world.run(&["submit", &project.spec(), "--server", &proxy.address]);
        finished.code(2).says(&[
            &file.display().to_string(),
            "changed between hashing and upload",
            "hint: let whatever writes it finish, then submit again",
        ]);
    }
    let project = world.project("removed");
    let file = project.dir.join("train.jsonl");
    let removed = file.clone();
    let proxy = Proxy::start(&coordinator.address, move || drop(fs::remove_file(&removed)));
    let finished = world.run(&["submit", &project.spec(), "--server", &proxy.address]);
    finished.code(2).says(&["cannot read", &file.display().to_string(), "hint:"]);

    // Only complete files are kept, and none that belongs to a sweep: the others were sent first.
    assert!(
        super::stored_files(&world)
            .iter()
            .all(|path| !path.starts_with(world.data_dir().join("artifacts/incoming"))),
        "an unfinished upload was left"
    );
    let mut database = coordinator.database();
    assert_eq!(database.number("select count(*) from sweeps"), 0);
    database.assert_sound();
}

/// Sends `parts` and returns the coordinator's answer.
async fn put(coordinator: &Coordinator, parts: Vec<Part>) -> Result<PutArtifactResponse, Status> {
    let messages: Vec<PutArtifactRequest> =
        parts.into_iter().map(|part| PutArtifactRequest { part: Some(part) }).collect();
    let mut client = client(coordinator).await;
    let answer = client.put_artifact(authorized(coordinator, tokio_stream::iter(messages))).await;
    answer.map(tonic::Response::into_inner)
}

async fn client(coordinator: &Coordinator) -> ArtifactServiceClient<tonic::transport::Channel> {
    let url = format!("http://{}", coordinator.address);
    ArtifactServiceClient::connect(url).await.unwrap()
}

fn authorized<T>(coordinator: &Coordinator, message: T) -> Request<T> {
    let token = fs::read_to_string(&coordinator.token_file).unwrap();
    let mut request = Request::new(message);
    let value = format!("Bearer {}", token.trim()).parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[test]
fn the_coordinator_takes_no_file_that_is_not_what_its_header_says() {
    let world = World::new();
    let coordinator = world.serve();
    let hash = blake3::hash(b"hello").to_hex().to_string();
    let header = |hash: &str, size: u64, kind: &str| {
        Part::Header(Header { hash: hash.to_owned(), size, kind: kind.to_owned() })
    };
    let chunk = |bytes: &[u8]| Part::Chunk(bytes.to_vec());
    let cases = [
        ("other bytes", vec![header(&hash, 5, "data"), chunk(b"hallo")]),
        ("too many bytes", vec![header(&hash, 5, "data"), chunk(b"hello!")]),
        ("too few bytes", vec![header(&hash, 5, "data"), chunk(b"hell")]),
        ("no bytes", vec![header(&hash, 5, "data")]),
        ("no hash", vec![header("../../etc/passwd", 5, "data"), chunk(b"hello")]),
        ("no kind", vec![header(&hash, 5, "pickle"), chunk(b"hello")]),
        ("no header", vec![chunk(b"hello")]),
        ("two headers", vec![header(&hash, 5, "data"), header(&hash, 5, "data")]),
        ("a large chunk", vec![header(&hash, 300 << 10, "data"), chunk(&vec![0; 300 << 10])]),
        ("an endless file", vec![header(&hash, u64::MAX, "model")]),
        ("nothing", vec![]),
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for (name, parts) in cases {
            let status = put(&coordinator, parts).await.expect_err(name);
            let typed = [
                Code::InvalidArgument,
                Code::FailedPrecondition,
                Code::OutOfRange,
                Code::ResourceExhausted,
                Code::DataLoss,
            ];
            assert!(typed.contains(&status.code()), "{name}: {status:?}");
            assert!(!status.message().is_empty(), "{name}");
        }
        let question = FindMissingRequest { hashes: vec![hash.clone()] };
        let question = authorized(&coordinator, question);
        let answer = client(&coordinator).await.find_missing(question).await.unwrap();
        assert_eq!(answer.into_inner().missing, [hash]);
    });
    assert_untouched(&world, coordinator);
}
