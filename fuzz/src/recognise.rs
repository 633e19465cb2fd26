//! Format detection: independent of the order of the formats and of the file's name, and never with two answers.

use block_core::probe::{
    Band, Decision, Kind, ProbeInput, ProbeReport, RelationKind, decide, limits,
};
use block_core::{MemStorage, Registry};
use block_inspect::CATALOGUE;

use crate::drivers::{Memory, registry};
use crate::run::run;

/// Minimum score at which a format claims the file.
const CLAIM: u8 = 60;

/// Detects the format of the input as a file.
pub(crate) fn body(file: &[u8]) {
    let registry = registry(&Memory::default());
    let input = registry.probe_bytes(None, file);
    let report = registry.recognise(&input);
    agrees_with_itself(&input, &report);
    ignores_the_order(&registry, &input, &report);
    ignores_the_name(&registry, file, &report);
    is_the_same_through_a_storage(&registry, file, &report);
}

/// Asserts that nothing in the report contradicts its decision.
fn agrees_with_itself(input: &ProbeInput, report: &ProbeReport) {
    let claims: Vec<_> =
        report.candidates.iter().filter(|candidate| candidate.score.value >= CLAIM).collect();
    let undecided = report
        .relations
        .iter()
        .any(|r| matches!(r.kind, RelationKind::Ambiguous | RelationKind::NestedContainer));
    // Two containers in one file are two disks, in spite of any relation between them.
    let containers = claims.iter().filter(|claim| claim.kind == Kind::Container).count();
    if containers > 1 {
        assert_eq!(report.decision, Decision::Ambiguous, "{containers} containers: {report:?}");
    }
    for pair in report.candidates.windows(2) {
        assert!(pair[0].score.value >= pair[1].score.value, "candidates out of order");
    }
    match report.decision {
        Decision::Empty => {
            assert!(input.is_empty() && report.selected.as_deref() == Some("raw"));
        }
        Decision::Raw => {
            assert_eq!(report.selected.as_deref(), Some("raw"));
            assert!(claims.is_empty(), "raw, though {} claims it", claims[0].id);
        }
        Decision::Ambiguous => {
            assert!(report.selected.is_none() && report.drivers().is_empty());
            assert!(undecided || claims.len() > 1, "ambiguous between whom? {report:?}");
        }
        Decision::Selected | Decision::Broken => {
            let selected = report.selected().expect("a decision selects");
            assert!(!undecided, "{} selected against a contradiction: {report:?}", selected.id);
            let broken = selected.score.value < 75;
            assert_eq!(broken, report.decision == Decision::Broken, "{}", selected.id);
            assert!(selected.score.value >= CLAIM && selected.score.band >= Band::Broken);
            for other in claims.iter().filter(|other| other.id != selected.id) {
                let yields = report.relations.iter().any(|r| r.inner == other.id);
                assert!(yields, "{} selected, and {} claims it too", selected.id, other.id);
            }
        }
    }
    assert_eq!(input.is_empty(), report.decision == Decision::Empty);
    let read: u64 = report.windows_read.iter().map(|window| window.len).sum();
    assert!(read <= limits::HEAD_BYTES + limits::TAIL_BYTES, "{read} bytes read");
    for window in &report.windows_read {
        assert!(window.offset + window.len <= report.file_len, "read past the end");
    }
    assert!(!report.explain().is_empty());
}

/// Asserts that the order in which formats are probed has no effect.
fn ignores_the_order(registry: &Registry, input: &ProbeInput, report: &ProbeReport) {
    let drivers = registry.drivers().into_iter().map(|driver| driver.probe(input));
    let mut probes: Vec<_> =
        CATALOGUE.recognisers().map(|r| (r.probe)(input)).chain(drivers).collect();
    let mut hints = CATALOGUE.hints(input);
    probes.reverse();
    hints.reverse();
    let first = probes.len() / 3;
    probes.rotate_left(first);
    assert_eq!(&decide(input, probes, hints), report, "the order decides");
}

/// Asserts that the file's name has no effect on the decision.
fn ignores_the_name(registry: &Registry, file: &[u8], report: &ProbeReport) {
    for name in ["a.vdi", "a.vmdk", "a.vhd", "a.img"] {
        let named = registry.recognise(&registry.probe_bytes(Some(name), file));
        let answer = (named.decision, &named.selected);
        assert_eq!(answer, (report.decision, &report.selected), "the name {name} decides");
    }
}

/// Asserts that a file read in windows is detected as it is in memory.
fn is_the_same_through_a_storage(registry: &Registry, file: &[u8], report: &ProbeReport) {
    let storage = MemStorage::from_bytes(file);
    let probed = run(async {
        let input = registry.probe_input(&*storage, None).await.expect("a storage in memory");
        registry.recognise(&input)
    });
    assert_eq!(&probed, report, "the windows make a difference");
}
