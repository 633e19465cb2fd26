//! A check changes nothing, a repair loses nothing, and a second repair changes nothing.

use std::sync::Arc;

use arbitrary::Unstructured;
use block_core::{BlockDriver, CheckMode, CheckReport, ErrorKind, MemStorage, Severity, Storage};
use block_vdi::VdiDriver;

use crate::drivers::{blames_the_image, closed_context};
use crate::poke::{SMALL, poke, sound_image};
use crate::reference::{Content, Entry, Reference, SECTOR};
use crate::run::run;

/// Space on the storage under a repair, in bytes.
const DISK: u64 = 8 << 20;

/// Takes from the input which image to create and what to change in it.
pub(crate) fn body(data: &[u8]) {
    run(async {
        let mut u = Unstructured::new(data);
        let Ok(mut file) = sound_image(&mut u, SMALL).await else { return };
        let report = check(&MemStorage::from_bytes(&file), CheckMode::Report).await;
        let report = report.expect("a sound image is checked");
        assert!(report.is_clean(), "a sound image has faults: {report:?}");
        if poke(&mut u, &mut file).is_err() {
            return;
        }
        report_changes_nothing(&file).await;
        repair(&file, CheckMode::RepairLeaks).await;
        repair(&file, CheckMode::RepairAll).await;
    });
}

/// Checks the image, and verifies the report's counts of findings.
async fn check(
    storage: &Arc<MemStorage>,
    mode: CheckMode,
) -> Result<CheckReport, block_core::Error> {
    let report = VdiDriver.check(storage.clone(), mode, &closed_context()).await?;
    if report.more_findings == 0 {
        let count = |severity, fixed| {
            let matching = |f: &&block_core::Finding| f.severity == severity && f.fixed == fixed;
            report.findings.iter().filter(matching).count() as u64
        };
        let counts = [
            (report.corruptions, count(Severity::Corruption, false)),
            (report.corruptions_fixed, count(Severity::Corruption, true)),
            (report.leaks, count(Severity::Leak, false)),
            (report.leaks_fixed, count(Severity::Leak, true)),
        ];
        assert!(counts.iter().all(|(told, found)| told == found), "miscounted: {report:?}");
    }
    Ok(report)
}

async fn report_changes_nothing(file: &[u8]) {
    let storage = MemStorage::from_bytes(file);
    match check(&storage, CheckMode::Report).await {
        Ok(report) => {
            let fixed = report.findings.iter().any(|finding| finding.fixed);
            assert!(!fixed, "a report has repaired something: {report:?}");
            if report.is_clean() {
                assert!(Reference::parse(file).is_some(), "clean, though it has to be refused");
            }
        }
        Err(error) => blames_the_image(&error),
    }
    assert!(storage.to_bytes().as_deref() == Some(file), "a report has changed the file");
}

async fn repair(file: &[u8], mode: CheckMode) {
    let storage = MemStorage::from_bytes(file);
    storage.limit(DISK);
    let first = match check(&storage, mode).await {
        Ok(report) => report,
        Err(error) if error.kind() == ErrorKind::NoSpace => {
            // Thousands of entries may share one block, so the disk may be too small for the copies.
            assert!(storage.allocated_bytes().await.ok().flatten() > Some(DISK / 2), "{error:?}");
            if let Some(stopped) = small(&storage).await {
                keeps_content(file, &stopped, &CheckReport::default());
            }
            return;
        }
        Err(error) => {
            blames_the_image(&error);
            let untouched = storage.to_bytes().as_deref() == Some(file);
            assert!(untouched, "a repair that gave up has changed the file: {error:?}");
            return;
        }
    };
    let repaired = small(&storage).await;
    if let Some(repaired) = &repaired {
        keeps_content(file, repaired, &first);
    }

    let second = check(&storage, mode).await.expect("what was repaired can be checked");
    let again = second.findings.iter().any(|finding| finding.fixed);
    assert!(!again, "repaired twice: first {first:?}, then {second:?}");
    assert!(small(&storage).await == repaired, "changed without a finding");
    let left = (second.corruptions, second.leaks, second.check_errors);
    let told = (first.corruptions, first.leaks, first.check_errors);
    assert_eq!(left, told, "the first report was wrong: {first:?}, then {second:?}");
}

/// Returns all bytes. `None` if blocks of 128 MiB have made the file larger than 16 MiB.
async fn small(storage: &MemStorage) -> Option<Vec<u8>> {
    let len = storage.len().await.expect("memory has a length");
    (len <= 16 << 20).then(|| storage.to_bytes().expect("16 MiB"))
}

/// Asserts that all readable content stays the same and that free blocks of a child stay free.
fn keeps_content(before: &[u8], after: &[u8], report: &CheckReport) {
    let Some(old) = Reference::parse(before) else { return };
    let new = Reference::parse(after);
    let new = new.unwrap_or_else(|| panic!("does not open after a repair: {report:?}"));
    assert_eq!(old.sectors(), new.sectors(), "a repair has changed the size: {report:?}");
    assert_eq!(old.needs_parent, new.needs_parent, "a repair has changed the chain: {report:?}");
    for block in 0..old.blocks().min(64) {
        let (was, is) = (old.entry(block), new.entry(block));
        if old.needs_parent && !old.is_missing(block) {
            let kept = (was == Entry::Free) == (is == Entry::Free);
            assert!(kept, "block {block} was {was:?} and is {is:?}: {report:?}");
        }
        let sectors = block * old.block_sectors()..(block + 1) * old.block_sectors();
        for sector in sectors.start..sectors.end.min(old.sectors()) {
            let same = match (old.sector(sector), new.sector(sector)) {
                (Content::Missing, _) => true,
                (_, Content::Missing) => false,
                (was, is) => bytes(was) == bytes(is),
            };
            assert!(same, "sector {sector} has changed, {was:?} to {is:?}: {report:?}");
        }
    }
}

fn bytes(content: Content<'_>) -> &[u8] {
    match content {
        Content::Stored(bytes) => bytes,
        _ => &[0; SECTOR],
    }
}
