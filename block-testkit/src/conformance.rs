//! The macro that runs the whole suite in a driver's tests.

/// Generates one test per promise for a driver.
///
/// `conformance!(MyDriver)` tests the base images that `MyDriver` creates with default options. `conformance!(name:
/// subject)` generates a module `name` of tests for a [`Subject`](crate::Subject).
#[macro_export]
macro_rules! conformance {
    ($name:ident : $subject:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::conformance!(@tests $subject);
        }
    };
    (@tests $subject:expr) => {
        $crate::conformance!(@test ranges, $subject, |t| t.requests > 50);
        $crate::conformance!(@test caps, $subject, |t| t.requests > 3);
        $crate::conformance!(@test read_only, $subject, |t| t.requests > 5);
        $crate::conformance!(@test extents, $subject, |t| t.requests > 50);
        $crate::conformance!(@test reopening, $subject, |t| t.requests > 20);
        $crate::conformance!(@test damaged_images, $subject, |t| t.runs > 5000);
        $crate::conformance!(@test creating, $subject, |t| t.runs > 5 && t.crash_states > 0);
        $crate::conformance!(@test threads, $subject, |t| t.requests > 2000);
        $crate::conformance!(@test random_requests, $subject, |t| t.requests > 100);
        $crate::conformance!(@test every_fault, $subject, |t| t.faults > 100);
        $crate::conformance!(@test every_drop, $subject, |t| t.dropped > 50);
        $crate::conformance!(@test failed_flushes, $subject, |t| t.faults > 20);
        $crate::conformance!(@test power_cuts, $subject, |t| t.crash_states > 100);
        $crate::conformance!(@test short_histories, $subject, |t| t.crash_states > 100);
    };
    (@test $promise:ident, $subject:expr, |$tally:ident| $enough:expr) => {
        #[test]
        fn $promise() {
            let effort = $crate::Effort::default();
            match $crate::promises::$promise(&$subject, &effort) {
                Ok($tally) => {
                    println!("{}: {}", stringify!($promise), $tally);
                    assert!($enough, "the test hardly looked: {}", $tally);
                }
                Err(violation) => panic!("{violation}"),
            }
        }
    };
    ($driver:expr) => {
        $crate::conformance!(@tests $crate::Subject::of($driver));
    };
}
