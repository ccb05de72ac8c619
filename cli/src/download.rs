//! Files by hash from the coordinator.

use deptune_proto::v1;
use deptune_sweep::id::ArtifactHash;

use crate::client::Client;
use crate::output::error::Error;

/// Fetches a file and checks its hash; `doing` says what for.
///
/// # Errors
/// As every call; content of another hash.
pub(crate) async fn fetch(
    client: &Client,
    hash: &str,
    doing: &'static str,
) -> Result<Vec<u8>, Error> {
    let request = v1::GetArtifactRequest { hash: hash.to_owned() };
    let mut stream = client
        .call(doing, || {
            let (mut artifacts, request) = (client.artifacts(), request.clone());
            async move { artifacts.get_artifact(request).await }
        })
        .await?
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = stream.message().await.map_err(|status| client.refused(doing, status))? {
        bytes.extend_from_slice(&part.chunk);
    }
    if ArtifactHash::of(&bytes).as_str() != hash {
        return Err(Error::Answer { doing, what: "content of the announced hash" });
    }
    Ok(bytes)
}
