//! Times of the hot functions: `cargo bench -p block-img --bench hot`.

mod work;

use criterion::{Criterion, criterion_group, criterion_main};

fn hot(criterion: &mut Criterion) {
    for (name, mut step) in work::steps() {
        criterion.bench_function(name, |bencher| bencher.iter(&mut step));
    }
}

criterion_group!(benches, hot);
criterion_main!(benches);
