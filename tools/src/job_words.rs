//! What is said about a job of `block-jobs` that failed.

use crate::error::Failure;
use block_jobs::{JobError, Side, Step};

/// The failure of a copy from the images called `sources`.
pub(crate) fn copying(error: &JobError, sources: &[String]) -> Failure {
    let source = |number: usize| sources.get(number).map(String::as_str);
    match error.step() {
        Step::Map => Failure::because("error while reading the map", error.error()),
        _ => moving(error, source),
    }
}

/// The failure of a job that reads the image called `name`.
pub(crate) fn reading(error: &JobError, name: &str) -> Failure {
    match error.step() {
        Step::Map => Failure::because("Could not read the map", error.error()),
        _ => moving(error, |_| Some(name)),
    }
}

/// The failure of reading, writing or copying at some byte.
fn moving<'n>(error: &JobError, source: impl Fn(usize) -> Option<&'n str>) -> Failure {
    let why = error.error();
    let Some(at) = error.offset() else { return Failure::from(why) };
    match (error.step(), error.side()) {
        (Step::Read, Side::Source(number)) => {
            let name = source(number).unwrap_or("a source");
            Failure::because(format_args!("error while reading {name} at byte {at}"), why)
        }
        (Step::Write, _) => Failure::because(format_args!("error while writing at byte {at}"), why),
        (Step::Copy, _) => Failure::because(format_args!("error while copying at byte {at}"), why),
        _ => Failure::from(why),
    }
}
