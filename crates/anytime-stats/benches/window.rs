//! Time of one judgement of one guardrail-window: log likelihood ratios of harm and proof, both processes, both e-values.
//! `cargo bench -p anytime-stats --bench window`; prints a line per kind of test, keeps nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use anytime_stats::harm::DEFAULT_OMEGA0;
use anytime_stats::{Exceedance, HarmProcess, ProofProcess, RateRatio, RiskDifference, Side, Tally, Window, threshold};
use criterion::{Criterion, criterion_group, criterion_main};

/// Judges `window` over and over with the increments of one family.
fn judged(criterion: &mut Criterion, name: &str, weights: [&[f64]; 2], increments: impl Fn(Side, &Window) -> Vec<f64>) {
    let caps = (threshold::harm_cap(0.05, 1.0, 1.0), threshold::proof_cap(0.05));
    let mut harm = HarmProcess::new(weights[0], DEFAULT_OMEGA0, 1_440, Some(caps.0)).unwrap();
    let mut proof = ProofProcess::new(weights[1], Some(caps.1)).unwrap();
    let window = Window::new(Tally::new(216.0, 2_700.0), Tally::new(25.0, 300.0));
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            let window = black_box(&window);
            harm.grid_point();
            harm.absorb(&increments(Side::Harm, window), 1.2);
            proof.absorb(&increments(Side::Proof, window), 1.2);
            (harm.log_e(), proof.log_e())
        });
    });
}

fn guardrail_windows(criterion: &mut Criterion) {
    let difference = RiskDifference::new(0.02).unwrap();
    let weights = [Side::Harm, Side::Proof];
    judged(criterion, "one guardrail-window: difference of proportions", weights.map(RiskDifference::weights), |side, window| {
        difference.log_increments(side, 0.08, window)
    });
    let ratio = RateRatio::new(1.25).unwrap();
    judged(criterion, "one guardrail-window: ratio of rates", weights.map(RateRatio::weights), |side, window| {
        ratio.log_increments(side, window)
    });
    let limit = Exceedance::new(0.1).unwrap();
    judged(criterion, "one guardrail-window: fixed limit", weights.map(Exceedance::weights), |side, window| {
        limit.log_increments(side, window.candidate)
    });
}

criterion_group!(benches, guardrail_windows);
criterion_main!(benches);
