//! The command line of deptune.

mod adapter_dir;
mod args;
mod bench;
mod client;
mod cmd;
#[cfg(debug_assertions)]
mod crash;
mod download;
mod duration;
mod follow;
mod hub;
mod local;
mod logging;
mod model_dir;
mod output;
mod paths;
mod peft;
mod query;
mod spec_file;
mod status;
mod stop;
mod storage;
mod train_dir;
mod trainer;
mod upload;

use std::process::ExitCode;

use clap::Parser;

use output::error::Error;

fn main() -> ExitCode {
    #[cfg(debug_assertions)]
    crash::arm();
    let cli = args::Cli::parse();
    let color = cli.globals.color.on_stderr();
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Task { task: "the runtime", source: source.into() })
        .and_then(|runtime| runtime.block_on(cmd::run(cli)));
    let exit = result.unwrap_or_else(|error| {
        if !matches!(error, Error::BrokenPipe) {
            output::say(&error.render(color));
        }
        error.exit()
    });
    ExitCode::from(exit.code())
}
