//! Built-in profiles: guardrails that a policy has by naming a profile. They are data in `profiles.json` and mean what the same guardrails mean when
//! a user writes them; nothing else in this crate knows a profile. Checks nothing; [`crate::validate`] does, after the expansion.

mod page;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use serde::Deserialize;

use crate::spec::{self, PolicySpec, ProfileName};

pub use page::page;

/// Most guardrails of a profile.
pub const MAX_PROFILE: usize = 12;
/// Most guardrails of a policy, those of its profile included.
pub const MAX_GUARDRAILS: usize = 32;

/// One profile.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// What it is for, in a sentence or two.
    pub about: String,
    /// Its guardrails, in order.
    pub guardrails: Vec<Entry>,
}

/// One guardrail of a profile.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Why it is there, and where its numbers come from.
    pub why: String,
    /// What must be exported for it.
    pub needs: String,
    /// The guardrail as a user would write it.
    pub guardrail: spec::Guardrail,
}

/// All profiles, in the order of their file.
pub fn all() -> &'static [Profile] {
    // The file is part of the program, and a test reads it: nothing but a broken build has none.
    static ALL: LazyLock<Vec<Profile>> = LazyLock::new(|| serde_json::from_str(include_str!("profiles.json")).unwrap_or_default());
    &ALL
}

/// The profile of this name.
pub fn of(name: ProfileName) -> Option<&'static Profile> {
    all().iter().find(|profile| profile.name == name)
}

impl Profile {
    /// Names of its guardrails, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.guardrails.iter().map(|entry| entry.guardrail.name.as_str())
    }
}

/// The guardrails that `policy` has by its profile: those that it neither replaces by one of the same name nor leaves out.
pub fn inherited(policy: &PolicySpec) -> Vec<spec::Guardrail> {
    let Some(profile) = policy.profile.and_then(of) else { return Vec::new() };
    let own = |name: &str| policy.guardrails.iter().any(|guardrail| guardrail.name == name);
    let left_out = |name: &str| policy.without.iter().any(|left_out| left_out == name);
    let entries = profile.guardrails.iter().map(|entry| &entry.guardrail);
    entries.filter(|guardrail| !own(&guardrail.name) && !left_out(&guardrail.name)).cloned().collect()
}

/// The policy with the guardrails of its profile written out before its own. What comes out names no profile and means the same.
pub fn expanded(policy: &PolicySpec) -> PolicySpec {
    let guardrails = inherited(policy).into_iter().chain(policy.guardrails.iter().cloned()).collect();
    PolicySpec { profile: None, without: Vec::new(), guardrails, ..policy.clone() }
}

/// The profile that has exactly this guardrail, so that a policy that is written out still says where its guardrails come from.
pub fn origin(guardrail: &spec::Guardrail) -> Option<&'static Profile> {
    all().iter().find(|profile| profile.guardrails.iter().any(|entry| entry.guardrail == *guardrail))
}
