//! On arbitrary bytes, recognition does not panic and does not depend on the order of the probers.

use crate::images::*;
use block_core::MemStorage;
use block_core::probe::decide;
use block_inspect::CATALOGUE;
use block_inspect::{InspectOptions, inspect};
use proptest::prelude::*;

fn samples() -> Vec<Image> {
    vec![
        qcow1(),
        qcow2(),
        qed(),
        vdi(),
        vhd_dynamic(),
        vhd_diff(&[(b"W2ku", "C:\\base.vhd")]),
        vmdk(),
        vmdk_stream(),
        cowd(),
        sesparse(),
        parallels(),
        dmg(),
        asif(),
        bochs(),
        cloop(),
        ewf(b"EVF\x09\r\n\xFF\0"),
        android(),
        iso(),
        with_mbr(Image::zeros(0x2_0000)),
        tar("x.ovf"),
        zip("container.description", "aff4://"),
        Image(DESCRIPTOR.as_bytes().to_vec()),
        Image(PARALLELS_XML.as_bytes().to_vec()),
        vdi().put(0, b"QFI\xFB\0\0\0\x03"),
        luks1(),
        avhdx(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_order_of_asking_does_not_matter(which in 0..26usize, seed in any::<u64>()) {
        let image = &samples()[which];
        let registry = registry();
        let input = registry.probe_bytes(None, &image.0);
        let expected = serde_json::to_string(&registry.recognise(&input)).unwrap();
        let drivers = registry.drivers().into_iter().map(|driver| driver.probe(&input));
        let mut probes: Vec<_> = CATALOGUE.recognisers().map(|r| (r.probe)(&input)).chain(drivers).collect();
        let mut hints = CATALOGUE.hints(&input);
        shuffle(&mut probes, seed);
        shuffle(&mut hints, seed);
        prop_assert_eq!(serde_json::to_string(&decide(&input, probes, hints)).unwrap(), expected);
    }

    #[test]
    fn truncations_and_flips_never_panic(
        which in 0..26usize,
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
    ) {
        let mut bytes = samples()[which].0.clone();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let len = cut.index(bytes.len() + 1);
        // Half of the cases keep their end, where some formats have a trailer.
        if len % 2 == 0 {
            bytes.truncate(len);
        }
        let report = Image(bytes).report();
        prop_assert!(report.candidates.iter().all(|c| c.score.value <= 100));
        prop_assert!(!report.explain().is_empty());
    }

    #[test]
    fn inspecting_mutations_never_panics(
        which in 0..26usize,
        flips in prop::collection::vec((0..4096usize, prop::sample::select(vec![0u8, 1, 0x7F, 0x80, 0xFF])), 1..8),
        cut in any::<prop::sample::Index>(),
        keep in any::<bool>(),
    ) {
        let mut bytes = samples()[which].0.clone();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if !keep {
            let len = cut.index(bytes.len() + 1);
            bytes.truncate(len);
        }
        let storage = MemStorage::from_bytes(&bytes);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let report = runtime
            .block_on(inspect(&*storage, &InspectOptions::default(), &registry()))
            .unwrap();
        let worst = report.findings.iter().map(|finding| finding.verdict).max();
        prop_assert_eq!(worst.unwrap_or(report.verdict), report.verdict);
        prop_assert!(report.findings.len() <= 1001);
    }
}

fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed | 1;
    for index in (1..items.len()).rev() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(index, (state >> 33) as usize % (index + 1));
    }
}
