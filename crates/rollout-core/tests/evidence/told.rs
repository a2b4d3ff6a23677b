//! What people read of every kind of guardrail after a stretch of traffic that is known to the last request.

use rollout_core::plan::{Guardrail, LevelBound};

use crate::plans::*;
use crate::run::{Run, named, told};
use crate::world::*;

/// A guardrail after so many ticks of 40 requests/s per arm, of which the candidate gets 5 % wrong and stable 3 %.
fn after(ticks: usize, seed: u64, guardrail: Guardrail) -> Vec<String> {
    let mut world = World::new(seed, 5_000, 3);
    (world.stable.rps, world.candidate.rps) = (40.0, 40.0);
    (world.stable.wrong, world.candidate.wrong) = (0.03, 0.05);
    (world.stable.failing, world.candidate.failing) = (0.03, 0.05);
    (world.stable.slow, world.candidate.slow) = (0.03, 0.05);
    (world.stable.watts, world.candidate.watts) = (200.0, 150.0);
    let name = guardrail.name.clone();
    let mut run = Run::new(plan(vec![canary(&[50])], vec![guardrail]), world);
    told(named(&run.ticks(ticks), &name))
}

#[test]
fn of_a_proportion() {
    assert_eq!(
        after(12, 1301, accuracy(0.04, 0.08)),
        [
            "+2.4pp, 95%: +0.58pp to +4.3pp",
            "2396 vs 2318 samples, 2396 effective",
            "thresholds 3.00 and 3.00, left 20 s to 174 s",
            "accuracy is 2.4pp worse than stable (bad 4.8% of 2 396 vs 2.4% of 2 318; 95%: +0.58pp to +4.3pp), not yet proven within the target +4pp vs stable: ln E -1.0 of 3.0, about 20s to 2m54s left"
        ]
    );
    assert_eq!(
        after(12, 1302, accuracy(0.001, 0.5)),
        [
            "+1.7pp, 95%: -0.21pp to +3.6pp",
            "2402 vs 2335 samples, 2402 effective",
            "thresholds 3.00 and 3.00, left 4568 s to 55122 s",
            "accuracy is 1.7pp worse than stable (bad 4.9% of 2 402 vs 3.2% of 2 335; 95%: -0.21pp to +3.6pp), not yet proven within the target +0.1pp vs stable: ln E -0.4 of 3.0, about 1h16m to 15h18m left"
        ]
    );
}

#[test]
fn of_a_rate() {
    assert_eq!(
        after(12, 1303, errors(2.5)),
        [
            "1.58x, 95%: 0.91x to 2.73x",
            "2388 vs 2383 samples, 2388 effective",
            "thresholds 3.00 and 3.00, left 4 s to 29 s",
            "errors is 1.58x that of stable (bad 4.6% of 2 388 vs 2.9% of 2 383; 95%: 0.91x to 2.73x), not yet proven within the target 2.5x vs stable: ln E 2.1 of 3.0, about 4s to 29s left"
        ]
    );
}

#[test]
fn of_a_latency() {
    assert_eq!(
        after(12, 1304, latency(0.08)),
        [
            "5%, 95%: 3.7% to 6.4%",
            "2457 vs 2417 samples, 2457 effective",
            "thresholds 3.00 and 3.00, left 0 s to 3 s",
            "latency is 5% (bad 5% of 2 457 vs 3% of 2 417; 95%: 3.7% to 6.4%), not yet proven within the target 8%: ln E 2.7 of 3.0, about 0s to 3s left"
        ]
    );
    assert_eq!(
        after(200, 1304, latency(0.08)),
        [
            "4.9%, 95%: 4.6% to 5.3%",
            "39829 vs 39869 samples, 39829 effective",
            "thresholds 3.00 and 3.00, left none",
            "latency is 4.9% (bad 4.9% of 39 829 vs 2.9% of 39 869; 95%: 4.6% to 5.3%), within the target 8%: ln E 59.8 ≥ 3.0"
        ]
    );
}

#[test]
fn of_a_level() {
    let watts = |watts: f64| power(LevelBound::Absolute(watts), LevelBound::Absolute(watts + 50.0));
    assert_eq!(
        after(2, 1305, watts(180.0)),
        [
            "150.1W, 95%: none",
            "0 vs 0 samples, none effective",
            "thresholds 3.00 and 3.00, left none",
            "power is 150.1W; 0 of 24 batches of 1m15s are in, not yet proven within the target 180W: ln E 0.0 of 3.0"
        ]
    );
    assert_eq!(
        after(24 * 15 + 20, 1305, watts(180.0)),
        [
            "150W, 95%: 149.9W to 150.1W",
            "24 vs 0 samples, 16 effective",
            "thresholds 3.00 and 3.00, left none",
            "power is 150W on average over 24 batches of 1m15s (95%: 149.9W to 150.1W), within the target 180W: ln E 113088.9 ≥ 3.0"
        ]
    );
    assert_eq!(
        after(24 * 15 + 20, 1306, watts(152.0)),
        [
            "150W, 95%: 149.9W to 150.1W",
            "24 vs 0 samples, 15 effective",
            "thresholds 3.00 and 3.00, left none",
            "power is 150W on average over 24 batches of 1m15s (95%: 149.9W to 150.1W), within the target 152W: ln E 684.2 ≥ 3.0"
        ]
    );
}
