//! Files by hash, and trial logs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Server, reason};
use deptune_proto::v1;
use deptune_sweep::id::ArtifactHash;
use tokio_stream::StreamExt;
use tonic::Code;

#[tokio::test]
async fn a_file_comes_back_as_it_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let content: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let hash = ArtifactHash::of(&content).to_string();
    assert!(!server.upload(&content, "data").await.unwrap());
    assert!(server.upload(&content, "data").await.unwrap());
    let request = v1::GetArtifactRequest { hash: hash.clone() };
    let mut stream = server.artifacts().get_artifact(request).await.unwrap().into_inner();
    let (mut back, mut sizes) = (Vec::new(), Vec::new());
    while let Some(piece) = stream.next().await {
        let piece = piece.unwrap();
        assert!(piece.chunk.len() <= 256 << 10);
        back.extend(piece.chunk);
        sizes.push(piece.size);
    }
    assert!(back == content);
    assert_eq!((sizes[0], sizes.len()), (1_000_000, 4));

    let absent = ArtifactHash::of(b"absent").to_string();
    let request = v1::FindMissingRequest { hashes: vec![hash, absent.clone()] };
    let missing = server.artifacts().find_missing(request).await.unwrap().into_inner().missing;
    assert_eq!(missing, std::slice::from_ref(&absent));
    let status = server.artifacts().get_artifact(v1::GetArtifactRequest { hash: absent }).await;
    let status = status.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "UNKNOWN_ARTIFACT".to_owned()));
    // An empty file is a file.
    server.upload(b"", "data").await.unwrap();
    let hash = ArtifactHash::of(b"").to_string();
    let request = v1::GetArtifactRequest { hash };
    let stream = server.artifacts().get_artifact(request).await.unwrap().into_inner();
    assert_eq!(stream.collect::<Vec<_>>().await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_changed_after_it_was_hashed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let announced = ArtifactHash::of(b"rows as hashed").to_string();
    for (size, content) in
        [(14, &b"rows as edited"[..]), (14, b"fewer"), (14, b"and many more rows")]
    {
        let status = server.put(&announced, size, "data", content).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::InvalidArgument, "HASH_MISMATCH".to_owned())
        );
        assert!(status.message().contains("changed"), "{}", status.message());
    }
    let request = v1::FindMissingRequest { hashes: vec![announced.clone()] };
    let missing = server.artifacts().find_missing(request).await.unwrap().into_inner().missing;
    assert_eq!(missing, std::slice::from_ref(&announced));

    let status = server.put(&announced, 1 << 40, "checkpoint", b"").await.unwrap_err();
    assert_eq!(reason(&status), "TOO_LARGE");
    let status = server.put(&announced, 1, "virus", b"x").await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    let status = server.put("../../../etc/passwd", 1, "data", b"x").await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    server.stop().await;
}

#[tokio::test]
async fn a_log_is_written_once_and_followed_to_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let worker = server.register(1).await;
    let lease = server.exchange(&worker, Vec::new(), vec![0]).await.leases.remove(0);
    let trial = lease.lease.unwrap().trial;
    let append = |epoch, offset, text: &str| v1::AppendTrialLogRequest {
        trial,
        epoch,
        offset,
        text: text.as_bytes().to_vec(),
    };
    let mut artifacts = server.artifacts();
    for (offset, text, length) in [(0, "step 1\n", 7), (0, "step 1\nstep 2\n", 14), (99, "?", 14)] {
        let answer = artifacts.append_trial_log(append(1, offset, text)).await.unwrap();
        assert_eq!(answer.into_inner().length, length);
    }
    let status = artifacts.append_trial_log(append(2, 0, "?")).await.unwrap_err();
    assert_eq!(reason(&status), "UNKNOWN_TRIAL");

    let request = v1::ReadTrialLogRequest { trial, epoch: 0, follow: true };
    let stream = artifacts.read_trial_log(request).await.unwrap().into_inner();
    let following = tokio::spawn(stream.map(|piece| piece.unwrap()).collect::<Vec<_>>());
    // Zeros are what a full disk leaves; nobody reads them.
    artifacts.append_trial_log(append(1, 14, "\0\0\0")).await.unwrap();
    artifacts.append_trial_log(append(1, 17, "\0done\n")).await.unwrap();
    server.upload(b"adapter", "adapter").await.unwrap();
    server.exchange(&worker, vec![common::succeeded(&lease, 1.0, b"adapter")], vec![]).await;
    let pieces = following.await.unwrap();
    let text: Vec<u8> = pieces.iter().flat_map(|piece| piece.text.clone()).collect();
    assert_eq!(String::from_utf8(text).unwrap(), "step 1\nstep 2\ndone\n");
    assert!(pieces.iter().all(|piece| piece.epoch == 1));
    server.stop().await;
}
