//! The slices of one guardrail on counts: each value of a label has counters and processes of its own, the values beyond the first few share one.
//! Which slices there are depends on the series alone, never on outcomes. Weighs nothing; what a slice means for the whole is [`crate::judge`]'s.

use std::collections::{BTreeMap, BTreeSet};

use anytime_stats::InvalidParameter;
use serde::{Deserialize, Serialize};

use super::comparison::Terms;
use super::counts::{ArmCounters, CountState, Saved as SavedCounts};
use super::query::{Sought, count_sought, roles};
use super::series::Role;
use super::sift::{Part, Pick, Scope};
use super::{Lens, TickTimes, Weighty};
use crate::plan::{Guardrail, Test};
use crate::verdict::Unmeasurable;

/// Values with a slice of their own.
const MOST_NAMED: usize = 16;
/// Slices among which a guardrail's rollback risk for slices is shared: the named ones and the one of all others.
pub(crate) const SLOTS: f64 = (MOST_NAMED + 1) as f64;
/// Longest value that is kept; two that agree so far are one slice.
const LONGEST_VALUE: usize = 64;

/// State of all slices of one guardrail.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slices {
    /// The guardrail as one slice is judged: both bounds are the slice's.
    one: Guardrail,
    terms: Terms,
    started: i64,
    label: String,
    named: BTreeMap<String, CountState>,
    others: Option<Box<CountState>>,
}

/// Moving part of [`Slices`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    #[serde(rename = "n")]
    named: BTreeMap<String, SavedCounts>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    others: Option<Box<SavedCounts>>,
}

/// Which slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SliceName<'a> {
    /// The one of this value; empty for series without the label.
    Value(&'a str),
    /// The one of all values that came later.
    Others,
}

/// What the answers of one instant say about the values of a label.
pub(super) struct Census<'a> {
    pub values: BTreeSet<&'a str>,
    /// Targets that report, per arm.
    pub present: BTreeMap<Role, BTreeSet<&'a str>>,
}

/// Values of `label` and reporting targets of the arms. A label that nobody has is a misspelt one, not an even world.
pub(super) fn census<'a>(scope: &Scope<'a>, sought: &Sought<'_>, roles: &[Role], label: &str) -> Result<Census<'a>, Unmeasurable> {
    let mut census = Census { values: BTreeSet::new(), present: BTreeMap::new() };
    for role in roles.iter().copied() {
        let present = census.present.entry(role).or_default();
        scope.each_value(sought, role, label, |target, value| {
            present.insert(target);
            census.values.insert(value);
        });
    }
    let is_read = census.present.values().any(|targets| !targets.is_empty());
    if is_read && census.values.iter().all(|value| value.is_empty()) {
        return Err(Unmeasurable::NoSuchLabel { query: sought.name(), label: label.to_owned() });
    }
    Ok(census)
}

impl Slices {
    /// No slice seen yet; `None` for a guardrail without slices, an error when their bound is outside its domain.
    pub(super) fn new(guardrail: &Guardrail, terms: &Terms, started: i64) -> Option<Result<Self, InvalidParameter>> {
        let slices = guardrail.slices.as_ref()?;
        let mut one = Guardrail { slices: None, win: None, ..guardrail.clone() };
        if let Test::Counts { bad, severe, target, critical, .. } = &mut one.test {
            (*target, *critical) = (slices.bound, slices.bound);
            // What is critical on the whole is so in a part.
            if let Some(severe) = severe.take() {
                *bad = severe.bad;
            }
        }
        let tried = CountState::new(&one, terms, started);
        Some(tried.map(|_| Self { one, terms: *terms, started, label: slices.label.clone(), named: BTreeMap::new(), others: None }))
    }

    /// Every slice that was seen, the others last.
    pub(crate) fn each(&self) -> impl Iterator<Item = (SliceName<'_>, &CountState)> {
        let named = self.named.iter().map(|(value, state)| (SliceName::Value(value), state));
        named.chain(self.others.as_deref().map(|state| (SliceName::Others, state)))
    }

    pub(super) fn each_mut(&mut self) -> impl Iterator<Item = &mut CountState> {
        self.named.values_mut().chain(self.others.as_deref_mut())
    }

    /// Makes room for the slices of this instant; `whole` are the counters of the whole as of the instant before.
    pub(super) fn prepare<'a>(&mut self, scope: &Scope<'a>, whole: &ArmCounters<'_>) -> Result<Census<'a>, Unmeasurable> {
        let none = || Census { values: BTreeSet::new(), present: BTreeMap::new() };
        let Test::Counts { bad, total, .. } = &self.one.test else { return Ok(none()) };
        let Some(sought) = count_sought(&self.one, total, bad) else { return Ok(none()) };
        let census = census(scope, &sought, &roles(&self.one.test), &self.label)?;
        self.welcome(&census, whole);
        Ok(census)
    }

    /// Counts one instant in every slice; the first problem is the guardrail's.
    pub(super) fn absorb(&mut self, lens: &Lens<'_>, census: &Census<'_>, times: &TickTimes, active: bool) -> Result<(), Unmeasurable> {
        // Copies: the states beside the names are about to change.
        let names: Vec<String> = self.named.keys().cloned().collect();
        let named: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let (one, label, mut first) = (&self.one, self.label.as_str(), Ok(()));
        let mut count = |state: &mut CountState, pick: Pick<'_>| {
            let part = Part { label, pick, present: &census.present, from_zero: false };
            let lens = Lens { plan: lens.plan, scope: Scope { part: Some(part), ..lens.scope }, window: lens.window };
            let outcome = state.absorb(&lens, one, times, active);
            if first.is_ok() {
                first = outcome;
            }
        };
        for (value, state) in &mut self.named {
            count(state, Pick::Only(value));
        }
        if let Some(state) = &mut self.others {
            count(state, Pick::Except(&named));
        }
        first
    }

    /// Makes a slice for every value that has none, while there is room; then one for all others.
    fn welcome(&mut self, census: &Census<'_>, whole: &ArmCounters<'_>) {
        for value in &census.values {
            if self.named.contains_key(*value) || value.len() > LONGEST_VALUE {
                continue;
            }
            if self.named.len() >= MOST_NAMED {
                break;
            }
            if let Some(state) = self.fresh(Some(whole)) {
                self.named.insert((*value).to_owned(), state);
            }
        }
        if self.others.is_none() && census.values.iter().any(|value| !self.named.contains_key(*value)) {
            self.others = self.fresh(Some(whole)).map(Box::new);
        }
    }

    fn fresh(&self, whole: Option<&ArmCounters<'_>>) -> Option<CountState> {
        // The bound was tried when the attempt started.
        let state = CountState::new(&self.one, &self.terms, self.started).ok().flatten()?;
        Some(state.slice(whole, self.started))
    }

    pub(super) fn moved(&mut self, weighty: Weighty, new_stage: bool) {
        self.each_mut().for_each(|state| state.moved(weighty, new_stage));
    }

    pub(super) fn save(&self) -> Saved {
        Saved {
            named: self.named.iter().map(|(value, state)| (value.clone(), state.save())).collect(),
            others: self.others.as_ref().map(|state| Box::new(state.save())),
        }
    }

    pub(super) fn load(&mut self, saved: Saved) -> Result<(), InvalidParameter> {
        let load = |slices: &Self, saved: SavedCounts| {
            let mut state = slices.fresh(None).ok_or(InvalidParameter { name: "slices", expected: "a bound that can be tested" })?;
            state.load(saved).map(|()| state)
        };
        for (value, saved) in saved.named {
            let state = load(self, saved)?;
            self.named.insert(value, state);
        }
        self.others = saved.others.map(|saved| load(self, *saved).map(Box::new)).transpose()?;
        Ok(())
    }
}
