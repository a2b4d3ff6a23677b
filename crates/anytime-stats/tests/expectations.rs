//! Every one-window e-value has expectation at most 1 under its null: checked by exact enumeration over small samples and grids of null parameters.
//! A wrong sign, a swapped arm, or a wrong truncation fails here at once.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "a test may panic")]

use anytime_stats::{
    Exceedance, HarmProcess, PairedMargin, Pairs, PlugInRate, ProofProcess, RateRatio, RiskDifference, SampleRatio, Side, Tally, Window,
};

const SLACK: f64 = 1e-9;
const SIDES: [Side; 2] = [Side::Harm, Side::Proof];

/// Binomial probabilities of 0..=n.
fn binomial(n: u32, p: f64) -> Vec<f64> {
    let mut weights = vec![1.0];
    for _ in 0..n {
        let mut next = vec![0.0; weights.len() + 1];
        for (k, w) in weights.iter().enumerate() {
            next[k] += w * (1.0 - p);
            next[k + 1] += w * p;
        }
        weights = next;
    }
    weights
}

/// Expectations of the e-values behind some logs, which are functions of one window's bad counts.
fn expectations(n: (u32, u32), theta: (f64, f64), logs: impl Fn(&Window) -> Vec<f64>) -> Vec<f64> {
    let mut sums = Vec::new();
    for (x_a, p_a) in binomial(n.0, theta.0).into_iter().enumerate() {
        for (x_b, p_b) in binomial(n.1, theta.1).iter().enumerate() {
            let logs = logs(&window((x_a as f64, n.0), (x_b as f64, n.1)));
            sums.resize(logs.len(), 0.0);
            for (sum, log) in sums.iter_mut().zip(logs) {
                *sum += p_a * p_b * log.exp();
            }
        }
    }
    sums
}

fn window(a: (f64, u32), b: (f64, u32)) -> Window {
    Window::new(Tally::new(a.0, f64::from(a.1)), Tally::new(b.0, f64::from(b.1)))
}

fn grid() -> impl Iterator<Item = f64> {
    (0..=20).map(|k| f64::from(k) / 20.0)
}

/// True when the candidate's rate lies in the null of `side`, given the boundary's value.
fn in_null(side: Side, theta_b: f64, boundary: f64) -> bool {
    match side {
        Side::Harm => theta_b <= boundary + 1e-12,
        Side::Proof => theta_b >= boundary - 1e-12,
    }
}

#[test]
fn risk_differences_expect_at_most_one_under_the_null() {
    for (slope, margin) in [(1.0, 0.02), (1.0, 0.15), (1.0, -0.1), (1.25, 0.0), (0.8, 0.05)] {
        let test = RiskDifference::with_line(slope, margin, 0.05).unwrap();
        for side in SIDES {
            for (theta_a, guess) in grid().flat_map(|a| [0.02, 0.2, 0.7].map(|g| (a, g))) {
                let boundary = slope * theta_a + margin;
                for theta_b in grid().chain([boundary]).filter(|b| (0.0..=1.0).contains(b) && in_null(side, *b, boundary)) {
                    for (k, e) in expectations((7, 4), (theta_a, theta_b), |w| test.log_increments(side, guess, w)).into_iter().enumerate()
                    {
                        assert!(e <= 1.0 + SLACK, "{side:?} r={slope} d={margin} a={theta_a} b={theta_b} guess={guess} k={k}: {e}");
                    }
                }
            }
        }
    }
}

#[test]
fn rate_ratios_expect_at_most_one_for_bernoulli_counts() {
    for margin in [0.8, 1.0, 1.25, 2.0] {
        let test = RateRatio::new(margin).unwrap();
        for side in SIDES {
            for theta_a in grid() {
                let boundary = margin * theta_a;
                for theta_b in grid().chain([boundary]).filter(|b| (0.0..=1.0).contains(b) && in_null(side, *b, boundary)) {
                    for (k, e) in expectations((9, 4), (theta_a, theta_b), |w| test.log_increments(side, w)).into_iter().enumerate() {
                        assert!(e <= 1.0 + SLACK, "{side:?} r0={margin} a={theta_a} b={theta_b} k={k}: {e}");
                    }
                }
            }
        }
    }
}

#[test]
fn limits_expect_at_most_one_under_the_null() {
    for limit in [0.05, 0.3, 0.9] {
        let test = Exceedance::new(limit).unwrap();
        for side in SIDES {
            for p in grid().chain([limit]).filter(|p| in_null(side, *p, limit)) {
                for n in [1_u32, 5, 40] {
                    let probabilities = binomial(n, p);
                    let expect = |f: &dyn Fn(Tally) -> f64| -> f64 {
                        probabilities.iter().enumerate().map(|(x, w)| w * f(Tally::new(x as f64, f64::from(n)))).sum()
                    };
                    let mixture = expect(&|t| test.log_e(side, t).exp());
                    assert!(mixture <= 1.0 + SLACK, "{side:?} p0={limit} p={p} n={n}: {mixture}");
                    for k in 0..Exceedance::weights(side).len() {
                        let point = expect(&|t| test.log_increments(side, t)[k].exp());
                        assert!(point <= 1.0 + SLACK, "{side:?} p0={limit} p={p} n={n} k={k}: {point}");
                    }
                }
            }
        }
    }
}

#[test]
fn pairs_expect_at_most_one_under_the_null() {
    for margin in [0.0, 0.05, -0.1] {
        let test = PairedMargin::new(margin).unwrap();
        for (side, champion_only) in SIDES.into_iter().flat_map(|side| grid().map(move |p| (side, p))) {
            for candidate_only in grid().filter(|c| champion_only + c <= 1.0 && in_null(side, champion_only - c, margin)) {
                let mut e = 0.0;
                // Six pairs: first how many are discordant against the candidate, then against the champion.
                for (b, p_b) in binomial(6, champion_only).into_iter().enumerate() {
                    let rest = if champion_only < 1.0 { (candidate_only / (1.0 - champion_only)).min(1.0) } else { 0.0 };
                    for (c, p_c) in binomial(6 - b as u32, rest).into_iter().enumerate() {
                        let pairs = Pairs { champion_only: b as f64, candidate_only: c as f64, tied: (6 - b - c) as f64 };
                        e += p_b * p_c * test.log_e(side, &pairs).exp();
                    }
                }
                assert!(e <= 1.0 + SLACK, "{side:?} d={margin} b={champion_only} c={candidate_only}: {e}");
            }
        }
    }
}

#[test]
fn the_sample_ratio_expects_exactly_one_at_the_right_share() {
    for share in [0.5, 0.9, 0.01] {
        let e: f64 = binomial(60, share)
            .into_iter()
            .enumerate()
            .map(|(x, p)| {
                let mut check = SampleRatio::new(&[share, 1.0 - share]).unwrap();
                check.absorb(&[x as f64, 60.0 - x as f64]);
                p * check.log_e().exp()
            })
            .sum();
        assert!((e - 1.0).abs() < 1e-9, "{share}: {e}");
    }
}

/// Two windows with a plug-in rate, a cap, and a base rate that moves: all four counts are enumerated.
#[test]
fn whole_processes_expect_at_most_one_over_two_windows() {
    let test = RiskDifference::new(0.1).unwrap();
    for side in SIDES {
        for (first, second) in [(0.0, 0.6), (0.3, 0.3), (0.5, 0.1), (0.85, 0.2)] {
            for shift in [0.0, 0.05] {
                let candidate = |base: f64| match side {
                    Side::Harm => base + 0.1 - shift,
                    Side::Proof => (base + 0.1 + shift).min(1.0),
                };
                let inner = |one: &Window| {
                    expectations((3, 5), (second, candidate(second)), |two| vec![process_log_e(&test, side, [one, two])])[0].ln()
                };
                let e = expectations((4, 3), (first, candidate(first)), |one| vec![inner(one)])[0];
                assert!(e <= 1.0 + SLACK, "{side:?} {first} {second} {shift}: {e}");
                assert!(e > 0.2, "the expectation is suspiciously small: {e}");
            }
        }
    }
}

fn process_log_e(test: &RiskDifference, side: Side, windows: [&Window; 2]) -> f64 {
    let mut rate = PlugInRate::new(0.3, 5.0);
    let mut harm = HarmProcess::new(RiskDifference::weights(side), 0.5, 3, Some(1.0)).unwrap();
    let mut proof = ProofProcess::new(RiskDifference::weights(side), Some(1.0)).unwrap();
    for window in windows {
        let ells = test.log_increments(side, rate.rate(), window);
        harm.grid_point();
        harm.absorb(&ells, 1.0);
        proof.absorb(&ells, 1.0);
        rate.absorb(window.champion);
    }
    match side {
        Side::Harm => harm.log_e(),
        Side::Proof => proof.log_e(),
    }
}
