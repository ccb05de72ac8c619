//! The `deptune.v1` gRPC interface: generated messages and services, and conversions between
//! wire messages and the domain's types.

pub mod convert;

/// Generated from `proto/deptune/v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("deptune.v1");

    /// The encoded descriptor set, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/deptune.v1.bin"));
}
