//! The host-edge kit: every command that makes a file, in every situation a target can be in, with each system call that
//! concerns the target failed at its first and at its last use, with signals at those that matter, and under limits.
//!
//! `cargo test -p block-img --test host_edge -- --ignored --nocapture`

mod command;
mod run;
mod situation;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Instant;

use command::COMMANDS;
use run::{Bench, Fault, faults_of};
use situation::SITUATIONS;

/// Runs at most, so that the kit stays within its minutes.
const MAX_RUNS: usize = 5_000;

#[test]
#[ignore = "takes minutes: CI runs it in a step of its own"]
fn every_call_fails_once_and_nothing_is_lost() {
    let Some(bench) = Bench::new() else { return };
    let begun = Instant::now();
    let pairs: VecDeque<_> = SITUATIONS
        .iter()
        .filter(|situation| bench.can_have(situation))
        .flat_map(|situation| COMMANDS.iter().map(move |command| (command, situation)))
        .filter(|(command, situation)| command.fits(situation))
        .collect();
    let (commands, situations) = (COMMANDS.len(), SITUATIONS.len());
    let total = pairs.len();
    // Without a fault first: this shows what the situation is, and which calls there are to fail.
    let work = Mutex::new(VecDeque::new());
    let calls = Mutex::new(BTreeMap::<String, usize>::new());
    let problems = Mutex::new(Vec::new());
    parallel(&Mutex::new(pairs), |(command, situation)| {
        match bench.run(command, situation, None) {
            Ok(log) => {
                let faults = faults_of(&log, bench.root(), situation);
                assert!(!faults.is_empty(), "{} {}: no calls seen", command.name, situation.name);
                let mut calls = calls.lock().unwrap();
                for fault in &faults {
                    *calls.entry(fault.kind().to_owned()).or_default() += 1;
                }
                let runs = faults.into_iter().map(|fault| (command, situation, fault));
                work.lock().unwrap().extend(runs);
            }
            Err(problem) => problems.lock().unwrap().push(problem),
        }
    });
    let runs = work.lock().unwrap().len() + total;
    assert!(runs <= MAX_RUNS, "{runs} runs");
    parallel(&work, |(command, situation, fault): (_, _, Fault)| {
        if let Err(problem) = bench.run(command, situation, Some(&fault)) {
            problems.lock().unwrap().push(problem);
        }
    });
    let (calls, problems) = (calls.into_inner().unwrap(), problems.into_inner().unwrap());
    println!(
        "host edge: {commands} commands x {situations} situations ({total} pairs) x {} calls, signals and limits: {runs} runs in {} s, {} problems",
        calls.len(),
        begun.elapsed().as_secs(),
        problems.len()
    );
    for (call, faults) in &calls {
        println!("  {call}: {faults} faults");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(calls.len() >= 12 && total >= 40, "the kit sees less than it did");
}

/// Takes the items off the queue in two threads.
fn parallel<T: Send>(queue: &Mutex<VecDeque<T>>, each: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let item = queue.lock().unwrap().pop_front();
                    match item {
                        Some(item) => each(item),
                        None => break,
                    }
                }
            });
        }
    });
}
