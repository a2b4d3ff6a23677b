//! Holds the runs that went through HTTP against the same runs straight into the library, and says whether they agree.
//! The worlds are the same, sample by sample; what may differ is what a server still knows of pods that are gone, or of scrapes that failed.

use std::fmt::Write as _;

use crate::outcome::{Cell, Decision};
use crate::scenario::Scenario;
use crate::verdict::{minutes, percent};

/// The same runs of one scenario on both ways.
pub struct Pair<'a> {
    scenario: &'a Scenario,
    library: Cell,
    http: &'a Cell,
}

impl<'a> Pair<'a> {
    /// `library` may have more runs: those that the other way has not are left out.
    pub fn new(scenario: &'a Scenario, library: &Cell, http: &'a Cell) -> Self {
        let outcomes = library.outcomes.iter().take(http.outcomes.len()).copied().collect();
        Self { scenario, library: Cell { policy: library.policy, outcomes }, http }
    }

    /// Runs with the same decision on both ways.
    fn alike(&self) -> usize {
        self.library.outcomes.iter().zip(&self.http.outcomes).filter(|(a, b)| a.decision == b.decision).count()
    }

    /// Whether no rate differs by more than chance would let it at 99 %, were the two independent.
    fn agrees(&self) -> bool {
        [Decision::Promoted, Decision::RolledBack, Decision::Inconclusive].into_iter().all(|decision| {
            let (one, other) = (self.library.rate(decision).value, self.http.rate(decision).value);
            let (mean, n) = (f64::midpoint(one, other), self.http.outcomes.len().max(1) as f64);
            (one - other).abs() <= 2.576 * (2.0 * mean * (1.0 - mean) / n).sqrt() + 1e-12
        })
    }
}

/// The part of the page about both ways.
pub fn section(pairs: &[Pair<'_>]) -> String {
    let runs = pairs.iter().map(|pair| pair.http.outcomes.len()).max().unwrap_or_default();
    let mut out = format!(
        "## The same through Prometheus' HTTP API\n\n\
        The tables give Espalier its samples straight into the library. Here the first {runs} runs of every scenario are played once more with the whole way between:\n\
        a server that has scraped the pods (raw counters with their resets, jitter, gaps, late samples, `up` at 0 where a scrape failed) answers range selectors\n\
        over HTTP, and the operator's own client asks it at every instant. Seeds are the same, so that every run can be held against its twin.\n\n\
        | scenario | same decision | promoted, library / HTTP | rolled back | no proof | median | |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for pair in pairs {
        let _ = writeln!(out, "{}", row(pair));
    }
    let (alike, all) = pairs.iter().fold((0, 0), |sum, pair| (sum.0 + pair.alike(), sum.1 + pair.http.outcomes.len()));
    let agreeing = pairs.iter().filter(|pair| pair.agrees()).count();
    let _ = writeln!(
        out,
        "\n{alike} of {all} runs ended in the same decision; the rates agree within Monte-Carlo error (99 %) in {agreeing} of {} scenarios.",
        pairs.len()
    );
    out
}

fn row(pair: &Pair<'_>) -> String {
    let rates = |decision| {
        let of = |cell: &Cell| percent(cell.rate(decision).value).trim_end_matches(" %").to_owned();
        format!("{} / {}", of(&pair.library), of(pair.http))
    };
    let median = |cell: &Cell| cell.minutes(0.5, None).map_or_else(|| "–".to_owned(), minutes);
    format!(
        "| {} | {} of {} | {} | {} | {} | {} / {} | {} |",
        pair.scenario.name,
        pair.alike(),
        pair.http.outcomes.len(),
        rates(Decision::Promoted),
        rates(Decision::RolledBack),
        rates(Decision::Inconclusive),
        median(&pair.library),
        median(pair.http),
        if pair.agrees() { "agrees" } else { "**differs**" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;
    use crate::outcome::Outcome;

    fn cell(promoted: usize, held: usize) -> Cell {
        let many = |decision, n| std::iter::repeat_n(Outcome { decision, minutes: 60.0, served: 0.0 }, n);
        Cell { policy: "espalier", outcomes: many(Decision::Promoted, promoted).chain(many(Decision::Inconclusive, held)).collect() }
    }

    #[test]
    fn ways_that_differ_by_more_than_chance_are_told_apart() {
        let scenarios = catalogue::all();
        let agrees = |library: &Cell, http: &Cell| Pair::new(&scenarios[0], library, http).agrees();
        assert!(agrees(&cell(50, 0), &cell(50, 0)) && agrees(&cell(25, 25), &cell(30, 20)));
        assert!(!agrees(&cell(50, 0), &cell(40, 10)) && !agrees(&cell(10, 40), &cell(40, 10)));
    }

    #[test]
    fn runs_that_only_one_way_has_are_left_out() {
        let scenarios = catalogue::all();
        let (library, http) = (cell(10, 90), cell(10, 0));
        let text = section(&[Pair::new(&scenarios[0], &library, &http)]);
        assert!(text.contains("| s1-aa | 10 of 10 | 100 / 100 |") && text.contains("10 of 10 runs ended in the same decision"), "{text}");
    }
}
