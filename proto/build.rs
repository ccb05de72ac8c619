//! Compiles the protos without a `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["sweep", "worker", "artifact", "admin"].map(|name| format!("deptune/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-changed=deptune/v1/types.proto");
    let descriptors = protox::compile(&files, ["."])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    tonic_prost_build::configure()
        .file_descriptor_set_path(out.join("deptune.v1.bin"))
        .compile_fds(descriptors.clone())?;
    std::fs::write(out.join("deptune.v1.bin"), prost::Message::encode_to_vec(&descriptors))?;
    Ok(())
}
