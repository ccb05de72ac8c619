//! What a pack takes here: it is begun, timed and thrown away.

use std::io::Write;
use std::time::{Duration, Instant};

use deptune_sweep::measure::{Measured, Reply, Request};
use deptune_sweep::task::Split;

use crate::data::Rows;
use crate::gpu;
use crate::order::Order;
use crate::run::UNHEARD;
use crate::run::failure::Failure;
use crate::run::prepare::{Prepared, prepare};

/// Most batches of an evaluation that are timed.
const BATCHES: usize = 4;

/// Answers a request with one line; says whether it could.
///
/// # Errors
/// When `out` cannot be written.
pub fn measure(request: &Request, out: &mut impl Write) -> std::io::Result<bool> {
    let (reply, done) = match measured(request) {
        Ok(measured) => (Reply::Measured { measured }, true),
        Err(failure) => (Reply::Failed { message: failure.message }, false),
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()?;
    Ok(done)
}

fn measured(request: &Request) -> Result<Measured, Failure> {
    let watch = gpu::watch(&request.job.device);
    let started = Instant::now();
    let mut prepared = prepare(&request.job)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let time = Duration::try_from_secs_f64(request.seconds).unwrap_or_default();
    let update_seconds = update_seconds(&mut prepared, time)?;
    let validation_seconds = evaluation_seconds(&prepared, Split::Validation, time)?;
    let test_seconds = evaluation_seconds(&prepared, Split::Test, time)?;
    Ok(Measured {
        members: u32::try_from(request.job.trials.len()).unwrap_or(u32::MAX),
        load_seconds,
        update_seconds,
        validation_seconds,
        test_seconds,
        peak_bytes: gpu::took(watch.as_ref()).peak_memory_bytes.unwrap_or(0),
    })
}

/// Mean seconds of an update after the first, which also warms up, unless it is the only one.
fn update_seconds(prepared: &mut Prepared, time: Duration) -> Result<f64, Failure> {
    let mut order = prepared.order();
    let steps = prepared.settings.train.steps;
    let mut started = Instant::now();
    update(prepared, &mut order, 1)?;
    prepared.pack.reports()?;
    if steps < 2 {
        return Ok(started.elapsed().as_secs_f64());
    }
    started = Instant::now();
    let mut made: u64 = 0;
    for step in 2..=steps {
        update(prepared, &mut order, step)?;
        made += 1;
        // Waits, as training does.
        if made.is_multiple_of(UNHEARD) || step == steps || started.elapsed() >= time {
            prepared.pack.reports()?;
            if started.elapsed() >= time {
                break;
            }
        }
    }
    Ok(started.elapsed().as_secs_f64() / made as f64)
}

fn update(prepared: &mut Prepared, order: &mut Order, step: u64) -> Result<(), Failure> {
    let rows = order.micro_batches(step);
    let batches = prepared.batches(&rows)?;
    prepared.pack.advance(&batches)?;
    Ok(())
}

/// Seconds of an evaluation of a whole split, projected from rows spread over it.
fn evaluation_seconds(prepared: &Prepared, split: Split, time: Duration) -> Result<f64, Failure> {
    let Some(all) = prepared.data.split(split) else { return Ok(0.0) };
    let count = all.examples.len();
    if count == 0 {
        return Ok(0.0);
    }
    let batch = (prepared.settings.train.eval_batch_size as usize).max(1);
    let trials: Vec<usize> = (0..prepared.pack.members().len()).collect();
    let (mut judged, mut seconds) = (0, 0.0);
    for (n, rows) in spread(all, batch, BATCHES).into_iter().enumerate() {
        let started = Instant::now();
        prepared.judge(split, &rows).evaluate(&prepared.pack, &trials, 0)?;
        // The first one warms up, where there are more.
        if n > 0 || count <= batch {
            judged += rows.examples.len();
            seconds += started.elapsed().as_secs_f64();
        }
        if n > 0 && seconds >= time.as_secs_f64() {
            break;
        }
    }
    Ok(seconds * count as f64 / judged.max(1) as f64)
}

/// Some batches of rows, each from all over the split.
fn spread(all: &Rows, batch: usize, most: usize) -> Vec<Rows> {
    let batches = all.examples.len().div_ceil(batch);
    (0..batches.min(most)).map(|first| all.every(batches, first)).collect()
}
