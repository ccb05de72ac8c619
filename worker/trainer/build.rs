//! Lets the trainer's binaries and tests find libtorch by themselves.
//!
//! Two places are written into them: `../lib/deptune` beside an installed binary, then the
//! directory that this build links. They are written as RPATH, not RUNPATH: on clusters
//! LD_LIBRARY_PATH often holds another libtorch, which must not win.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    for name in ["LIBTORCH", "LIBTORCH_LIB", "LIBTORCH_USE_PYTORCH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    match library_directory() {
        Ok(directory) => {
            println!("cargo::rustc-link-arg=-Wl,--disable-new-dtags");
            println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib/deptune");
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", directory.display());
        }
        Err(message) => println!("cargo::error={message}"),
    }
}

/// The absolute directory of `libtorch_cpu.so`, chosen as torch-sys chooses it.
fn library_directory() -> Result<PathBuf, String> {
    let directory = if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        directory_of_python()?
    } else {
        env::var_os("LIBTORCH_LIB")
            .or_else(|| env::var_os("LIBTORCH"))
            .map(|folder| PathBuf::from(folder).join("lib"))
            .ok_or("LIBTORCH is not set: build inside the checkout, after `make libtorch`")?
    };
    if !directory.is_absolute() {
        return Err(format!("LIBTORCH must be an absolute path, not `{}`", directory.display()));
    }
    if !directory.join("libtorch_cpu.so").is_file() {
        return Err(format!(
            "no libtorch in {}: run `make libtorch`, or set LIBTORCH to a libtorch 2.11.0",
            directory.display()
        ));
    }
    // The linker takes a comma as the end of an argument, the loader a colon as the end of a path.
    if directory.to_string_lossy().contains([',', ':']) {
        return Err(format!("{} has a comma or colon in its path", directory.display()));
    }
    Ok(directory)
}

fn directory_of_python() -> Result<PathBuf, String> {
    let python = if env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let script = "import os, torch; print(os.path.join(os.path.dirname(torch.__file__), 'lib'))";
    let output = Command::new(python).args(["-c", script]).output().map_err(|error| {
        format!("LIBTORCH_USE_PYTORCH is set, but {python} cannot run: {error}")
    })?;
    if !output.status.success() {
        return Err(format!("LIBTORCH_USE_PYTORCH is set, but {python} cannot import torch"));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
