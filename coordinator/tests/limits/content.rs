//! Content: bytes that are no message, and specs that mean harm.

use std::fmt::Write as _;

use tonic::Code;
use tonic_types::StatusExt;

use crate::bystander::Bystander;
use crate::common::{SPEC, Server, new_id, submission};
use crate::wire::{channel, send};

const METHODS: &[&str] = &[
    "/deptune.v1.SweepService/SubmitSweep",
    "/deptune.v1.SweepService/GetSweep",
    "/deptune.v1.SweepService/ListTrials",
    "/deptune.v1.SweepService/ListEvaluations",
    "/deptune.v1.SweepService/Query",
    "/deptune.v1.WorkerService/RegisterWorker",
    "/deptune.v1.WorkerService/CompleteAndLease",
    "/deptune.v1.WorkerService/Heartbeat",
    "/deptune.v1.WorkerService/ReportProgress",
    "/deptune.v1.ArtifactService/PutArtifact",
    "/deptune.v1.ArtifactService/FindMissing",
    "/deptune.v1.ArtifactService/AppendTrialLog",
];

#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let bystander = Bystander::start(&server);
    let stranger = channel(&server);
    let noise: Vec<u8> = blake3::Hasher::new().finalize().as_bytes().repeat(32);
    // A field that claims to be longer than the message, groups without end, a wrong wire type.
    let bad: [&[u8]; 5] =
        [&noise, b"\x0a\xff\xff\xff\xff\x0f", &[0x0b; 4096], b"\x08\x80", b"\x0a\x02\xff\xfe"];
    for path in METHODS {
        for bytes in bad {
            let sent = send(&stranger, &server.bearer, path, bytes.to_vec()).await;
            let status = sent.expect_err(path);
            assert!(
                matches!(status.code(), Code::Internal | Code::InvalidArgument | Code::NotFound),
                "{path}: {status}"
            );
            assert!(!status.message().contains("panic"), "{path}: {status}");
        }
    }
    bystander.end("bytes that are no message").await;
    server.stop().await;
}

#[tokio::test]
async fn hostile_specs_are_answered_with_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.upload(crate::common::DATA, "data").await.unwrap();
    let bystander = Bystander::start(&server);
    let mut many_keys = SPEC.to_owned();
    for key in 0..2_000 {
        let _ = writeln!(many_keys, "{}{key} = 1", "k".repeat(60));
    }
    let axis = |count: u32| {
        let values: Vec<String> =
            (1..=count).map(|n| format!("{:.6}", f64::from(n) / 1e6)).collect();
        values.join(", ")
    };
    let huge =
        SPEC.replace("0.3, 0.4", &axis(8_000)).replace("[5e-4]", &format!("[{}]", axis(8_000)));
    let specs = [
        ("nested", format!("x = {}", "[".repeat(200_000))),
        ("inline tables", format!("x = {}", "{a=".repeat(60_000))),
        ("many unknown keys", many_keys),
        ("a grid of 64 million configurations", huge),
        ("not finite", SPEC.replace("0.3", "nan")),
        ("control characters", SPEC.replace("tiny", "ti\\u0000ny")),
    ];
    for (what, spec) in specs {
        let mut request = submission(new_id());
        request.spec = spec;
        let status = server.sweeps().submit_sweep(request).await.expect_err(what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
        // The details arrive whole: an answer's headers have limits, too.
        let problems = status.get_details_bad_request().expect(what).field_violations;
        assert!((1..=101).contains(&problems.len()), "{what}: {} problems", problems.len());
    }
    bystander.end("hostile specs").await;
    server.stop().await;
}
